//! What is written: folders with pictures and reports, arrays, JSON. Every file appears whole or not at all.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use ndarray::{ArrayD, ArrayView2, ArrayViewD, Axis};
use relc::artifact::{write_atomically, write_npy_f32};
use relc_viz::{Style, heat_map, overlay};
use serde::Serialize;

use crate::failure::Failure;

/// The folder of `--out`, one folder per input in it.
pub struct OutFolder {
    root: PathBuf,
    /// Whether the folder is this run's own, to be taken away if nothing comes to lie in it.
    made: bool,
    taken: HashSet<String>,
    style: Style,
}

impl OutFolder {
    /// Makes the folder.
    pub fn create(root: &Path, style: Style) -> Result<Self, Failure> {
        let made = !root.exists();
        make_folder(root)?;
        Ok(OutFolder { root: root.to_path_buf(), made, taken: HashSet::new(), style })
    }

    /// A folder for an input; inputs of one name get numbers.
    pub fn folder(&mut self, stem: &str) -> Result<PathBuf, Failure> {
        let mut name = stem.to_string();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        let folder = self.root.join(name);
        make_folder(&folder)?;
        Ok(folder)
    }

    /// Writes heat map, overlay and array of one map. `suffix` tells several targets apart.
    pub fn map(
        &self,
        folder: &Path,
        suffix: &str,
        map: ArrayView2<'_, f32>,
        picture: Option<&RgbImage>,
    ) -> Result<(), Failure> {
        write_png(&folder.join(format!("heat{suffix}.png")), &heat_map(map, &self.style)?)?;
        if let Some(picture) = picture {
            write_png(&folder.join(format!("overlay{suffix}.png")), &overlay(picture, map, &self.style)?)?;
        }
        write_npy_f32(&folder.join(format!("map{suffix}.npy")), map.into_dyn())?;
        Ok(())
    }
}

impl Drop for OutFolder {
    /// Takes an own folder away that stayed empty, as after an error; one that holds something is left alone.
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_dir(&self.root);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|e| format!("can't make the folder {}: {e}", path.display()).into())
}

fn write_png(path: &Path, picture: &RgbImage) -> Result<(), Failure> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    write_atomically(path, |file| file.write_all(bytes.get_ref()))?;
    Ok(())
}

/// Writes JSON to a file, or to standard output if the path is `-`.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    if path == Path::new("-") {
        match std::io::stdout().lock().write_all(&text) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        return Ok(());
    }
    write_atomically(path, |file| file.write_all(&text))?;
    Ok(())
}

/// Arrays of all batches, gathered per target, to be written as one.
#[derive(Default)]
pub struct Gathered {
    /// By target, then by batch.
    parts: Vec<Vec<ArrayD<f32>>>,
}

impl Gathered {
    /// Adds a batch of the target at `index` of the request.
    pub fn push(&mut self, index: usize, batch: ArrayD<f32>) {
        if self.parts.len() <= index {
            self.parts.resize_with(index + 1, Vec::new);
        }
        self.parts[index].push(batch);
    }

    /// Writes the batches as one array; several targets are its first axis.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let join = |parts: &Vec<ArrayD<f32>>| {
            let views: Vec<ArrayViewD<'_, f32>> = parts.iter().map(|p| p.view()).collect();
            ndarray::concatenate(Axis(0), &views)
        };
        let targets = self.parts.iter().map(join).collect::<Result<Vec<_>, _>>()?;
        let whole = match &targets[..] {
            [one] => one.clone(),
            several => {
                let views: Vec<ArrayViewD<'_, f32>> = several.iter().map(|t| t.view()).collect();
                ndarray::stack(Axis(0), &views)?
            }
        };
        write_npy_f32(path, whole.view())?;
        Ok(())
    }
}
