//! The files that a run writes besides its report: the folders of the inputs, and arrays of all inputs.

use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::Explanations;
use relc::files::{NpyRows, NpzRows, check_writable};
use relc::report::SampleReport;
use relc_viz::Style;

use super::rows::ParquetRows;
use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::outputs::OutFolder;

/// What is written while a run lasts. Arrays appear when it is over.
pub struct Files {
    /// The folder of the inputs' folders.
    pub out: Option<OutFolder>,
    relevance: Option<NpyRows>,
    maps: Option<NpyRows>,
    taps: Option<NpzRows>,
    rows: Option<ParquetRows>,
}

impl Files {
    /// Begins the files that are asked for, for so many samples; one that can't be written fails now rather than after
    /// an hour's work.
    pub fn create(args: &ExplainArgs, samples: usize, style: Style) -> Result<Files, Failure> {
        let rows =
            |path: &Option<_>| path.as_deref().map(|path: &Path| NpyRows::create(path, samples)).transpose();
        if let Some(json) = args.json.as_deref().filter(|path| *path != Path::new("-")) {
            check_writable(json)?;
        }
        Ok(Files {
            relevance: rows(&args.relevance_npy)?,
            maps: rows(&args.map_npy)?,
            taps: args.tap.as_ref().map(|_| NpzRows::create(&args.tap_npz, samples)).transpose()?,
            rows: args.parquet.as_deref().map(ParquetRows::create).transpose()?,
            out: args.out.as_deref().map(|dir| OutFolder::create(dir, style)).transpose()?,
        })
    }

    /// Writes what sample `index` of a batch gave as the run's sample `place`.
    pub fn put(
        &mut self,
        place: usize,
        index: usize,
        result: &Explanations,
        report: &SampleReport,
        taps: &[(String, ArrayD<f32>)],
    ) -> Result<(), Failure> {
        if let Some(rows) = &mut self.rows {
            rows.put(index, result, report)?;
        }
        if let Some(file) = &mut self.relevance {
            let rows: Vec<ArrayViewD<'_, f32>> =
                result.explanations.iter().map(|e| e.relevance.index_axis(Axis(0), index)).collect();
            file.put(place, &rows)?;
        }
        if let Some(file) = &mut self.maps {
            let maps = result.explanations.iter().map(|e| e.map.as_ref());
            let maps: Option<Vec<ArrayViewD<'_, f32>>> =
                maps.map(|map| Some(map?.index_axis(Axis(0), index).into_dyn())).collect();
            let maps = maps.ok_or("--map-npy: the model's input has no spatial axes, so there is no map")?;
            file.put(place, &maps)?;
        }
        if let Some(file) = &mut self.taps {
            let rows: Vec<_> =
                taps.iter().map(|(name, rows)| (name.as_str(), rows.index_axis(Axis(0), index))).collect();
            file.put(place, &rows)?;
        }
        Ok(())
    }

    /// Books an input that could not be explained.
    pub fn fail(&mut self, input: &str, error: &str) -> Result<(), Failure> {
        self.rows.as_mut().map_or(Ok(()), |rows| rows.fail(input, error))
    }

    /// Ends the arrays; samples that failed have rows of NaN in them.
    pub fn finish(self) -> Result<(), Failure> {
        for file in [self.relevance, self.maps].into_iter().flatten() {
            file.finish()?;
        }
        self.rows.map_or(Ok(()), ParquetRows::finish)?;
        Ok(self.taps.map_or(Ok(()), NpzRows::finish)?)
    }
}
