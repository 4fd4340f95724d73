//! Reading the files that a user names: regular files only, and none larger than its kind may be.
//!
//! What a file is gets asked before it is opened, since opening a named pipe waits for its writer; its size is checked
//! before memory is taken.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A kind of file, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    name: &'static str,
    limit: u64,
}

impl Kind {
    /// A kind of files of at most `limit` bytes; messages speak of "a `name` file".
    pub const fn new(name: &'static str, limit: u64) -> Kind {
        Kind { name, limit }
    }
}

/// The names of a model's outputs: 4 MiB, far more than any data set has.
pub const LABELS: Kind = Kind { name: "labels", limit: 4 << 20 };
/// A preset's TOML file: 1 MiB.
pub const PRESET: Kind = Kind { name: "preset", limit: 1 << 20 };
/// A preprocessing's TOML file: 1 MiB.
pub const PREPROCESSING: Kind = Kind { name: "preprocessing", limit: 1 << 20 };
/// A picture: 256 MiB.
pub const PICTURE: Kind = Kind { name: "picture", limit: 256 << 20 };

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system says no.
    #[error("can't read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a folder, a device, a pipe.
    #[error("can't read {}: got {got}, expected a regular file", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        got: &'static str,
    },
    /// It is larger than it may be.
    #[error("can't read {}: it has {bytes} bytes, expected at most {limit} for a {kind} file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// What kind of file it should be.
        kind: &'static str,
    },
    /// It should be text.
    #[error("{}, line {line}: got bytes that are no UTF-8; save the file as UTF-8", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// The first line that is none, from 1.
        line: usize,
    },
}

/// Opens a regular file; says how long it is.
///
/// # Errors
/// If the file can't be opened, or is a folder, a device or a pipe.
pub fn open(path: &Path) -> Result<(File, u64), ReadError> {
    let failed = |source| ReadError::Io { path: path.to_path_buf(), source };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(ReadError::NoFile { path: path.to_path_buf(), got: what(&found) });
    }
    let file = File::open(path).map_err(failed)?;
    Ok((file, found.len()))
}

/// What something that is no regular file is.
fn what(found: &fs::Metadata) -> &'static str {
    if found.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    "something else"
}

/// The bytes of a regular file.
///
/// # Errors
/// As [`open`], and if there are more than its kind may have.
pub fn bytes(path: &Path, kind: Kind) -> Result<Vec<u8>, ReadError> {
    let too_large =
        |bytes| ReadError::TooLarge { path: path.to_path_buf(), bytes, limit: kind.limit, kind: kind.name };
    let (file, length) = open(path)?;
    if length > kind.limit {
        return Err(too_large(length));
    }
    // The file may grow meanwhile, and those that the system makes up say that they are empty.
    let mut bytes = Vec::new();
    file.take(kind.limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
    if bytes.len() as u64 > kind.limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The text of a regular file, without the byte-order mark that some editors put first.
///
/// # Errors
/// As [`bytes()`], and if the file is no UTF-8.
pub fn text(path: &Path, kind: Kind) -> Result<String, ReadError> {
    let text = String::from_utf8(bytes(path, kind)?).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        ReadError::NoText { path: path.to_path_buf(), line }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_string(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Kind = Kind { name: "small", limit: 10 };

    #[test]
    fn text_loses_its_byte_order_mark_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.txt");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            text(&path, SMALL)
        };
        assert_eq!(read(b"\xef\xbb\xbfa\r\nb").unwrap(), "a\r\nb");
        assert_eq!(read(b" a ").unwrap(), " a ");
        assert!(read(b"a\nb\n\xff").unwrap_err().to_string().contains("line 3"));
        let error = read(b"0123456789a").unwrap_err().to_string();
        assert!(error.contains("11 bytes, expected at most 10 for a small file"), "{error}");
        assert!(text(&folder.path().join("none"), SMALL).unwrap_err().to_string().contains("none"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_without_opening_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = |path: &Path| bytes(path, SMALL).unwrap_err().to_string();
        assert!(refused(folder.path()).contains("got a folder"));
        assert!(refused(&socket).contains("got a socket"));
        assert!(refused(Path::new("/dev/zero")).contains("got a device"));
    }
}
