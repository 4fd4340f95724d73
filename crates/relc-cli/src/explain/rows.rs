//! `--parquet`: a row for each input and target, as data sets on a cluster have them (`relc.ray` writes the same).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use relc::Explanations;
use relc::files::Draft;
use relc::report::SampleReport;

use crate::failure::Failure;

/// `map` is row-major, of the shape `map_shape`; what an input that failed, or a method, does not have is null.
const SCHEMA: &str = "
message explanations {
  required binary input (STRING);
  optional binary error (STRING);
  optional int64 prediction;
  optional int64 target;
  optional double logit;
  optional double seed_sum;
  optional double relevance_sum;
  optional double conservation_error;
  optional group map_shape (LIST) { repeated group list { required int64 element; } }
  optional group map (LIST) { repeated group list { required float element; } }
  optional group warnings (LIST) { repeated group list { required binary element (STRING); } }
}";

/// Rows of a row group, unless their maps are large.
const GROUP_ROWS: usize = 1024;
/// Values of the maps of a row group at most, but for the last of them.
const GROUP_VALUES: usize = 16 << 20;

/// Values of a column with their levels, as Parquet has them.
struct Column<T: DataType> {
    values: Vec<T::T>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T: DataType> Default for Column<T> {
    fn default() -> Self {
        Column { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() }
    }
}

impl<T: DataType> Column<T> {
    fn push(&mut self, value: Option<T::T>) {
        self.definitions.push(value.is_some().into());
        self.values.extend(value);
    }

    fn push_list(&mut self, list: Option<impl IntoIterator<Item = T::T>>) {
        let (known, first) = (list.is_some(), self.values.len());
        self.values.extend(list.into_iter().flatten());
        match self.values.len() - first {
            0 => {
                self.definitions.push(known.into());
                self.repetitions.push(0);
            }
            count => {
                self.definitions.extend(std::iter::repeat_n(2, count));
                self.repetitions.extend((0..count).map(|at| i16::from(at > 0)));
            }
        }
    }

    /// Writes what there is as the next column, and forgets it.
    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, File>) -> Result<(), ParquetError> {
        let Column { values, definitions, repetitions } = std::mem::take(self);
        if let Some(mut column) = group.next_column()? {
            let levels = (!repetitions.is_empty()).then_some(&repetitions[..]);
            column.typed::<T>().write_batch(&values, Some(&definitions), levels)?;
            column.close()?;
        }
        Ok(())
    }
}

/// The rows of a row group.
#[derive(Default)]
struct Rows {
    input: Column<ByteArrayType>,
    error: Column<ByteArrayType>,
    prediction: Column<Int64Type>,
    target: Column<Int64Type>,
    logit: Column<DoubleType>,
    seed_sum: Column<DoubleType>,
    relevance_sum: Column<DoubleType>,
    conservation_error: Column<DoubleType>,
    map_shape: Column<Int64Type>,
    map: Column<FloatType>,
    warnings: Column<ByteArrayType>,
}

fn text(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

/// Output numbers and sizes fit.
fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// A Parquet file in the making; it appears when it is finished.
pub struct ParquetRows {
    draft: Draft,
    writer: SerializedFileWriter<File>,
    rows: Rows,
}

impl ParquetRows {
    /// Begins a file.
    pub fn create(path: &Path) -> Result<ParquetRows, Failure> {
        let mut draft = Draft::create(path)?;
        let file = draft.file().try_clone()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer =
            SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA)?), Arc::new(properties))?;
        Ok(ParquetRows { draft, writer, rows: Rows::default() })
    }

    /// Adds what sample `index` of a batch gave.
    pub fn put(&mut self, index: usize, result: &Explanations, report: &SampleReport) -> Result<(), Failure> {
        let rows = &mut self.rows;
        for (explanation, report_of_target) in result.explanations.iter().zip(&report.explanations) {
            let sums = report_of_target.sums.as_ref();
            let sum = report_of_target.attribution.as_ref().map(|attribution| attribution.sum);
            let map = explanation.map.as_ref().map(|map| map.index_axis(ndarray::Axis(0), index));
            let shape = map.as_ref().map(|map| map.shape().iter().map(|size| number(*size)));
            rows.input.push(Some(text(&report.input)));
            rows.error.push(None);
            rows.prediction.push(report.predictions.first().map(|output| number(output.index)));
            rows.target.push(Some(number(report_of_target.target.index)));
            rows.logit.push(Some(report_of_target.target.logit));
            rows.seed_sum.push(sums.map(|sums| sums.seed));
            rows.relevance_sum.push(sums.map(|sums| sums.relevance).or(sum));
            rows.conservation_error.push(sums.map(|sums| sums.conservation_error));
            rows.map_shape.push_list(shape);
            rows.map.push_list(map.as_ref().map(|map| map.iter().copied()));
            rows.warnings.push_list(Some(report_of_target.warnings.iter().map(|warning| text(warning))));
        }
        self.write_if(|rows| rows.input.values.len() >= GROUP_ROWS || rows.map.values.len() >= GROUP_VALUES)
    }

    /// Adds an input that could not be explained.
    pub fn fail(&mut self, input: &str, error: &str) -> Result<(), Failure> {
        let rows = &mut self.rows;
        rows.input.push(Some(text(input)));
        rows.error.push(Some(text(error)));
        rows.prediction.push(None);
        rows.target.push(None);
        for column in
            [&mut rows.logit, &mut rows.seed_sum, &mut rows.relevance_sum, &mut rows.conservation_error]
        {
            column.push(None);
        }
        rows.map_shape.push_list(None::<[i64; 0]>);
        rows.map.push_list(None::<[f32; 0]>);
        rows.warnings.push_list(None::<[ByteArray; 0]>);
        self.write_if(|rows| rows.input.values.len() >= GROUP_ROWS)
    }

    /// Writes a row group, if it is large enough.
    fn write_if(&mut self, enough: impl Fn(&Rows) -> bool) -> Result<(), Failure> {
        if !enough(&self.rows) {
            return Ok(());
        }
        let (mut group, rows) = (self.writer.next_row_group()?, &mut self.rows);
        rows.input.write(&mut group)?;
        rows.error.write(&mut group)?;
        rows.prediction.write(&mut group)?;
        rows.target.write(&mut group)?;
        for column in
            [&mut rows.logit, &mut rows.seed_sum, &mut rows.relevance_sum, &mut rows.conservation_error]
        {
            column.write(&mut group)?;
        }
        rows.map_shape.write(&mut group)?;
        rows.map.write(&mut group)?;
        rows.warnings.write(&mut group)?;
        group.close()?;
        Ok(())
    }

    /// Writes what is left, and makes it the file of its path.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.write_if(|rows| !rows.input.values.is_empty())?;
        self.writer.close()?;
        Ok(self.draft.finish()?)
    }
}
