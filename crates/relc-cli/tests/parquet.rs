//! `relc explain --parquet`: a row for each input and target.

mod support;

use std::fs::{self, File};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;
use support::{check_fails, check_ok, demo, folder, path, pictures, relc};

const PIXELS: usize = 64 * 64;

/// The rows of a file, each with its columns by name.
fn rows(file: &str) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn column<'r>(row: &'r Row, name: &str) -> &'r Field {
    let mut columns = row.get_column_iter();
    columns.find(|(column, _)| *column == name).unwrap_or_else(|| panic!("there is no column {name}")).1
}

#[track_caller]
fn text(field: &Field) -> &str {
    match field {
        Field::Str(text) => text,
        other => panic!("got {other:?}, expected text"),
    }
}

#[track_caller]
fn list(field: &Field) -> &[Field] {
    match field {
        Field::ListInternal(list) => list.elements(),
        other => panic!("got {other:?}, expected a list"),
    }
}

#[test]
fn rows_say_what_the_report_and_the_arrays_say() {
    let dir = folder();
    let [(_, parquet), (_, json), (_, maps)] =
        ["rows.parquet", "report.json", "maps.npy"].map(|name| path(&dir, name));
    let (broken_path, broken) = path(&dir, "broken.png");
    fs::write(broken_path, "no picture").unwrap();
    let (model, preprocess, pictures) = (demo("model.onnx"), demo("preprocess.toml"), pictures());
    let inputs = [&pictures[0], &broken, &pictures[1], &pictures[2]];
    let mut args = vec!["explain", &model, "--preprocess", &preprocess, "--target", "top2", "--jobs", "2"];
    args.extend(["--parquet", &parquet, "--json", &json, "--map-npy", &maps]);
    args.extend(inputs.map(String::as_str));
    check_fails(&relc(&args), 1, &["1 of 4 inputs could not be explained"]);

    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    // Rows of NaN are an input that failed, which no reader of relc's takes.
    let bytes = fs::read(&maps).unwrap();
    let maps: Vec<f32> = bytes[bytes.len() - 2 * 4 * PIXELS * 4..]
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let rows = rows(&parquet);
    let names: Vec<&str> = rows.iter().map(|row| text(column(row, "input"))).collect();
    let expected =
        [&pictures[0], &pictures[0], &broken, &pictures[1], &pictures[1], &pictures[2], &pictures[2]];
    assert_eq!(names, expected.map(String::as_str));
    let (failed, explained): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| *column(row, "error") != Field::Null);
    assert_eq!(failed.len(), 1);
    assert_eq!(text(column(failed[0], "error")), report["failures"][0]["error"]);
    for name in ["prediction", "target", "logit", "seed_sum", "map_shape", "map", "warnings"] {
        assert_eq!(*column(failed[0], name), Field::Null, "{name}");
    }
    for (at, row) in explained.into_iter().enumerate() {
        let (sample, target) = (at / 2, at % 2);
        let result = &report["results"][sample];
        let expected = &result["explanations"][target];
        let place = if sample == 0 { 0 } else { sample + 1 };
        let map = maps.chunks(PIXELS).nth(4 * target + place).unwrap();
        let number = |value: &Value| Field::Double(value.as_f64().unwrap());
        let index = |value: &Value| Field::Long(value.as_i64().unwrap());
        assert_eq!(*column(row, "prediction"), index(&result["predictions"][0]["index"]));
        assert_eq!(*column(row, "target"), index(&expected["target"]["index"]));
        assert_eq!(*column(row, "logit"), number(&expected["target"]["logit"]));
        assert_eq!(*column(row, "seed_sum"), number(&expected["sums"]["seed"]));
        assert_eq!(*column(row, "relevance_sum"), number(&expected["sums"]["relevance"]));
        assert_eq!(*column(row, "conservation_error"), number(&expected["sums"]["conservation_error"]));
        assert_eq!(list(column(row, "map_shape")), [Field::Long(64), Field::Long(64)]);
        assert!(
            list(column(row, "map")).iter().eq(map
                .iter()
                .map(|v| Field::Float(*v))
                .collect::<Vec<_>>()
                .iter())
        );
        assert_eq!(list(column(row, "warnings")), []);
    }
}

#[test]
fn a_file_that_can_not_be_written_fails_at_once() {
    let (model, picture) = (demo("model.onnx"), pictures().remove(0));
    let output = relc(&["explain", &model, &picture, "--parquet", "no/such/rows.parquet"]);
    check_fails(&output, 1, &["can't write no/such/rows.parquet"]);
    let dir = folder();
    let (_, rows) = path(&dir, "rows.parquet");
    check_ok(&relc(&["explain", &model, &picture, "--method", "grad_cam", "--parquet", &rows]));
    let row = self::rows(&rows).remove(0);
    assert_eq!(*column(&row, "seed_sum"), Field::Null);
    assert!(matches!(column(&row, "relevance_sum"), Field::Double(_)), "{row:?}");
}
