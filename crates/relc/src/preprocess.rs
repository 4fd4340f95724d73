//! Pictures to inputs: resize, crop, order of channels, normalisation.

use std::fmt;
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use ndarray::Array3;
use serde::Deserialize;

/// How a picture lies in the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Layout {
    /// f32[N,C,H,W].
    Nchw,
    /// f32[N,H,W,C].
    Nhwc,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Layout::Nchw { "NCHW" } else { "NHWC" })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Resize {
    Exact,
    ShorterSideThenCentreCrop,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
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
/// resize_to = 256          # the shorter side before the crop; else size * 256 / 224
/// filter = "bilinear"      # nearest | bilinear (antialiased, as PIL's) | bicubic | lanczos3
/// layout = "NCHW"          # NCHW | NHWC; else the model's
/// channels = "RGB"         # RGB | BGR
/// scale = 0.00392156862745098   # multiplied to 0..255 values, before mean and std
/// mean = [0.485, 0.456, 0.406]  # in the order of `channels`
/// std = [0.229, 0.224, 0.225]
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
    /// f32[C,H,W] or f32[H,W,C], as the model has it.
    pub values: Array3<f32>,
    /// The picture behind it, resized and cropped, before normalisation.
    pub picture: RgbImage,
}

/// A picture or preprocessing that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// No preprocessing has that name.
    #[error("there is no preprocessing \"{name}\"; expected imagenet, cifar10, none or a .toml file")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
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
        source: image::ImageError,
    },
    /// Picture, preprocessing and model don't fit together.
    #[error("{0}")]
    Misfit(String),
}

/// The most pixels of a picture each way.
const MAX_SIDE: u32 = 16384;
/// The most memory that reading a picture may take: 1 GiB for the largest picture that is allowed, and no more.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a picture, upright as its EXIF orientation says.
///
/// # Errors
/// If the file can't be read, is no picture, or has more than 16384 pixels each way.
pub fn load_picture(path: &Path) -> Result<DynamicImage, PreprocessError> {
    let read = |source| PreprocessError::Read { path: path.to_path_buf(), source };
    let picture = |source| PreprocessError::Picture { path: path.to_path_buf(), source };
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(read)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(picture)?;
    let orientation = decoder.orientation().map_err(picture)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(picture)?;
    image.apply_orientation(orientation);
    Ok(image)
}

