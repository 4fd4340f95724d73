//! `.npz` archives of arrays of any type.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use npyz::WriterBuilder;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// An archive in the making.
pub struct NpzWriter(ZipWriter<File>);

impl NpzWriter {
    /// Begins an archive.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn create(path: impl AsRef<Path>) -> NpzWriter {
        NpzWriter(ZipWriter::new(File::create(path).expect("the archive can be written")))
    }

    /// Adds an array.
    ///
    /// # Panics
    /// If it can't be written, or the values don't fill the shape.
    pub fn put<T: npyz::AutoSerialize>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = T>,
    ) {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.0.start_file(format!("{name}.npy"), options).expect("the archive can be written");
        let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
        let array = npyz::WriteOptions::new().default_dtype().shape(&shape);
        let mut array = array.writer(&mut self.0).begin_nd().expect("the array can be written");
        array.extend(values).expect("the array can be written");
        array.finish().expect("the values fill the shape");
    }

    /// Ends it.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn finish(self) {
        self.0.finish().expect("the archive can be written");
    }
}

/// An `.npz` file.
pub struct Npz(PathBuf);

impl Npz {
    /// Names a file; arrays are read when asked for.
    pub fn open(path: impl AsRef<Path>) -> Npz {
        Npz(path.as_ref().to_path_buf())
    }

    fn archive(&self) -> ZipArchive<File> {
        let file = File::open(&self.0).expect("the archive can be opened");
        ZipArchive::new(file).expect("it is an archive")
    }

    /// Whether there is an array of that name.
    pub fn has(&self, name: &str) -> bool {
        self.archive().index_for_name(&format!("{name}.npy")).is_some()
    }

    fn read<T: npyz::Deserialize>(&self, name: &str) -> (Vec<usize>, Vec<T>) {
        let mut archive = self.archive();
        let entry = archive.by_name(&format!("{name}.npy"));
        let entry = entry.unwrap_or_else(|e| panic!("{} has no array {name}: {e}", self.0.display()));
        let array = npyz::NpyFile::new(entry).expect("the array can be read");
        assert_eq!(array.order(), npyz::Order::C, "{name}");
        let shape = array.shape().iter().map(|d| *d as usize).collect();
        (shape, array.into_vec().expect("the array has the type asked for"))
    }

    /// An f32 array.
    ///
    /// # Panics
    /// If there is none of that name and type.
    pub fn f32(&self, name: &str) -> ArrayD<f32> {
        let (shape, values) = self.read(name);
        ArrayD::from_shape_vec(shape, values).expect("the values fill the shape")
    }

    /// An i64 array, flat.
    ///
    /// # Panics
    /// If there is none of that name and type.
    pub fn i64(&self, name: &str) -> Vec<i64> {
        self.read(name).1
    }
}
