//! Pictures to inputs: resize, crop, order of channels, normalisation.

mod describe;

use std::fmt;
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use image::{DynamicImage, RgbImage};
use ndarray::Array3;
use relc_ir::rule::Bounds;
use relc_ir::spelling::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use describe::hardly_moves;

use crate::explainer::Explainer;
use crate::picture::MAX_SIDE;
pub use crate::picture::load_picture;
use crate::read::{self, ReadError};

/// How a picture lies in the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Layout {
    /// `f32[N,C,H,W]`.
    Nchw,
    /// `f32[N,H,W,C]`.
    Nhwc,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Layout::Nchw { "NCHW" } else { "NHWC" })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Resize {
    Exact,
    ShorterSideThenCentreCrop,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Channels {
    Rgb,
    Bgr,
}

/// What a network expects of a picture.
///
/// As a TOML file, every key optional:
/// ```toml
/// size = [224, 224]        # height, width; else the model's
/// resize = "exact"         # exact | shorter-side-then-centre-crop | none (the picture must have the size)
/// resize_to = 256          # the shorter side before the crop, no less than size; else size * 256 / 224
/// filter = "bilinear"      # nearest | bilinear (antialiased, as PIL's) | bicubic | lanczos3
/// layout = "NCHW"          # NCHW | NHWC; else the model's
/// channels = "RGB"         # RGB | BGR
/// scale = 0.00392156862745098   # multiplied to 0..255 values, before mean and std
/// mean = [0.485, 0.456, 0.406]  # in the order of `channels`
/// std = [0.229, 0.224, 0.225]
/// ```
/// Resizing and cropping round to whole pixels as torchvision's `Resize` and `CenterCrop` do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    size: Option<[usize; 2]>,
    resize: Resize,
    resize_to: Option<usize>,
    filter: Filter,
    layout: Option<Layout>,
    channels: Channels,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            size: None,
            resize: Resize::Exact,
            resize_to: None,
            filter: Filter::Bilinear,
            layout: None,
            channels: Channels::Rgb,
            scale: 1.0 / 255.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }
}

/// A picture as the network takes it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// `f32[C,H,W]` or `f32[H,W,C]`, as the model has it.
    pub values: Array3<f32>,
    /// The picture behind it, resized and cropped, before normalisation.
    pub picture: RgbImage,
}

/// A picture or preprocessing that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// No preprocessing has that name.
    #[error("there is no preprocessing \"{name}\"; expected imagenet, cifar10, none or a .toml file{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest name that there is, as a question; empty if none is near.
        hint: String,
    },
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is no preprocessing.
    #[error("{file}, line {line}: {message}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The file is no picture.
    #[error("can't read the picture {}; expected PNG, JPEG, WebP, BMP, GIF or TIFF", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<image::ImageError>,
    },
    /// Picture, preprocessing and model don't fit together.
    #[error("{0}")]
    Misfit(String),
}

/// The most pixels on the way to the network's size: resizing keeps 16 bytes of each.
const MAX_RESIZED: u64 = 1 << 26;
/// The names that [`Preprocess::named`] knows.
const NAMES: [&str; 3] = ["imagenet", "cifar10", "none"];
/// The keys of a preprocessing file.
const KEYS: [&str; 9] =
    ["size", "resize", "resize_to", "filter", "layout", "channels", "scale", "mean", "std"];

impl Preprocess {
    /// `imagenet`: shorter side to 256/224 of the size, centre crop, ImageNet's mean and std. `cifar10`: exact size,
    /// the same mean and std (as the networks of akamaster/pytorch_resnet_cifar10 are trained). `none`: exact size,
    /// values in `[0,1]`.
    pub fn named(name: &str) -> Option<Preprocess> {
        let imagenet = Preprocess {
            resize: Resize::ShorterSideThenCentreCrop,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            ..Preprocess::default()
        };
        match name {
            "imagenet" => Some(imagenet),
            "cifar10" => Some(Preprocess { resize: Resize::Exact, ..imagenet }),
            "none" => Some(Preprocess::default()),
            _ => None,
        }
    }

