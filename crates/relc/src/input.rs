//! Files to inputs of a model: arrays, columns, volumes, pictures, videos.

use std::path::{Path, PathBuf};

use image::RgbImage;
use ndarray::{ArrayD, Axis};

use crate::columns::{Columns, ColumnsError};
use crate::error::ExplainError;
use crate::explainer::Explainer;
use crate::files::{FileError, NpyFile};
use crate::preprocess::{Preprocess, PreprocessError, load_picture};
use crate::report::FramesReport;
use crate::video::{PreparedVideo, Video, has_ending};
use crate::volume::{Volume, VolumeError, is_volume};

/// The endings of files of columns.
const COLUMNS: [&str; 2] = ["csv", "tsv"];

/// What a file is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `.npy`: one sample, or several with the batch.
    Array,
    /// `.csv`, `.tsv`: a signal, whose columns are its channels, or a table, whose rows are samples.
    Columns,
    /// `.nii`, `.nii.gz`.
    Volume,
    /// Of a model of three spatial axes, all other files, and folders.
    Video,
    /// All other files.
    Picture,
}

/// One sample of a file.
#[derive(Clone, Debug)]
pub struct Input {
    /// The values, in the model's input layout without the batch.
    pub values: ArrayD<f32>,
    /// What they were made of.
    pub origin: Origin,
}

/// What a sample was made of.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A picture, as the network saw it before normalisation.
    Picture(RgbImage),
    /// A video's frames, likewise.
    Video(Box<Frames>),
    /// Columns of these names; of none, if the file has none.
    Columns(Vec<String>),
    /// A volume, and whether its axes are those of the model in the other order.
    Volume(Box<Volume>, bool),
    /// An array as it is.
    Array,
}

/// The frames of a video.
#[derive(Clone, Debug)]
pub struct Frames {
    /// As the network saw them before normalisation.
    pub pictures: Vec<RgbImage>,
    /// Which of the video's they are.
    pub report: FramesReport,
    /// The files of a folder; empty of an animation.
    pub files: Vec<PathBuf>,
}

/// A file that is no input of a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The array can't be read.
    #[error(transparent)]
    Array(#[from] FileError),
    /// The columns can't be read.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// The volume can't be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The picture, or a frame, can't be read.
    #[error(transparent)]
    Picture(#[from] PreprocessError),
    /// The model takes no single input.
    #[error(transparent)]
    Model(#[from] ExplainError),
    /// It does not fit the model.
    #[error("{}: {message}", path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What was got, and what is expected.
        message: String,
    },
}

fn misfit(path: &Path, message: String) -> InputError {
    InputError::Misfit { path: path.to_path_buf(), message }
}

/// An error of preprocessing that names the file.
fn of_file(path: &Path) -> impl Fn(PreprocessError) -> InputError + '_ {
    move |error| match error {
        PreprocessError::Misfit(message) if !message.contains(&path.display().to_string()) => {
            misfit(path, message)
        }
        error => error.into(),
    }
}

/// What a file is taken for, by its name and the model.
pub fn kind(path: &Path, explainer: &Explainer) -> FileKind {
    if has_ending(path, &["npy"]) {
        FileKind::Array
    } else if has_ending(path, &COLUMNS) {
        FileKind::Columns
    } else if is_volume(path) {
        FileKind::Volume
    } else if explainer.video_input().is_some() {
        FileKind::Video
    } else {
        FileKind::Picture
    }
}

/// Opens an array that fits the model; says how many samples it holds, and whether with the batch.
///
/// # Errors
/// If it can't be read or does not fit.
pub fn array(path: &Path, explainer: &Explainer) -> Result<(NpyFile, usize, bool), InputError> {
    let (name, ty) = explainer.input()?;
    let array = NpyFile::open(path)?;
    let shape = array.shape();
    if explainer.takes(&[&[1], shape].concat()) {
        return Ok((array, 1, false));
    }
    match shape.first() {
        Some(&samples) if samples > 0 && explainer.takes(shape) => Ok((array, samples, true)),
        _ => Err(misfit(
            path,
            format!(
                "got an array of shape {shape:?}, expected {ty} for the model's input \"{name}\", or one sample of it \
                 without the batch"
            ),
        )),
    }
}

