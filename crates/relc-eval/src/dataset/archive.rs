//! `.npz` archives.

use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, GrayImage, RgbImage};
use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::files::{NpzArray, NpzFile};

use super::{Item, Source, malformed};
use crate::error::EvalError;

/// Opens an archive; its arrays are read at once.
pub fn open(path: &Path) -> Result<Vec<Item>, EvalError> {
    let mut archive = NpzFile::open(path)?;
    let NpzArray { values: images, is_bytes } = archive.read("images")?.ok_or_else(|| {
        let names: Vec<String> = archive.names().collect();
        malformed(
            path,
            format!("holds the arrays {names:?}, expected \"images\" (and \"labels\", \"masks\")"),
        )
    })?;
    let count = images.shape().first().copied().unwrap_or(0);
    let labels = archive.read("labels")?.map(|array| array.values);
    let masks = archive.read("masks")?.map(|array| Arc::new(array.values));
    if let Some(labels) = labels.as_ref().filter(|l| l.shape() != [count]) {
        let message = format!("the labels have the shape {:?}, expected [{count}]", labels.shape());
        return Err(malformed(path, message));
    }
    if let Some(masks) = masks.as_ref().filter(|m| m.ndim() != 3 || m.shape()[0] != count) {
        let message = format!("the masks have the shape {:?}, expected [{count}, H, W]", masks.shape());
        return Err(malformed(path, message));
    }
    let images = Arc::new(images);
    if is_bytes && count > 0 {
        picture(&images, 0)?;
    }
    let item = |row: usize| {
        let label = match labels.as_ref().and_then(|l| l.get([row].as_slice())) {
            Some(v) if *v < 0.0 || v.fract() != 0.0 => {
                return Err(malformed(
                    path,
                    format!("the label of image {row} is {v}, expected an output's index"),
                ));
            }
            label => label.map(|v| *v as usize),
        };
        let source = if is_bytes { Source::Bytes } else { Source::Row };
        let mask = masks.as_ref().map(|m| Source::Row(m.clone(), row));
        Ok(Item { name: format!("images[{row}]"), label, image: source(images.clone(), row), mask })
    };
    (0..count).map(item).collect()
}

/// A picture of bytes.
pub fn picture(images: &ArrayD<f32>, row: usize) -> Result<DynamicImage, EvalError> {
    let one = images.index_axis(Axis(0), row);
    let wrong = || {
        let message = format!(
            "got images of shape {:?}, expected [N, H, W, 3], [N, 3, H, W] or [N, H, W] of bytes",
            images.shape()
        );
        malformed(Path::new("images"), message)
    };
    match *one.shape() {
        [h, w] => grey(one, h, w).ok_or_else(wrong),
        [h, w, 1] => grey(one.index_axis(Axis(2), 0), h, w).ok_or_else(wrong),
        [1, h, w] => grey(one.index_axis(Axis(0), 0), h, w).ok_or_else(wrong),
        [h, w, 3] => colour(one, h, w).ok_or_else(wrong),
        [3, h, w] => colour(one.permuted_axes(vec![1, 2, 0]), h, w).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn bytes(values: ArrayViewD<'_, f32>) -> Vec<u8> {
    values.iter().map(|v| *v as u8).collect()
}

fn grey(values: ArrayViewD<'_, f32>, h: usize, w: usize) -> Option<DynamicImage> {
    GrayImage::from_raw(w.try_into().ok()?, h.try_into().ok()?, bytes(values)).map(DynamicImage::ImageLuma8)
}

fn colour(values: ArrayViewD<'_, f32>, h: usize, w: usize) -> Option<DynamicImage> {
    RgbImage::from_raw(w.try_into().ok()?, h.try_into().ok()?, bytes(values)).map(DynamicImage::ImageRgb8)
}

/// A mask: white where the array is not 0.
pub fn mask(masks: &ArrayD<f32>, row: usize) -> Result<DynamicImage, EvalError> {
    let one = masks.index_axis(Axis(0), row).mapv(|v| if v == 0.0 { 0.0 } else { 255.0 });
    let [h, w] = *one.shape() else { return Err(malformed(Path::new("masks"), "expected [N, H, W]")) };
    grey(one.view(), h, w).ok_or_else(|| malformed(Path::new("masks"), "has too many pixels"))
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Dataset, DatasetOptions};
    use relc_tests::npz::NpzWriter;
    use std::path::Path;

    /// A shape and values.
    type Of<'a, T> = (&'a [usize], Vec<T>);

    fn write(path: &Path, images: Result<Of<'_, u8>, Of<'_, f32>>, labels: &[i64]) {
        let mut archive = NpzWriter::create(path);
        match images {
            Ok((shape, values)) => archive.put("images", shape, values),
            Err((shape, values)) => archive.put("images", shape, values),
        }
        archive.put("labels", &[labels.len()], labels.iter().copied());
        archive.finish();
    }

    fn open(path: &Path) -> Result<Dataset, crate::EvalError> {
        Dataset::open(path, &DatasetOptions::default())
    }

    #[test]
    fn bytes_are_pictures_in_either_layout_and_floats_are_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let bytes: Vec<u8> = (0..24).collect();
        write(&path, Ok((&[1, 2, 4, 3], bytes.clone())), &[7]);
        let dataset = open(&path).unwrap();
        assert_eq!((dataset.items[0].name.as_str(), dataset.items[0].label), ("images[0]", Some(7)));
        let Content::Picture(picture) = dataset.items[0].content().unwrap() else { panic!("a picture") };
        assert_eq!(picture.to_rgb8().get_pixel(1, 1).0, [15, 16, 17]);
        write(&path, Ok((&[1, 3, 2, 4], bytes)), &[7]);
        let Content::Picture(picture) = open(&path).unwrap().items[0].content().unwrap() else { panic!() };
        assert_eq!(picture.to_rgb8().get_pixel(1, 1).0, [5, 13, 21]);
        write(&path, Err((&[2, 3, 1, 1], vec![-1.5; 6])), &[0, 1]);
        let Content::Input(input) = open(&path).unwrap().items[1].content().unwrap() else {
            panic!("an input")
        };
        assert_eq!(input.shape(), [3, 1, 1]);
    }

    #[test]
    fn archives_that_are_none_or_do_not_fit_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        std::fs::write(&path, b"no archive").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("a.npz"));
        let check = |shape: &[usize], labels: &[i64], says: &str| {
            write(&path, Ok((shape, vec![0; shape.iter().product()])), labels);
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        check(&[2, 2, 2, 3], &[1], "the labels have the shape [1], expected [2]");
        check(&[1, 2, 2, 5], &[1], "expected [N, H, W, 3]");
        check(&[1, 2, 2, 3], &[-1], "the label of image 0 is -1");
        check(&[0, 2, 2, 3], &[], "holds no pictures");
    }
}
