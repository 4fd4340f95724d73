//! Reading `.npy` files: whole, or sample by sample, so that memory holds no more than what is wanted.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::f16;
use ndarray::{ArrayD, Axis, Dimension, IxDyn, ShapeBuilder};

use super::FileError;
use super::header::{self, Header, Refused, other_type};
use crate::read;

/// The most elements that are read at once: 1 GiB of them.
const MAX_ELEMENTS: usize = 1 << 28;
/// How many bytes of a file are converted at a time.
const CHUNK: usize = 1 << 16;

/// The type of the elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    U1,
    I1,
    U2,
    I2,
    U4,
    I4,
    U8,
    I8,
    F2,
    F4,
    F8,
}

/// How elements lie in the file.
#[derive(Clone, Copy, Debug)]
struct Elements {
    kind: Kind,
    size: usize,
    big_endian: bool,
}

/// The elements of `data`, `N` bytes each.
fn decode<const N: usize>(
    data: &[u8],
    big_endian: bool,
    value: impl Fn([u8; N]) -> f32,
    into: &mut Vec<f32>,
) {
    into.extend(data.as_chunks::<N>().0.iter().map(|bytes| {
        let mut bytes = *bytes;
        if big_endian {
            bytes.reverse();
        }
        value(bytes)
    }));
}

impl Elements {
    fn parse(descr: &str) -> Result<Elements, String> {
        let (order, kind) = descr.split_at_checked(1).ok_or_else(|| other_type(descr))?;
        let (kind, size) = match kind {
            "u1" => (Kind::U1, 1),
            "i1" => (Kind::I1, 1),
            "u2" => (Kind::U2, 2),
            "i2" => (Kind::I2, 2),
            "u4" => (Kind::U4, 4),
            "i4" => (Kind::I4, 4),
            "u8" => (Kind::U8, 8),
            "i8" => (Kind::I8, 8),
            "f2" => (Kind::F2, 2),
            "f4" => (Kind::F4, 4),
            "f8" => (Kind::F8, 8),
            _ => return Err(other_type(descr)),
        };
        match order {
            "<" | ">" => Ok(Elements { kind, size, big_endian: order == ">" }),
            "|" if size == 1 => Ok(Elements { kind, size, big_endian: false }),
            _ => Err(other_type(descr)),
        }
    }

    fn decode(self, data: &[u8], into: &mut Vec<f32>) {
        let big = self.big_endian;
        match self.kind {
            Kind::U1 => decode(data, big, |[b]: [u8; 1]| f32::from(b), into),
            Kind::I1 => decode(data, big, |b| f32::from(i8::from_le_bytes(b)), into),
            Kind::U2 => decode(data, big, |b| f32::from(u16::from_le_bytes(b)), into),
            Kind::I2 => decode(data, big, |b| f32::from(i16::from_le_bytes(b)), into),
            Kind::U4 => decode(data, big, |b| u32::from_le_bytes(b) as f32, into),
            Kind::I4 => decode(data, big, |b| i32::from_le_bytes(b) as f32, into),
            Kind::U8 => decode(data, big, |b| u64::from_le_bytes(b) as f32, into),
            Kind::I8 => decode(data, big, |b| i64::from_le_bytes(b) as f32, into),
            Kind::F2 => decode(data, big, |b| f16::from_le_bytes(b).to_f32(), into),
            Kind::F4 => decode(data, big, f32::from_le_bytes, into),
            Kind::F8 => decode(data, big, |b| f64::from_le_bytes(b) as f32, into),
        }
    }

    /// The next `count` elements of a file. Memory is taken as they come.
    fn read(self, file: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
        let mut values = Vec::new();
        let mut chunk = vec![0; CHUNK - CHUNK % self.size];
        let mut left = count * self.size;
        while left > 0 {
            let part = chunk.len().min(left);
            file.read_exact(&mut chunk[..part])?;
            self.decode(&chunk[..part], &mut values);
            left -= part;
        }
        Ok(values)
    }
}

/// What an `.npy` file says of itself.
#[derive(Debug)]
pub(super) struct Layout {
    elements: Elements,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the elements begin.
    start: u64,
}

