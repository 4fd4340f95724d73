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

mod archive;
mod files;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::DynamicImage;
use ndarray::ArrayD;
use relc::preprocess::load_picture;

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
            _ if path.is_dir() => files::folder(path, options.labels)?,
            _ => {
                let message = "is no folder, .csv or .npz file; expected one of these";
                return Err(malformed(path, message));
            }
        };
        if let Some(masks) = options.masks {
            files::add_masks(&mut items, masks)?;
        }
        if items.is_empty() {
            return Err(malformed(
                path,
                "holds no pictures; expected PNG, JPEG, WebP, BMP, GIF or TIFF files",
            ));
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
            Source::Row(array, row) => {
                Ok(Content::Input(array.index_axis(ndarray::Axis(0), *row).to_owned()))
            }
            Source::Bytes(array, row) => Ok(Content::Picture(archive::picture(array, *row)?)),
        }
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
