//! What the user wants explained: pictures, `.npy`, CSV and NIfTI files, as samples of the model's input.

use std::path::{Path, PathBuf};

use image::RgbImage;
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::artifact::NpyFile;
use relc::columns::Columns;
use relc::preprocess::{Preprocess, load_picture};
use relc::volume::{Volume, is_volume};
use relc::{Explainer, NameGlob};

use crate::failure::Failure;
use crate::print;

/// The endings of the pictures that are taken from a folder.
const PICTURES: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// The endings of files of columns.
const COLUMNS: [&str; 2] = ["csv", "tsv"];

/// A file of the command line.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How many samples it holds.
    pub samples: usize,
    content: Content,
}

enum Content {
    /// Read when its turn comes.
    Picture,
    /// Its header is read; its samples are when their turn comes.
    Array(NpyFile),
    /// A row is a sample.
    Table(Columns),
    /// A column is a channel; read when its turn comes.
    Signal,
    /// Read when its turn comes.
    Volume,
    /// No sample comes of it, and why.
    Unusable(String),
}

/// One sample: where it comes from, its values, and how the picture looks to the network.
pub struct Sample {
    /// Which of all samples of the run it is.
    pub place: usize,
    /// What reports call it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What its folder is called.
    pub stem: String,
    /// The values, in the model's input layout without the batch.
    pub values: ArrayD<f32>,
    /// What it was made of.
    pub origin: Origin,
}

/// What a sample was made of.
pub enum Origin {
    /// A picture, as the network saw it before normalisation.
    Picture(RgbImage),
    /// Columns of these names; of none, if the file has none.
    Columns(Vec<String>),
    /// A volume, and whether its axes are those of the model in the other order.
    Volume(Box<Volume>, bool),
    /// An array as it is.
    Array,
}

