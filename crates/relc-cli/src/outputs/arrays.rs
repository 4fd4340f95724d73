//! What is written of inputs that are no pictures: signals, tables, volumes.

use std::path::Path;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, RgbImage};
use ndarray::{Array2, ArrayD, ArrayView2, ArrayView3, Axis, Ix1, Ix2, Ix3};
use relc::files::{write_atomically, write_npy_f32};
use relc::input::{Frames, Origin};
use relc::report::PictureReport;
use relc_html::Picture;
use relc_viz::{
    BarChart, Drawing, FrameOverlays, Scale, SignalChart, Style, limits, significant, slices, with_color_bar,
};

use super::{BAR_DIGITS, OutFolder, write_png};
use crate::failure::Failure;
use crate::inputs::Sample;

/// How long a frame of a moving overlay lasts, in milliseconds.
const FRAME_MS: u32 = 150;
/// From 1, the best palettes, to 30, the quickest.
const GIF_SPEED: i32 = 10;

/// Where files of an explanation go.
pub struct Place<'a> {
    /// The folder of the input.
    pub folder: &'a Path,
    /// What tells several targets apart.
    pub suffix: &'a str,
}

impl Place<'_> {
    fn file(&self, name: &str, ending: &str) -> std::path::PathBuf {
        self.folder.join(format!("{name}{}.{ending}", self.suffix))
    }
}

impl OutFolder {
    /// Writes the relevance of an input that is no picture, and something to look at: of a signal (`channels` is their
    /// axis) its lines, of a table its columns, of a volume three slices, of a video its frames; says what the colours
    /// stand for. `map` is the sum over the channels.
    pub fn array(
        &self,
        place: &Place<'_>,
        sample: &Sample,
        channels: Option<usize>,
        relevance: &ArrayD<f32>,
        map: Option<&ArrayD<f32>>,
    ) -> Result<Option<PictureReport>, Failure> {
        if let Some(map) = map {
            write_npy_f32(&place.file("map", "npy"), map.view())?;
        }
        let names = names(sample);
        match (map.map(ArrayD::ndim), channels) {
            (Some(1), Some(axis)) => {
                write_npy_f32(&place.file("relevance", "npy"), relevance.view())?;
                write_drawing(place, "plot", &signal(sample, axis, relevance, &self.style)?)?;
                let relevance = rows(relevance, axis)?;
                write_columns(place, names, relevance.t())?;
                Ok(Some(self.colours(relevance.iter().copied())))
            }
            (Some(3), _) => self.volume(place, sample, channels, map).map(Some),
            _ => {
                write_npy_f32(&place.file("relevance", "npy"), relevance.view())?;
                let Some(chart) = table(sample, relevance, &self.style)? else { return Ok(None) };
                write_drawing(place, "bars", &chart)?;
                let relevance: Vec<f32> = relevance.iter().copied().collect();
                let row = ArrayView2::from_shape((1, relevance.len()), &relevance)?;
                write_columns(place, names, row)?;
                Ok(None)
            }
        }
    }

    /// Writes the slices of a volume, and its map beside the file that it came from.
    fn volume(
        &self,
        place: &Place<'_>,
        sample: &Sample,
        channels: Option<usize>,
        map: Option<&ArrayD<f32>>,
    ) -> Result<PictureReport, Failure> {
        let map = map.ok_or("a volume has a map")?.view().into_dimensionality::<Ix3>()?;
        if let Some(frames) = sample.frames() {
            return self.video(place, frames, map);
        }
        write_png(&place.file("slices", "png"), &volume(sample, channels, map, &self.style)?)?;
        if let Origin::Volume(volume, turned) = &sample.origin {
            let turn = if *turned { map.reversed_axes() } else { map };
            volume.write_map(turn.into_dyn(), &place.file("map", "nii"))?;
        }
        Ok(self.colours(map.iter().copied()))
    }

    /// Writes the overlays of a video, moving and on a sheet, in one scale of colours.
    fn video(
        &self,
        place: &Place<'_>,
        frames: &Frames,
        map: ArrayView3<'_, f32>,
    ) -> Result<PictureReport, Failure> {
        let drawn = FrameOverlays::new(map, &frames.pictures, self.style)?;
        let Scale { low, high, clipped } = drawn.scale();
        let mut gif = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut gif, GIF_SPEED);
        encoder.set_repeat(Repeat::Infinite)?;
        for overlay in drawn.overlays() {
            let buffer = DynamicImage::ImageRgb8(overlay).into_rgba8();
            encoder.encode_frame(Frame::from_parts(buffer, 0, 0, Delay::from_numer_denom_ms(FRAME_MS, 1)))?;
        }
        drop(encoder);
        write_atomically(&place.file("overlay", "gif"), |file| file.write_all(&gif))?;
        let sheet = drawn.sheet(&frames.report.chosen)?;
        let [first, last] = [low, high].map(|value| significant(f64::from(value), BAR_DIGITS));
        let with_bar = with_color_bar(&sheet, self.style.colormap, &first, &last);
        write_png(&place.file("sheet", "png"), with_bar.as_ref().unwrap_or(&sheet))?;
        let (colormap, percentile) = (self.style.colormap.to_string(), self.style.clip);
        Ok(PictureReport { colormap, percentile, low, high, clipped })
    }

    /// What the colours of some values stand for.
    fn colours(&self, values: impl Iterator<Item = f32>) -> PictureReport {
        let Scale { low, high, clipped } = limits(values, &self.style);
        PictureReport {
            colormap: self.style.colormap.to_string(),
            percentile: self.style.clip,
            low,
            high,
            clipped,
        }
    }
}

