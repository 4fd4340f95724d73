//! What is written: folders with pictures and reports, arrays, JSON. Every file appears whole or not at all.

mod arrays;

pub use arrays::{Place, drawing};

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use ndarray::ArrayView2;
use relc::files::{write_atomically, write_npy_f32};
use relc::report::PictureReport;
use relc_viz::{Scale, Style, heat_map, overlay, scale, significant, with_color_bar};
use serde::Serialize;

use crate::failure::Failure;
use crate::names::{Distinct, sanitised};
use crate::print;

/// The digits of the numbers at the ends of a colour bar.
const BAR_DIGITS: usize = 3;

/// The folder of `--out`, one folder per input in it.
pub struct OutFolder {
    root: PathBuf,
    /// Whether the folder is this run's own, to be taken away if nothing comes to lie in it.
    made: bool,
    /// The folders that were written.
    names: Distinct,
    written: HashSet<String>,
    style: Style,
}

impl OutFolder {
    /// Makes the folder.
    pub fn create(root: &Path, style: Style) -> Result<Self, Failure> {
        let made = !root.exists();
        make_folder(root)?;
        let (names, written) = (Distinct::default(), HashSet::new());
        Ok(OutFolder { root: root.to_path_buf(), made, names, written, style })
    }

    /// A folder for an input; inputs of one name get numbers. What an earlier run wrote there is taken away, lest it
    /// pass for this run's.
    pub fn folder(&mut self, stem: &str) -> Result<PathBuf, Failure> {
        let name = self.names.name(&sanitised(stem));
        let folder = self.root.join(&name);
        make_folder(&folder)?;
        if is_of_a_run(&folder) {
            for file in entries(&folder).into_iter().filter(|name| is_ours(name)) {
                std::fs::remove_file(folder.join(&file)).map_err(|e| {
                    format!("can't remove {} of an earlier run: {e}", folder.join(&file).display())
                })?;
            }
        }
        self.written.insert(name);
        Ok(folder)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders of earlier runs that this one left as they are.
    pub fn older(&self) -> Vec<String> {
        let mut names = entries(&self.root);
        names.retain(|name| !self.written.contains(name) && is_of_a_run(&self.root.join(name)));
        names.sort();
        names
    }

    /// Writes the picture as the network saw it.
    pub fn input(&self, folder: &Path, picture: &RgbImage) -> Result<(), Failure> {
        write_png(&folder.join("input.png"), picture)
    }

    /// Writes heat map, overlay and array of one map, and says what the pictures' colours stand for. `suffix` tells
    /// several targets apart.
    pub fn map(
        &self,
        folder: &Path,
        suffix: &str,
        map: ArrayView2<'_, f32>,
        picture: Option<&RgbImage>,
    ) -> Result<PictureReport, Failure> {
        let Style { colormap, clip, .. } = self.style;
        let Scale { low, high, clipped } = scale(map, &self.style)?;
        let [first, last] = [low, high].map(|value| significant(f64::from(value), BAR_DIGITS));
        let write = |name: &str, drawn: &RgbImage| {
            // A picture that is as large as pictures can be has no room for a bar.
            let with_bar = with_color_bar(drawn, colormap, &first, &last);
            write_png(&folder.join(format!("{name}{suffix}.png")), with_bar.as_ref().unwrap_or(drawn))
        };
        write("heat", &heat_map(map, &self.style)?)?;
        if let Some(picture) = picture {
            write("overlay", &overlay(picture, map, &self.style)?)?;
        }
        write_npy_f32(&folder.join(format!("map{suffix}.npy")), map.into_dyn())?;
        Ok(PictureReport { colormap: colormap.to_string(), percentile: clip, low, high, clipped })
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

/// What the folder of an input always holds.
const REPORT: &str = "report.json";

/// Whether a run of relc wrote a folder.
fn is_of_a_run(folder: &Path) -> bool {
    folder.join(REPORT).is_file()
}

/// Whether runs write files of this name: `heat.png`, `map.281.npy`.
fn is_ours(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let what = match stem.split_once('.') {
        Some((what, target)) if !target.is_empty() && target.chars().all(|c| c.is_ascii_digit()) => what,
        Some(_) => return false,
        None => stem,
    };
    let ours = [
        ("png", &["heat", "overlay", "input", "plot", "bars", "slices", "sheet"][..]),
        ("gif", &["overlay"]),
        ("svg", &["plot", "bars"]),
        ("npy", &["map", "relevance"]),
        ("csv", &["relevance"]),
        ("nii", &["map"]),
    ];
    name == REPORT || ours.iter().any(|(e, names)| *e == ending && names.contains(&what))
}

/// The names in a folder, as far as they are text and can be read.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
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
    let text = serde_json::to_string_pretty(value)?;
    if path == Path::new("-") {
        return Ok(print::json(&text)?);
    }
    write_atomically(path, |file| writeln!(file, "{text}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_what_runs_write_is_ours() {
        for name in [
            "report.json",
            "heat.png",
            "overlay.7.png",
            "map.npy",
            "map.12.npy",
            "input.png",
            "plot.3.svg",
            "relevance.csv",
            "bars.png",
            "slices.0.png",
            "map.nii",
            "overlay.gif",
            "sheet.3.png",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in
            ["notes.txt", "heat.old.png", "heat.png.bak", "map.png", "heat.1.2.png", "heat..png", "heat"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }
}
