//! Folders and tables of picture files.

use std::fs;
use std::path::{Path, PathBuf};

use relc::unstable::ir::spelling::did_you_mean;
use relc::volume::is_volume;

use super::{DatasetOptions, Item, Source, malformed};
use crate::error::EvalError;

const PICTURES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "jfif"];

/// The endings of signals, volumes and videos.
const ARRAYS: [&str; 4] = ["csv", "tsv", "npy", "gif"];

/// Whether a file is one of a data set, by its name.
fn is_item(path: &Path, arrays: bool) -> bool {
    let endings: &[&str] = if arrays { &ARRAYS } else { &PICTURES };
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| endings.contains(&e.as_str())) || (arrays && is_volume(path))
}

/// The entries of a folder by name, hidden ones left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let read = |source| EvalError::File { what: "read", path: folder.to_path_buf(), source };
    let paths = fs::read_dir(folder).and_then(|dir| dir.map(|e| e.map(|e| e.path())).collect());
    let mut paths: Vec<PathBuf> = paths.map_err(read)?;
    paths.retain(|p| !name_of(p).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A folder of class folders, or of pictures.
pub fn folder(path: &Path, options: &DatasetOptions<'_>) -> Result<Vec<Item>, EvalError> {
    let DatasetOptions { labels, arrays, .. } = *options;
    let paths = entries(path)?;
    let classes: Vec<&PathBuf> = paths.iter().filter(|p| p.is_dir()).collect();
    if classes.is_empty() {
        let pictures = paths.iter().filter(|p| is_item(p, arrays));
        return Ok(pictures.map(|p| item(name_of(p), p.clone(), None)).collect());
    }
    let names: Vec<String> = classes.iter().map(|c| name_of(c)).collect();
    let numbers: Option<Vec<usize>> = names.iter().map(|n| n.parse().ok()).collect();
    let mut items = Vec::new();
    for (i, (class, name)) in classes.into_iter().zip(&names).enumerate() {
        let label = match (labels, &numbers) {
            (Some(labels), _) => label(name, Some(labels)).map_err(|e| malformed(class, e))?,
            (None, Some(numbers)) => Some(numbers[i]),
            (None, None) => Some(i),
        };
        let pictures = entries(class)?.into_iter().filter(|p| is_item(p, arrays));
        items.extend(pictures.map(|p| item(format!("{name}/{}", name_of(&p)), p, label)));
    }
    Ok(items)
}

fn item(name: String, path: PathBuf, label: Option<usize>) -> Item {
    Item { name, label, image: Source::File(path), mask: None }
}

/// An output by its index or its name; `None` for nothing.
fn label(text: &str, labels: Option<&[String]>) -> Result<Option<usize>, String> {
    let text = text.trim();
    if let Some(index) = labels.and_then(|l| l.iter().position(|name| name == text)) {
        return Ok(Some(index));
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let hint = match labels {
            Some(labels) => did_you_mean(text, labels.iter().map(String::as_str)),
            None => " (give --labels to use names)".into(),
        };
        format!("got the label \"{text}\", expected an output's index or name{hint}")
    })
}

/// A table of `path,label[,mask]`.
pub fn table(path: &Path, labels: Option<&[String]>) -> Result<Vec<Item>, EvalError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| malformed(path, e.to_string()))?;
    let mut items = Vec::new();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| malformed(path, e.to_string()))?;
        let line = record.position().map_or(i + 1, |p| p.line() as usize);
        let wrong = |message: String| malformed(path, format!("line {line}: {message}"));
        let mut fields = record.iter();
        let (first, second, third) = (fields.next().unwrap_or(""), fields.next(), fields.next());
        if i == 0 && first == "path" {
            continue;
        }
        if first.is_empty() || fields.next().is_some() {
            return Err(wrong(format!("got {} fields, expected path,label[,mask]", record.len())));
        }
        let label = label(second.unwrap_or(""), labels).map_err(wrong)?;
        let mask = third.filter(|m| !m.is_empty()).map(|m| Source::File(folder.join(m)));
        items.push(Item { mask, ..item(first.to_string(), folder.join(first), label) });
    }
    Ok(items)
}

