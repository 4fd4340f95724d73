//! Files: `.npy` arrays, and outputs that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};
use npyz::{DType, NpyFile, NpyHeader, Order, TypeChar, WriterBuilder};
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
/// # Errors
/// If the folder or the file can't be written to; nothing is left then.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ArtifactError> {
    let attempt = || -> io::Result<()> {
        let mut file = temporary_beside(path)?;
        {
            let mut buffered = BufWriter::new(&mut file);
            write(&mut buffered)?;
            buffered.flush()?;
        }
        open_to_all_as_usual(file.as_file())?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    attempt().map_err(|source| ArtifactError::Write { path: path.to_path_buf(), source })
}

/// A temporary file in the folder of `path`.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "there is a folder of that name"));
    }
    NamedTempFile::new_in(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Checks that a file could be written, without writing it.
///
/// # Errors
/// As [`write_atomically`].
pub fn check_writable(path: &Path) -> Result<(), ArtifactError> {
    let written = |source| ArtifactError::Write { path: path.to_path_buf(), source };
    temporary_beside(path).map(drop).map_err(written)
}

/// Temporary files are private; results are as readable as any file.
#[cfg(unix)]
fn open_to_all_as_usual(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn open_to_all_as_usual(_: &File) -> io::Result<()> {
    Ok(())
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

/// Reads an `.npy` array of real numbers or integers as f32.
///
/// # Errors
/// If the file can't be read, is no `.npy`, has another element type, is shorter or longer than its header says, or
/// holds an infinity or a NaN (the index is named).
pub fn read_npy_f32(path: &Path) -> Result<ArrayD<f32>, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(read)?;
    parse_npy_f32(&bytes).map_err(|message| ArtifactError::Npy { path: path.to_path_buf(), message })
}

/// An `.npy` header is never longer; hostile ones may say so.
const MAX_HEADER: usize = 1 << 16;

/// The length of the header, magic included, from the file's first bytes.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (length, before) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?, 12),
        _ => return None,
    };
    (length <= MAX_HEADER).then(|| length + before).filter(|n| *n <= bytes.len())
}

fn parse_npy_f32(bytes: &[u8]) -> Result<ArrayD<f32>, String> {
    let no_npy = "is no .npy file; expected one as numpy.save writes it";
    let length = header_length(bytes).ok_or(no_npy)?;
    let header = NpyHeader::from_reader(&bytes[..length]).map_err(|e| format!("{no_npy} ({e})"))?;
    let shape: Vec<usize> = header
        .shape()
        .iter()
        .map(|d| usize::try_from(*d))
        .collect::<Result<_, _>>()
        .map_err(|_| "the shape is too large".to_string())?;
    let DType::Plain(ty) = header.dtype() else {
        return Err(format!("got the type {}, expected float32", header.dtype().descr()));
    };
    let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let expected = elements
        .and_then(|n| n.checked_mul(usize::try_from(ty.size_field()).ok()?))
        .and_then(|n| n.checked_add(length));
    if expected != Some(bytes.len()) {
        return Err(format!(
            "got {} bytes, expected those of {shape:?} {}",
            bytes.len(),
            header.dtype().descr()
        ));
    }
    let order = header.order();
    let file = || NpyFile::new(bytes).map_err(|e| e.to_string());
    macro_rules! read {
        ($ty:ty) => {
            file()?.into_vec::<$ty>().map_err(|e| e.to_string())?.into_iter().map(|v| v as f32).collect()
        };
    }
    let values: Vec<f32> = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 4) => read!(f32),
        (TypeChar::Float, 8) => read!(f64),
        (TypeChar::Uint, 1) => read!(u8),
        (TypeChar::Int, 4) => read!(i32),
        (TypeChar::Int, 8) => read!(i64),
        _ => {
            let got = header.dtype().descr();
            return Err(format!("got the type {got}, expected float32 (or float64, uint8, int32, int64)"));
        }
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Err(format!("element {at} is {}; expected finite values", values[at]));
    }
    let shape = IxDyn(&shape).set_f(order == Order::Fortran);
    let array = ArrayD::from_shape_vec(shape, values).map_err(|e| e.to_string())?;
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
        let path = folder().keep().join("a.npy");
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
        assert!(error(&npy("<f4", "(1,)", "False", &f32::NAN.to_le_bytes())).contains("element 0 is NaN"));
        assert!(error(b"PK\x03\x04").contains("numpy.save"));
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let good = npy("<f4", "(2, 3)", "False", &[0; 24]);
        let mut rng = 1u64;
        let mut next = |n: usize| {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) as usize % n
        };
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            bytes.truncate(1 + next(2 * bytes.len()));
            let _ = parse_npy_f32(&bytes);
        }
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
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(write_atomically(&folder.path().join("no/where"), |_| Ok(())).is_err());
        assert!(write_atomically(folder.path(), |_| Ok(())).is_err());
    }
}
