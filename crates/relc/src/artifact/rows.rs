//! Arrays with a row for each sample, written as the samples come: memory holds one row of each.

use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ndarray::ArrayViewD;
use npyz::WriterBuilder;

use super::{ArtifactError, Draft};

/// The part of a file that holds one array.
#[derive(Debug)]
struct Region {
    start: u64,
    /// The shape of a row.
    row: Vec<usize>,
}

impl Region {
    fn row_bytes(&self) -> u64 {
        self.row.iter().map(|d| *d as u64).product::<u64>() * size_of::<f32>() as u64
    }
}

/// Regions of a file, one behind the other, with places for all samples.
#[derive(Debug)]
struct Regions {
    regions: Vec<Region>,
    /// For each sample, whether its rows are there.
    written: Vec<bool>,
}

impl Regions {
    fn new(start: u64, samples: usize, rows: &[ArrayViewD<'_, f32>]) -> Regions {
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
    fn put(&mut self, draft: &mut Draft, sample: usize, rows: &[ArrayViewD<'_, f32>]) -> io::Result<()> {
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
    fn fill(&mut self, draft: &mut Draft) -> io::Result<()> {
        let missing: Vec<usize> = (0..self.written.len()).filter(|i| !self.written[*i]).collect();
        let rows: Vec<_> =
            self.regions.iter().map(|r| ndarray::ArrayD::from_elem(r.row.clone(), f32::NAN)).collect();
        let rows: Vec<_> = rows.iter().map(|r| r.view()).collect();
        missing.into_iter().try_for_each(|sample| self.put(draft, sample, &rows))
    }
}

/// The header of an `.npy` of f32, little-endian in C order.
fn npy_header(shape: &[usize]) -> io::Result<Vec<u8>> {
    let shape: Vec<u64> = shape.iter().map(|d| *d as u64).collect();
    let header = npyz::WriteOptions::new_header_only()
        .dtype(npyz::DType::Plain("<f4".parse().map_err(|e| io::Error::other(format!("{e}")))?));
    header.shape(&shape).writer(Vec::new()).write_header_only()
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
    pub fn create(path: &Path, samples: usize) -> Result<NpyRows, ArtifactError> {
        Ok(NpyRows { draft: Draft::create(path)?, samples, regions: None })
    }

    /// Writes the rows of a sample, one of each target.
    ///
    /// # Errors
    /// If writing fails, or the rows have other shapes than those before.
    pub fn put(&mut self, sample: usize, rows: &[ArrayViewD<'_, f32>]) -> Result<(), ArtifactError> {
        let mut attempt = || {
            if self.regions.is_none() {
                let several = (rows.len() > 1).then_some(rows.len());
                let row = rows.first().map_or(&[][..], |r| r.shape());
                let shape: Vec<usize> =
                    several.into_iter().chain([self.samples]).chain(row.iter().copied()).collect();
                let header = npy_header(&shape)?;
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
    pub fn finish(mut self) -> Result<(), ArtifactError> {
        let Some(mut regions) = self.regions.take() else { return Ok(()) };
        regions.fill(&mut self.draft).map_err(|e| self.draft.failed(e))?;
        self.draft.finish()
    }
}

/// An `.npz` of named arrays of f32, each with a row for each sample.
#[derive(Debug)]
pub struct NpzRows {
    /// Where the archive comes to lie.
    draft: Draft,
    /// The arrays one behind the other, until all samples are there.
    spool: Draft,
    samples: usize,
    names: Vec<String>,
    regions: Option<Regions>,
}

impl NpzRows {
    /// Begins a file for so many samples.
    ///
    /// # Errors
    /// If it can't be written to.
    pub fn create(path: &Path, samples: usize) -> Result<NpzRows, ArtifactError> {
        let (draft, spool) = (Draft::create(path)?, Draft::create(path)?);
        Ok(NpzRows { draft, spool, samples, names: Vec::new(), regions: None })
    }

    /// Writes the rows of a sample, one of each array; arrays of one name get numbers.
    ///
    /// # Errors
    /// If writing fails, or the rows have other shapes than those before.
    pub fn put(&mut self, sample: usize, rows: &[(&str, ArrayViewD<'_, f32>)]) -> Result<(), ArtifactError> {
        let views: Vec<_> = rows.iter().map(|(_, row)| row.view()).collect();
        if self.regions.is_none() {
            for (name, _) in rows {
                let taken = |text: &String| self.names.contains(text);
                let numbered = (2..).map(|i| format!("{name}-{i}"));
                let free = std::iter::once(name.to_string()).chain(numbered).find(|text| !taken(text));
                self.names.extend(free);
            }
        }
        let samples = self.samples;
        let regions = self.regions.get_or_insert_with(|| Regions::new(0, samples, &views));
        regions.put(&mut self.spool, sample, &views).map_err(|e| self.spool.failed(e))
    }

    /// Ends the file; samples without rows get rows of NaN. If there was none with rows, there is no file.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<(), ArtifactError> {
        let Some(mut regions) = self.regions.take() else { return Ok(()) };
        let mut attempt = || {
            regions.fill(&mut self.spool)?;
            let mut archive = npyz::npz::NpzWriter::new(BufWriter::new(self.draft.file()));
            for (name, region) in self.names.iter().zip(&regions.regions) {
                let bytes = region.row_bytes() * self.samples as u64;
                let options =
                    npyz::zip::write::FileOptions::default().large_file(bytes >= u64::from(u32::MAX) - 1024);
                let zip = archive.zip_writer();
                zip.start_file(npyz::npz::file_name_from_array_name(name), options)?;
                let shape: Vec<usize> =
                    [self.samples].into_iter().chain(region.row.iter().copied()).collect();
                zip.write_all(&npy_header(&shape)?)?;
                self.spool.file().seek(SeekFrom::Start(region.start))?;
                io::copy(&mut self.spool.file().take(bytes), zip)?;
            }
            archive.zip_writer().finish()?.flush()
        };
        attempt().map_err(|e| self.draft.failed(e))?;
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
        NpzRows::create(&path, 2).unwrap().finish().unwrap();
        let mut half = NpzRows::create(&path, 2).unwrap();
        half.put(0, &[("a", row([1.0, 2.0]).view())]).unwrap();
        drop(half);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn archives_hold_every_array_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npz");
        let mut rows = NpzRows::create(&path, 2).unwrap();
        let (long, short) = (row([1.0, 2.0]), array![7.0f32].into_dyn());
        for sample in 0..2 {
            let views = [("a", long.view()), ("/b", short.view()), ("a", short.view())];
            rows.put(sample, &views).unwrap();
        }
        rows.finish().unwrap();
        let mut archive = npyz::npz::NpzArchive::open(&path).unwrap();
        let names: Vec<String> = archive.array_names().map(str::to_string).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let mut read = |name: &str| {
            let array = archive.by_name(name).unwrap().unwrap();
            (array.shape().to_vec(), array.into_vec::<f32>().unwrap())
        };
        assert_eq!(read("a"), (vec![2, 2], vec![1.0, 2.0, 1.0, 2.0]));
        assert_eq!(read("/b"), (vec![2, 1], vec![7.0, 7.0]));
        assert_eq!(read("a-2"), (vec![2, 1], vec![7.0, 7.0]));
    }
}
