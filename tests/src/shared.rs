//! The reference data in `../shared`, which is not part of the repository.

use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;

/// The folder of the reference data.
pub struct Shared(PathBuf);

/// What is in a complete folder: enough for each suite to compare something.
const COMPLETE: [&str; 15] = [
    "models/cifar10_resnet20.bn.onnx",
    "models/cifar10_resnet20.folded.onnx",
    "models/open_nsfw.onnx",
    "refs/basic18.bn.onnx",
    "refs/basic18.folded.onnx",
    "refs/basic18.npz",
    "refs/bottleneck26.bn.onnx",
    "refs/bottleneck26.folded.onnx",
    "refs/bottleneck26.npz",
    "refs/cifar10_resnet20.npz",
    "refs/neggamma18.bn.onnx",
    "refs/neggamma18.folded.onnx",
    "refs/neggamma18.npz",
    "refs/signal12.npz",
    "refs/signal12.onnx",
];

/// Says on the real standard error, past libtest's capture, that the calling test compares nothing.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nobody to tell is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// The reference data: `RELC_SHARED`, or `../shared` beside the repository. `None`, with a word on standard error
/// that no capture hides, if there is none, which is right on a user's machine.
///
/// # Panics
/// If `RELC_SHARED` is set but no folder, or with `CI=true` if the folder is not complete. A file that is missing from
/// a folder that is there fails the test that wants it: nothing is skipped then.
pub fn shared() -> Option<Shared> {
    let shared = folder()?;
    let missing: Vec<&str> = COMPLETE.into_iter().filter(|file| !shared.0.join(file).is_file()).collect();
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci || missing.is_empty(), "{} lacks {}", shared.0.display(), missing.join(", "));
    Some(shared)
}

fn folder() -> Option<Shared> {
    if let Some(path) = std::env::var_os("RELC_SHARED") {
        let path = PathBuf::from(path);
        assert!(path.is_dir(), "RELC_SHARED={} is no folder", path.display());
        return Some(Shared(path));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if path.is_dir() {
        return Some(Shared(path));
    }
    skipped("no reference data (set RELC_SHARED)");
    None
}

impl Shared {
    /// A file.
    ///
    /// # Panics
    /// If it is not there.
    pub fn path(&self, name: &str) -> String {
        let path = self.0.join(name);
        assert!(path.is_file(), "{} is missing", path.display());
        path.to_string_lossy().into_owned()
    }

    /// The model of reference arrays, with its BatchNormalizations.
    ///
    /// # Panics
    /// If it is not there.
    pub fn reference_model(&self, name: &str) -> String {
        match name {
            "signal12" | "volume10" | "attnpool" => self.path(&format!("refs/{name}.onnx")),
            _ => self.path(&format!("refs/{name}.bn.onnx")),
        }
    }

    /// The files of a folder whose name ends so, sorted.
    ///
    /// # Panics
    /// If there are none.
    pub fn files(&self, folder: &str, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join(folder)).expect("the folder is there");
        let paths = entries.map(|e| e.expect("the folder can be read").path());
        let mut files: Vec<PathBuf> = paths.filter(|p| p.to_string_lossy().ends_with(ending)).collect();
        files.sort();
        assert!(!files.is_empty(), "no {ending} in {folder}");
        files
    }

    /// Every model of the reference data.
    pub fn models(&self) -> Vec<PathBuf> {
        ["models", "refs"].into_iter().flat_map(|folder| self.files(folder, ".onnx")).collect()
    }
}

/// The largest magnitude.
pub fn max_abs(a: &ArrayD<f32>) -> f64 {
    a.iter().fold(0.0, |m, v| f64::max(m, f64::from(v.abs())))
}

/// The largest difference; infinite if a value is no number.
///
/// # Panics
/// If the shapes differ.
pub fn max_difference(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).fold(0.0, |m, (x, y)| {
        let d = (f64::from(*x) - f64::from(*y)).abs();
        if d.is_nan() { f64::INFINITY } else { m.max(d) }
    })
}

#[cfg(test)]
mod tests {
    use super::Shared;

    #[test]
    #[should_panic = "is missing"]
    fn a_file_that_is_missing_fails_its_test() {
        let folder = tempfile::tempdir().unwrap();
        Shared(folder.path().to_path_buf()).path("models/none.onnx");
    }

    #[test]
    #[should_panic = "no .onnx in models"]
    fn a_folder_without_files_fails_its_test() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("models")).unwrap();
        Shared(folder.path().to_path_buf()).files("models", ".onnx");
    }
}
