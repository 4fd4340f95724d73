//! What the user wants explained: pictures and `.npy` files, as samples of the model's input.

use std::path::{Path, PathBuf};

use image::RgbImage;
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::Explainer;
use relc::artifact::read_npy_f32;
use relc::preprocess::{Preprocess, load_picture};

use crate::failure::Failure;

/// A file of the command line.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How many samples it holds.
    pub samples: usize,
    /// The samples of a `.npy` file; pictures are read when their turn comes.
    array: Option<ArrayD<f32>>,
}

/// One sample: where it comes from, its values, and how the picture looks to the network.
pub struct Sample {
    /// What reports call it.
    pub name: String,
    /// What its folder is called.
    pub stem: String,
    /// The values, in the model's input layout without the batch.
    pub values: ArrayD<f32>,
    /// The picture as the network saw it, before normalisation.
    pub picture: Option<RgbImage>,
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

/// Opens the files: arrays are read and checked at once, pictures only later.
pub fn open(paths: &[PathBuf], explainer: &Explainer) -> Result<Vec<Source>, Failure> {
    let (name, ty) = explainer.input()?;
    let open = |path: &PathBuf| {
        if !is_npy(path) {
            return Ok(Source { path: path.clone(), samples: 1, array: None });
        }
        let mut array = read_npy_f32(path)?;
        if array.ndim() + 1 == ty.rank() {
            array.insert_axis_inplace(Axis(0));
        }
        let samples = array.shape().first().copied().unwrap_or(0);
        let fixed = ty.dims().first().and_then(|d| d.fixed());
        let per_sample = ty.bind(1);
        if samples == 0 || array.ndim() != ty.rank() || array.shape()[1..] != per_sample[1..] {
            return Err(Failure::from(format!(
                "{}: got an array of shape {:?}, expected {ty} for the model's input \"{name}\"",
                path.display(),
                array.shape()
            )));
        }
        if fixed.is_some_and(|n| n != 1) {
            return Err(Failure::from(format!(
                "the model's batch is fixed ({ty}); export it with a dynamic batch"
            )));
        }
        Ok(Source { path: path.clone(), samples, array: Some(array) })
    };
    paths.iter().map(open).collect()
}

impl Source {
    /// One of the samples.
    pub fn sample(
        &self,
        index: usize,
        explainer: &Explainer,
        preprocess: &Preprocess,
    ) -> Result<Sample, Failure> {
        let file = self.path.display();
        let stem = self.path.file_stem().map_or_else(|| "input".into(), |s| s.to_string_lossy().into_owned());
        if let Some(array) = &self.array {
            let several = self.samples > 1;
            return Ok(Sample {
                name: if several { format!("{file}[{index}]") } else { file.to_string() },
                stem: if several { format!("{stem}_{index:04}") } else { stem },
                values: array.index_axis(Axis(0), index).to_owned(),
                picture: None,
            });
        }
        let picture = load_picture(&self.path)?;
        let Some((layout, size)) = explainer.picture_input() else {
            let (name, ty) = explainer.input()?;
            return Err(Failure::from(format!(
                "{file}: the model's input \"{name}\" {ty} is no picture; give a .npy"
            )));
        };
        let channels = explainer.picture_channels().unwrap_or(3);
        let prepared = preprocess
            .apply(&picture, layout, size, channels)
            .map_err(|e| Failure::from(format!("{file}: {e}")))?;
        Ok(Sample {
            name: file.to_string(),
            stem,
            values: prepared.values.into_dyn(),
            picture: Some(prepared.picture),
        })
    }
}

/// Samples side by side along a new batch axis.
pub fn stack(samples: &[Sample]) -> Result<ArrayD<f32>, Failure> {
    let views: Vec<ArrayViewD<'_, f32>> = samples.iter().map(|s| s.values.view()).collect();
    Ok(ndarray::stack(Axis(0), &views)?)
}
