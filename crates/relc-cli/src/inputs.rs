//! What the user wants explained: pictures, `.npy`, CSV and NIfTI files, as samples of the model's input.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::RgbImage;
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::columns::Columns;
use relc::files::NpyFile;
use relc::input::{self, FileKind, Frames, Input, Origin};
use relc::preprocess::{Preprocess, load_picture};
use relc::report::FileReport;
use relc::video::{Video, videos_in};
use relc::volume::{Volume, is_volume};
use relc::{Explainer, NameGlob};

use crate::failure::Failure;
use crate::print;

/// The endings of the pictures that are taken from a folder.
const PICTURES: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// The channels of a video for a model that does not say how many it takes.
const COLOURS: usize = 3;

/// The endings of files of columns.
const COLUMNS: [&str; 2] = ["csv", "tsv"];

/// A file of the command line.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// How many samples it holds.
    pub samples: usize,
    content: Content,
    /// A file of several samples, once it is read for what reports say of it.
    file: OnceLock<Result<FileReport, String>>,
}

enum Content {
    /// Read when its turn comes.
    Picture,
    /// Likewise: a folder of frames, or an animation.
    Video,
    /// Its header is read; its samples are when their turn comes. Whether it has the batch.
    Array(NpyFile, bool),
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
    /// Its file, or the folder of its frames.
    pub file: FileReport,
    /// What its folder is called.
    pub stem: String,
    /// The values, in the model's input layout without the batch.
    pub values: ArrayD<f32>,
    /// What it was made of.
    pub origin: Origin,
}

impl Sample {
    /// The frames, if it is a video.
    pub fn frames(&self) -> Option<&Frames> {
        match &self.origin {
            Origin::Video(frames) => Some(frames),
            _ => None,
        }
    }

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

/// The files and folders that the command line names; what is no file but has `*` or `?` in its last part stands for the
/// files that match.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if last.contains(['*', '?']) && !path.exists() {
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

/// The pictures of a folder.
fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let found = files_in(folder, |name| has_ending(Path::new(name), &PICTURES))?;
    if found.is_empty() {
        let endings = PICTURES.join(", ");
        return Err(format!("{}: got a folder without pictures ({endings})", folder.display()).into());
    }
    Ok(found)
}

/// Opens the files: headers of arrays are read and checked at once, pictures only later. A file that can't be used is
/// one sample, whose turn says why. A folder stands for the pictures in it; of a model of videos, for one of which they
/// are the frames, or for those in it.
pub fn open(paths: &[PathBuf], explainer: &Explainer) -> Result<Vec<Source>, Failure> {
    let (_, ty) = explainer.input()?;
    if ty.dims().first().and_then(|d| d.fixed()).is_some_and(|n| n != 1) {
        return Err(Failure::from(format!(
            "the model's batch is fixed ({ty}); export it with a dynamic batch"
        )));
    }
    let of_videos = explainer.video_input().is_some();
    let open = |path: &PathBuf| {
        let opened = match input::kind(path, explainer) {
            FileKind::Array => input::array(path, explainer)
                .map(|(array, samples, batched)| (samples, Content::Array(array, batched)))
                .map_err(Failure::from),
            FileKind::Columns => open_columns(path, explainer),
            FileKind::Volume => Ok((1, Content::Volume)),
            FileKind::Video => Ok((1, Content::Video)),
            FileKind::Picture => Ok((1, Content::Picture)),
        };
        let (samples, content) = opened.unwrap_or_else(|e| (1, Content::Unusable(e.text())));
        Source { path: path.clone(), samples, content, file: OnceLock::new() }
    };
    let mut sources = Vec::new();
    for path in paths {
        if !path.is_dir() {
            sources.push(open(path));
            continue;
        }
        let (found, what) =
            if of_videos { (videos_in(path)?, "videos") } else { (pictures_in(path)?, "pictures") };
        if found != [path.clone()] {
            print::note(format!("{}: {} {what}", path.display(), found.len()));
        }
        sources.extend(found.iter().map(open));
    }
    Ok(sources)
}

