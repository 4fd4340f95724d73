//! Files: `.npy` arrays, and outputs that appear whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD, Dimension, IxDyn, ShapeBuilder};
use npyz::WriterBuilder;
use tempfile::NamedTempFile;

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file can't be written; nothing of it is left.
    #[error("can't write {}; check that its folder exists and may be written to", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no array that relc reads.
    #[error("{}: {message}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What was got and what is expected.
        message: String,
    },
}

/// Writes a file by way of a temporary one in the same folder, so that it appears whole or not at all.
///
/// A link is followed and stays a link. What is neither file nor folder (a device, a pipe) is written to as it is.
///
/// # Errors
/// If the folder or the file can't be written to; nothing is left then, and a file that was there before is as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ArtifactError> {
    let attempt = || -> io::Result<()> {
        match Target::of(path)? {
            Target::Stream => {
                let mut buffered = BufWriter::new(OpenOptions::new().write(true).open(path)?);
                write(&mut buffered)?;
                buffered.flush()
            }
            Target::File(real) => {
                let mut file = temporary_beside(&real)?;
                let mut buffered = BufWriter::new(&mut file);
                write(&mut buffered)?;
                buffered.flush()?;
                drop(buffered);
                file.persist(&real).map_err(|e| e.error)?;
                Ok(())
            }
        }
    };
    attempt().map_err(|source| ArtifactError::Write { path: path.to_path_buf(), source })
}

/// Checks that a file could be written, without writing it.
///
/// # Errors
/// As [`write_atomically`].
pub fn check_writable(path: &Path) -> Result<(), ArtifactError> {
    let attempt = || match Target::of(path)? {
        Target::Stream => Ok(()),
        Target::File(real) => temporary_beside(&real).map(drop),
    };
    attempt().map_err(|source| ArtifactError::Write { path: path.to_path_buf(), source })
}

/// What a path to be written stands for.
enum Target {
    /// A file, there already or not, by its path without links.
    File(PathBuf),
    /// A device or pipe, which must never be replaced by a file.
    Stream,
}

impl Target {
    fn of(path: &Path) -> io::Result<Target> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                Err(io::Error::new(io::ErrorKind::IsADirectory, "there is a folder of that name"))
            }
            Ok(found) if found.is_file() => path.canonicalize().map(Target::File),
            Ok(_) => Ok(Target::Stream),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Target::File(path.to_path_buf())),
            Err(e) => Err(e),
        }
    }
}

/// A temporary file in the folder of `path`, with the permissions that any new file gets.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666))
    };
    builder.tempfile_in(folder)
}

/// Writes an array as `.npy`, f32 little-endian in C order, whole or not at all.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_npy_f32(path: &Path, array: ArrayViewD<'_, f32>) -> Result<(), ArtifactError> {
    let shape: Vec<u64> = array.shape().iter().map(|d| *d as u64).collect();
    write_atomically(path, |file| {
        let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
        let mut writer = options.writer(file).begin_nd()?;
        writer.extend(array.iter().copied())?;
        writer.finish()
    })
}

/// Writes named arrays as `.npz`, f32 little-endian in C order, whole or not at all.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_npz_f32(path: &Path, arrays: &[(String, ArrayD<f32>)]) -> Result<(), ArtifactError> {
    write_atomically(path, |file| {
        let mut bytes = io::Cursor::new(Vec::new());
        {
            let mut archive = npyz::npz::NpzWriter::new(&mut bytes);
            for (name, array) in arrays {
                let shape: Vec<u64> = array.shape().iter().map(|d| *d as u64).collect();
                let entry = archive.array(name, Default::default())?;
                let mut writer = entry.default_dtype().shape(&shape).begin_nd()?;
                writer.extend(array.iter().copied())?;
                writer.finish()?;
            }
        }
        file.write_all(bytes.get_ref())
    })
}

