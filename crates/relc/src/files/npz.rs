//! `.npz` archives: reading those of numpy, and writing arrays with a row for each sample.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::header::{self, MAX_HEADER, Refused};
use super::npy::{Layout, refused};
use super::rows::Regions;
use super::{Draft, FileError};
use crate::read;

/// How the name of an array's file in the archive ends.
const ENDING: &str = ".npy";

/// An array of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct NpzArray {
    /// The elements as f32, in C order.
    pub values: ArrayD<f32>,
    /// Whether the file holds them as unsigned bytes.
    pub is_bytes: bool,
}

/// An `.npz` archive as `numpy.savez` and `numpy.savez_compressed` write it. Its arrays are read when they are wanted, and
/// may have the types that [`NpyFile`](super::NpyFile) reads.
#[derive(Debug)]
pub struct NpzFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl NpzFile {
    /// Reads the list of the archive's files.
    ///
    /// # Errors
    /// If the file can't be read, or is no archive.
    pub fn open(path: &Path) -> Result<NpzFile, FileError> {
        let (file, _) = read::open(path)?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|e| wrong(path, None, e))?;
        Ok(NpzFile { path: path.to_path_buf(), archive })
    }

    /// The arrays' names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.archive.file_names().filter_map(|name| Some(name.ok()?.strip_suffix(ENDING)?.to_string()))
    }

    /// An array; `None` if there is none of that name. Memory is taken as the elements come, and only where the size that
    /// the archive states is that of the array's shape.
    ///
    /// # Errors
    /// As [`read_npy_f32`](super::read_npy_f32), and if the archive is damaged or compressed otherwise than numpy does.
    pub fn read(&mut self, name: &str) -> Result<Option<NpzArray>, FileError> {
        let path = &self.path;
        let mut entry = match self.archive.by_name(&format!("{name}{ENDING}")) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(wrong(path, Some(name), e)),
        };
        let length = entry.size();
        let mut attempt = || {
            let layout = Layout::read(&mut entry, length)?;
            let values = layout.whole(&mut entry)?;
            // At its end the archive's own check of the bytes is made.
            match entry.read(&mut [0]).map_err(Refused::Io)? {
                0 => Ok(NpzArray { values, is_bytes: layout.is_bytes() }),
                _ => {
                    Err(Refused::Malformed(format!("got more bytes than {length}, which the archive states")))
                }
            }
        };
        attempt().map(Some).map_err(|why| match why {
            Refused::Io(e) => wrong(path, Some(name), e),
            Refused::Malformed(message) => wrong(path, Some(name), message),
        })
    }
}

/// What is wrong with an archive, or with an array of it.
fn wrong(path: &Path, array: Option<&str>, why: impl std::fmt::Display) -> FileError {
    let message = match array {
        Some(name) => format!("the array \"{name}\": {why}"),
        None => format!("is no .npz file; expected one as numpy.savez writes it ({why})"),
    };
    refused(path, Refused::Malformed(message))
}

/// An `.npz` of named arrays of f32, each with a row for each sample.
#[derive(Debug)]
pub struct NpzRows {
    /// Where the archive comes to lie.
    draft: Draft,
    /// The arrays one behind the other, until all samples are there.
    spool: Draft,
    samples: usize,
    names: Vec<String>,
    regions: Option<Regions>,
}

impl NpzRows {
    /// Begins a file for so many samples.
    ///
    /// # Errors
    /// If it can't be written to.
    pub fn create(path: &Path, samples: usize) -> Result<NpzRows, FileError> {
        let (draft, spool) = (Draft::create(path)?, Draft::create(path)?);
        Ok(NpzRows { draft, spool, samples, names: Vec::new(), regions: None })
    }