/// What the first input says of the sizes that a model leaves open: an array's; height and width of a picture, and, as it
/// may be a video, its frames, height and width. Empty where the input can't be read, which its turn says.
pub fn first_sizes(paths: &[PathBuf], preprocess: &Preprocess) -> Vec<Vec<usize>> {
    let Some(first) = paths.first() else { return Vec::new() };
    if has_ending(first, &["npy"]) {
        return NpyFile::open(first).map(|array| array.shape().to_vec()).into_iter().collect();
    }
    if has_ending(first, &COLUMNS) {
        let sizes = Columns::read(first).map(|columns| columns.values.dim());
        return sizes.map(|(rows, columns)| vec![columns, rows]).into_iter().collect();
    }
    if is_volume(first) {
        return Volume::sizes(first).into_iter().collect();
    }
    let mut sizes = Vec::new();
    let picture = if first.is_dir() {
        pictures_in(first).ok().and_then(|p| p.into_iter().next())
    } else {
        Some(first.clone())
    };
    if let Some(picture) = picture.and_then(|file| load_picture(&file).ok()) {
        sizes.push(
            preprocess.open_size_or_usual([picture.height() as usize, picture.width() as usize]).to_vec(),
        );
    }
    let video = if first.is_dir() {
        videos_in(first).ok().and_then(|v| v.into_iter().next())
    } else {
        Some(first.clone())
    };
    if let Some([frames, height, width]) = video.and_then(|path| Video::sizes(&path).ok()) {
        let [height, width] = preprocess.open_size_or_usual([height, width]);
        sizes.push(vec![COLOURS, frames, height, width]);
    }
    sizes
}

/// Columns that may fit the model: a table, whose rows are samples, or a signal.
fn open_columns(path: &Path, explainer: &Explainer) -> Result<(usize, Content), Failure> {
    if explainer.input()?.1.rank() == 2 {
        let table = input::table(path, explainer)?;
        return Ok((table.values.nrows(), Content::Table(table)));
    }
    Ok((1, Content::Signal))
}

impl Source {
    /// Whether it is prepared as a picture, or its frames are.
    pub fn is_picture(&self) -> bool {
        matches!(self.content, Content::Picture | Content::Video)
    }

    /// What reports call one of the samples.
    pub fn name(&self, index: usize) -> String {
        let file = self.path.display();
        if self.samples > 1 { format!("{file}[{index}]") } else { file.to_string() }
    }

    /// What reports say of the file, which is read once though it may hold many samples; of a folder, of its frames.
    fn report(&self, origin: &Origin) -> Result<FileReport, Failure> {
        let path = &self.path;
        match origin {
            Origin::Video(frames) if !frames.files.is_empty() => FileReport::of_folder(path, &frames.files)
                .map_err(|e| format!("can't read the frames of {}: {e}", path.display()).into()),
            _ if self.samples == 1 => fingerprint(path),
            _ => self
                .file
                .get_or_init(|| fingerprint(path).map_err(|e| e.text()))
                .clone()
                .map_err(Failure::from),
        }
    }

    /// One of the samples, the one at `place` of the run.
    pub fn sample(
        &self,
        index: usize,
        place: usize,
        explainer: &Explainer,
        preprocess: &Preprocess,
    ) -> Result<Sample, Failure> {
        let stem = if self.path.is_dir() { self.path.file_name() } else { self.path.file_stem() };
        let stem = stem.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // scan.nii.gz
        let stem = stem.strip_suffix(".nii").map_or(stem.clone(), str::to_string);
        let stem = if self.samples > 1 { format!("{stem}_{index:04}") } else { stem };
        let of_array = |values: ArrayD<f32>, origin| Input { values, origin };
        let Input { mut values, origin } = match &self.content {
            Content::Unusable(why) => return Err(Failure::from(why.clone())),
            Content::Array(array, false) => of_array(array.read()?, Origin::Array),
            Content::Array(array, true) => of_array(array.row(index)?, Origin::Array),
            Content::Table(table) => {
                let row = table.values.index_axis(Axis(0), index).to_owned();
                of_array(row.into_dyn(), Origin::Columns(table.names.clone()))
            }
            Content::Signal => input::signal(&self.path, explainer)?,
            Content::Volume => input::volume(&self.path, explainer)?,
            Content::Video => input::video(&self.path, explainer, preprocess)?,
            Content::Picture => input::picture(&self.path, explainer, preprocess)?,
        };
        if !self.is_picture() {
            input::normalise(&mut values, &self.path, explainer, preprocess)?;
        }
        let (name, file) = (self.name(index), self.report(&origin)?);
        let sample = Sample { place, name, file, stem, values, origin };
        match explainer.compiled().input_limits {
            Some(limits) => within(&sample, limits).map(|()| sample),
            None => Ok(sample),
        }
    }
}

/// A file, by its content.
pub fn fingerprint(path: &Path) -> Result<FileReport, Failure> {
    FileReport::of(path).map_err(|e| format!("can't read {}: {e}", path.display()).into())
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