impl Layout {
    /// Reads the header of a file of `length` bytes, and checks that just its elements follow.
    pub(super) fn read(file: &mut impl Read, length: u64) -> Result<Layout, Refused> {
        let (Header { descr, fortran, shape }, start) = header::read(file)?;
        let elements = Elements::parse(&descr).map_err(Refused::Malformed)?;
        // Without this check a hostile shape could ask for any amount of memory.
        let expected = shape.iter().try_fold(elements.size, |n: usize, d| n.checked_mul(*d));
        let got = length.saturating_sub(start);
        if expected.map(|n| n as u64) != Some(got) {
            return Err(Refused::Malformed(format!(
                "got {got} bytes of elements, expected those of {shape:?} {descr}"
            )));
        }
        Ok(Layout { elements, fortran, shape, start })
    }

    /// Whether the elements are unsigned bytes.
    #[cfg(feature = "npz")]
    pub(super) fn is_bytes(&self) -> bool {
        self.elements.kind == Kind::U1
    }

    /// The whole array, from a file that stands at its first element.
    pub(super) fn whole(&self, file: &mut impl Read) -> Result<ArrayD<f32>, Refused> {
        let count: usize = self.shape.iter().product();
        if count > MAX_ELEMENTS {
            return Err(Refused::Malformed(format!(
                "got {count} elements, expected at most {MAX_ELEMENTS} in an array that is read as a whole{}",
                if self.fortran { "; save it in C order (numpy.ascontiguousarray)" } else { "" }
            )));
        }
        let values = self.elements.read(file, count).map_err(Refused::Io)?;
        let array = ArrayD::from_shape_vec(IxDyn(&self.shape).set_f(self.fortran), values)
            .map_err(|_| Refused::Malformed(format!("got the shape {:?}, which is too large", self.shape)))?;
        check_finite(&array, None)?;
        Ok(array.as_standard_layout().into_owned())
    }
}

/// Refuses infinities and NaN; `row` is the index of the first axis, where the array is one row.
fn check_finite(array: &ArrayD<f32>, row: Option<usize>) -> Result<(), Refused> {
    let Some((index, value)) = array.indexed_iter().find(|(_, v)| !v.is_finite()) else { return Ok(()) };
    let index: Vec<usize> = row.into_iter().chain(index.as_array_view().iter().copied()).collect();
    Err(Refused::Malformed(format!("element {index:?} is {value} as float32; expected finite values")))
}

/// An `.npy` file of float16, float32, float64 or integers of 8 to 64 bits, in either byte order, whose elements are
/// read when they are wanted, as f32 in C order; what f32 doesn't hold exactly is rounded.
#[derive(Debug)]
pub struct NpyFile {
    path: PathBuf,
    layout: Layout,
    /// The array, once read, where rows don't lie together.
    whole: OnceLock<ArrayD<f32>>,
}

impl NpyFile {
    /// Reads the header.
    ///
    /// # Errors
    /// If the file can't be read, is no `.npy`, has another element type, or is shorter or longer than its header says.
    pub fn open(path: &Path) -> Result<NpyFile, FileError> {
        let (file, length) = read::open(path)?;
        let layout = Layout::read(&mut io::BufReader::new(file), length).map_err(|e| refused(path, e))?;
        Ok(NpyFile { path: path.to_path_buf(), layout, whole: OnceLock::new() })
    }

    /// The sizes.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// The whole array.
    ///
    /// # Errors
    /// If reading fails, there are more than 2^28 elements, or one is an infinity or a NaN (its index is named).
    pub fn read(&self) -> Result<ArrayD<f32>, FileError> {
        let mut file = self.at(0)?;
        self.layout.whole(&mut file).map_err(|e| refused(&self.path, e))
    }

    /// One entry of the first axis. In C order nothing else is read; in Fortran order, where its elements lie
    /// scattered, the whole array is, once.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if there is no such entry.
    pub fn row(&self, index: usize) -> Result<ArrayD<f32>, FileError> {
        let failed = |message: String| refused(&self.path, Refused::Malformed(message));
        let (Some(rows), Some(row)) = (self.shape().first(), self.shape().get(1..)) else {
            return Err(failed("got an array without axes".into()));
        };
        let count: usize = row.iter().product();
        if index >= *rows || count > MAX_ELEMENTS {
            return Err(failed(format!("there is no row {index} of at most {MAX_ELEMENTS} elements")));
        }
        if self.layout.fortran {
            if self.whole.get().is_none() {
                let _ = self.whole.set(self.read()?);
            }
            let whole = self.whole.get().ok_or_else(|| failed("got no array".into()))?;
            return Ok(whole.index_axis(Axis(0), index).to_owned());
        }
        let mut file = self.at(index as u64 * (count * self.layout.elements.size) as u64)?;
        let values =
            self.layout.elements.read(&mut file, count).map_err(|e| refused(&self.path, Refused::Io(e)))?;
        let array = ArrayD::from_shape_vec(IxDyn(row), values).map_err(|e| failed(e.to_string()))?;
        check_finite(&array, Some(index)).map_err(|e| refused(&self.path, e))?;
        Ok(array)
    }

