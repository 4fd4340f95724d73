//! Files as memory.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::ArtifactError;

/// Maps a file into memory: its pages are shared by all processes that do.
///
/// As with a program's own file, replace it whole (as relc does) and don't write to it while it is in use: what changes
/// behind its back is not verified again, and of what is cut off there is nothing to read.
///
/// # Errors
/// If it can't be read.
pub fn mapped(path: &Path) -> Result<Bytes, ArtifactError> {
    // Asked before it is opened: opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "got no regular file, expected a .relc file",
        )
        .into());
    }
    let file = File::open(path)?;
    // SAFETY: the map is only ever read, as bytes, floats and text, of which every pattern of bytes is valid or is
    // checked. That nobody changes the file meanwhile is asked of the callers, as of every mapped program.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
