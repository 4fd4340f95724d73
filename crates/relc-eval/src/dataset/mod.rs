//! Data sets: pictures, with what is on them and where, as far as that is known.
//!
//! - A folder of class folders, `CLASS/picture.png`. The class folders in the order of their names are the outputs 0,
//!   1, ...; if all names are numbers, they are the outputs themselves; with labels, names are looked up there.
//! - A folder of pictures, of which no label is known.
//! - A CSV file of `path,label[,mask]`, with or without that first line, paths relative to the file; a label is an
//!   output's index, or its name where labels are given, or nothing. A folder with a `labels.csv` is that file.
//! - An `.npz` with `images`, and if known `labels` (integers `[N]`) and `masks` (`[N,H,W]`, not 0 on the object).
//!   Images of bytes, `[N,H,W,3]`, `[N,3,H,W]` or `[N,H,W]`, are pictures; those of floats are inputs as the model
//!   takes them.
//!
//! Of a model of signals or volumes, folders and tables hold CSV, NIfTI, `.npy` and GIF files in place of pictures, and
//! their masks are `.npy` or NIfTI files in the order of the map.

mod archive;
mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::DynamicImage;
use ndarray::{ArrayD, Axis};
use relc::Explainer;
use relc::files::read_npy_f32;
use relc::input::{self, Input, Origin};
use relc::preprocess::{Preprocess, load_picture};
use relc::volume::{Volume, is_volume};

use crate::error::EvalError;

/// Pictures in an order.
#[derive(Debug)]
pub struct Dataset {
    /// Where it comes from.
    pub path: PathBuf,
    /// The pictures.
    pub items: Vec<Item>,
}

/// A picture, not yet read.
#[derive(Clone, Debug)]
pub struct Item {
    /// What results call it: its path within the data set.
    pub name: String,
    /// The output that is right, if it is known.
    pub label: Option<usize>,
    image: Source,
    mask: Option<Source>,
}

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    /// One row of an array.
    Row(Arc<ArrayD<f32>>, usize),
    /// The same, of bytes.
    Bytes(Arc<ArrayD<f32>>, usize),
}

/// A picture as it was read.
#[derive(Clone, Debug)]
pub enum Content {
    /// A picture, to be preprocessed.
    Picture(DynamicImage),
    /// An input as the model takes it.
    Input(ArrayD<f32>),
}

/// What a data set is read with.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatasetOptions<'a> {
    /// The outputs' names.
    pub labels: Option<&'a [String]>,
    /// A folder of masks, called as the pictures are: `CLASS/picture.png` or `picture.png`.
    pub masks: Option<&'a Path>,
    /// As many pictures, chosen at random; they stay in their order.
    pub limit: Option<usize>,
    /// What the choice depends on.
    pub seed: u64,
    /// Whether files in folders are those of signals, volumes and videos, in place of pictures.
    pub arrays: bool,
}

impl Dataset {
    /// Opens a data set. Pictures are only read when their turn comes.
    ///
    /// # Errors
    /// If it can't be read, has another form, is empty, or a label is none of the model's.
    pub fn open(path: &Path, options: &DatasetOptions<'_>) -> Result<Dataset, EvalError> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let mut items = match extension.as_deref() {
            Some("npz") => archive::open(path)?,
            Some("csv") => files::table(path, options.labels)?,
            _ if path.is_dir() && path.join("labels.csv").is_file() => {
                files::table(&path.join("labels.csv"), options.labels)?
            }
            _ if path.is_dir() => files::folder(path, options)?,
            _ => {
                let message = "is no folder, .csv or .npz file; expected one of these";
                return Err(malformed(path, message));
            }
        };
        if let Some(masks) = options.masks {
            files::add_masks(&mut items, masks)?;
        }
        if items.is_empty() {
            let expected = match options.arrays {
                true => "holds no signals or volumes; expected CSV, NIfTI, .npy or GIF files",
                false => "holds no pictures; expected PNG, JPEG, WebP, BMP, GIF or TIFF files",
            };
            return Err(malformed(path, expected));
        }
        if let Some(limit) = options.limit.filter(|l| *l < items.len()) {
            let mut rng = crate::metric::rng(options.seed, "limit", 0);
            let mut chosen: Vec<usize> = (0..items.len()).collect();
            rng.shuffle(&mut chosen);
            chosen.truncate(limit);
            chosen.sort_unstable();
            items = chosen.into_iter().map(|i| items[i].clone()).collect();
        }
        Ok(Dataset { path: path.to_path_buf(), items })
    }

    /// Whether any picture has a mask.
    pub fn has_masks(&self) -> bool {
        self.items.iter().any(|item| item.mask.is_some())
    }

    /// Whether every picture has a label.
    pub fn is_labelled(&self) -> bool {
        self.items.iter().all(|item| item.label.is_some())
    }
}

impl Item {
    /// Reads the picture.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn content(&self) -> Result<Content, EvalError> {
        match &self.image {
            Source::File(path) => Ok(Content::Picture(load_picture(path)?)),
            Source::Row(array, row) => Ok(Content::Input(array.index_axis(Axis(0), *row).to_owned())),
            Source::Bytes(array, row) => Ok(Content::Picture(archive::picture(array, *row)?)),
        }
    }

    /// Reads a signal, a volume or a video.
    ///
    /// # Errors
    /// If it can't be read or does not fit the model.
    pub fn input(&self, model: &Explainer, preprocess: &Preprocess) -> Result<Input, EvalError> {
        match &self.image {
            Source::File(path) => Ok(input::sample(path, model, preprocess)?),
            Source::Row(array, row) | Source::Bytes(array, row) => {
                let mut values = array.index_axis(Axis(0), *row).to_owned();
                input::normalise(&mut values, Path::new(&self.name), model, preprocess)?;
                Ok(Input { values, origin: Origin::Array })
            }
        }
    }

    /// Reads the mask of a signal or volume, in the order of the map: not 0 where the object is.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn mask_array(&self) -> Result<Option<Vec<bool>>, EvalError> {
        let values = match &self.mask {
            None => return Ok(None),
            Some(Source::File(path)) if is_volume(path) => {
                Volume::read(path, |_| Ok(())).map_err(|e| malformed(path, e.to_string()))?.values
            }
            Some(Source::File(path)) => read_npy_f32(path)?,
            Some(Source::Row(array, row) | Source::Bytes(array, row)) => {
                array.index_axis(Axis(0), *row).to_owned()
            }
        };
        Ok(Some(values.iter().map(|v| *v != 0.0).collect()))
    }

    /// Reads the mask: white where the object is.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn mask(&self) -> Result<Option<DynamicImage>, EvalError> {
        match &self.mask {
            None => Ok(None),
            Some(Source::File(path)) => Ok(Some(load_picture(path)?)),
            Some(Source::Row(array, row) | Source::Bytes(array, row)) => archive::mask(array, *row).map(Some),
        }
    }
}

fn malformed(path: &Path, message: impl Into<String>) -> EvalError {
    EvalError::Dataset { path: path.to_path_buf(), message: message.into() }
}