impl Sample {
    /// The picture as the network saw it, if it is one.
    pub fn picture(&self) -> Option<&RgbImage> {
        match &self.origin {
            Origin::Picture(picture) => Some(picture),
            _ => None,
        }
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|e| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
}

/// The files that the command line names: folders stand for the pictures in them, and what is no file but has `*` or
/// `?` in its last part for the files that match.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            let found = files_in(path, |name| has_ending(Path::new(name), &PICTURES))?;
            if found.is_empty() {
                let endings = PICTURES.join(", ");
                return Err(format!("{}: got a folder without pictures ({endings})", path.display()).into());
            }
            print::note(format!("{}: {} pictures", path.display(), found.len()));
            files.extend(found);
        } else if last.contains(['*', '?']) && !path.exists() {
            let glob = NameGlob::new(&last).map_err(Failure::usage)?;
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let found = files_in(folder, |name| glob.is_match(name))?;
            if found.is_empty() {
                return Err(format!("no file matches \"{}\"", path.display()).into());
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The files of a folder whose names are wanted, in the order of their names; hidden ones never are.
fn files_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: std::io::Error| format!("can't read the folder {}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && wanted(&name) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Opens the files: headers of arrays are read and checked at once, pictures only later. A file that can't be used is
/// one sample, whose turn says why.
pub fn open(paths: &[PathBuf], explainer: &Explainer) -> Result<Vec<Source>, Failure> {
    let (_, ty) = explainer.input()?;
    if ty.dims().first().and_then(|d| d.fixed()).is_some_and(|n| n != 1) {
        return Err(Failure::from(format!(
            "the model's batch is fixed ({ty}); export it with a dynamic batch"
        )));
    }
    let open = |path: &PathBuf| {
        let opened = if has_ending(path, &["npy"]) {
            open_array(path, explainer).map(|(samples, array)| (samples, Content::Array(array)))
        } else if has_ending(path, &COLUMNS) {
            open_columns(path, explainer)
        } else if is_volume(path) {
            Ok((1, Content::Volume))
        } else {
            Ok((1, Content::Picture))
        };
        let (samples, content) = opened.unwrap_or_else(|e| (1, Content::Unusable(e.text())));
        Source { path: path.clone(), samples, content }
    };
    Ok(paths.iter().map(open).collect())
}

/// What the first input says of the sizes that a model leaves open: an array's, or height and width of a picture.
/// `None` where the preprocessing makes every picture what the model wants, and where the input can't be read, which its
/// turn says.
pub fn first_size(paths: &[PathBuf], preprocess: &Preprocess) -> Option<Vec<usize>> {
    let first = paths.first()?;
    if has_ending(first, &["npy"]) {
        return Some(NpyFile::open(first).ok()?.shape().to_vec());
    }
    if has_ending(first, &COLUMNS) {
        let (rows, columns) = Columns::read(first).ok()?.values.dim();
        return Some(vec![columns, rows]);
    }
    if is_volume(first) {
        return Volume::sizes(first).ok();
    }
    let picture = load_picture(first).ok()?;
    Some(preprocess.open_size([picture.height() as usize, picture.width() as usize])?.to_vec())
}

/// An array that fits the model, and how many samples it holds.
fn open_array(path: &Path, explainer: &Explainer) -> Result<(usize, NpyFile), Failure> {
    let (name, ty) = explainer.input()?;
    let array = NpyFile::open(path)?;
    let shape = array.shape();
    if explainer.takes(&[&[1], shape].concat()) {
        return Ok((1, array));
    }
    match shape.split_first() {
        Some((&samples, _)) if samples > 0 && explainer.takes(shape) => Ok((samples, array)),
        _ => Err(Failure::from(format!(
            "{}: got an array of shape {shape:?}, expected {ty} for the model's input \"{name}\", or one sample of it \
             without the batch",
            path.display()
        ))),
    }
}

/// Columns that may fit the model: a table, whose rows are samples, or a signal.
fn open_columns(path: &Path, explainer: &Explainer) -> Result<(usize, Content), Failure> {
    let (name, ty) = explainer.input()?;
    match ty.rank() {
        2 => {
            let table = Columns::read(path)?;
            let (rows, columns) = table.values.dim();
            if !explainer.takes(&[1, columns]) {
                return Err(Failure::from(format!(
                    "{}: got {columns} columns, expected as many as the model's input \"{name}\" {ty} has, a row for \
                     each sample",
                    path.display()
                )));
            }
            Ok((rows, Content::Table(table)))
        }
        3 => Ok((1, Content::Signal)),
        _ => Err(Failure::from(format!(
            "{}: the model's input \"{name}\" {ty} is no signal and no table; give a .npy",
            path.display()
        ))),
    }
}

/// The values of a signal, with its channels where the model has them, and the names of these.
fn signal(path: &Path, explainer: &Explainer) -> Result<(ArrayD<f32>, Vec<String>), Failure> {
    let Columns { names, values } = Columns::read(path)?;
    let (rows, columns) = values.dim();
    let (name, ty) = explainer.input()?;
    let last = explainer.spatial_input().is_some_and(|(axis, _)| axis > 1);
    let values = if last { values } else { values.reversed_axes().as_standard_layout().into_owned() };
    if !explainer.takes(&[&[1], values.shape()].concat()) {
        return Err(Failure::from(format!(
            "{}: got {columns} columns of {rows} rows, expected a column for each channel and a row for each position of \
             the model's input \"{name}\" {ty}",
            path.display()
        )));
    }
    Ok((values.into_dyn(), names))
}

/// A volume with its axes where the model has them, and whether they came in the other order.
fn volume(path: &Path, explainer: &Explainer) -> Result<(ArrayD<f32>, Volume, bool), Failure> {
    let (name, ty) = explainer.input()?;
    let grid = explainer.spatial_input().filter(|(_, size)| size.len() == 3);
    let (axis, _) = grid.ok_or_else(|| {
        Failure::from(format!(
            "{}: the model's input \"{name}\" {ty} is no volume; give what it takes",
            path.display()
        ))
    })?;
    // Channels are a fourth axis of the file.
    let shape = |sizes: &[usize], turned: bool| {
        let [i, j, k, ref channels @ ..] = *sizes else { return Vec::new() };
        let mut shape = if turned { vec![1, k, j, i] } else { vec![1, i, j, k] };
        shape.insert(axis, channels.iter().product());
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
    let order = if turned { [2, 1, 0] } else { [0, 1, 2] };
    let order = if axis > 1 { [order[0], order[1], order[2], 3] } else { [3, order[0], order[1], order[2]] };
    let values = values.permuted_axes(order.to_vec()).as_standard_layout().into_owned();
    Ok((values, volume, turned))
}

impl Source {
    /// Whether it is prepared as a picture.
    pub fn is_picture(&self) -> bool {
        matches!(self.content, Content::Picture)
    }

    /// What reports call one of the samples.
    pub fn name(&self, index: usize) -> String {
        let file = self.path.display();
        if self.samples > 1 { format!("{file}[{index}]") } else { file.to_string() }
    }

    /// One of the samples, the one at `place` of the run.
    pub fn sample(
        &self,
        index: usize,
        place: usize,
        explainer: &Explainer,
        preprocess: &Preprocess,
    ) -> Result<Sample, Failure> {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // scan.nii.gz
        let stem = stem.strip_suffix(".nii").map_or(stem.clone(), str::to_string);
        let stem = if self.samples > 1 { format!("{stem}_{index:04}") } else { stem };
        let (mut values, origin) = match &self.content {
            Content::Unusable(why) => return Err(Failure::from(why.clone())),
            Content::Array(array) => {
                let batched = array.shape().len() == explainer.input()?.1.rank();
                (if batched { array.row(index)? } else { array.read()? }, Origin::Array)
            }
            Content::Table(table) => {
                let row = table.values.index_axis(Axis(0), index).to_owned();
                (row.into_dyn(), Origin::Columns(table.names.clone()))
            }
            Content::Signal => {
                let (values, names) = signal(&self.path, explainer)?;
                (values, Origin::Columns(names))
            }
            Content::Volume => {
                let (values, volume, turned) = volume(&self.path, explainer)?;
                (values, Origin::Volume(Box::new(volume), turned))
            }
            Content::Picture => {
                let (values, picture) = self.prepared(explainer, preprocess)?;
                (values, Origin::Picture(picture))
            }
        };
        if preprocess.is_of_arrays() && !self.is_picture() {
            let axis = explainer.channel_axis() - 1;
            preprocess
                .normalise(&mut values, axis)
                .map_err(|e| Failure::from(format!("{}: {e}", self.path.display())))?;
        }
        let (name, path) = (self.name(index), self.path.clone());
        let sample = Sample { place, name, path, stem, values, origin };
        match explainer.compiled().input_limits {
            Some(limits) => within(&sample, limits).map(|()| sample),
            None => Ok(sample),
        }
    }

    fn prepared(
        &self,
        explainer: &Explainer,
        preprocess: &Preprocess,
    ) -> Result<(ArrayD<f32>, RgbImage), Failure> {
        let picture = load_picture(&self.path)?;
        let file = self.path.display();
        if explainer.picture_input().is_none() {
            let (name, ty) = explainer.input()?;
            return Err(Failure::from(format!(
                "{file}: the model's input \"{name}\" {ty} is no picture; give a .npy, a CSV of a signal or table, or a NIfTI file of a volume"
            )));
        }
        let prepared =
            preprocess.prepare(&picture, explainer).map_err(|e| Failure::from(format!("{file}: {e}")))?;
        Ok((prepared.values.into_dyn(), prepared.picture))
    }
}

/// Refuses what an input of integers can't hold.
fn within(sample: &Sample, (low, high): (f64, f64)) -> Result<(), Failure> {
    let fits = |v: f64| (low..=high).contains(&v) && v.fract() == 0.0;
    let Some(wrong) = sample.values.iter().find(|v| !fits(f64::from(**v))) else { return Ok(()) };
    Err(Failure::from(format!(
        "{}: got the value {wrong}, expected whole numbers from {low} to {high}: the model's input is of integers, which \
         it normalises itself (in the file of --preprocess: scale = 1.0)",
        sample.name
    )))
}

/// Samples side by side along a new batch axis.
pub fn stack(samples: &[Sample]) -> Result<ArrayD<f32>, Failure> {
    let views: Vec<ArrayViewD<'_, f32>> = samples.iter().map(|s| s.values.view()).collect();
    Ok(ndarray::stack(Axis(0), &views)?)
}
