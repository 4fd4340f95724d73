//! From a picture to the model's input: resize, crop, normalise.

use fast_image_resize::images::{Image, TypedImageRef};
use fast_image_resize::pixels::U8x4;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::imageops;
use image::{DynamicImage, RgbImage, RgbaImage};
use ndarray::Array3;

use super::{Channels, Filter, Layout, MAX_SIDE, Preprocess, PreprocessError, Resize};
use crate::explainer::Explainer;

/// The most pixels on the way to the network's size.
const MAX_RESIZED: u64 = 1 << 26;

/// A picture as the network takes it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// `f32[C,H,W]` or `f32[H,W,C]`, as the model has it.
    pub values: Array3<f32>,
    /// The picture behind it, resized and cropped, before normalisation.
    pub picture: RgbImage,
}

impl Preprocess {
    /// Makes the model's input of a picture.
    ///
    /// `layout`, `size` (height, width) and `channels` (1 to 4) are the model's. One channel is the picture's luma, three
    /// are its colours; of two and four the last is its alpha, which else is dropped.
    ///
    /// # Errors
    /// If the preprocessing was made for another size, layout or number of channels, the model's input has more channels
    /// than the picture, or the picture can't be brought to the model's size.
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
        if !(1..=4).contains(&channels) {
            return misfit(format!(
                "the model takes {channels} channels, expected 1 to 4 for a picture; give a .npy"
            ));
        }
        self.check_channels(channels)?;
        let with_alpha = matches!(channels, 2 | 4);
        if with_alpha && !picture.color().has_alpha() {
            let has = picture.color().channel_count();
            return misfit(format!(
                "the model takes {channels} channels, the last of them alpha, and the picture has {has} without alpha; give \
                 a picture with alpha, or a .npy"
            ));
        }
        let [h, w] = size;
        if [h, w].iter().any(|n| !(1..=MAX_SIDE as usize).contains(n)) {
            return misfit(format!("the model takes {h} x {w} pixels, expected 1 to {MAX_SIDE} each way"));
        }
        let fitted = DynamicImage::ImageRgba8(self.fit(picture.to_rgba8(), h as u32, w as u32)?);
        let seen = fitted.to_rgb8();
        let alpha = with_alpha.then(|| fitted.into_rgba8());
        let luma = (channels < 3).then(|| DynamicImage::ImageRgb8(seen.clone()).to_luma8());
        // What each byte is in each channel.
        let of_byte: Vec<[f32; 256]> =
            (0..channels).map(|c| std::array::from_fn(|byte| self.value(byte as f32, c))).collect();
        let value = |c: usize, y: usize, x: usize| -> f32 {
            let (x, y) = (x as u32, y as u32);
            let byte = match (&alpha, &luma) {
                (Some(alpha), _) if c + 1 == channels => alpha.get_pixel(x, y).0[3],
                (_, Some(luma)) => luma.get_pixel(x, y).0[0],
                _ => seen.get_pixel(x, y).0[if self.channels == Channels::Bgr { 2 - c } else { c }],
            };
            of_byte[c][usize::from(byte)]
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

    /// The picture in the model's size; both are no smaller than 1 x 1.
    fn fit(&self, picture: RgbaImage, height: u32, width: u32) -> Result<RgbaImage, PreprocessError> {
        let (across, down) = picture.dimensions();
        let misfit = |message| Err(PreprocessError::Misfit(message));
        if across == 0 || down == 0 {
            return misfit("the picture has no pixels".into());
        }
        match self.resize {
            Resize::None if (across, down) != (width, height) => misfit(format!(
                "the picture has {across} x {down} pixels, expected {width} x {height} (resize = \"none\")"
            )),
            Resize::None => Ok(picture),
            Resize::Exact => self.resized(picture, width, height),
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
                let resized = self.resized(picture, new_width, new_height)?;
                // Half of what is over, rounded half to even, as torchvision's CenterCrop does.
                let half = |over: u32| over / 2 + (over % 4) / 3;
                let (left, top) = (half(new_width - width), half(new_height - height));
                Ok(imageops::crop_imm(&resized, left, top, width, height).to_image())
            }
        }
    }

    /// The picture in another size.
    fn resized(&self, picture: RgbaImage, width: u32, height: u32) -> Result<RgbaImage, PreprocessError> {
        let (across, down) = picture.dimensions();
        if (across, down) == (width, height) {
            return Ok(picture);
        }
        if u64::from(across.max(width)) * u64::from(height) > MAX_RESIZED {
            return Err(PreprocessError::Misfit(format!(
                "bringing a picture of {across} x {down} pixels to {width} x {height} takes too much memory; crop or \
                 shrink it first"
            )));
        }
        let alg = match self.filter {
            Filter::Nearest => ResizeAlg::Nearest,
            Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Filter::Lanczos3 => ResizeAlg::Convolution(FilterType::Lanczos3),
        };
        let failed = |error: &dyn std::fmt::Display| {
            PreprocessError::Misfit(format!(
                "a picture of {across} x {down} pixels can't be brought to {width} x {height}: {error}"
            ))
        };
        let bytes = scaled(picture.as_raw(), [across, down], [width, height], alg).map_err(|e| failed(&e))?;
        let resized = RgbaImage::from_raw(width, height, bytes);
        resized.ok_or_else(|| failed(&"it gave another size"))
    }
}

