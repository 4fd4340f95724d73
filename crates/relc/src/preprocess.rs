//! Pictures to inputs: resize, crop, order of channels, normalisation.

#[cfg(feature = "pictures")]
mod apply;
mod describe;

use std::fmt;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use relc_ir::rule::Bounds;
use relc_ir::spelling::did_you_mean;
use serde::{Deserialize, Serialize};

#[cfg(feature = "pictures")]
pub use apply::Prepared;
pub use describe::hardly_moves;

#[cfg(feature = "pictures")]
pub use crate::picture::load_picture;
use crate::read::{self, ReadError};
use crate::sizes::USUAL;

/// How a picture lies in the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
enum Resize {
    Exact,
    ShorterSideThenCentreCrop,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
/// scale = 0.00392156862745098   # multiplied to 0..255 values, before mean and std; of arrays 1.0 unless given
/// mean = [0.485, 0.456, 0.406]  # one for each channel of the model, in the order of `channels`; or one for all
/// std = [0.229, 0.224, 0.225]
/// arrays = false           # true: values of .npy, CSV and NIfTI files are normalised too; they are never resized
/// ```
/// Resizing and cropping round to whole pixels as torchvision's `Resize` and `CenterCrop` do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    size: Option<[usize; 2]>,
    resize: Resize,
    resize_to: Option<usize>,
    filter: Filter,
    layout: Option<Layout>,
    channels: Channels,
    scale: Option<f32>,
    mean: Vec<f32>,
    std: Vec<f32>,
    arrays: bool,
    /// Whether its values are those of colour pictures, of which a model of one channel takes the first.
    #[serde(skip)]
    of_colours: bool,
}

/// What bytes of pictures are multiplied by, unless a preprocessing says otherwise.
const OF_BYTES: f32 = 1.0 / 255.0;

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess {
            size: None,
            resize: Resize::Exact,
            resize_to: None,
            filter: Filter::Bilinear,
            layout: None,
            channels: Channels::Rgb,
            scale: None,
            mean: vec![0.0],
            std: vec![1.0],
            arrays: false,
            of_colours: false,
        }
    }
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
    /// The file is no picture. With the feature `pictures`.
    #[cfg(feature = "pictures")]
    #[error("can't read the picture {}; expected PNG, JPEG, WebP, BMP, GIF or TIFF", path.display())]
    Picture {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: Box<image::ImageError>,
    },
    /// Picture, preprocessing and model don't fit together.
    #[error("{0}")]
    Misfit(String),
}

/// The most pixels of a picture each way.
pub(crate) const MAX_SIDE: u32 = 16384;
/// The most channels that a preprocessing has values of.
const MAX_CHANNELS: usize = 4096;
/// The names that [`Preprocess::named`] knows.
const NAMES: [&str; 3] = ["imagenet", "cifar10", "none"];
/// The keys of a preprocessing file.
const KEYS: [&str; 10] =
    ["size", "resize", "resize_to", "filter", "layout", "channels", "scale", "mean", "std", "arrays"];