/// Reads a table, whose rows are samples `f32[K]`.
///
/// # Errors
/// If it can't be read or does not fit the model.
pub fn table(path: &Path, explainer: &Explainer) -> Result<Columns, InputError> {
    let (name, ty) = explainer.input()?;
    let table = Columns::read(path)?;
    let columns = table.values.ncols();
    if explainer.takes(&[1, columns]) {
        return Ok(table);
    }
    Err(misfit(
        path,
        format!(
            "got {columns} columns, expected as many as the model's input \"{name}\" {ty} has, a row for each sample"
        ),
    ))
}

/// Reads a signal: a column is a channel, which is put where the model has it.
///
/// # Errors
/// If it can't be read or does not fit the model.
pub fn signal(path: &Path, explainer: &Explainer) -> Result<Input, InputError> {
    let (name, ty) = explainer.input()?;
    if ty.rank() != 3 {
        return Err(misfit(
            path,
            format!("the model's input \"{name}\" {ty} is no signal and no table; give a .npy"),
        ));
    }
    let Columns { names, values } = Columns::read(path)?;
    let (rows, columns) = values.dim();
    let last = explainer.spatial_input().is_some_and(|(axis, _)| axis > 1);
    let values = if last { values } else { values.reversed_axes().as_standard_layout().into_owned() };
    if !explainer.takes(&[&[1], values.shape()].concat()) {
        return Err(misfit(
            path,
            format!(
                "got {columns} columns of {rows} rows, expected a column for each channel and a row for each position of \
                 the model's input \"{name}\" {ty}"
            ),
        ));
    }
    Ok(Input { values: values.into_dyn(), origin: Origin::Columns(names) })
}

/// Reads a volume, with its axes where the model has them; channels are a fourth axis of the file.
///
/// # Errors
/// If it can't be read or does not fit the model.
pub fn volume(path: &Path, explainer: &Explainer) -> Result<Input, InputError> {
    let (name, ty) = explainer.input()?;
    let grid = explainer.spatial_input().filter(|(_, size)| size.len() == 3);
    let (axis, _) = grid.ok_or_else(|| {
        misfit(path, format!("the model's input \"{name}\" {ty} is no volume; give what it takes"))
    })?;
    let shape = |sizes: &[usize], turned: bool| {
        let [i, j, k, ref channels @ ..] = *sizes else { return Vec::new() };
        let mut shape = if turned { vec![1, k, j, i] } else { vec![1, i, j, k] };
        shape.insert(axis.min(shape.len()), channels.iter().product());
        shape
    };
    let fits = |sizes: &[usize], turned| explainer.takes(&shape(sizes, turned));
    let volume = Volume::read(path, |sizes| match fits(sizes, false) || fits(sizes, true) {
        true => Ok(()),
        false => Err(format!("those of the model's input \"{name}\" {ty}, in this order or the other")),
    })?;
    let turned = !fits(volume.values.shape(), false);
    let mut values = volume.values.view();
    if values.ndim() == 3 {
        values = values.insert_axis(Axis(3));
    }
    let mut order = if turned { vec![2, 1, 0] } else { vec![0, 1, 2] };
    order.insert((axis - 1).min(order.len()), 3);
    let values = values.permuted_axes(order).as_standard_layout().into_owned();
    Ok(Input { values, origin: Origin::Volume(Box::new(volume), turned) })
}

/// Reads and prepares a video: a folder of frames, or an animation.
///
/// # Errors
/// If it can't be read or does not fit the model.
pub fn video(path: &Path, explainer: &Explainer, preprocess: &Preprocess) -> Result<Input, InputError> {
    let video = Video::open(path)?;
    let prepared = preprocess.prepare_video(&video, explainer).map_err(of_file(path))?;
    let PreparedVideo { values, pictures, chosen, held } = prepared;
    let files = if path.is_dir() { video.files().to_vec() } else { Vec::new() };
    let frames = Frames { pictures, report: FramesReport { held, chosen }, files };
    Ok(Input { values, origin: Origin::Video(Box::new(frames)) })
}