/// Pixels of a picture, brought from a width and height to others. Alpha is a channel like the others here.
///
/// Rows first and rounded, then columns, as Pillow does it: its bytes, but for one in some hundreds that is off by one.
fn scaled(
    pixels: &[u8],
    [across, down]: [u32; 2],
    [width, height]: [u32; 2],
    alg: ResizeAlg,
) -> Result<Vec<u8>, String> {
    let (mut resizer, options) = (Resizer::new(), ResizeOptions::new().resize_alg(alg).use_alpha(false));
    let from = TypedImageRef::<U8x4>::from_buffer(across, down, pixels).map_err(|error| error.to_string())?;
    let [mut rows, mut to] = [down, height].map(|height| Image::new(width, height, PixelType::U8x4));
    let misfit = || "its pixels are of another type".to_string();
    let mut between = rows.typed_image_mut::<U8x4>().ok_or_else(misfit)?;
    resizer.resize_typed(&from, &mut between, &options).map_err(|error| error.to_string())?;
    let mut last = to.typed_image_mut::<U8x4>().ok_or_else(misfit)?;
    resizer.resize_typed(&between, &mut last, &options).map_err(|error| error.to_string())?;
    Ok(to.into_vec())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::Rgb;

    use super::super::load_picture;
    use super::*;

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
    fn two_and_four_channels_end_with_alpha() {
        let pixel = image::Rgba([10, 20, 30, 40]);
        let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(4, 4, pixel));
        let values = |text: &str, channels| {
            let own = Preprocess::from_toml(text, "t").unwrap();
            own.apply(&clear, Layout::Nhwc, [1, 1], channels).unwrap().values.into_raw_vec_and_offset().0
        };
        assert_eq!(values("scale = 1.0", 4), [10.0, 20.0, 30.0, 40.0]);
        let own = "scale = 1.0\nchannels = \"BGR\"\nmean = [0.0, 0.0, 0.0, 20.0]\nstd = [1.0, 1.0, 1.0, 2.0]";
        assert_eq!(values(own, 4), [30.0, 20.0, 10.0, 10.0]);
        let [luma, alpha] = values("scale = 1.0\nmean = [0.0, 39.0]", 2)[..] else { panic!("two channels") };
        assert!((10.0..30.0).contains(&luma) && alpha == 1.0, "{luma} {alpha}");
        let first = Preprocess::named("imagenet").unwrap().apply(&clear, Layout::Nchw, [1, 1], 1).unwrap();
        assert!(first.values[(0, 0, 0)] < -0.485 / 0.3, "the first mean and std: {}", first.values);
    }

    #[test]
    fn misfits_say_what_is_expected() {
        let sized = Preprocess::from_toml("size = [64, 64]", "t").unwrap();
        let misfit = sized.apply(&picture(2, 2), Layout::Nchw, [32, 32], 3).unwrap_err().to_string();
        assert!(misfit.contains("makes [64, 64], but the model takes [32, 32]"), "{misfit}");
        let strict = Preprocess::from_toml("resize = \"none\"", "t").unwrap();
        assert!(strict.apply(&picture(5, 2), Layout::Nchw, [2, 2], 3).is_err());
        let apply = |text: &str, channels| {
            let own = Preprocess::from_toml(text, "t").unwrap();
            own.apply(&picture(2, 2), Layout::Nchw, [2, 2], channels).unwrap_err().to_string()
        };
        assert!(apply("", 4).contains("the picture has 3 without alpha"));
        assert!(apply("", 5).contains("takes 5 channels, expected 1 to 4"));
        let three = apply("mean = [0.1, 0.2, 0.3]", 1);
        assert!(three.contains("3 values of mean and std, but the model takes 1 channels"), "{three}");
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
        let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0])));
        let plain = Preprocess::from_toml("scale = 1.0", "t").unwrap();
        let values = plain.apply(&clear, Layout::Nhwc, [1, 1], 3).unwrap().values;
        assert_eq!(values.into_raw_vec_and_offset().0, [10.0, 20.0, 30.0]);
        let grey = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(1, 1, image::Luma([77])));
        let values = plain.apply(&grey, Layout::Nchw, [1, 1], 3).unwrap().values;
        assert_eq!(values.into_raw_vec_and_offset().0, [77.0; 3]);
    }
}