impl Preprocess {
    /// `imagenet`: shorter side to 256/224 of the size, centre crop, ImageNet's mean and std. `cifar10`: exact size,
    /// the same mean and std (as the networks of akamaster/pytorch_resnet_cifar10 are trained). `none`: exact size,
    /// values in `[0,1]`.
    pub fn named(name: &str) -> Option<Preprocess> {
        let imagenet = Preprocess {
            resize: Resize::ShorterSideThenCentreCrop,
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            of_colours: true,
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
        for (key, values) in [("mean", &parsed.mean), ("std", &parsed.std)] {
            if values.is_empty() || values.len() > MAX_CHANNELS {
                return refuse(
                    key,
                    format!("got {} values of {key}, expected one, or one for each channel", values.len()),
                );
            }
        }
        let (means, stds) = (parsed.mean.len(), parsed.std.len());
        if means != stds && means != 1 && stds != 1 {
            return refuse(
                "std",
                format!(
                    "got {means} values of mean and {stds} of std, expected as many of both, or one for all channels"
                ),
            );
        }
        let scale = parsed.scale();
        if !scale.is_finite() {
            return refuse("scale", format!("got scale = {scale:?}, expected a finite number"));
        }
        let Bounds { low, high } = parsed.bounds();
        if low.iter().chain(&high).any(|v| !v.is_finite()) {
            return refuse(
                "scale",
                format!(
                    "got scale = {:?}, mean = {:?} and std = {:?}, by which a pixel of 255 is {high:?} in the model's \
                     input; expected numbers that f32 holds",
                    scale, parsed.mean, parsed.std
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

    /// As [`open_size`](Self::open_size), and where that is `None` what ImageNet's classifiers take.
    pub fn open_size_or_usual(&self, picture: [usize; 2]) -> [usize; 2] {
        self.open_size(picture).unwrap_or([USUAL; 2])
    }

    /// Whether arrays are normalised as well: the values of `.npy`, CSV and NIfTI files.
    pub fn is_of_arrays(&self) -> bool {
        self.arrays
    }

    /// What bytes are multiplied by.
    fn scale(&self) -> f32 {
        self.scale.unwrap_or(OF_BYTES)
    }

    /// Of how many channels there are values; 1: they are those of every channel.
    fn listed(&self) -> usize {
        self.mean.len().max(self.std.len())
    }

    /// Refuses a model of so many channels, if there are values of other ones.
    fn check_channels(&self, channels: usize) -> Result<(), PreprocessError> {
        let listed = self.listed();
        if listed == 1 || listed == channels || (self.of_colours && channels == 1) {
            return Ok(());
        }
        Err(PreprocessError::Misfit(format!(
            "the preprocessing has {listed} values of mean and std, but the model takes {channels} channels; expected 1 or \
             {channels} of both"
        )))
    }

    /// What a value of a channel is in the model's input, if it is multiplied by `scale` first.
    fn normalised(&self, value: f32, scale: f32, c: usize) -> f32 {
        let of = |values: &[f32], all: f32| match values {
            [one] => *one,
            several => several.get(c).copied().unwrap_or(all),
        };
        (value * scale - of(&self.mean, 0.0)) / of(&self.std, 1.0)
    }

    /// What a byte of a channel is in the model's input.
    fn value(&self, byte: f32, c: usize) -> f32 {
        self.normalised(byte, self.scale(), c)
    }

    /// Normalises an array in place: `(x scale - mean) / std`, with the values of each channel; the channels are its axis
    /// `axis`. Unless the scale is given, it is 1.
    ///
    /// # Errors
    /// If there are values of another number of channels.
    pub fn normalise(&self, array: &mut ArrayD<f32>, axis: usize) -> Result<(), PreprocessError> {
        let Some(channels) = array.shape().get(axis).copied() else { return Ok(()) };
        self.check_channels(channels)?;
        let scale = self.scale.unwrap_or(1.0);
        for (c, mut channel) in array.axis_iter_mut(Axis(axis)).enumerate() {
            channel.mapv_inplace(|v| self.normalised(v, scale, c));
        }
        Ok(())
    }

    /// What black is in the model's input, for each of so many channels, in its order.
    pub fn black(&self, channels: usize) -> Vec<f32> {
        (0..channels).map(|c| self.value(0.0, c)).collect()
    }

    /// The lowest and highest values that a picture's channels can take in the model's input: those of bytes 0 and
    /// 255, in the model's order of channels; one of each where all channels have the same.
    pub fn bounds(&self) -> Bounds {
        let value = |byte: f32, c: usize| f64::from(self.value(byte, c));
        let all = 0..self.listed();
        let (dark, light): (Vec<f64>, Vec<f64>) = all.map(|c| (value(0.0, c), value(255.0, c))).unzip();
        let pick = |f: fn(f64, f64) -> f64| dark.iter().zip(&light).map(|(a, b)| f(*a, *b)).collect();
        Bounds { low: pick(f64::min), high: pick(f64::max) }
    }

    /// To what the shorter side is brought before the crop of a size; no side of either is above [`MAX_SIDE`].
    fn shorter_side(&self, [height, width]: [usize; 2]) -> usize {
        self.resize_to.unwrap_or_else(|| (height.min(width).saturating_mul(256) / 224).max(height.max(width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_files_say_what_is_expected() {
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
        assert!(error("mean = []").contains("line 1: got 0 values of mean, expected one"));
        let unequal = error("mean = [0.0, 1.0]\nstd = [1.0, 1.0, 1.0]");
        assert!(unequal.contains("line 2: got 2 values of mean and 3 of std"), "{unequal}");
        assert!(error("filter = \"cubic\"").contains("bicubic"));
        let name = Preprocess::load("imagnet").unwrap_err().to_string();
        assert!(name.contains("imagenet, cifar10") && name.contains("did you mean \"imagenet\"?"), "{name}");
    }

    #[test]
    fn arrays_are_normalised_by_channel_and_keep_their_scale() {
        let own = Preprocess::from_toml("mean = [1.0, 2.0]\nstd = [2.0, 4.0]\narrays = true", "t").unwrap();
        let array = ndarray::array![[1.0, 3.0, 5.0], [2.0, 6.0, 10.0]].into_dyn();
        let expected = ndarray::array![[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]].into_dyn();
        let mut first = array.clone();
        own.normalise(&mut first, 0).unwrap();
        assert_eq!(first, expected);
        let mut last = array.t().to_owned();
        own.normalise(&mut last, 1).unwrap();
        assert_eq!(last, expected.t());
        let refused = own.normalise(&mut array.clone(), 1).unwrap_err().to_string();
        assert!(
            refused.contains("2 values of mean and std, but the model takes 3 channels; expected 1 or 3"),
            "{refused}"
        );
        let all = Preprocess::from_toml("scale = 2.0\nmean = [2.0]", "t").unwrap();
        let mut one = array.clone();
        all.normalise(&mut one, 0).unwrap();
        assert_eq!(one, array.mapv(|v| 2.0 * v - 2.0));
    }

    #[test]
    fn bounds_are_one_for_all_channels_or_one_for_each() {
        assert_eq!(Preprocess::named("none").unwrap().bounds(), Bounds { low: vec![0.0], high: vec![1.0] });
        assert_eq!(Preprocess::named("imagenet").unwrap().bounds().low.len(), 3);
        assert_eq!(Preprocess::named("none").unwrap().black(4), [0.0; 4]);
    }
}