/// Gives each picture the mask of its name.
pub fn add_masks(items: &mut [Item], masks: &Path) -> Result<(), EvalError> {
    let mut found = 0;
    for item in items.iter_mut() {
        let exact = masks.join(&item.name);
        let candidates = [exact.clone(), exact.with_extension("png"), exact.with_extension("npy")];
        if let Some(path) = candidates.into_iter().find(|p| p.is_file()) {
            item.mask = Some(Source::File(path));
            found += 1;
        }
    }
    if found == 0 {
        let example = items.first().map_or("picture.png", |item| item.name.as_str());
        return Err(malformed(
            masks,
            format!("holds no mask of any picture; expected files such as {example}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Content, Dataset};
    use super::*;
    use image::{DynamicImage, RgbImage};

    fn picture(path: &Path, red: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        DynamicImage::ImageRgb8(RgbImage::from_pixel(2, 2, image::Rgb([red, 0, 0]))).save(path).unwrap();
    }

    fn found(dataset: &Dataset) -> Vec<(&str, Option<usize>)> {
        dataset.items.iter().map(|i| (i.name.as_str(), i.label)).collect()
    }

    #[test]
    fn class_folders_are_outputs_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for (name, red) in [("dog/1.png", 1), ("cat/b.png", 2), ("cat/a.png", 3), (".hidden/x.png", 4)] {
            picture(&dir.path().join(name), red);
        }
        fs::write(dir.path().join("cat/notes.txt"), "no picture").unwrap();
        let options = DatasetOptions::default();
        let dataset = Dataset::open(dir.path(), &options).unwrap();
        assert_eq!(found(&dataset), [("cat/a.png", Some(0)), ("cat/b.png", Some(0)), ("dog/1.png", Some(1))]);
        let Content::Picture(read) = dataset.items[0].content().unwrap() else { panic!("a picture") };
        assert_eq!(read.to_rgb8().get_pixel(0, 0).0[0], 3);
        let labels = ["bird", "dog", "cat"].map(String::from);
        let named = DatasetOptions { labels: Some(&labels), ..options };
        let dataset = Dataset::open(dir.path(), &named).unwrap();
        assert_eq!(found(&dataset)[0], ("cat/a.png", Some(2)));
        let other = ["bird", "dog", "bat"].map(String::from);
        let error =
            Dataset::open(dir.path(), &DatasetOptions { labels: Some(&other), ..options }).unwrap_err();
        assert!(error.to_string().contains("did you mean \"bat\"?"), "{error}");
    }

    #[test]
    fn numbered_class_folders_are_the_outputs_themselves() {
        let dir = tempfile::tempdir().unwrap();
        picture(&dir.path().join("10/a.png"), 0);
        picture(&dir.path().join("9/a.png"), 0);
        let dataset = Dataset::open(dir.path(), &DatasetOptions::default()).unwrap();
        assert_eq!(found(&dataset), [("10/a.png", Some(10)), ("9/a.png", Some(9))]);
    }

    #[test]
    fn tables_give_labels_and_masks_with_or_without_a_first_line() {
        let dir = tempfile::tempdir().unwrap();
        picture(&dir.path().join("p/a.png"), 9);
        picture(&dir.path().join("m/a.png"), 255);
        let labels = ["cat", "great dane, dog"].map(String::from);
        let options = DatasetOptions { labels: Some(&labels), ..DatasetOptions::default() };
        for head in ["path,label,mask\n", ""] {
            let text = format!("{head}p/a.png,\"great dane, dog\",m/a.png\np/a.png, 0\np/a.png,\np/a.png\n");
            fs::write(dir.path().join("labels.csv"), text).unwrap();
            let dataset = Dataset::open(dir.path(), &options).unwrap();
            let labels: Vec<Option<usize>> = dataset.items.iter().map(|i| i.label).collect();
            assert_eq!(labels, [Some(1), Some(0), None, None]);
            assert!(dataset.has_masks() && !dataset.is_labelled());
            assert!(dataset.items[0].mask().unwrap().is_some() && dataset.items[1].mask().unwrap().is_none());
        }
        fs::write(dir.path().join("labels.csv"), "p/a.png,0\np/a.png,cot\n").unwrap();
        let error = Dataset::open(dir.path(), &options).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("did you mean \"cat\"?"), "{error}");
    }

    #[test]
    fn a_limit_chooses_by_the_seed_and_keeps_the_order() {
        let dir = tempfile::tempdir().unwrap();
        (0..20).for_each(|i| picture(&dir.path().join(format!("{i:02}.png")), i));
        let open = |seed| {
            let options = DatasetOptions { limit: Some(6), seed, ..DatasetOptions::default() };
            let dataset = Dataset::open(dir.path(), &options).unwrap();
            dataset.items.into_iter().map(|i| i.name).collect::<Vec<_>>()
        };
        let chosen = open(0);
        assert_eq!(chosen, open(0));
        assert_ne!(chosen, open(1));
        assert!(chosen.len() == 6 && chosen.is_sorted());
    }

    #[test]
    fn what_is_no_data_set_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| Dataset::open(path, &DatasetOptions::default()).unwrap_err().to_string();
        assert!(error(dir.path()).contains("holds no pictures"));
        assert!(error(&dir.path().join("nothing")).contains("expected one of these"));
        assert!(error(&dir.path().join("nothing.csv")).contains("nothing.csv"));
        picture(&dir.path().join("a.png"), 0);
        let masks = DatasetOptions { masks: Some(Path::new("no/masks")), ..DatasetOptions::default() };
        assert!(Dataset::open(dir.path(), &masks).unwrap_err().to_string().contains("such as a.png"));
    }
}
