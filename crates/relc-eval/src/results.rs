//! The file of results: one line of JSON for each picture and method, only ever appended to.
//!
//! A line is complete once its end is written. What a killed run left of its last line is dropped, and computed again.
//! Each record carries a key, the hashes of model, method, protocol and picture, so that one file may hold the results
//! of many runs, and a check over its text, so that a record that was changed is noticed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::EvalError;
use crate::metric::resampled;

/// What one method got on one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The hashes of model, method, protocol and picture.
    pub key: String,
    /// The picture's name.
    pub picture: String,
    /// The method's name.
    pub method: String,
    /// The class that was explained.
    pub class: usize,
    /// The class that the model predicts.
    pub predicted: usize,
    /// How long the explanation took, in seconds. Nothing else depends on it.
    pub seconds: f64,
    /// The metrics' values by column; `null` where there is none.
    pub values: BTreeMap<String, Option<f64>>,
    /// The curves that were measured, `insertion` and `deletion`: the score at up to [`CURVE`] points, evenly spaced from
    /// the first image to the last, to five digits behind the point. None in files of an older relc.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub curves: BTreeMap<String, Vec<f32>>,
}

/// The most points of a curve in a record.
pub const CURVE: usize = 51;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    record: serde_json::Value,
    check: String,
}

impl Record {
    /// Keeps a curve, with as many points as a record has room for. One that is not finite has no place in JSON.
    pub fn keep_curve(&mut self, name: &str, scores: &[f64]) {
        // Decimals this short come back to the bit whichever way they are parsed.
        let short = |score: f64| ((score * 1e5).round() / 1e5) as f32;
        let curve: Vec<f32> = resampled(scores, scores.len().min(CURVE)).into_iter().map(short).collect();
        if curve.iter().all(|score| score.is_finite()) {
            self.curves.insert(name.to_string(), curve);
        }
    }

    fn line(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default(); // plain data always serialises
        let check = xxh3_64(text.as_bytes());
        let open = text.strip_suffix('}').unwrap_or(&text);
        format!("{open},\"check\":\"{check:016x}\"}}\n")
    }

    fn parse(line: &str) -> Result<Record, String> {
        let Line { record, check } = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let record: Record = serde_json::from_value(record).map_err(|e| e.to_string())?;
        if record.line().trim_end() != line {
            return Err(format!("its check is {check}, which does not fit what it says"));
        }
        Ok(record)
    }
}

/// The file, open for appending, and what it holds.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    file: Option<File>,
    records: HashMap<String, Record>,
    /// Bytes of a last line that was not complete.
    pub dropped: usize,
}

