//! Pictures to inputs: resize, crop, order of channels, normalisation.

#[cfg(feature = "pictures")]
mod apply;
mod describe;

use std::fmt;
use std::path::Path;

use relc_ir::rule::Bounds;
use relc_ir::spelling::did_you_mean;
use serde::{Deserialize, Serialize};

#[cfg(feature = "pictures")]
pub use apply::Prepared;
pub use describe::hardly_moves;

#[cfg(feature = "pictures")]
pub use crate::picture::load_picture;
use crate::read::{self, ReadError};

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
/// scale = 0.00392156862745098   # multiplied to 0..255 values, before mean and std
/// mean = [0.485, 0.456, 0.406]  # in the order of `channels`
/// std = [0.229, 0.224, 0.225]
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
        assert!(error("mean = [0.0]").contains("line 1"));
        assert!(error("filter = \"cubic\"").contains("bicubic"));
        let name = Preprocess::load("imagnet").unwrap_err().to_string();
        assert!(name.contains("imagenet, cifar10") && name.contains("did you mean \"imagenet\"?"), "{name}");
    }
}
