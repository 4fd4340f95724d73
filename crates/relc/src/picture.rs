//! Picture files.

use std::io::Cursor;
use std::path::Path;

use image::error::DecodingError;
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits,
    RgbImage,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::preprocess::{MAX_SIDE, PreprocessError};
use crate::read;

/// The most memory that reading a picture may take: 1 GiB for the largest picture that is allowed, and no more.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a picture, upright as its EXIF orientation says.
///
/// # Errors
/// If the file can't be read, is no picture or a damaged one, or has more than 16384 pixels each way.
pub fn load_picture(path: &Path) -> Result<DynamicImage, PreprocessError> {
    let bytes = read::bytes(path, read::PICTURE)?;
    decode(&bytes, path)
        .map_err(|source| PreprocessError::Picture { path: path.to_path_buf(), source: source.into() })
}

/// What the decoders may take.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

/// The picture in the bytes of a file; its name tells the format only where they don't.
fn decode(bytes: &[u8], path: &Path) -> ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format().is_none()
        && let Ok(format) = ImageFormat::from_path(path)
    {
        reader.set_format(format);
    }
    if reader.format() == Some(ImageFormat::Jpeg) {
        return decode_jpeg(bytes);
    }
    reader.limits(limits());
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The `image` crate's own way with JPEGs makes up what is missing or damaged; this one refuses it.
fn decode_jpeg(bytes: &[u8]) -> ImageResult<DynamicImage> {
    let damaged = |why: &str| -> ImageError {
        ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), why.to_string()))
    };
    // Headers are read as others read them, who mind no odd bytes between them.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| damaged(&e.to_string()))?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let space = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(decoder.options().set_strict_mode(true).jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|e| damaged(&e.to_string()))?;
    if !reaches_its_end(bytes) {
        return Err(damaged("the file ends before the picture does"));
    }
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    let mut image = image.ok_or_else(|| damaged("it has fewer pixels than its header says"))?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

/// Whether a JPEG's segments and scans lead to its end marker. What comes behind that is nobody's business.
fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            [0xff, 0xd9] => return true,
            // Within a scan: a byte 255, fill, a restart; or a marker that stands alone.
            [0xff, 0x00 | 0x01 | 0xd0..=0xd8] => at += 2,
            [0xff, 0xff] => at += 1,
            [0xff, _] => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn picture(w: u32, h: u32) -> DynamicImage {
        let texture = |x: u32, y: u32, k: u32| (k * (x * x + 3 * y) % 251) as u8;
        DynamicImage::ImageRgb8(RgbImage::from_fn(w, h, |x, y| {
            Rgb([texture(x, y, 1), texture(x, y, 2), texture(y, x, 3)])
        }))
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn load(name: &str, bytes: &[u8]) -> Result<DynamicImage, PreprocessError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        load_picture(&path)
    }

    #[test]
    fn pictures_that_are_none_or_too_large_are_named() {
        let message = |bytes: &[u8]| {
            let error = load("p.png", bytes).unwrap_err();
            assert!(error.to_string().contains("p.png"), "{error}");
            std::error::Error::source(&error).unwrap().to_string().to_lowercase()
        };
        message(b"no picture");
        let mut bmp = encoded(&picture(4, 4), ImageFormat::Bmp);
        message(&bmp[..60]);
        bmp[18..22].copy_from_slice(&(MAX_SIDE + 1).to_le_bytes());
        assert!(message(&bmp).contains("limit"));
    }

    #[test]
    fn whole_jpegs_are_read_as_the_image_crate_reads_them() {
        for picture in [picture(61, 43), DynamicImage::ImageLuma8(picture(33, 70).to_luma8())] {
            let mut jpeg = encoded(&picture, ImageFormat::Jpeg);
            assert_eq!(load("p.jpg", &jpeg).unwrap(), image::load_from_memory(&jpeg).unwrap());
            // Some cameras leave something behind the end.
            jpeg.extend([0, 0, 1, 2, 3]);
            assert!(load("p", &jpeg).is_ok());
        }
    }

    #[test]
    fn an_exif_orientation_turns_a_jpeg() {
        let jpeg = encoded(&picture(16, 8), ImageFormat::Jpeg);
        let tiff =
            [b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".as_slice()].concat();
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend((tiff.len() as u16 + 2).to_be_bytes());
        turned.extend(tiff);
        turned.extend(&jpeg[2..]);
        assert_eq!(load("p.jpg", &turned).unwrap(), load("p.jpg", &jpeg).unwrap().rotate90());
    }

    /// However little is missing, it is missing.
    #[test]
    fn pictures_that_are_cut_short_are_refused() {
        let picture = picture(96, 96);
        for format in
            [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp]
        {
            let bytes = encoded(&picture, format);
            for kept in [bytes.len() / 8, bytes.len() / 2, bytes.len() * 9 / 10] {
                assert!(load("p", &bytes[..kept]).is_err(), "{format:?}: {kept} of {}", bytes.len());
            }
        }
        let jpeg = encoded(&picture, ImageFormat::Jpeg);
        for missing in (1..60).chain([100, 200, 400]) {
            let error = load("p.jpg", &jpeg[..jpeg.len() - missing]).unwrap_err();
            assert!(error.to_string().contains("p.jpg"), "{missing}: {error}");
        }
    }

    #[test]
    fn damaged_jpegs_and_pngs_are_refused() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let mut bytes = encoded(&picture(96, 96), format);
            let middle = bytes.len() / 2;
            for (i, byte) in bytes[middle..middle + 200].iter_mut().enumerate() {
                *byte = ((usize::from(*byte)) * 7 + 13 * i) as u8;
            }
            assert!(load("p", &bytes).is_err(), "{format:?}");
        }
    }
}
