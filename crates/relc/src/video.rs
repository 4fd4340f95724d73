//! Videos: a folder of pictures is one, in the natural order of their names, and so is an animated GIF, WebP or PNG.

use std::cmp::Ordering;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{
    AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageReader, ImageResult, RgbImage,
};
use ndarray::{ArrayD, Axis};

use crate::explainer::Explainer;
use crate::picture::{limits, load_picture};
use crate::preprocess::{Layout, Preprocess, PreprocessError};
use crate::read::{self, Kind};

/// An animation: 1 GiB.
const ANIMATION: Kind = Kind::new("animation", 1 << 30);
/// The most frames of a video.
const MAX_FRAMES: usize = 1 << 16;
/// The most pixels of all frames of an animation: each has to be decoded to come to the next.
const MAX_PIXELS: u64 = 1 << 31;
/// The most values of a video in the model's input: 1 GiB.
const MAX_VALUES: usize = 1 << 28;
/// The endings of pictures that are frames.
const FRAMES: [&str; 8] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff"];

/// A video whose frames are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Video {
    path: PathBuf,
    content: Content,
    /// Height and width.
    size: [usize; 2],
    frames: usize,
}

#[derive(Clone, Debug)]
enum Content {
    /// A picture for each frame.
    Files(Vec<PathBuf>),
    Animation(Vec<u8>, ImageFormat),
}

/// How a model takes a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoInput {
    /// Frames.
    pub frames: usize,
    /// Height and width of a frame.
    pub size: [usize; 2],
    /// Channels of a frame.
    pub channels: usize,
    /// The axis of the channels: 1 in `f32[N,C,T,H,W]`, 2 in `f32[N,T,C,H,W]`, 4 in `f32[N,T,H,W,C]`.
    pub axis: usize,
}

/// A video as the network takes it.
#[derive(Clone, Debug)]
pub struct PreparedVideo {
    /// One sample, `f32[C,T,H,W]`, `f32[T,C,H,W]` or `f32[T,H,W,C]`, as the model has it.
    pub values: ArrayD<f32>,
    /// The frames behind it, resized and cropped, before normalisation.
    pub pictures: Vec<RgbImage>,
    /// Which frames of the video they are, from 0.
    pub chosen: Vec<usize>,
    /// How many frames the video has.
    pub held: usize,
}

fn misfit(message: String) -> PreprocessError {
    PreprocessError::Misfit(message)
}

pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|e| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
}

