//! Files of columns: CSV, of signals (a column is a channel, a row a position) and of tables (a row is a sample).

use std::path::{Path, PathBuf};

use ndarray::Array2;

use crate::read::{self, Kind, ReadError};

/// A file of columns: 256 MiB.
const COLUMNS: Kind = Kind::new("CSV", 256 << 20);
/// What may stand between cells; the one that the first line has most often does.
const DELIMITERS: [u8; 3] = *b",;\t";

/// Numbers in named columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// The names in the first line; empty if that holds numbers already.
    pub names: Vec<String>,
    /// The values, `f32[rows,columns]`; at least one of each.
    pub values: Array2<f32>,
}

/// A file of columns that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is no CSV.
    #[error("{}, line {line}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Why not.
        source: csv::Error,
    },
    /// A row has other cells than the rows before it.
    #[error("{}, line {line}: got {got} cells, expected {expected}, as in the first line", path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Its cells.
        got: usize,
        /// Those of the first line.
        expected: usize,
    },
    /// A cell is empty.
    #[error("{}, line {line}: the cell of column {column} is empty, expected a number; fill the gap, or leave the row out", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column's name or, from 1, number.
        column: String,
    },
    /// A cell holds no finite number.
    #[error("{}, line {line}: got \"{got}\" in column {column}, expected a finite number{hint}", path.display())]
    NoNumber {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column's name or, from 1, number.
        column: String,
        /// The cell, shortened.
        got: String,
        /// What to do.
        hint: &'static str,
    },
    /// There are no numbers in it.
    #[error("{}: got no row of numbers, expected some", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Columns {
    /// Reads a file. Cells are apart by commas, semicolons or tabs; a first line of which a cell is no number holds names.
    ///
    /// # Errors
    /// If the file can't be read, has more than 256 MiB, is no CSV or no UTF-8, a row has other cells than the first, or a
    /// cell holds no finite number; the line and the column are named.
    pub fn read(path: &Path) -> Result<Columns, ColumnsError> {
        Columns::parse(&read::text(path, COLUMNS)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Columns, ColumnsError> {
        let first = text.lines().next().unwrap_or_default();
        let count = |delimiter: &u8| first.bytes().filter(|b| b == delimiter).count();
        let delimiter = DELIMITERS.into_iter().max_by_key(count).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .delimiter(delimiter)
            .from_reader(text.as_bytes());
        let (mut names, mut values, mut width) = (Vec::new(), Vec::new(), 0);
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(|source| ColumnsError::Malformed {
                path: path.to_path_buf(),
                line: source.position().map_or(0, |p| p.line()),
                source,
            })?;
            let line = record.position().map_or(0, |p| p.line());
            if index == 0 {
                width = record.len();
                if record.iter().any(|cell| cell.parse::<f32>().is_err()) && !record.iter().any(str::is_empty)
                {
                    names = record.iter().map(str::to_string).collect();
                    continue;
                }
            }
            if record.len() != width {
                let (path, got) = (path.to_path_buf(), record.len());
                return Err(ColumnsError::Ragged { path, line, got, expected: width });
            }
            for (column, cell) in record.iter().enumerate() {
                let column = || match names.get(column) {
                    Some(name) => format!("\"{}\"", shortened(name)),
                    None => (column + 1).to_string(),
                };
                values.push(number(cell, path, line, column)?);
            }
        }
        let rows = values.len().checked_div(width).unwrap_or(0);
        match Array2::from_shape_vec((rows, width), values) {
            Ok(values) if !values.is_empty() => Ok(Columns { names, values }),
            _ => Err(ColumnsError::Empty { path: path.to_path_buf() }),
        }
    }
}

fn number(cell: &str, path: &Path, line: u64, column: impl Fn() -> String) -> Result<f32, ColumnsError> {
    if cell.is_empty() {
        return Err(ColumnsError::Missing { path: path.to_path_buf(), line, column: column() });
    }
    match cell.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => {
            let is_decimal_comma = cell.contains(',') && cell.replace(',', ".").parse::<f32>().is_ok();
            let hint = if is_decimal_comma { "; write decimal points, not commas" } else { "" };
            let (path, got) = (path.to_path_buf(), shortened(cell));
            Err(ColumnsError::NoNumber { path, line, column: column(), got, hint })
        }
    }
}

/// A cell as messages show it.
fn shortened(cell: &str) -> String {
    const MOST: usize = 40;
    let mut text: String = cell.chars().take(MOST).flat_map(char::escape_debug).collect();
    if cell.chars().nth(MOST).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn parse(text: &str) -> Result<Columns, String> {
        Columns::parse(text, Path::new("x.csv")).map_err(|e| e.to_string())
    }

    #[test]
    fn columns_are_read_with_their_names_or_without() {
        let named = parse("I, II\n1,2\r\n-3e2,0.5\n").unwrap();
        assert_eq!(named.names, ["I", "II"]);
        assert_eq!(named.values, array![[1.0, 2.0], [-300.0, 0.5]]);
        let plain = parse("1;2;3\n4;5;6").unwrap();
        assert!(plain.names.is_empty());
        assert_eq!(plain.values, array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(parse("\"a, b\"\tc\n1\t2").unwrap().names, ["a, b", "c"]);
        assert_eq!(parse("7").unwrap().values, array![[7.0]]);
    }

    #[test]
    fn what_is_no_number_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        };
        check("a,b\n1,2\n3", "line 3: got 1 cells, expected 2");
        check("a,b\n1,\n", "line 2: the cell of column \"b\" is empty");
        check("1,2\n3,x", "line 2: got \"x\" in column 2, expected a finite number");
        check("1,2\n3,nan", "got \"nan\" in column 2");
        check("a;b\n1,5;2", "write decimal points");
        check("a,b\n", "got no row of numbers");
        check("", "got no row of numbers");
        check("1,\n", "line 1: the cell of column 2 is empty");
        check(&format!("a\n{}", "y".repeat(100)), "...\" in column \"a\"");
    }
}
