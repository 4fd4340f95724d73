//! Volumes in NIfTI-1 files: `.nii` and `.nii.gz`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use ndarray::{ArrayD, ArrayViewD};
use nifti::volume::ndarray::IntoNdArray;
use nifti::writer::WriterOptions;
use nifti::{InMemNiftiVolume, NiftiError, NiftiHeader, NiftiType};

use crate::read::{self, ReadError};

/// Bytes of a NIfTI-1 header.
const HEADER: u64 = 348;
/// The most bytes between the header and the voxels: extensions, which are passed over.
const MAX_EXTENSIONS: u64 = 64 << 20;

/// A volume with the header of its file, which says where in the world it lies.
#[derive(Clone, Debug)]
pub struct Volume {
    header: NiftiHeader,
    /// The voxels, `f32[i,j,k]` in the order of the file's axes (as nibabel's `get_fdata`); scaled as the header says. Of
    /// several volumes or channels, `f32[i,j,k,t]`.
    pub values: ArrayD<f32>,
}

/// A NIfTI file that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its header or its data are broken.
    #[error("{}: got no NIfTI-1 file that relc can read: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
    /// The header asks for other sizes.
    #[error("{}: the header says {got:?} voxels, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What the header says.
        got: Vec<usize>,
        /// What is wanted.
        expected: String,
    },
    /// A voxel is no finite number.
    #[error("{}: got {value} at voxel {at:?}, expected finite values; replace it, by 0 say", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// Its index.
        at: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// It can't be written.
    #[error("can't write {}: {message}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        message: String,
    },
}

/// Whether a file's name says that it is a volume: `.nii` or `.nii.gz`.
pub fn is_volume(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    name.ends_with(".nii") || name.ends_with(".nii.gz")
}

fn malformed(path: &Path, message: impl ToString) -> VolumeError {
    VolumeError::Malformed { path: path.to_path_buf(), message: message.to_string() }
}

/// What is wrong with a file, of which the crate shows no more than its own structures where reading fails.
fn unread(path: &Path, error: NiftiError) -> VolumeError {
    let truncated = match &error {
        NiftiError::Io(e) => e.kind() == io::ErrorKind::UnexpectedEof,
        NiftiError::IncompatibleLength(got, expected) => got < expected,
        _ => false,
    };
    match error {
        _ if truncated => malformed(path, "it ends before its last voxel; the file may be truncated"),
        NiftiError::Io(e) => malformed(path, e),
        e => malformed(path, e),
    }
}

/// Whether a file's name says that it is packed.
fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"))
}

/// The bytes of a file, unpacked.
fn open(path: &Path) -> Result<Box<dyn Read>, VolumeError> {
    let (file, _): (File, u64) = read::open(path)?;
    let file = BufReader::new(file);
    Ok(if is_packed(path) { Box::new(GzDecoder::new(file)) } else { Box::new(file) })
}

fn header(path: &Path, file: &mut dyn Read) -> Result<NiftiHeader, VolumeError> {
    let header = NiftiHeader::from_reader(file.take(HEADER)).map_err(|e| unread(path, e))?;
    let kind = header.data_type().map_err(|e| malformed(path, e))?;
    let real = !matches!(
        kind,
        NiftiType::Rgb24
            | NiftiType::Rgba32
            | NiftiType::Complex64
            | NiftiType::Complex128
            | NiftiType::Complex256
            | NiftiType::Float128
    );
    if !real {
        return Err(malformed(path, format!("got voxels of type {kind:?}, expected integers or reals")));
    }
    Ok(header)
}

/// The sizes that a header says, without axes of size 1 at the end.
fn sizes(path: &Path, header: &NiftiHeader) -> Result<Vec<usize>, VolumeError> {
    let dims = header.dim().map_err(|e| malformed(path, e))?;
    let mut sizes: Vec<usize> = dims.iter().map(|d| usize::from(*d)).collect();
    while sizes.len() > 3 && sizes.last() == Some(&1) {
        sizes.pop();
    }
    Ok(sizes)
}

impl Volume {
    /// The sizes of a file's volume, by its header alone.
    ///
    /// # Errors
    /// If it can't be read, or is no NIfTI-1 file of real numbers.
    pub fn sizes(path: &Path) -> Result<Vec<usize>, VolumeError> {
        let header = header(path, &mut open(path)?)?;
        sizes(path, &header)
    }