/// Numbers within names count as numbers: `f9.png` comes before `f10.png`.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let number = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits_a, digits_b) = (number(a), number(b));
        let order = if digits_a > 0 && digits_b > 0 {
            let [x, y] = [&a[..digits_a], &b[..digits_b]].map(|digits| digits.trim_start_matches('0'));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y)).then(digits_a.cmp(&digits_b));
            (a, b) = (&a[digits_a..], &b[digits_b..]);
            order
        } else {
            let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
            let (x, y) = (rest_a.next(), rest_b.next());
            if x.is_none() && y.is_none() {
                return Ordering::Equal;
            }
            (a, b) = (rest_a.as_str(), rest_b.as_str());
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The entries of a folder in the natural order of their names; hidden ones are left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, PreprocessError> {
    let failed = |source| read::ReadError::Io { path: folder.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort_by(|(a, _), (b, _)| natural_order(a, b));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The pictures of a folder.
fn frame_files(folder: &Path) -> Result<Vec<PathBuf>, PreprocessError> {
    let found = entries(folder)?.into_iter();
    Ok(found.filter(|path| has_ending(path, &FRAMES) && path.is_file()).collect())
}

/// The videos that a folder stands for: itself if it holds pictures, else every folder and every GIF in it.
///
/// # Errors
/// If it can't be read, holds nothing of it, or holds both.
pub fn videos_in(folder: &Path) -> Result<Vec<PathBuf>, PreprocessError> {
    let found = entries(folder)?;
    let pictures = found.iter().filter(|path| has_ending(path, &FRAMES) && path.is_file()).count();
    let videos: Vec<PathBuf> =
        found.into_iter().filter(|path| path.is_dir() || has_ending(path, &["gif"])).collect();
    match (pictures, videos.len()) {
        (0, 0) => Err(misfit(format!(
            "{}: got a folder without frames; expected pictures ({}), or a folder or GIF for each video",
            folder.display(),
            FRAMES.join(", ")
        ))),
        (_, 0) => Ok(vec![folder.to_path_buf()]),
        (0, _) => Ok(videos),
        (pictures, videos) => Err(misfit(format!(
            "{}: got {pictures} picture(s) beside {videos} folder(s) or GIF(s); expected the frames of one video, or a \
             folder or GIF for each of several",
            folder.display()
        ))),
    }
}

/// Which of `held` frames are taken where `wanted` are: evenly, the first and the last among them, at
/// `floor(i (held - 1) / (wanted - 1))` (as pytorchvideo's `uniform_temporal_subsample`). `None` if there are fewer.
pub fn chosen(held: usize, wanted: usize) -> Option<Vec<usize>> {
    let steps = wanted.saturating_sub(1).max(1);
    (held >= wanted && wanted > 0).then(|| (0..wanted).map(|i| i * (held - 1) / steps).collect())
}

impl Video {
    /// Opens a video: of a folder the header of each frame is read, of an animation every frame is counted.
    ///
    /// # Errors
    /// If it can't be read, has no frame, or too many; a picture is none; frames differ in size.
    pub fn open(path: &Path) -> Result<Video, PreprocessError> {
        if path.is_dir() { Video::of_folder(path) } else { Video::of_file(path) }
    }

    fn of_folder(folder: &Path) -> Result<Video, PreprocessError> {
        let files = frame_files(folder)?;
        let mut size: Option<([usize; 2], &Path)> = None;
        check_count(folder, files.len())?;
        for file in &files {
            let own = size_of(file)?;
            match size {
                Some((first, of)) if first != own => {
                    return Err(misfit(format!(
                        "{}: got {} x {} pixels, expected {} x {} as in {}: frames of one video have one size",
                        file.display(),
                        own[1],
                        own[0],
                        first[1],
                        first[0],
                        of.display()
                    )));
                }
                _ => size = size.or(Some((own, file))),
            }
        }
        let size = size.map(|(size, _)| size).unwrap_or_default();
        Ok(Video { path: folder.to_path_buf(), frames: files.len(), content: Content::Files(files), size })
    }

    fn of_file(path: &Path) -> Result<Video, PreprocessError> {
        let bytes = read::bytes(path, ANIMATION)?;
        let failed = |source: image::ImageError| PreprocessError::Picture {
            path: path.to_path_buf(),
            source: source.into(),
        };
        let format = image::guess_format(&bytes).map_err(failed)?;
        let Some(animation) = animation(&bytes, format).map_err(failed)? else {
            let size = size_of(path)?;
            let content = Content::Files(vec![path.to_path_buf()]);
            return Ok(Video { path: path.to_path_buf(), content, size, frames: 1 });
        };
        let (mut size, mut frames) = ([0, 0], 0usize);
        for frame in animation {
            let (width, height) = frame.map_err(failed)?.buffer().dimensions();
            (size, frames) = ([height as usize, width as usize], frames + 1);
            check_count(path, frames)?;
            if frames as u64 * u64::from(width) * u64::from(height) > MAX_PIXELS {
                return Err(misfit(format!(
                    "{}: got more than {MAX_PIXELS} pixels in {frames} frames of {width} x {height}; shorten or shrink it, \
                     or give a folder of pictures",
                    path.display()
                )));
            }
        }
        check_count(path, frames)?;
        Ok(Video { path: path.to_path_buf(), content: Content::Animation(bytes, format), size, frames })
    }

    /// Frames, height and width of a video by its first frame: of a folder, no other is looked at.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn sizes(path: &Path) -> Result<[usize; 3], PreprocessError> {
        let (frames, [height, width]) = if path.is_dir() {
            let files = frame_files(path)?;
            let first = files.first().ok_or_else(|| misfit(format!("{}: got no frame", path.display())))?;
            (files.len(), size_of(first)?)
        } else {
            let video = Video::of_file(path)?;
            (video.frames, video.size)
        };
        Ok([frames, height, width])
    }

    /// How many frames it has.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Height and width of its frames.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The files that it lies in.
    pub fn files(&self) -> &[PathBuf] {
        match &self.content {
            Content::Files(files) => files,
            Content::Animation(..) => std::slice::from_ref(&self.path),
        }
    }

    /// Reads frames, whose numbers ascend, one after the other.
    fn read(
        &self,
        wanted: &[usize],
        mut each: impl FnMut(DynamicImage) -> Result<(), PreprocessError>,
    ) -> Result<(), PreprocessError> {
        let failed = |source: image::ImageError| PreprocessError::Picture {
            path: self.path.clone(),
            source: source.into(),
        };
        match &self.content {
            Content::Files(files) => {
                for file in wanted.iter().filter_map(|i| files.get(*i)) {
                    each(load_picture(file)?)?;
                }
            }
            Content::Animation(bytes, format) => {
                let frames = animation(bytes, *format).map_err(failed)?.into_iter().flatten();
                for (i, frame) in frames.enumerate() {
                    let frame = frame.map_err(failed)?;
                    if wanted.binary_search(&i).is_ok() {
                        each(DynamicImage::ImageRgba8(frame.into_buffer()))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn check_count(path: &Path, frames: usize) -> Result<(), PreprocessError> {
    if (1..=MAX_FRAMES).contains(&frames) {
        return Ok(());
    }
    Err(misfit(format!("{}: got {frames} frames, expected 1 to {MAX_FRAMES}", path.display())))
}

/// Height and width of a picture by its header.
fn size_of(path: &Path) -> Result<[usize; 2], PreprocessError> {
    let failed = |source: image::ImageError| PreprocessError::Picture {
        path: path.to_path_buf(),
        source: source.into(),
    };
    let (file, _) = read::open(path)?;
    let mut reader = ImageReader::new(std::io::BufReader::new(file))
        .with_guessed_format()
        .map_err(|e| failed(image::ImageError::IoError(e)))?;
    reader.limits(limits());
    let (width, height) = reader.into_dimensions().map_err(failed)?;
    Ok([height as usize, width as usize])
}

/// The frames of an animation; `None` of a picture that does not move.
fn animation(bytes: &[u8], format: ImageFormat) -> ImageResult<Option<Frames<'_>>> {
    let bytes = Cursor::new(bytes);
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(bytes)?;
            decoder.set_limits(limits())?;
            Some(decoder.into_frames())
        }
        ImageFormat::WebP => {
            let mut decoder = WebPDecoder::new(bytes)?;
            decoder.set_limits(limits())?;
            decoder.has_animation().then(|| decoder.into_frames())
        }
        ImageFormat::Png => {
            let mut decoder = PngDecoder::with_limits(bytes, limits())?;
            decoder.set_limits(limits())?;
            if decoder.is_apng()? { Some(decoder.apng()?.into_frames()) } else { None }
        }
        _ => None,
    })
}

impl Explainer {
    /// How the model takes a video, if its input has three spatial axes: `f32[N,C,T,H,W]`, or `f32[N,T,H,W,C]` and
    /// `f32[N,T,C,H,W]` where all that the model does first is to bring that order about.
    pub fn video_input(&self) -> Option<VideoInput> {
        let (axis, size) = self.spatial_input()?;
        let [frames, height, width] = *size else { return None };
        let channels = self.input().ok()?.1.dims().get(axis)?.fixed()?;
        Some(VideoInput { frames, size: [height, width], channels, axis })
    }
}

impl VideoInput {
    /// The shape of a batch of one video of other sizes.
    fn shape(&self, frames: usize, [height, width]: [usize; 2]) -> Vec<usize> {
        let mut shape = vec![1, frames, height, width];
        shape.insert(self.axis.min(4), self.channels);
        shape
    }
}

impl Preprocess {
    /// Makes the input of an explainer's model of a video: as many frames as the model takes, evenly chosen, each prepared
    /// as a picture. What the model leaves open is the video's own.
    ///
    /// # Errors
    /// If the model's input is no video, the video has too few frames, a frame can't be read; as
    /// [`apply`](Self::apply).
    pub fn prepare_video(
        &self,
        video: &Video,
        explainer: &Explainer,
    ) -> Result<PreparedVideo, PreprocessError> {
        let wrong = |message: String| misfit(format!("{}: {message}", video.path.display()));
        let (name, ty) = explainer.input().map_err(|e| wrong(e.to_string()))?;
        let input = explainer.video_input();
        let input = input
            .ok_or_else(|| wrong(format!("the model's input \"{name}\" {ty} is no video; give an array")))?;
        if looks_like_frames_first(input) {
            return Err(wrong(format!(
                "the model's input \"{name}\" {ty} may be frames before channels, which nothing in the model says; give a \
                 .npy of that shape"
            )));
        }
        let own = self.open_size(video.size);
        let sizes = own.into_iter().chain([input.size]);
        let taken = sizes.flat_map(|size| [(video.frames, size), (input.frames, size)]);
        let taken = taken.into_iter().find(|(frames, size)| explainer.takes(&input.shape(*frames, *size)));
        let (frames, size) = taken.unwrap_or((input.frames, input.size));
        let chosen = chosen(video.frames, frames).ok_or_else(|| {
            wrong(format!(
                "got {} frame(s), expected at least {frames} for the model's input \"{name}\" {ty}; give a longer video, or \
                 repeat frames",
                video.frames
            ))
        })?;
        let each = size.iter().try_fold(input.channels, |n, side| n.checked_mul(*side));
        let values = each.and_then(|each| each.checked_mul(frames)).filter(|n| *n <= MAX_VALUES);
        if values.is_none() {
            return Err(wrong(format!(
                "got {frames} frames of {} x {} pixels, of which the model leaves the number open, expected at most \
                 {MAX_VALUES} values in all; give fewer frames, or state the sizes (--input-shape)",
                size[1], size[0]
            )));
        }
        let layout = if input.axis == 4 { Layout::Nhwc } else { Layout::Nchw };
        let (mut pictures, mut arrays) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
        video.read(&chosen, |picture| {
            let prepared = self.apply(&picture, layout, size, input.channels)?;
            pictures.push(prepared.picture);
            arrays.push(prepared.values);
            Ok(())
        })?;
        if pictures.len() != frames {
            return Err(wrong(format!("got {} of {frames} frames; the file changes", pictures.len())));
        }
        let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
        let axis = if input.axis == 1 { 1 } else { 0 };
        let values = ndarray::stack(Axis(axis), &views).map_err(|e| wrong(e.to_string()))?.into_dyn();
        Ok(PreparedVideo { values, pictures, chosen, held: video.frames })
    }
}

/// Whether what is taken for frames is as few as channels are, and what is taken for channels is more.
fn looks_like_frames_first(input: VideoInput) -> bool {
    input.axis == 1 && matches!(input.frames, 1 | 3) && input.channels > 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compiler, Preset, Seed, SeedKind, Targets};
    use image::codecs::gif::GifEncoder;
    use image::{Delay, Frame, Rgb};
    use relc_ir::op::{Gemm, Reshape, Transpose};
    use relc_ir::{Dim, Op};
    use relc_tests::builder::Builder;

    fn picture(red: u8, width: u32) -> RgbImage {
        RgbImage::from_pixel(width, 4, Rgb([red, 0, 0]))
    }

    fn gif(frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for i in 0..frames {
            let buffer = DynamicImage::ImageRgb8(picture(20 * i as u8, 6)).to_rgba8();
            encoder
                .encode_frame(Frame::from_parts(buffer, 0, 0, Delay::from_numer_denom_ms(100, 1)))
                .unwrap();
        }
        drop(encoder);
        bytes
    }

    fn reds(video: &Video, wanted: &[usize]) -> Vec<u8> {
        let mut reds = Vec::new();
        video
            .read(wanted, |picture| {
                reds.push(picture.to_rgb8().get_pixel(0, 0).0[0]);
                Ok(())
            })
            .unwrap();
        reds
    }

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names =
            ["f10.png", "f9.png", "f09.png", "e.png", "f.png", "f9b.png", "f99999999999999999999999.png"];
        names.sort_by(|a, b| natural_order(a, b));
        let sorted =
            ["e.png", "f.png", "f9.png", "f9b.png", "f09.png", "f10.png", "f99999999999999999999999.png"];
        assert_eq!(names, sorted);
    }

    #[test]
    fn frames_are_chosen_evenly_and_never_made_up() {
        assert_eq!(chosen(10, 4).unwrap(), [0, 3, 6, 9]);
        assert_eq!(chosen(16, 16).unwrap(), (0..16).collect::<Vec<_>>());
        assert_eq!(chosen(7, 1).unwrap(), [0]);
        assert_eq!((chosen(3, 4), chosen(0, 0)), (None, None));
    }

    #[test]
    fn folders_and_gifs_are_videos() {
        let folder = tempfile::tempdir().unwrap();
        for i in [10u8, 9, 8] {
            picture(i, 6).save(folder.path().join(format!("f{i}.png"))).unwrap();
        }
        fs::write(folder.path().join("notes.txt"), "no frame").unwrap();
        let video = Video::open(folder.path()).unwrap();
        assert_eq!((video.frames(), video.size()), (3, [4, 6]));
        assert_eq!(reds(&video, &[0, 2]), [8, 10]);
        assert_eq!(videos_in(folder.path()).unwrap(), [folder.path()]);

        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a.gif");
        fs::write(&path, gif(5)).unwrap();
        let video = Video::open(&path).unwrap();
        assert_eq!((video.frames(), video.size()), (5, [4, 6]));
        assert_eq!(reds(&video, &[1, 4]), [20, 80]);
        fs::create_dir(outer.path().join("b")).unwrap();
        assert_eq!(videos_in(outer.path()).unwrap(), [path, outer.path().join("b")]);
        assert!(videos_in(&outer.path().join("b")).unwrap_err().to_string().contains("without frames"));
        picture(1, 6).save(outer.path().join("c.png")).unwrap();
        assert!(videos_in(outer.path()).unwrap_err().to_string().contains("1 picture(s) beside 2"));
    }

    /// An explainer of a network that takes `input`, moves its axes by `perm`, and sums up what it sees.
    fn explainer(input: [usize; 4], perm: [usize; 5]) -> Explainer {
        let (mut b, x) = Builder::of("clip", 1, &input);
        let moved = b.node(Op::Transpose(Transpose { perm: perm.to_vec() }), &[x]);
        let features = input.iter().product();
        let shape = vec![Dim::Batch, Dim::Fixed(features)];
        let flat = b.node(Op::Reshape(Reshape { shape }), &[moved]);
        let (w, bias) = (b.weight(&[2, features], -1.0, 1.0), b.weight(&[2], -0.1, 0.1));
        let logits = b.node(Op::Gemm(Gemm { trans_b: true, folded_bias: false }), &[flat, w, bias]);
        Compiler::new(Preset::named("two_level").unwrap()).compile(b.finish(logits)).unwrap()
    }

    #[test]
    fn frames_may_come_before_channels_and_channels_last() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..8u8 {
            picture(10 * i, 5).save(folder.path().join(format!("{i}.png"))).unwrap();
        }
        let video = Video::open(folder.path()).unwrap();
        for (input, perm, axis) in [([4, 3, 4, 5], [0, 2, 1, 3, 4], 2), ([4, 4, 5, 3], [0, 4, 1, 2, 3], 4)] {
            let explainer = explainer(input, perm);
            let found = explainer.video_input().unwrap();
            assert_eq!(found, VideoInput { frames: 4, size: [4, 5], channels: 3, axis });
            let prepared = Preprocess::default().prepare_video(&video, &explainer).unwrap();
            assert_eq!((prepared.values.shape(), &prepared.chosen[..]), (&input[..], &[0, 2, 4, 7][..]));
            let batch = prepared.values.insert_axis(Axis(0));
            // Red is the frame's number, green and blue are not there.
            let red = batch.index_axis(Axis(axis), 0);
            assert!(
                (0..4).all(|t| (red[[0, t, 1, 1]] * 255.0 - 10.0 * prepared.chosen[t] as f32).abs() < 0.1)
            );
            let result =
                explainer.explain(batch.view(), &Seed::Named(SeedKind::Logit), &Targets::Argmax).unwrap();
            let explanation = &result.explanations[0];
            assert_eq!(explanation.map.as_ref().unwrap().shape(), [1, 4, 4, 5]);
            let sum = explanation.relevance.sum_axis(Axis(axis));
            assert!((&sum - explanation.map.as_ref().unwrap()).iter().all(|v| v.abs() < 1e-5));
        }
    }

    #[test]
    fn broken_videos_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |bytes: &[u8]| {
            let path = folder.path().join("v.gif");
            fs::write(&path, bytes).unwrap();
            let error = Video::open(&path).unwrap_err();
            crate::error::messages(&error).join(": ")
        };
        let whole = gif(4);
        for cut in [0, 3, 12, whole.len() / 2, whole.len() - 20] {
            assert!(error(&whole[..cut]).contains("v.gif"), "{cut}");
        }
        let mut huge = whole.clone();
        huge[6..10].copy_from_slice(&[0xff; 4]); // the screen's size
        assert!(error(&huge).to_lowercase().contains("limit"), "{}", error(&huge));
        let at = whole.windows(2).position(|pair| pair[0] == 0x2c).unwrap();
        let mut frame = whole;
        frame[at + 5..at + 9].copy_from_slice(&[0xff; 4]); // the size of a frame
        assert!(error(&frame).contains("v.gif"));

        let own = folder.path().join("frames");
        fs::create_dir(&own).unwrap();
        picture(1, 6).save(own.join("1.png")).unwrap();
        picture(1, 7).save(own.join("2.png")).unwrap();
        let other = Video::open(&own).unwrap_err().to_string();
        assert!(
            other.contains("2.png: got 7 x 4 pixels, expected 6 x 4 as in") && other.contains("1.png"),
            "{other}"
        );
        fs::write(own.join("2.png"), b"no picture").unwrap();
        assert!(Video::open(&own).unwrap_err().to_string().contains("2.png"));
    }
}
