//! Files beside the model that hold its large tensors (`data_location = EXTERNAL`).
//!
//! A model names the files itself, so it must not be able to name any file of the machine: the path has to be
//! relative, without `..`, and its target, symbolic links followed, has to lie in the model's folder. If the model's
//! file is a link, as in a download cache that keeps all files in one folder under other names, then the folder of the
//! file that it leads to is as good.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::constant::Budget;
use crate::error::Fault;
use crate::proto::StringStringEntryProto;

/// The folders that a model's external data lies in.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    folders: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl ModelFiles {
    /// Without folders, the model came as bytes, and external data is refused.
    pub fn new(folders: &[PathBuf]) -> Self {
        ModelFiles { folders: folders.to_vec(), seen: HashSet::new() }
    }

    /// Reads the range that `entries` (`location`, `offset`, `length`) names, which must have `expected` bytes.
    pub fn read(
        &mut self,
        entries: &[StringStringEntryProto],
        expected: usize,
        budget: &mut Budget,
    ) -> Result<Bytes, Fault> {
        let get =
            |key| entries.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref());
        let number = |key| {
            get(key)
                .map(|v| {
                    v.trim()
                        .parse::<u64>()
                        .map_err(|_| Fault::invalid(format!("got external data with {key} \"{v}\"")))
                })
                .transpose()
        };
        let location =
            get("location").ok_or_else(|| Fault::invalid("got external data without a location"))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let path = self.resolve(location)?;
        let fail = |e| unreadable(location, &e);
        let mut file = File::open(&path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(Fault::invalid(format!("got external data \"{location}\", expected a regular file")));
        }
        let size = metadata.len();
        let rest = size.checked_sub(offset).ok_or_else(|| {
            Fault::invalid(format!(
                "got offset {offset} into external data \"{location}\", which has {size} bytes"
            ))
        })?;
        let length = length.unwrap_or(rest);
        if length > rest || length != expected as u64 {
            return Err(Fault::invalid(format!(
                "got {length} bytes at {offset} of external data \"{location}\" ({size} bytes), expected {expected} for the shape"
            )));
        }
        if self.seen.insert(path) {
            budget.add_file(held_bytes(&metadata));
        }
        budget.charge::<u8>(expected)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(expected).map_err(|_| {
            Fault::unsupported(format!(
                "got {expected} bytes of external data \"{location}\", more than there is memory"
            ))
        })?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        file.take(length).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() != expected {
            return Err(Fault::invalid(format!(
                "got {} bytes of external data \"{location}\", expected {expected}: the file became shorter",
                bytes.len()
            )));
        }
        Ok(bytes.into())
    }

    /// The file of a location, after the checks of the module's description.
    fn resolve(&self, location: &str) -> Result<PathBuf, Fault> {
        if self.folders.is_empty() {
            return Err(Fault::unsupported(format!(
                "got external data \"{location}\" in a model given as bytes, expected a folder to read it from"
            )));
        }
        let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || location.contains('\0') || !Path::new(location).components().all(inside) {
            return Err(Fault::invalid(format!(
                "got external data \"{location}\", expected a relative path inside the model's folder"
            )));
        }
        let fail = |e| unreadable(location, &e);
        let folders =
            self.folders.iter().map(|f| f.canonicalize()).collect::<Result<Vec<_>, _>>().map_err(fail)?;
        let found: Vec<_> = folders.iter().map(|f| f.join(location).canonicalize()).collect();
        let Some(path) = found.iter().flatten().next() else {
            let error = found.into_iter().find_map(Result::err);
            return Err(fail(error.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())));
        };
        if !folders.iter().any(|folder| path.starts_with(folder)) {
            return Err(Fault::invalid(format!(
                "got external data \"{location}\", a link that leaves the model's folder: put the file itself beside the \
                 model"
            )));
        }
        // Opening a named pipe would wait for its writer.
        if !path.is_file() {
            return Err(Fault::invalid(format!("got external data \"{location}\", expected a regular file")));
        }
        Ok(path.clone())
    }
}

/// The bytes of a file that its disk holds: a sparse file is much longer, and justifies no memory.
#[cfg(unix)]
fn held_bytes(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks`.
    const BLOCK: u64 = 512;
    metadata.len().min(metadata.blocks().saturating_mul(BLOCK))
}

#[cfg(not(unix))]
fn held_bytes(metadata: &Metadata) -> u64 {
    metadata.len()
}

fn unreadable(location: &str, error: &std::io::Error) -> Fault {
    Fault::invalid(format!(
        "can't read external data \"{location}\": {error}; expected the file beside the model"
    ))
}