/// Reads and prepares a picture.
///
/// # Errors
/// If it can't be read or does not fit the model.
pub fn picture(path: &Path, explainer: &Explainer, preprocess: &Preprocess) -> Result<Input, InputError> {
    let picture = load_picture(path)?;
    if explainer.picture_input().is_none() {
        let (name, ty) = explainer.input()?;
        return Err(misfit(
            path,
            format!(
                "the model's input \"{name}\" {ty} is no picture; give a .npy, a CSV of a signal or table, or a NIfTI file \
                 of a volume"
            ),
        ));
    }
    let prepared = preprocess.prepare(&picture, explainer).map_err(of_file(path))?;
    Ok(Input { values: prepared.values.into_dyn(), origin: Origin::Picture(prepared.picture) })
}

/// Normalises the values of an array without the batch, if the preprocessing says that arrays are.
///
/// # Errors
/// If it has values of another number of channels.
pub fn normalise(
    values: &mut ArrayD<f32>,
    path: &Path,
    explainer: &Explainer,
    preprocess: &Preprocess,
) -> Result<(), InputError> {
    if !preprocess.is_of_arrays() {
        return Ok(());
    }
    preprocess.normalise(values, explainer.channel_axis().saturating_sub(1)).map_err(of_file(path))
}

/// The one sample of a file.
///
/// # Errors
/// If the file can't be read, does not fit the model, or holds several samples.
pub fn sample(path: &Path, explainer: &Explainer, preprocess: &Preprocess) -> Result<Input, InputError> {
    let mut input = match kind(path, explainer) {
        FileKind::Video => return video(path, explainer, preprocess),
        FileKind::Picture => return picture(path, explainer, preprocess),
        FileKind::Volume => volume(path, explainer)?,
        FileKind::Columns => signal(path, explainer)?,
        FileKind::Array => match array(path, explainer)? {
            (file, _, false) => Input { values: file.read()?, origin: Origin::Array },
            (file, 1, true) => Input { values: file.row(0)?, origin: Origin::Array },
            (_, samples, true) => {
                return Err(misfit(path, format!("got {samples} samples, expected one")));
            }
        },
    };
    normalise(&mut input.values, path, explainer, preprocess)?;
    Ok(input)
}

/// All samples of a file, with the batch; `None` if it needs a preprocessing and there is none. A model of videos takes a
/// folder as one video.
///
/// # Errors
/// If the file can't be read or does not fit the model.
pub fn batch(
    path: &Path,
    explainer: &Explainer,
    preprocess: Option<&Preprocess>,
) -> Result<Option<ArrayD<f32>>, InputError> {
    let mut samples = match (kind(path, explainer), preprocess) {
        (FileKind::Video, Some(preprocess)) => return one(video(path, explainer, preprocess)?),
        (FileKind::Picture, Some(preprocess)) => return one(picture(path, explainer, preprocess)?),
        (FileKind::Video | FileKind::Picture, None) => return Ok(None),
        (FileKind::Volume, _) => vec![volume(path, explainer)?.values],
        (FileKind::Columns, _) if explainer.input()?.1.rank() == 2 => {
            let table = table(path, explainer)?;
            table.values.rows().into_iter().map(|row| row.to_owned().into_dyn()).collect()
        }
        (FileKind::Columns, _) => vec![signal(path, explainer)?.values],
        (FileKind::Array, _) => match array(path, explainer)? {
            (file, _, false) => vec![file.read()?],
            (file, _, true) => file.read()?.outer_iter().map(|row| row.to_owned()).collect(),
        },
    };
    if let Some(preprocess) = preprocess {
        samples.iter_mut().try_for_each(|sample| normalise(sample, path, explainer, preprocess))?;
    }
    let views: Vec<_> = samples.iter().map(|sample| sample.view()).collect();
    ndarray::stack(Axis(0), &views).map(Some).map_err(|e| misfit(path, e.to_string()))
}

fn one(input: Input) -> Result<Option<ArrayD<f32>>, InputError> {
    Ok(Some(input.values.insert_axis(Axis(0))))
}