impl Preprocess {
    /// `imagenet`: shorter side to 256/224 of the size, centre crop, ImageNet's mean and std. `cifar10`: exact size,
    /// the same mean and std (as the networks of akamaster/pytorch_resnet_cifar10 are trained). `none`: exact size,
    /// values in [0,1].
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
            malformed(text.get(..at).unwrap_or("").matches('\n').count() + 1, e.message().to_string())
        })?;
        let line_of =
            |key: &str| text.lines().position(|l| l.trim_start().starts_with(key)).map_or(1, |i| i + 1);
        if parsed.std.iter().any(|s| !s.is_normal()) {
            return Err(malformed(line_of("std"), format!("got std = {:?}, expected no 0", parsed.std)));
        }
        if !parsed.scale.is_finite() || parsed.mean.iter().any(|m| !m.is_finite()) {
            return Err(malformed(line_of("scale"), "expected a finite scale and mean".into()));
        }
        let sizes = parsed.size.iter().flatten().chain(&parsed.resize_to);
        if sizes.into_iter().any(|s| !(1..=MAX_SIDE as usize).contains(s)) {
            return Err(malformed(line_of("size"), format!("expected sizes from 1 to {MAX_SIDE}")));
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
            return Preprocess::named(name)
                .ok_or_else(|| PreprocessError::Unknown { name: name.to_string() });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| PreprocessError::Read { path: path.to_path_buf(), source })?;
        Preprocess::from_toml(&text, name)
    }

    /// Makes the model's input of a picture.
    ///
    /// `layout`, `size` (height, width) and `channels` (1 or 3) are the model's. Alpha is dropped; one channel is the
    /// picture's luma, normalised by the first mean and std.
    ///
    /// # Errors
    /// If the preprocessing was made for another size or layout, or the model's input has other channels.
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
        let seen = self.fit(picture, size)?;
        let luma = (channels == 1).then(|| DynamicImage::ImageRgb8(seen.clone()).to_luma8());
        let value = |c: usize, y: usize, x: usize| -> f32 {
            let (x, y) = (x as u32, y as u32);
            let byte = match &luma {
                Some(luma) => luma.get_pixel(x, y).0[0],
                None => seen.get_pixel(x, y).0[if self.channels == Channels::Bgr { 2 - c } else { c }],
            };
            (f32::from(byte) * self.scale - self.mean[c]) / self.std[c]
        };
        let [h, w] = size;
        let values = match layout {
            Layout::Nchw => Array3::from_shape_fn((channels, h, w), |(c, y, x)| value(c, y, x)),
            Layout::Nhwc => Array3::from_shape_fn((h, w, channels), |(y, x, c)| value(c, y, x)),
        };
        Ok(Prepared { values, picture: seen })
    }

    /// The picture in the model's size.
    fn fit(&self, picture: &DynamicImage, [h, w]: [usize; 2]) -> Result<RgbImage, PreprocessError> {
        let rgb = picture.to_rgb8();
        let (width, height) = (w as u32, h as u32);
        if rgb.dimensions() == (width, height) && self.resize != Resize::ShorterSideThenCentreCrop {
            return Ok(rgb);
        }
        let filter = match self.filter {
            Filter::Nearest => FilterType::Nearest,
            Filter::Bilinear => FilterType::Triangle,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Lanczos3 => FilterType::Lanczos3,
        };
        match self.resize {
            Resize::None => Err(PreprocessError::Misfit(format!(
                "the picture has {} x {} pixels, expected {w} x {h} (resize = \"none\")",
                rgb.width(),
                rgb.height()
            ))),
            Resize::Exact => Ok(imageops::resize(&rgb, width, height, filter)),
            Resize::ShorterSideThenCentreCrop => {
                let shorter = self.resize_to.unwrap_or(h.min(w) * 256 / 224).max(h).max(w);
                let scale = shorter as f64 / f64::from(rgb.width().min(rgb.height()));
                let side = |n: u32| ((f64::from(n) * scale).round() as u32).max(shorter as u32);
                if side(rgb.width()).max(side(rgb.height())) > 8 * MAX_SIDE {
                    let (a, b) = rgb.dimensions();
                    return Err(PreprocessError::Misfit(format!(
                        "a picture of {a} x {b} pixels is too narrow"
                    )));
                }
                let resized = imageops::resize(&rgb, side(rgb.width()), side(rgb.height()), filter);
                let (left, top) = ((resized.width() - width) / 2, (resized.height() - height) / 2);
                Ok(imageops::crop_imm(&resized, left, top, width, height).to_image())
            }
        }
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
        assert!(error("\nsize = [64, 64]\nsped = 1").contains("p.toml, line 3: unknown field `sped`"));
        assert!(error("std = [1.0, 0.0, 1.0]").contains("expected no 0"));
        assert!(error("size = [0, 4]").contains("expected sizes from 1"));
        let sized = Preprocess::from_toml("size = [64, 64]", "t").unwrap();
        let misfit = sized.apply(&picture(2, 2), Layout::Nchw, [32, 32], 3).unwrap_err().to_string();
        assert!(misfit.contains("makes [64, 64], but the model takes [32, 32]"), "{misfit}");
        let strict = Preprocess::from_toml("resize = \"none\"", "t").unwrap();
        assert!(strict.apply(&picture(5, 2), Layout::Nchw, [2, 2], 3).is_err());
        assert!(Preprocess::default().apply(&picture(2, 2), Layout::Nchw, [2, 2], 4).is_err());
        assert!(Preprocess::load("imagnet").unwrap_err().to_string().contains("imagenet, cifar10"));
        assert!(load_picture(Path::new("no/such.png")).unwrap_err().to_string().contains("no/such.png"));
    }
}
