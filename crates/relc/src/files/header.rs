//! The header of an `.npy` file: reading and writing it.

use std::io::{self, Read};

const NO_NPY: &str = "is no .npy file; expected one as numpy.save writes it";

/// How a file of version 1 begins.
const MAGIC: [u8; 8] = *b"\x93NUMPY\x01\x00";

/// What a header says.
pub struct Header {
    /// Type and byte order: `<f4`.
    pub descr: String,
    /// Whether the first axis lies closest in memory.
    pub fortran: bool,
    /// The sizes.
    pub shape: Vec<usize>,
}

/// The most bytes of a header: numpy's own readers stop at 10 000.
pub const MAX_HEADER: u64 = 1 << 16;

/// Why there is no header.
pub enum Refused {
    /// Reading failed.
    Io(io::Error),
    /// The file says something else, as a sentence.
    Malformed(String),
}

/// Reads a header; says how many bytes it takes.
pub fn read(file: &mut impl Read) -> Result<(Header, u64), Refused> {
    let none = || Refused::Malformed(NO_NPY.to_string());
    let mut fill = |bytes: &mut [u8]| {
        file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => none(),
            _ => Refused::Io(e),
        })
    };
    let mut start = [0; 8];
    fill(&mut start)?;
    let (length, size) = match start {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut length = [0; 2];
            fill(&mut length)?;
            (usize::from(u16::from_le_bytes(length)), 2)
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut length = [0; 4];
            fill(&mut length)?;
            (usize::try_from(u32::from_le_bytes(length)).map_err(|_| none())?, 4)
        }
        _ => return Err(none()),
    };
    if length as u64 > MAX_HEADER {
        return Err(Refused::Malformed(format!(
            "{NO_NPY} (got a header of {length} bytes, expected at most {MAX_HEADER})"
        )));
    }
    let mut text = vec![0; length];
    fill(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| none())?;
    Ok((Header::parse(&text).map_err(Refused::Malformed)?, (start.len() + size + length) as u64))
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

/// The header of an `.npy` of f32, little-endian in C order, as numpy writes it: the elements begin at a multiple of 64
/// bytes.
pub fn of_f32(shape: &[usize]) -> io::Result<Vec<u8>> {
    let sizes: Vec<String> = shape.iter().map(|d| format!("{d}, ")).collect();
    let sizes = sizes.concat();
    // One size keeps its comma: it is a tuple.
    let sizes = if shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    let fixed = MAGIC.len() + size_of::<u16>();
    let padded = (fixed + text.len() + 1).next_multiple_of(64) - fixed;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let length = u16::try_from(padded)
        .map_err(|_| io::Error::other(format!("got an array of {} axes", shape.len())))?;
    Ok([MAGIC.as_slice(), &length.to_le_bytes(), text.as_bytes()].concat())
}

/// The refusal of an element type.
pub fn other_type(got: &str) -> String {
    format!("got the type {got}, expected float32 (or float16, float64, or integers of 8 to 64 bits)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_numpy() {
        let check = |shape: &[usize], says: &str| {
            let bytes = of_f32(shape).unwrap();
            assert_eq!(bytes.len() % 64, 0, "{shape:?}");
            let text = String::from_utf8_lossy(&bytes[10..]).into_owned();
            let wanted = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {says}, }}");
            assert_eq!((text.trim_end(), text.chars().last()), (wanted.as_str(), Some('\n')));
            let Ok((header, start)) = read(&mut bytes.as_slice()) else { panic!("{shape:?} is not read") };
            assert_eq!((header.shape.as_slice(), start), (shape, bytes.len() as u64));
        };
        check(&[], "()");
        check(&[5], "(5,)");
        check(&[2, 3, 4], "(2, 3, 4)");
        check(&[1000; 40], &format!("({})", vec!["1000"; 40].join(", ")));
        assert!(of_f32(&[1; 30_000]).is_err());
    }
}