    /// Writes the rows of a sample, one of each array; arrays of one name get numbers.
    ///
    /// # Errors
    /// If writing fails, or the rows have other shapes than those before.
    pub fn put(&mut self, sample: usize, rows: &[(&str, ArrayViewD<'_, f32>)]) -> Result<(), FileError> {
        let views: Vec<_> = rows.iter().map(|(_, row)| row.view()).collect();
        if self.regions.is_none() {
            for (name, _) in rows {
                let taken = |text: &String| self.names.contains(text);
                let numbered = (2..).map(|i| format!("{name}-{i}"));
                let free = std::iter::once(name.to_string()).chain(numbered).find(|text| !taken(text));
                self.names.extend(free);
            }
        }
        let samples = self.samples;
        let regions = self.regions.get_or_insert_with(|| Regions::new(0, samples, &views));
        regions.put(&mut self.spool, sample, &views).map_err(|e| self.spool.failed(e))
    }

    /// Ends the file; samples without rows get rows of NaN. If there was none with rows, there is no file.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<(), FileError> {
        let Some(mut regions) = self.regions.take() else { return Ok(()) };
        let mut attempt = || {
            regions.fill(&mut self.spool)?;
            let mut archive = ZipWriter::new(BufWriter::new(self.draft.file()));
            for (name, region) in self.names.iter().zip(&regions.regions) {
                let bytes = region.row_bytes() * self.samples as u64;
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Stored)
                    .large_file(bytes >= u64::from(u32::MAX) - MAX_HEADER);
                archive.start_file(format!("{name}{ENDING}"), options)?;
                let shape: Vec<usize> =
                    [self.samples].into_iter().chain(region.row.iter().copied()).collect();
                archive.write_all(&header::of_f32(&shape)?)?;
                self.spool.file().seek(SeekFrom::Start(region.start))?;
                io::copy(&mut self.spool.file().take(bytes), &mut archive)?;
            }
            archive.finish()?.flush()
        };
        attempt().map_err(|e| self.draft.failed(e))?;
        self.draft.finish()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn row(values: [f32; 2]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(vec![2], values.to_vec()).unwrap()
    }

    #[test]
    fn an_archive_without_rows_and_one_that_is_not_finished_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.npz");
        NpzRows::create(&path, 2).unwrap().finish().unwrap();
        let mut half = NpzRows::create(&path, 2).unwrap();
        half.put(0, &[("a", row([1.0, 2.0]).view())]).unwrap();
        drop(half);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn archives_hold_every_array_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npz");
        let mut rows = NpzRows::create(&path, 2).unwrap();
        let (long, short) = (row([1.0, 2.0]), array![7.0f32].into_dyn());
        for sample in 0..2 {
            let views = [("a", long.view()), ("/b", short.view()), ("a", short.view())];
            rows.put(sample, &views).unwrap();
        }
        rows.finish().unwrap();
        let mut archive = NpzFile::open(&path).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a", "/b", "a-2"]);
        let mut read = |name: &str| archive.read(name).unwrap().unwrap().values;
        assert_eq!(read("a"), array![[1.0, 2.0], [1.0, 2.0]].into_dyn());
        assert_eq!(read("/b"), array![[7.0], [7.0]].into_dyn());
        assert_eq!(read("a-2"), array![[7.0], [7.0]].into_dyn());
    }

    /// Written by numpy: `numpy.savez(FILE, a=numpy.arange(6, dtype="f8").reshape(2, 3), b=numpy.uint8([[1, 255]]))`, and
    /// so with `savez_compressed`.
    #[test]
    fn what_numpy_writes_is_read_stored_and_compressed() {
        for name in ["stored.npz", "compressed.npz"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/files/data").join(name);
            let mut archive = NpzFile::open(&path).unwrap();
            let a = archive.read("a").unwrap().unwrap();
            assert_eq!((a.values, a.is_bytes), (array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]].into_dyn(), false));
            let b = archive.read("b").unwrap().unwrap();
            assert_eq!((b.values, b.is_bytes), (array![[1.0, 255.0]].into_dyn(), true));
            assert_eq!(archive.read("c").unwrap(), None);
        }
    }

    /// An archive of one compressed array `a`.
    fn archive(folder: &Path, bytes: &[u8]) -> PathBuf {
        let path = folder.join("a.npz");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file("a.npy", options).unwrap();
        archive.write_all(bytes).unwrap();
        archive.finish().unwrap();
        path
    }

    #[test]
    fn hostile_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path, says: &str| {
            let error =
                NpzFile::open(path).and_then(|mut archive| archive.read("a")).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("a.npz"), "{error}");
        };
        // The shape asks for more than follows, and the other way round.
        let header = header::of_f32(&[1 << 20, 1 << 20]).unwrap();
        refused(&archive(folder.path(), &header), "got 0 bytes of elements");
        let header = header::of_f32(&[1]).unwrap();
        let zeros = vec![0; 1 << 20];
        let path = archive(folder.path(), &[header.clone(), zeros.clone()].concat());
        refused(&path, "got 1048576 bytes of elements");

        // What the archive states is a lie: there is more, or less.
        let honest = std::fs::read(&path).unwrap();
        let size = ((header.len() + zeros.len()) as u32).to_le_bytes();
        let lie = |stated: u32| {
            let mut bytes = honest.clone();
            let places: Vec<usize> = (0..bytes.len() - 4).filter(|i| bytes[*i..*i + 4] == size).collect();
            assert_eq!(places.len(), 2, "in the file's own header and in the list");
            for at in places {
                bytes[at..at + 4].copy_from_slice(&stated.to_le_bytes());
            }
            std::fs::write(&path, bytes).unwrap();
        };
        lie(header.len() as u32 + 4);
        refused(&path, "the array \"a\"");
        let header = header::of_f32(&[1 << 24]).unwrap();
        let path = archive(folder.path(), &header);
        let mut bytes = std::fs::read(&path).unwrap();
        let size = (header.len() as u32).to_le_bytes();
        for at in (0..bytes.len() - 4).filter(|i| bytes[*i..*i + 4] == size).collect::<Vec<_>>() {
            bytes[at..at + 4].copy_from_slice(&(header.len() as u32 + (1 << 26)).to_le_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        refused(&path, "the array \"a\"");

        std::fs::write(&path, b"no archive").unwrap();
        refused(&path, "is no .npz file");
    }

    #[test]
    fn damaged_archives_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let good = header::of_f32(&[64]).unwrap();
        let good = std::fs::read(archive(folder.path(), &[good, vec![0; 256]].concat())).unwrap();
        let path = folder.path().join("b.npz");
        let mut refused = 0;
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            refused += usize::from(NpzFile::open(&path).and_then(|mut file| file.read("a")).is_err());
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(NpzFile::open(&path).is_err(), "cut at {at}");
        }
        assert!(refused > good.len() / 4, "{refused} of {}", good.len());
    }
}