/// Reads an `.npy` array of float32, float64, uint8, int32 or int64 in either byte order as f32 in C order; what f32
/// doesn't hold exactly is rounded.
///
/// # Errors
/// If the file can't be read, is no `.npy`, has another element type, is shorter or longer than its header says, or
/// holds an infinity or a NaN (the index is named).
pub fn read_npy_f32(path: &Path) -> Result<ArrayD<f32>, ArtifactError> {
    let bytes = fs::read(path).map_err(|source| ArtifactError::Read { path: path.to_path_buf(), source })?;
    parse_npy_f32(&bytes).map_err(|message| ArtifactError::Npy { path: path.to_path_buf(), message })
}

const NO_NPY: &str = "is no .npy file; expected one as numpy.save writes it";

/// What an `.npy` header says.
struct Header {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// The text of the header and the bytes of the elements.
fn split_npy(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            (usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?, rest)
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The header's text from where reading stands: the few Python literals that numpy writes, none of them nested, and
/// nothing else. So no header, however made, costs more than its length.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// Whether `token` is next; if so, it is passed.
    fn take(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = ["'", "\""].into_iter().find(|q| self.take(q))?;
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.take("True") { Some(true) } else { self.take("False").then_some(false) }
    }

    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut shape = Vec::new();
        if !self.take("(") {
            return None;
        }
        while !self.take(")") {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit())?;
            let (digits, rest) = self.0.split_at(end);
            shape.push(digits.parse().ok()?);
            // Python 2 wrote `3L`.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(",") && !self.0.starts_with(')') {
                return None;
            }
        }
        Some(shape)
    }
}

impl Header {
    fn parse(text: &str) -> Result<Header, String> {
        let malformed =
            || format!("{NO_NPY} (got the header {:?})", text.chars().take(120).collect::<String>());
        let mut scanner = Scanner(text);
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        if !scanner.take("{") {
            return Err(malformed());
        }
        while !scanner.take("}") {
            let key = scanner.string().filter(|_| scanner.take(":")).ok_or_else(malformed)?;
            match key {
                "descr" if scanner.take("[") => return Err(other_type("a structure")),
                "descr" => descr = Some(scanner.string().ok_or_else(malformed)?),
                "fortran_order" => fortran = Some(scanner.boolean().ok_or_else(malformed)?),
                "shape" => shape = Some(scanner.shape().ok_or_else(malformed)?),
                _ => return Err(malformed()),
            }
            if !scanner.take(",") && !scanner.0.starts_with('}') {
                return Err(malformed());
            }
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) if scanner.0.trim().is_empty() => {
                Ok(Header { descr: descr.to_string(), fortran, shape })
            }
            _ => Err(malformed()),
        }
    }
}

fn other_type(got: &str) -> String {
    format!("got the type {got}, expected float32 (or float64, uint8, int32, int64)")
}

/// The elements of `data`, `N` bytes each.
fn decode<const N: usize>(data: &[u8], big_endian: bool, value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let element = |bytes: &[u8; N]| {
        let mut bytes = *bytes;
        if big_endian {
            bytes.reverse();
        }
        value(bytes)
    };
    data.as_chunks::<N>().0.iter().map(element).collect()
}