    /// From the text of a TOML file; `file` is what errors call it.
    ///
    /// # Errors
    /// If the text is no TOML, has an unknown key, or a value is out of range.
    pub fn from_toml(text: &str, file: &str) -> Result<Preprocess, PreprocessError> {
        let malformed = |line, message| PreprocessError::Malformed { file: file.to_string(), line, message };
        let parsed: Preprocess = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start);
            let line = text.get(..at).unwrap_or("").matches('\n').count() + 1;
            let unknown = e.message().strip_prefix("unknown field `").and_then(|m| m.split('`').next());
            let hint = unknown.map(|key| did_you_mean(key, KEYS)).unwrap_or_default();
            malformed(line, format!("{}{hint}", e.message()))
        })?;
        let refuse = |key: &str, message: String| {
            let sets =
                |l: &str| l.trim_start().strip_prefix(key).is_some_and(|r| r.trim_start().starts_with('='));
            Err(malformed(text.lines().position(sets).map_or(1, |i| i + 1), message))
        };
        if parsed.std.iter().any(|s| !s.is_normal() || *s < 0.0) {
            return refuse("std", format!("got std = {:?}, expected numbers above 0", parsed.std));
        }
        if parsed.mean.iter().any(|m| !m.is_finite()) {
            return refuse("mean", format!("got mean = {:?}, expected finite numbers", parsed.mean));
        }
        if !parsed.scale.is_finite() {
            return refuse("scale", format!("got scale = {:?}, expected a finite number", parsed.scale));
        }
        let Bounds { low, high } = parsed.bounds(3);
        if low.iter().chain(&high).any(|v| !v.is_finite()) {
            return refuse(
                "scale",
                format!(
                    "got scale = {:?}, mean = {:?} and std = {:?}, by which a pixel of 255 is {high:?} in the model's \
                     input; expected numbers that f32 holds",
                    parsed.scale, parsed.mean, parsed.std
                ),
            );
        }
        let allowed = 1..=MAX_SIDE as usize;
        if let Some(size) = parsed.size.filter(|s| s.iter().any(|n| !allowed.contains(n))) {
            return refuse("size", format!("got size = {size:?}, expected sizes from 1 to {MAX_SIDE}"));
        }
        if let Some(to) = parsed.resize_to.filter(|n| !allowed.contains(n)) {
            return refuse("resize_to", format!("got resize_to = {to}, expected 1 to {MAX_SIDE}"));
        }
        Ok(parsed)
    }

    /// A named preprocessing, or one from a `.toml` file.
    ///
    /// # Errors
    /// If there is none of that name, or the file is malformed.
    pub fn load(name: &str) -> Result<Preprocess, PreprocessError> {
        let path = Path::new(name);
        if path.extension().is_none_or(|e| e != "toml") {
            let unknown =
                || PreprocessError::Unknown { name: name.to_string(), hint: did_you_mean(name, NAMES) };
            return Preprocess::named(name).ok_or_else(unknown);
        }
        let text = read::text(path, read::PREPROCESSING)?;
        Preprocess::from_toml(&text, name)
    }

    /// Height and width for a model that leaves them open: those that the preprocessing states, else, where it resizes
    /// nothing, those of the picture; `None` where it crops to what the model wants.
    pub fn open_size(&self, picture: [usize; 2]) -> Option<[usize; 2]> {
        self.size.or_else(|| self.resize_to.is_none().then_some(picture))
    }

    /// What black is in the model's input, for each of its channels, in its order.
    pub fn black(&self, channels: usize) -> Vec<f32> {
        (0..channels.min(3)).map(|c| self.value(0.0, c)).collect()
    }

    /// What a byte of a channel is in the model's input.
    fn value(&self, byte: f32, c: usize) -> f32 {
        (byte * self.scale - self.mean[c]) / self.std[c]
    }

    /// The lowest and highest values that a picture's channels can take in the model's input: those of bytes 0 and
    /// 255, in the model's order of channels.
    pub fn bounds(&self, channels: usize) -> Bounds {
        let value = |byte: f32, c: usize| f64::from(self.value(byte, c));
        let all = 0..channels.min(3);
        let (dark, light): (Vec<f64>, Vec<f64>) = all.map(|c| (value(0.0, c), value(255.0, c))).unzip();
        let pick = |f: fn(f64, f64) -> f64| dark.iter().zip(&light).map(|(a, b)| f(*a, *b)).collect();
        Bounds { low: pick(f64::min), high: pick(f64::max) }
    }

    /// Makes the model's input of a picture.
    ///
    /// `layout`, `size` (height, width) and `channels` (1 or 3) are the model's. Alpha is dropped; one channel is the
    /// picture's luma, normalised by the first mean and std.
    ///
    /// # Errors
    /// If the preprocessing was made for another size or layout, the model's input has other channels, or the picture
    /// can't be brought to the model's size.
    pub fn apply(
        &self,
        picture: &DynamicImage,
        layout: Layout,
        size: [usize; 2],
        channels: usize,
    ) -> Result<Prepared, PreprocessError> {
        let misfit = |message| Err(PreprocessError::Misfit(message));
        if let Some(own) = self.size.filter(|s| *s != size) {
            return misfit(format!(
                "the preprocessing makes {own:?}, but the model takes {size:?} (height, width)"
            ));
        }
        if let Some(own) = self.layout.filter(|l| *l != layout) {
            return misfit(format!("the preprocessing makes {own}, but the model takes {layout}"));
        }
        if channels != 1 && channels != 3 {
            return misfit(format!(
                "the model takes {channels} channels, expected 1 or 3 for a picture; give a .npy"
            ));
        }
        let [h, w] = size;
        if [h, w].iter().any(|n| !(1..=MAX_SIDE as usize).contains(n)) {
            return misfit(format!("the model takes {h} x {w} pixels, expected 1 to {MAX_SIDE} each way"));
        }
        let seen = self.fit(picture, h as u32, w as u32)?;
        let luma = (channels == 1).then(|| DynamicImage::ImageRgb8(seen.clone()).to_luma8());
        let value = |c: usize, y: usize, x: usize| -> f32 {
            let (x, y) = (x as u32, y as u32);
            let byte = match &luma {
                Some(luma) => luma.get_pixel(x, y).0[0],
                None => seen.get_pixel(x, y).0[if self.channels == Channels::Bgr { 2 - c } else { c }],
            };
            (f32::from(byte) * self.scale - self.mean[c]) / self.std[c]
        };
        let values = match layout {
            Layout::Nchw => Array3::from_shape_fn((channels, h, w), |(c, y, x)| value(c, y, x)),
            Layout::Nhwc => Array3::from_shape_fn((h, w, channels), |(y, x, c)| value(c, y, x)),
        };
        Ok(Prepared { values, picture: seen })
    }

    /// Makes the input of an explainer's model of a picture. Where the model leaves height and width open, a picture that
    /// is not resized keeps its own.
    ///
    /// # Errors
    /// If the model's input is no picture; as [`apply`](Self::apply).
    pub fn prepare(
        &self,
        picture: &DynamicImage,
        explainer: &Explainer,
    ) -> Result<Prepared, PreprocessError> {
        let Some((layout, size)) = explainer.picture_input() else {
            let input = explainer.input().map(|(name, ty)| format!("the model's input \"{name}\" {ty}"));
            let input = input.unwrap_or_else(|e| e.to_string());
            return Err(PreprocessError::Misfit(format!("{input} is no picture; give an array")));
        };
        let channels = explainer.picture_channels().unwrap_or(3);
        let own = self.open_size([picture.height() as usize, picture.width() as usize]);
        let shape = |[h, w]: [usize; 2]| match layout {
            Layout::Nchw => [1, channels, h, w],
            Layout::Nhwc => [1, h, w, channels],
        };
        let size = own.filter(|own| explainer.takes(&shape(*own))).unwrap_or(size);
        self.apply(picture, layout, size, channels)
    }

    /// To what the shorter side is brought before the crop of a size; no side of either is above [`MAX_SIDE`].
    fn shorter_side(&self, [height, width]: [usize; 2]) -> usize {
        self.resize_to.unwrap_or_else(|| (height.min(width).saturating_mul(256) / 224).max(height.max(width)))
    }

    /// The picture in the model's size; both are no smaller than 1 x 1.
    fn fit(&self, picture: &DynamicImage, height: u32, width: u32) -> Result<RgbImage, PreprocessError> {
        let rgb = picture.to_rgb8();
        let (across, down) = rgb.dimensions();
        let misfit = |message| Err(PreprocessError::Misfit(message));
        if across == 0 || down == 0 {
            return misfit("the picture has no pixels".into());
        }
        match self.resize {
            Resize::None if (across, down) != (width, height) => misfit(format!(
                "the picture has {across} x {down} pixels, expected {width} x {height} (resize = \"none\")"
            )),
            Resize::None => Ok(rgb),
            Resize::Exact => self.resized(rgb, width, height),
            Resize::ShorterSideThenCentreCrop => {
                let shorter = match self.resize_to {
                    Some(to) if to < height.max(width) as usize => {
                        return misfit(format!(
                            "resize_to = {to} is less than what is cropped, {height} x {width}; give at least {}",
                            height.max(width)
                        ));
                    }
                    _ => self.shorter_side([height as usize, width as usize]) as u64,
                };
                // The longer side is rounded down, as torchvision's Resize does.
                let side = |n: u32| u64::from(n) * shorter / u64::from(across.min(down));
                let (Ok(new_width), Ok(new_height)) =
                    (u32::try_from(side(across)), u32::try_from(side(down)))
                else {
                    return misfit(format!("a picture of {across} x {down} pixels is too narrow"));
                };
                let resized = self.resized(rgb, new_width, new_height)?;
                // Half of what is over, rounded half to even, as torchvision's CenterCrop does.
                let half = |over: u32| over / 2 + (over % 4) / 3;
                let (left, top) = (half(new_width - width), half(new_height - height));
                Ok(imageops::crop_imm(&resized, left, top, width, height).to_image())
            }
        }
    }

    /// The picture in another size.
    fn resized(&self, rgb: RgbImage, width: u32, height: u32) -> Result<RgbImage, PreprocessError> {
        let (across, down) = rgb.dimensions();
        if (across, down) == (width, height) {
            return Ok(rgb);
        }
        if u64::from(across.max(width)) * u64::from(height) > MAX_RESIZED {
            return Err(PreprocessError::Misfit(format!(
                "bringing a picture of {across} x {down} pixels to {width} x {height} takes too much memory; crop or \
                 shrink it first"
            )));
        }
        let filter = match self.filter {
            Filter::Nearest => FilterType::Nearest,
            Filter::Bilinear => FilterType::Triangle,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos3 => FilterType::Lanczos3,
        };
        Ok(imageops::resize(&rgb, width, height, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn picture(w: u32, h: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(w, h, |x, y| Rgb([x as u8, y as u8, 200])))
    }

    #[test]
    fn layouts_and_channel_orders() {
        let bgr = Preprocess::from_toml("channels = \"BGR\"\nscale = 1.0\nmean = [104.0, 117.0, 123.0]", "t")
            .unwrap();
        let nhwc = bgr.apply(&picture(4, 3), Layout::Nhwc, [3, 4], 3).unwrap().values;
        assert_eq!(nhwc.dim(), (3, 4, 3));
        assert_eq!(nhwc[(2, 1, 0)], 200.0 - 104.0);
        assert_eq!(nhwc[(2, 1, 1)], 2.0 - 117.0);
        assert_eq!(nhwc[(2, 1, 2)], 1.0 - 123.0);
        let nchw = bgr.apply(&picture(4, 3), Layout::Nchw, [3, 4], 3).unwrap().values;
        assert_eq!(nchw, nhwc.permuted_axes([2, 0, 1]));
    }

    #[test]
    fn the_centre_is_cropped() {
        let text = "resize = \"shorter-side-then-centre-crop\"\nresize_to = 4\nscale = 1.0";
        let crop = Preprocess::from_toml(text, "t").unwrap();
        let values = crop.apply(&picture(10, 4), Layout::Nchw, [2, 2], 3).unwrap().values;
        assert_eq!((values[(0, 0, 0)], values[(1, 0, 0)]), (4.0, 1.0));
    }

    #[test]
    fn one_channel_is_luma() {
        let values = Preprocess::default().apply(&picture(2, 2), Layout::Nchw, [2, 2], 1).unwrap().values;
        assert_eq!(values.dim(), (1, 2, 2));
        assert!(values[(0, 0, 0)] > 0.0 && values[(0, 0, 0)] < 0.2);
    }

    #[test]
    fn misfits_and_malformed_files_say_what_is_expected() {
        let error = |text: &str| Preprocess::from_toml(text, "p.toml").unwrap_err().to_string();
        let unknown = error("\nsize = [64, 64]\nresise = 1");
        assert!(unknown.contains("p.toml, line 3: unknown field `resise`"), "{unknown}");
        assert!(KEYS.iter().all(|key| unknown.contains(&format!("`{key}`"))), "{unknown}");
        assert!(unknown.contains("did you mean \"resize\"?"), "{unknown}");
        assert!(error("std = [1.0, 0.0, 1.0]").contains("expected numbers above 0"));
        assert!(error("size = [0, 4]").contains("expected sizes from 1"));
        assert!(error("size = [4, 4]\nresize_to = 0").contains("line 2: got resize_to = 0"));
        assert!(error("scale = 1.0\nmean = [nan, 0.0, 0.0]").contains("line 2: got mean"));
        assert!(error("\nscale = 3e38").contains("line 2: got scale = 3e38"));
        assert!(error("scale = 1.0\nstd = [2e-38, 1.0, 1.0]").contains("expected numbers that f32 holds"));
        assert!(error("mean = [0.0]").contains("line 1"));
        assert!(error("filter = \"cubic\"").contains("bicubic"));
        let sized = Preprocess::from_toml("size = [64, 64]", "t").unwrap();
        let misfit = sized.apply(&picture(2, 2), Layout::Nchw, [32, 32], 3).unwrap_err().to_string();
        assert!(misfit.contains("makes [64, 64], but the model takes [32, 32]"), "{misfit}");
        let strict = Preprocess::from_toml("resize = \"none\"", "t").unwrap();
        assert!(strict.apply(&picture(5, 2), Layout::Nchw, [2, 2], 3).is_err());
        assert!(Preprocess::default().apply(&picture(2, 2), Layout::Nchw, [2, 2], 4).is_err());
        let name = Preprocess::load("imagnet").unwrap_err().to_string();
        assert!(name.contains("imagenet, cifar10") && name.contains("did you mean \"imagenet\"?"), "{name}");
        assert!(load_picture(Path::new("no/such.png")).unwrap_err().to_string().contains("no/such.png"));
    }

    #[test]
    fn the_crop_lies_where_torchvisions_does() {
        // What is over, and CenterCrop's int(round((side - crop) / 2)), Python rounding half to even.
        for (over, left) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 4), (8, 4)] {
            let text = "resize = \"shorter-side-then-centre-crop\"\nresize_to = 4\nscale = 1.0";
            let crop = Preprocess::from_toml(text, "t").unwrap();
            let values = crop.apply(&picture(4 + over, 4), Layout::Nchw, [4, 4], 3).unwrap().values;
            assert_eq!(values[(0, 0, 0)], left as f32, "{over} over");
        }
    }

    #[test]
    fn imagenet_resizes_to_256_and_crops_224() {
        let imagenet = Preprocess::named("imagenet").unwrap();
        let prepared = imagenet.apply(&picture(256, 256), Layout::Nchw, [224, 224], 3).unwrap();
        assert_eq!(prepared.picture.dimensions(), (224, 224));
        assert_eq!(prepared.picture.get_pixel(0, 0), &Rgb([16, 16, 200]));
        assert_eq!(prepared.values[(0, 0, 0)], (16.0 * (1.0 / 255.0) - 0.485) / 0.229);
        let wide = imagenet.apply(&picture(90, 40), Layout::Nchw, [64, 96], 3).unwrap();
        assert_eq!(wide.picture.dimensions(), (96, 64));
    }

    #[test]
    fn sizes_out_of_range_are_errors() {
        let apply = |text: &str, picture: &DynamicImage, size| {
            Preprocess::from_toml(text, "t").unwrap().apply(picture, Layout::Nchw, size, 3)
        };
        let crop = "resize = \"shorter-side-then-centre-crop\"";
        assert!(apply("", &DynamicImage::new_rgb8(0, 0), [2, 2]).is_err());
        assert!(apply("", &picture(2, 2), [0, 2]).is_err());
        assert!(apply("", &picture(2, 2), [usize::MAX, 2]).is_err());
        assert!(apply(crop, &picture(16384, 1), [16384, 16384]).is_err());
        let small = apply(&format!("{crop}\nresize_to = 3"), &picture(9, 9), [4, 4]).unwrap_err().to_string();
        assert!(small.contains("give at least 4"), "{small}");
    }

    #[test]
    fn alpha_is_dropped_and_grey_becomes_colour() {
        let clear =
            DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0])));
        let plain = Preprocess::from_toml("scale = 1.0", "t").unwrap();
        let values = plain.apply(&clear, Layout::Nhwc, [1, 1], 3).unwrap().values;
        assert_eq!(values.into_raw_vec_and_offset().0, [10.0, 20.0, 30.0]);
        let grey = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(1, 1, image::Luma([77])));
        let values = plain.apply(&grey, Layout::Nchw, [1, 1], 3).unwrap().values;
        assert_eq!(values.into_raw_vec_and_offset().0, [77.0; 3]);
    }
}