/// Something to look at of an input that is no picture, as [`OutFolder::array`] writes it; `None` of what can't be drawn.
pub fn drawing(
    sample: &Sample,
    channels: Option<usize>,
    relevance: &ArrayD<f32>,
    map: Option<&ArrayD<f32>>,
    style: &Style,
) -> Result<Option<Picture>, Failure> {
    let svg = |drawing: Drawing| Picture::Svg(drawing.svg);
    match (map, channels) {
        (Some(map), Some(axis)) if map.ndim() == 1 => {
            signal(sample, axis, relevance, style).map(svg).map(Some)
        }
        (Some(map), _) if map.ndim() == 3 => {
            let map = map.view().into_dimensionality::<Ix3>()?;
            let picture = match sample.frames() {
                Some(frames) => {
                    FrameOverlays::new(map, &frames.pictures, *style)?.sheet(&frames.report.chosen)?
                }
                None => volume(sample, channels, map, style)?,
            };
            Ok(Some(Picture::Pixels(picture)))
        }
        _ => Ok(table(sample, relevance, style)?.map(svg)),
    }
}

/// The names of a sample's columns.
fn names(sample: &Sample) -> &[String] {
    match &sample.origin {
        Origin::Columns(names) => names,
        _ => &[],
    }
}

/// The lines of a signal.
fn signal(sample: &Sample, axis: usize, relevance: &ArrayD<f32>, style: &Style) -> Result<Drawing, Failure> {
    let (values, relevance) = (rows(&sample.values, axis)?, rows(relevance, axis)?);
    let chart = SignalChart { values: values.view(), relevance: relevance.view(), names: names(sample) };
    Ok(chart.draw(style)?)
}

/// The columns of a row; `None` of what is no row.
fn table(sample: &Sample, relevance: &ArrayD<f32>, style: &Style) -> Result<Option<Drawing>, Failure> {
    let rows = [&sample.values, relevance].map(|array| array.view().into_dimensionality::<Ix1>());
    let [Ok(values), Ok(relevance)] = rows else { return Ok(None) };
    let (values, relevance) = (values.to_vec(), relevance.to_vec());
    let chart = BarChart { values: &values, relevance: &relevance, names: names(sample) };
    Ok(Some(chart.draw(style)?))
}

/// Three slices of a volume.
fn volume(
    sample: &Sample,
    channels: Option<usize>,
    map: ArrayView3<'_, f32>,
    style: &Style,
) -> Result<RgbImage, Failure> {
    // Under the slices of one channel lies that; several are no shades of grey.
    let one = channels.filter(|axis| sample.values.shape().get(*axis) == Some(&1));
    let values = one.map(|axis| sample.values.index_axis(Axis(axis), 0).into_dimensionality::<Ix3>());
    Ok(slices(map, values.transpose()?, style)?)
}

/// A signal as `f32[C,L]`.
fn rows(signal: &ArrayD<f32>, channels: usize) -> Result<Array2<f32>, Failure> {
    let signal = signal.view().into_dimensionality::<Ix2>()?;
    let signal = if channels == 1 { signal.reversed_axes() } else { signal };
    Ok(signal.as_standard_layout().into_owned())
}

fn write_drawing(place: &Place<'_>, name: &str, drawing: &Drawing) -> Result<(), Failure> {
    write_png(&place.file(name, "png"), &drawing.picture)?;
    write_atomically(&place.file(name, "svg"), |file| file.write_all(drawing.svg.as_bytes()))?;
    Ok(())
}

/// Writes rows of numbers as CSV, under the names of the columns or their numbers.
fn write_columns(place: &Place<'_>, names: &[String], rows: ArrayView2<'_, f32>) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let name = |column: usize| names.get(column).cloned().unwrap_or_else(|| column.to_string());
    writer.write_record((0..rows.ncols()).map(name))?;
    for row in rows.rows() {
        writer.write_record(row.iter().map(f32::to_string))?;
    }
    let text = writer.into_inner().map_err(|e| e.to_string())?;
    write_atomically(&place.file("relevance", "csv"), |file| file.write_all(&text))?;
    Ok(())
}