/// Reads the bytes of an `.npy` file, as [`read_npy_f32`] does.
///
/// # Errors
/// What is wrong with them, as a sentence.
pub fn parse_npy_f32(bytes: &[u8]) -> Result<ArrayD<f32>, String> {
    let (text, data) = split_npy(bytes).ok_or(NO_NPY)?;
    let Header { descr, fortran, shape } = Header::parse(text)?;
    let (order, kind) = descr.split_at_checked(1).ok_or_else(|| other_type(&descr))?;
    let size = match kind {
        "u1" => 1,
        "f4" | "i4" => 4,
        "f8" | "i8" => 8,
        _ => return Err(other_type(&descr)),
    };
    let ordered = matches!(order, "<" | ">");
    if !ordered && (order != "|" || size != 1) {
        return Err(other_type(&descr));
    }
    // Without this check a hostile shape could ask for any amount of memory.
    let expected = shape.iter().try_fold(size, |n: usize, d| n.checked_mul(*d));
    if expected != Some(data.len()) {
        return Err(format!("got {} bytes of elements, expected those of {shape:?} {descr}", data.len()));
    }
    let big = order == ">";
    let values = match kind {
        "u1" => decode(data, big, |[b]: [u8; 1]| f32::from(b)),
        "f4" => decode(data, big, f32::from_le_bytes),
        "i4" => decode(data, big, |b| i32::from_le_bytes(b) as f32),
        "f8" => decode(data, big, |b| f64::from_le_bytes(b) as f32),
        _ => decode(data, big, |b| i64::from_le_bytes(b) as f32),
    };
    let array = ArrayD::from_shape_vec(IxDyn(&shape).set_f(fortran), values)
        .map_err(|_| format!("got the shape {shape:?}, which is too large"))?;
    if let Some((index, value)) = array.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(format!(
            "element {:?} is {value} as float32; expected finite values",
            index.as_array_view().to_vec()
        ));
    }
    Ok(array.as_standard_layout().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn arrays_survive_writing_and_reading() {
        let folder = folder();
        let path = folder.path().join("a.npy");
        let a = array![[1.0f32, -2.5], [3.0, 1e-30], [0.0, 7.0]].into_dyn();
        write_npy_f32(&path, a.view()).unwrap();
        assert_eq!(read_npy_f32(&path).unwrap(), a);
        write_npy_f32(&path, a.t()).unwrap();
        assert_eq!(read_npy_f32(&path).unwrap(), a.t());
    }

    fn npy(descr: &str, shape: &str, order: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn other_types_and_orders_are_read_or_refused_with_a_word() {
        let fortran = parse_npy_f32(&npy("|u1", "(2, 2)", "True", &[1, 2, 3, 4])).unwrap();
        assert_eq!(fortran, array![[1.0, 3.0], [2.0, 4.0]].into_dyn());
        let doubles: Vec<u8> = [1.5f64].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(parse_npy_f32(&npy("<f8", "(1,)", "False", &doubles)).unwrap()[0], 1.5);
        let error = |bytes: &[u8]| parse_npy_f32(bytes).unwrap_err();
        assert!(error(&npy("<c8", "(1,)", "False", &[0; 8])).contains("expected float32"));
        assert!(error(&npy("<f4", "(3,)", "False", &[0; 8])).contains("expected those of [3]"));
        assert!(error(&npy("<f4", "(9999999999, 9999999999, 9)", "False", &[])).contains("got"));
        assert!(error(&npy("<f4", "(1,)", "False", &f32::NAN.to_le_bytes())).contains("element [0] is NaN"));
        assert!(error(b"PK\x03\x04").contains("numpy.save"));
    }

    #[test]
    fn byte_orders_versions_and_pythons_are_read() {
        let big: Vec<u8> = [-3i32, 70_000].iter().flat_map(|v| v.to_be_bytes()).collect();
        assert_eq!(
            parse_npy_f32(&npy(">i4", "(2L,)", "False", &big)).unwrap(),
            array![-3.0, 70_000.0].into_dyn()
        );
        let long: Vec<u8> = [i64::MIN].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(parse_npy_f32(&npy("<i8", "()", "False", &long)).unwrap().shape(), &[0usize; 0]);
        let header = "{'shape': (1, ), \"descr\": '<f4', 'fortran_order': False}   \n";
        let mut second = b"\x93NUMPY\x02\x00".to_vec();
        second.extend((header.len() as u32).to_le_bytes());
        second.extend(header.as_bytes());
        second.extend(2.5f32.to_le_bytes());
        assert_eq!(parse_npy_f32(&second).unwrap(), array![2.5].into_dyn());
        assert_eq!(parse_npy_f32(&npy("<f4", "(0, 3)", "False", &[])).unwrap().shape(), &[0, 3]);
    }

    #[test]
    fn infinities_are_named_by_their_index_in_either_order() {
        let mut data = vec![0u8; 24];
        data[4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let error = |order: &str| parse_npy_f32(&npy("<f4", "(2, 3)", order, &data)).unwrap_err();
        assert!(error("False").contains("element [0, 1] is inf"), "{}", error("False"));
        assert!(error("True").contains("element [1, 0] is inf"), "{}", error("True"));
        let double = 1e300f64.to_le_bytes();
        assert!(parse_npy_f32(&npy("<f8", "(1,)", "False", &double)).is_err());
    }

    #[test]
    fn malformed_headers_are_refused() {
        let nested = format!("{}{}", "(".repeat(30_000), ")".repeat(30_000));
        let shapes =
            [nested.as_str(), "(2", "(,)", "(-1,)", "(2 2)", "(99999999999999999999,)", "2", "(2.0,)"];
        for shape in shapes {
            let error = parse_npy_f32(&npy("<f4", shape, "False", &[0; 8])).unwrap_err();
            assert!(error.contains("numpy.save"), "{error}");
        }
        let error = |descr: &str| parse_npy_f32(&npy(descr, "(1,)", "False", &[0; 4])).unwrap_err();
        for descr in ["", "é4", "|f4", "=f4", "<f2", "|b1", "|O", "<f99999999999999999999"] {
            assert!(error(descr).contains("expected float32"), "{descr}");
        }
        assert!(parse_npy_f32(&npy("<f4", "(1,)", "Maybe", &[0; 4])).is_err());
        let zeros = format!("(0, {}, {})", usize::MAX, usize::MAX);
        assert!(parse_npy_f32(&npy("<f4", &zeros, "False", &[])).is_err());
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut rng = 1u64;
        let mut next = |n: usize| {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) as usize % n
        };
        let (mut read, mut refused) = (0, 0);
        for descr in ["<f4", ">f8", "|u1"] {
            let good = npy(descr, "(2, 3)", "True", &vec![0; if descr == ">f8" { 48 } else { 24 }]);
            for _ in 0..10_000 {
                let mut bytes = good.clone();
                for _ in 0..=next(3) {
                    let at = next(bytes.len());
                    // Half of them characters that headers are made of.
                    let chars = b"0123456789(),'{}:<>|fiuTF L";
                    bytes[at] = if next(2) == 0 { next(256) as u8 } else { chars[next(chars.len())] };
                }
                if next(4) == 0 {
                    bytes.truncate(1 + next(bytes.len()));
                }
                match parse_npy_f32(&bytes) {
                    Ok(array) => {
                        read += 1;
                        assert!(array.len() <= bytes.len());
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = folder();
        let path = folder.path().join("r.json");
        let failed = write_atomically(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("out of paper"))
        });
        assert!(failed.unwrap_err().to_string().contains("r.json"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(write_atomically(&folder.path().join("no/where"), |_| Ok(())).is_err());
        assert!(write_atomically(folder.path(), |_| Ok(())).is_err());
    }

    #[test]
    fn a_failed_write_keeps_what_was_there() {
        let folder = folder();
        let path = folder.path().join("r.json");
        write_atomically(&path, |file| file.write_all(b"first")).unwrap();
        assert!(write_atomically(&path, |_| Err(io::Error::other("out of paper"))).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_atomically(&path, |file| file.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn checking_leaves_nothing_and_says_what_writing_would() {
        let folder = folder();
        check_writable(&folder.path().join("a.npy")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(check_writable(&folder.path().join("no/where")).is_err());
        assert!(check_writable(folder.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_what_is_no_file_is_never_replaced() {
        use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
        use std::os::unix::net::UnixListener;

        let folder = folder();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, b"old").unwrap();
        symlink(&file, &link).unwrap();
        write_atomically(&link, |f| f.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        // Permissions as of any new file, whatever the umask.
        let usual = folder.path().join("usual");
        fs::write(&usual, b"").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode(), fs::metadata(&usual).unwrap().mode());

        // Not a device, lest a fault here replace one of the machine's; a socket is as little a file.
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        check_writable(&socket).unwrap();
        assert!(write_atomically(&socket, |f| f.write_all(b"gone")).is_err());
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    }
}