    /// The file, standing `offset` bytes behind its header. It isn't kept open: a run may have thousands.
    fn at(&self, offset: u64) -> Result<impl Read, FileError> {
        let (mut file, _) = read::open(&self.path)?;
        file.seek(SeekFrom::Start(self.layout.start + offset))
            .map_err(|e| refused(&self.path, Refused::Io(e)))?;
        Ok(file)
    }
}

pub(super) fn refused(path: &Path, why: Refused) -> FileError {
    let path = path.to_path_buf();
    match why {
        Refused::Io(source) => read::ReadError::Io { path, source }.into(),
        Refused::Malformed(message) => FileError::Npy { path, message },
    }
}

/// Reads an `.npy` array whole, as [`NpyFile::read`] does.
///
/// # Errors
/// As [`NpyFile::open`] and [`NpyFile::read`].
pub fn read_npy_f32(path: &Path) -> Result<ArrayD<f32>, FileError> {
    NpyFile::open(path)?.read()
}

/// Reads the bytes of an `.npy` file, as [`read_npy_f32`] does.
///
/// # Errors
/// What is wrong with them, as a sentence.
pub fn parse_npy_f32(bytes: &[u8]) -> Result<ArrayD<f32>, String> {
    let mut file = Cursor::new(bytes);
    let layout = Layout::read(&mut file, bytes.len() as u64);
    layout.and_then(|layout| layout.whole(&mut file)).map_err(|e| match e {
        Refused::Io(e) => e.to_string(),
        Refused::Malformed(message) => message,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ndarray::array;

    use super::*;

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
        for descr in ["", "é4", "|f4", "=f4", "<f16", "|b1", "<c8", "|O", "<f99999999999999999999"] {
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
    fn every_number_is_converted() {
        let one = |descr: &str, bytes: &[u8]| parse_npy_f32(&npy(descr, "(1,)", "False", bytes)).unwrap()[0];
        assert_eq!(one("<f2", &f16::from_f32(-0.5).to_le_bytes()), -0.5);
        assert_eq!(one(">f2", &f16::from_f32(1024.0).to_be_bytes()), 1024.0);
        assert_eq!(one("|i1", &[0xff]), -1.0);
        assert_eq!(one(">u2", &[1, 0]), 256.0);
        assert_eq!(one("<i2", &[0xfe, 0xff]), -2.0);
        assert_eq!(one("<u4", &u32::MAX.to_le_bytes()), 4_294_967_296.0);
        assert_eq!(one(">u8", &3u64.to_be_bytes()), 3.0);
    }

    /// Row by row is as whole, in both orders, also where a row is longer than what is converted at a time.
    #[test]
    fn rows_are_those_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let data: Vec<u8> = (0..3 * 30_001u64).flat_map(|v| (v as f64).to_le_bytes()).collect();
        for order in ["False", "True"] {
            fs::write(&path, npy("<f8", "(3, 30001)", order, &data)).unwrap();
            let (file, whole) = (NpyFile::open(&path).unwrap(), read_npy_f32(&path).unwrap());
            assert_eq!(file.shape(), [3, 30_001]);
            for row in 0..3 {
                assert_eq!(file.row(row).unwrap(), whole.index_axis(Axis(0), row), "{order} {row}");
            }
            assert!(file.row(3).is_err());
        }
        let mut data = vec![0; 24];
        data[20..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&path, npy("<f4", "(2, 3)", "False", &data)).unwrap();
        let file = NpyFile::open(&path).unwrap();
        assert!(file.row(0).is_ok());
        assert!(file.row(1).unwrap_err().to_string().contains("element [1, 2] is NaN"));
    }

    /// A file of holes takes no room on the disk, and must take none in memory.
    #[test]
    fn an_array_that_is_too_large_to_be_read_whole_is_read_by_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let (rows, length) = (1u64 << 20, 1024);
        let header = npy("<f4", &format!("({rows}, {length})"), "False", &[]);
        fs::write(&path, &header).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(header.len() as u64 + rows * length * 4).unwrap();
        let opened = NpyFile::open(&path).unwrap();
        assert_eq!(opened.row(rows as usize - 1).unwrap().shape(), [length as usize]);
        assert!(opened.read().unwrap_err().to_string().contains("expected at most 268435456"));
    }
}
