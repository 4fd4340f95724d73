//! Pictures to inputs, and maps to pictures.

use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use numpy::{PyArray, PyArray3, PyArrayDyn, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use relc_viz::{ColorMap, Style};

use crate::error::raise;
use crate::explainer::Explainer;

/// What a network expects of a picture.
#[pyclass(frozen, module = "relc._relc")]
pub struct Preprocess {
    pub inner: relc::preprocess::Preprocess,
}

#[pymethods]
impl Preprocess {
    /// `imagenet`, `cifar10`, `none`, or a `.toml` file.
    #[staticmethod]
    fn load(name: &str) -> PyResult<Preprocess> {
        Ok(Preprocess { inner: relc::preprocess::Preprocess::load(name).map_err(raise)? })
    }

    /// From the text of such a file.
    #[staticmethod]
    fn from_toml(text: &str) -> PyResult<Preprocess> {
        let inner = relc::preprocess::Preprocess::from_toml(text, "the preprocessing").map_err(raise)?;
        Ok(Preprocess { inner })
    }

    /// A picture of bytes `u8[H,W,3]`, or with alpha `u8[H,W,4]`, as the explainer's model takes it, without the batch.
    fn of_array<'py>(
        &self,
        py: Python<'py>,
        picture: PyReadonlyArray3<'_, u8>,
        explainer: &Explainer,
    ) -> PyResult<Bound<'py, PyArray3<f32>>> {
        let picture = picture.as_array();
        let (height, width, channels) = picture.dim();
        let sides = (u32::try_from(width), u32::try_from(height));
        let (3 | 4, (Ok(w), Ok(h))) = (channels, sides) else {
            let got = picture.shape();
            return Err(raise(format!("got a picture of shape {got:?}, expected [H, W, 3] or [H, W, 4]")));
        };
        let bytes = picture.iter().copied().collect();
        let picture = match channels {
            3 => RgbImage::from_raw(w, h, bytes).map(DynamicImage::ImageRgb8),
            _ => RgbaImage::from_raw(w, h, bytes).map(DynamicImage::ImageRgba8),
        };
        let picture = picture.ok_or_else(|| raise("the picture is too large"))?;
        py.detach(|| self.inner.prepare(&picture, &explainer.inner))
            .map(|prepared| PyArray::from_owned_array(py, prepared.values))
            .map_err(raise)
    }

    fn __repr__(&self) -> String {
        format!("Preprocess({})", self.inner)
    }
}

/// All samples of a file as the explainer's model takes them, with the batch: an array, columns, a volume, or, with a
/// preprocessing, a picture or a video. `None` if one is wanted and there is none.
#[pyfunction]
pub fn read<'py>(
    py: Python<'py>,
    path: PathBuf,
    explainer: &Explainer,
    preprocess: Option<&Preprocess>,
) -> PyResult<Option<Bound<'py, PyArrayDyn<f32>>>> {
    let preprocess = preprocess.map(|p| &p.inner);
    let batch = py.detach(|| relc::input::batch(&path, &explainer.inner, preprocess)).map_err(raise)?;
    Ok(batch.map(|batch| PyArray::from_owned_array(py, batch)))
}

/// Draws a map `f32[H,W]` as a PNG.
#[pyfunction]
#[pyo3(signature = (map, colormap, min_side))]
pub fn heat_png<'py>(
    py: Python<'py>,
    map: PyReadonlyArray2<'_, f32>,
    colormap: &str,
    min_side: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    let colormap: ColorMap = colormap.parse().map_err(raise)?;
    let style = Style { min_side, ..Style::new(colormap) };
    let picture = relc_viz::heat_map(map.as_array(), &style).map_err(raise)?;
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(raise)?;
    Ok(PyBytes::new(py, png.get_ref()))
}
