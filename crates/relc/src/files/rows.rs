//! Arrays with a row for each sample, written as the samples come: memory holds one row of each.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use ndarray::ArrayViewD;

use super::{Draft, FileError, header};

/// The part of a file that holds one array.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) start: u64,
    /// The shape of a row.
    pub(super) row: Vec<usize>,
}

impl Region {
    pub(super) fn row_bytes(&self) -> u64 {
        self.row.iter().map(|d| *d as u64).product::<u64>() * size_of::<f32>() as u64
    }
}

/// Regions of a file, one behind the other, with places for all samples.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) regions: Vec<Region>,
    /// For each sample, whether its rows are there.
    written: Vec<bool>,
}

impl Regions {
    pub(super) fn new(start: u64, samples: usize, rows: &[ArrayViewD<'_, f32>]) -> Regions {
        let mut regions: Vec<Region> = Vec::new();
        let mut end = start;
        for row in rows {
            let region = Region { start: end, row: row.shape().to_vec() };
            end += region.row_bytes() * samples as u64;
            regions.push(region);
        }
        Regions { regions, written: vec![false; samples] }
    }

    /// Writes the rows of a sample, one into each region.
    pub(super) fn put(
        &mut self,
        draft: &mut Draft,
        sample: usize,
        rows: &[ArrayViewD<'_, f32>],
    ) -> io::Result<()> {
        let fits = rows.len() == self.regions.len()
            && rows.iter().zip(&self.regions).all(|(row, region)| row.shape() == region.row);
        let place = self.written.get_mut(sample).filter(|_| fits);
        *place.ok_or_else(|| io::Error::other("a sample's rows have other shapes than those before"))? = true;
        for (row, region) in rows.iter().zip(&self.regions) {
            let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            draft.file().seek(SeekFrom::Start(region.start + region.row_bytes() * sample as u64))?;
            draft.file().write_all(&bytes)?;
        }
        Ok(())
    }

    /// Gives the samples that failed rows of NaN, so that the others keep their places.
    pub(super) fn fill(&mut self, draft: &mut Draft) -> io::Result<()> {
        let missing: Vec<usize> = (0..self.written.len()).filter(|i| !self.written[*i]).collect();
        let rows: Vec<_> =
            self.regions.iter().map(|r| ndarray::ArrayD::from_elem(r.row.clone(), f32::NAN)).collect();
        let rows: Vec<_> = rows.iter().map(|r| r.view()).collect();
        missing.into_iter().try_for_each(|sample| self.put(draft, sample, &rows))
    }
}

/// An `.npy` of f32 with a row for each sample: `[samples, ..]`, and with several targets `[targets, samples, ..]`.
#[derive(Debug)]
pub struct NpyRows {
    draft: Draft,
    samples: usize,
    regions: Option<Regions>,
}

impl NpyRows {
    /// Begins a file for so many samples.
    ///
    /// # Errors
    /// If it can't be written to.
    pub fn create(path: &Path, samples: usize) -> Result<NpyRows, FileError> {
        Ok(NpyRows { draft: Draft::create(path)?, samples, regions: None })
    }

    /// Writes the rows of a sample, one of each target.
    ///
    /// # Errors
    /// If writing fails, or the rows have other shapes than those before.
    pub fn put(&mut self, sample: usize, rows: &[ArrayViewD<'_, f32>]) -> Result<(), FileError> {
        let mut attempt = || {
            if self.regions.is_none() {
                let several = (rows.len() > 1).then_some(rows.len());
                let row = rows.first().map_or(&[][..], |r| r.shape());
                let shape: Vec<usize> =
                    several.into_iter().chain([self.samples]).chain(row.iter().copied()).collect();
                let header = header::of_f32(&shape)?;
                self.draft.file().write_all(&header)?;
                self.regions = Some(Regions::new(header.len() as u64, self.samples, rows));
            }
            match &mut self.regions {
                Some(regions) => regions.put(&mut self.draft, sample, rows),
                None => Ok(()),
            }
        };
        attempt().map_err(|e| self.draft.failed(e))
    }

    /// Ends the file; samples without rows get rows of NaN. If there was none with rows, there is no file.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<(), FileError> {
        let Some(mut regions) = self.regions.take() else { return Ok(()) };
        regions.fill(&mut self.draft).map_err(|e| self.draft.failed(e))?;
        self.draft.finish()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, array};

    use super::super::read_npy_f32;
    use super::*;

    fn row(values: [f32; 2]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(vec![2], values.to_vec()).unwrap()
    }

    #[test]
    fn rows_come_in_any_order_and_what_is_missing_is_nan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.npy");
        let mut one = NpyRows::create(&path, 2).unwrap();
        one.put(1, &[row([3.0, 4.0]).view()]).unwrap();
        one.put(0, &[row([1.0, 2.0]).view()]).unwrap();
        assert!(one.put(0, &[array![1.0f32].into_dyn().view()]).is_err());
        one.finish().unwrap();
        assert_eq!(read_npy_f32(&path).unwrap(), array![[1.0, 2.0], [3.0, 4.0]].into_dyn());

        let mut two = NpyRows::create(&path, 2).unwrap();
        for (sample, at) in [(0, 0.0), (1, 10.0)] {
            two.put(sample, &[row([at, at + 1.0]).view(), row([at + 2.0, at + 3.0]).view()]).unwrap();
        }
        two.finish().unwrap();
        let wanted = array![[[0.0, 1.0], [10.0, 11.0]], [[2.0, 3.0], [12.0, 13.0]]];
        assert_eq!(read_npy_f32(&path).unwrap(), wanted.into_dyn());

        let mut holes = NpyRows::create(&path, 2).unwrap();
        holes.put(1, &[row([3.0, 4.0]).view()]).unwrap();
        holes.finish().unwrap();
        let error = read_npy_f32(&path).unwrap_err().to_string();
        assert!(error.contains("element [0, 0] is NaN"), "{error}");
    }

    #[test]
    fn a_file_without_rows_and_one_that_is_not_finished_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.npy");
        NpyRows::create(&path, 2).unwrap().finish().unwrap();
        let mut half = NpyRows::create(&path, 2).unwrap();
        half.put(0, &[row([1.0, 2.0]).view()]).unwrap();
        drop(half);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
