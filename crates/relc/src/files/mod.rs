//! Files: `.npy` arrays, with the feature `npz` archives of them, and outputs that appear whole or not at all.

mod header;
mod npy;
#[cfg(feature = "npz")]
mod npz;
mod rows;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use ndarray::ArrayViewD;
use tempfile::NamedTempFile;

pub use npy::{NpyFile, parse_npy_f32, read_npy_f32};
#[cfg(feature = "npz")]
pub use npz::{NpzArray, NpzFile, NpzRows};
pub use rows::NpyRows;

use crate::read::ReadError;

/// How many bytes are written at a time.
const BUFFER: usize = 1 << 18;

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
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

/// A file in the making, which appears whole or not at all: until then it is a temporary one in the same folder.
///
/// A link is followed and stays a link. What is neither file nor folder (a device, a pipe) gets the bytes in the end.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: Target,
    file: NamedTempFile,
}

impl Draft {
    /// Begins a file.
    ///
    /// # Errors
    /// If the folder or the file can't be written to.
    pub fn create(path: &Path) -> Result<Draft, FileError> {
        let attempt = || {
            let target = Target::of(path)?;
            let file = match &target {
                Target::Stream => NamedTempFile::new()?,
                Target::File(real) => temporary_beside(real)?,
            };
            Ok(Draft { path: path.to_path_buf(), target, file })
        };
        attempt().map_err(|source| FileError::Write { path: path.to_path_buf(), source })
    }

    /// What is written so far.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Makes it the file of its path.
    ///
    /// # Errors
    /// If that can't be written; nothing is left then, and a file that was there before is as it was.
    pub fn finish(self) -> Result<(), FileError> {
        let Draft { path, target, mut file } = self;
        let attempt = || match target {
            Target::Stream => {
                file.rewind()?;
                io::copy(&mut file, &mut OpenOptions::new().write(true).open(&path)?).map(drop)
            }
            Target::File(real) => file.persist(real).map(drop).map_err(|e| e.error),
        };
        attempt().map_err(|source| FileError::Write { path, source })
    }

    /// As an error of this file.
    fn failed(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
    }
}

/// Writes a file whole or not at all, as [`Draft`] does.
///
/// # Errors
/// If the folder or the file can't be written to; nothing is left then, and a file that was there before is as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut draft = Draft::create(path)?;
    let mut buffered = BufWriter::with_capacity(BUFFER, draft.file());
    let written = write(&mut buffered).and_then(|()| buffered.flush());
    drop(buffered);
    written.map_err(|e| draft.failed(e))?;
    draft.finish()
}

/// Checks that a file could be written, without writing it.
///
/// # Errors
/// As [`write_atomically`].
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    Draft::create(path).map(drop)
}

/// What a path to be written stands for.
#[derive(Debug)]
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
    let builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        let mut builder = builder;
        builder.permissions(fs::Permissions::from_mode(0o666));
        builder
    };
    builder.tempfile_in(folder)
}

/// Writes an array as `.npy`, f32 little-endian in C order, whole or not at all.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_npy_f32(path: &Path, array: ArrayViewD<'_, f32>) -> Result<(), FileError> {
    write_atomically(path, |file| {
        file.write_all(&header::of_f32(array.shape())?)?;
        array.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
    })
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