impl Results {
    /// Opens a file, or makes it. It stays locked: two runs must not write to it at the same time.
    ///
    /// # Errors
    /// If it can't be read or written, another run has it open, or a line is no result (the line is named; the file
    /// stays as it is).
    pub fn open(path: &Path) -> Result<Results, EvalError> {
        let fail = |what| move |source| EvalError::File { what, path: path.to_path_buf(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fail("write"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another run is writing its results here; wait for it, or give another file".into();
                return Err(EvalError::Results { path: path.to_path_buf(), line: 1, message });
            }
            Err(TryLockError::Error(source)) => return Err(fail("lock")(source)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("read"))?;
        let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let records = parse_lines(&bytes[..complete], path)?;
        let rest = &bytes[complete..];
        let start = b"{\"key\":\"";
        if !rest.is_empty() && !rest.iter().zip(start).all(|(a, b)| a == b) {
            let line = bytes[..complete].iter().filter(|b| **b == b'\n').count() + 1;
            let message = "is no result of an evaluation; give another file for the results".into();
            return Err(EvalError::Results { path: path.to_path_buf(), line, message });
        }
        if !rest.is_empty() {
            file.set_len(complete as u64).map_err(fail("write"))?;
        }
        file.seek(SeekFrom::End(0)).map_err(fail("read"))?;
        Ok(Results { path: path.to_path_buf(), file: Some(file), records, dropped: rest.len() })
    }

    /// Results that are kept nowhere.
    pub fn in_memory() -> Results {
        Results { path: PathBuf::new(), file: None, records: HashMap::new(), dropped: 0 }
    }

    /// The record of a key.
    pub fn get(&self, key: &str) -> Option<&Record> {
        self.records.get(key)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn add(&mut self, record: Record) -> Result<(), EvalError> {
        if let Some(file) = &mut self.file {
            // One write for the whole line: a killed run leaves at most the beginning of one.
            let written = file.write_all(record.line().as_bytes());
            written.map_err(|source| EvalError::File { what: "write", path: self.path.clone(), source })?;
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }
}

/// Complete lines; of equal keys the first counts.
fn parse_lines(bytes: &[u8], path: &Path) -> Result<HashMap<String, Record>, EvalError> {
    let wrong = |line, message| EvalError::Results { path: path.to_path_buf(), line, message };
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        wrong(line, "is no text; give another file for the results".into())
    })?;
    let mut records = HashMap::new();
    for (i, line) in text.lines().enumerate() {
        let record = Record::parse(line).map_err(|e| {
            wrong(
                i + 1,
                format!("is no result of an evaluation ({e}); delete the line, or give another file"),
            )
        })?;
        records.entry(record.key.clone()).or_insert(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str) -> Record {
        let values = [("id".to_string(), Some(0.1 + 0.2)), ("road".to_string(), None)].into();
        let (picture, method) = ("a \"b\".png".into(), "conserve".into());
        let seconds = 1e-3 / 3.0;
        let curves = Default::default();
        Record { key: key.into(), picture, method, class: 3, predicted: 2, seconds, values, curves }
    }

    fn with_curves(key: &str) -> Record {
        let mut record = record(key);
        let scores: Vec<f64> = (0..101).map(|k| 1.0 / f64::from(k + 3)).collect();
        record.keep_curve("insertion", &scores);
        record.keep_curve("deletion", &scores[..4]);
        record
    }

    fn file(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("r.jsonl")
    }

    #[test]
    fn records_come_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        for key in ["a", "b"] {
            Results::open(&file(&dir)).unwrap().add(record(key)).unwrap();
        }
        let results = Results::open(&file(&dir)).unwrap();
        assert_eq!((results.len(), results.get("b"), results.dropped), (2, Some(&record("b")), 0));
    }

    #[test]
    fn curves_come_back_to_the_bit_and_records_without_them_stay_readable() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (record("old"), with_curves("new"));
        assert!(!old.line().contains("curves"), "{}", old.line());
        assert_eq!((new.curves["insertion"].len(), &new.curves["deletion"][..2]), (51, &[0.33333, 0.25][..]));
        std::fs::write(file(&dir), old.line() + &new.line()).unwrap();
        let results = Results::open(&file(&dir)).unwrap();
        assert_eq!((results.get("old"), results.get("new")), (Some(&old), Some(&new)));
        let mut other = old.clone();
        other.keep_curve("insertion", &[0.5, f64::NAN]);
        assert_eq!(other, old);
    }

    #[test]
    fn wherever_the_last_line_is_cut_the_others_stay_and_the_file_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [record("a").line(), record("b").line()].concat();
        for cut in 0..record("b").line().len() {
            std::fs::write(file(&dir), &whole[..whole.len() - 1 - cut]).unwrap();
            let mut results = Results::open(&file(&dir)).unwrap();
            assert_eq!((results.len(), results.dropped), (1, record("b").line().len() - 1 - cut));
            results.add(record("b")).unwrap();
            drop(results);
            assert_eq!(std::fs::read_to_string(file(&dir)).unwrap(), whole);
        }
    }

    #[test]
    fn what_is_no_result_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &[u8], says: &str| {
            std::fs::write(file(&dir), text).unwrap();
            let error = Results::open(&file(&dir)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert_eq!(std::fs::read(file(&dir)).unwrap(), text);
        };
        let good = record("a").line();
        check(b"a picture without any end of line", "line 1: is no result");
        check(b"path,label\n", "line 1: is no result");
        check(b"\xff\xd8\xff\n", "is no text");
        check(good.replace("\"class\":3", "\"class\":4").as_bytes(), "which does not fit");
        check([good.as_str(), "{}\n", &good].concat().as_bytes(), "line 2");
    }

    #[test]
    fn two_runs_do_not_share_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Results::open(&file(&dir)).unwrap();
        let error = Results::open(&file(&dir)).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        drop(first);
        assert!(Results::open(&file(&dir)).is_ok());
    }
}