    /// Reads a volume if `wanted` says that its sizes are right, before memory is taken for it; else `wanted` says what
    /// is expected.
    ///
    /// # Errors
    /// If it can't be read, is no NIfTI-1 file of real numbers or cut short, or a voxel is not finite; and what `wanted`
    /// says.
    pub fn read(
        path: &Path,
        wanted: impl FnOnce(&[usize]) -> Result<(), String>,
    ) -> Result<Volume, VolumeError> {
        let mut file = open(path)?;
        let header = header(path, &mut file)?;
        let got = sizes(path, &header)?;
        wanted(&got).map_err(|expected| VolumeError::Shape {
            path: path.to_path_buf(),
            got: got.clone(),
            expected,
        })?;
        let offset = f64::from(header.vox_offset);
        let between = (offset - HEADER as f64).max(0.0);
        if between.is_nan() || between > MAX_EXTENSIONS as f64 {
            return Err(malformed(
                path,
                format!("its voxels start at byte {offset}, expected {MAX_EXTENSIONS} at most"),
            ));
        }
        io::copy(&mut file.by_ref().take(between as u64), &mut io::sink()).map_err(|e| malformed(path, e))?;
        let voxels = InMemNiftiVolume::from_reader(file, &header).map_err(|e| unread(path, e))?;
        let values: ArrayD<f32> = voxels.into_ndarray().map_err(|e| malformed(path, e))?;
        let values = values.into_shape_clone(got).map_err(|e| malformed(path, e))?;
        if let Some((at, value)) = values.indexed_iter().find(|(_, v)| !v.is_finite()) {
            let at = ndarray::Dimension::slice(&at).to_vec();
            return Err(VolumeError::NonFinite { path: path.to_path_buf(), at, value: *value });
        }
        Ok(Volume { header, values: values.as_standard_layout().into_owned() })
    }

    /// Writes a map `f32[i,j,k]` of the volume's voxels with the volume's place in the world, so that viewers lay it over
    /// it. The file appears whole or not at all; `.nii.gz` is packed.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_map(&self, map: ArrayViewD<'_, f32>, path: &Path) -> Result<(), VolumeError> {
        let failed = |message: String| VolumeError::Write { path: path.to_path_buf(), message };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The writer takes all that follows a first dot for endings.
        let own = tempfile::tempdir_in(folder).map_err(|e| failed(e.to_string()))?;
        let part = own.path().join(if is_packed(path) { "map.nii.gz" } else { "map.nii" });
        // Of the values themselves: what scaled the volume does not scale the map.
        let header =
            NiftiHeader { scl_slope: 1.0, scl_inter: 0.0, cal_min: 0.0, cal_max: 0.0, ..self.header.clone() };
        WriterOptions::new(&part)
            .reference_header(&header)
            .write_nifti(&map)
            .map_err(|e| failed(e.to_string()))?;
        std::fs::rename(&part, path).map_err(|e| failed(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::IxDyn;

    fn volume(sizes: &[usize]) -> ArrayD<f32> {
        ArrayD::from_shape_fn(IxDyn(sizes), |i| {
            (0..sizes.len()).fold(0.0, |v, axis| 10.0 * v + i[axis] as f32)
        })
    }

    fn write(path: &Path, values: &ArrayD<f32>) {
        let srow_x = [2.0, 0.0, 0.0, -7.0];
        let header =
            NiftiHeader { srow_x, sform_code: 1, scl_slope: 2.0, scl_inter: 1.0, ..NiftiHeader::default() };
        WriterOptions::new(path).reference_header(&header).write_nifti(values).unwrap();
    }

    #[test]
    fn volumes_are_scaled_and_maps_lie_where_they_do() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["v.nii", "v.nii.gz"] {
            let path = folder.path().join(name);
            write(&path, &volume(&[2, 3, 4]));
            assert_eq!(Volume::sizes(&path).unwrap(), [2, 3, 4]);
            let read = Volume::read(&path, |_| Ok(())).unwrap();
            let scale = f64::from(read.header.scl_slope);
            assert_eq!(read.values[[1, 2, 3]], (123.0 * scale + f64::from(read.header.scl_inter)) as f32);
            let map = folder.path().join(format!("map.{name}"));
            read.write_map(volume(&[2, 3, 4]).view(), &map).unwrap();
            let again = Volume::read(&map, |_| Ok(())).unwrap();
            assert_eq!(again.values, volume(&[2, 3, 4]));
            assert_eq!((again.header.srow_x, again.header.sform_code), (read.header.srow_x, 1));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
    }

    #[test]
    fn broken_files_are_sentences_and_take_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.nii");
        write(&path, &volume(&[2, 3, 4]));
        let bytes = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Volume::read(&path, |sizes| if sizes == [2, 3, 4] { Ok(()) } else { Err("others".into()) })
        };
        assert!(read(&bytes).is_ok());
        for cut in [0, 10, 347, 348, 360, bytes.len() - 1] {
            let error = read(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.contains("v.nii: got no NIfTI-1 file"), "{cut}: {error}");
            assert!(error.contains("may be truncated"), "{cut}: {error}");
        }
        let mut huge = bytes.clone();
        huge[42..48].copy_from_slice(&[0xff; 6]); // dim[1..4]
        let error = read(&huge).unwrap_err().to_string();
        assert!(error.contains("the header says [65535, 65535, 65535] voxels, expected others"), "{error}");
        let mut far = bytes.clone();
        far[108..112].copy_from_slice(&1e30f32.to_le_bytes()); // vox_offset
        assert!(read(&far).unwrap_err().to_string().contains("its voxels start at byte"));
        let mut complex = bytes.clone();
        complex[70..72].copy_from_slice(&32u16.to_le_bytes()); // datatype
        assert!(read(&complex).unwrap_err().to_string().contains("expected integers or reals"));
        let mut nan = bytes;
        let last = nan.len() - 4;
        nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(read(&nan).unwrap_err().to_string().contains("got NaN at voxel [1, 2, 3]"));
    }
}
