//! What an explanation can be made again from: files and their hashes, preprocessing, instruction set, options.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use relc_ir::Graph;
use relc_rules::Mask;
use serde::Serialize;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::explainer::Explainer;
use crate::preprocess::Preprocess;

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file, by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileReport {
    /// Its path, as it was given.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

impl FileReport {
    /// Reads a file to its end.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn of(path: &Path) -> io::Result<FileReport> {
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hash)?;
        Ok(FileReport { path: path.display().to_string(), bytes, sha256: hexadecimal(hash) })
    }

    /// Of what is in memory, under a name.
    pub fn of_bytes(name: &str, bytes: &[u8]) -> FileReport {
        let (mut hash, length) = (Sha256::new(), bytes.len() as u64);
        hash.update(bytes);
        FileReport { path: name.to_string(), bytes: length, sha256: hexadecimal(hash) }
    }

    /// Reads the files of a folder, one after the other as if they were one.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn of_folder(folder: &Path, files: &[PathBuf]) -> io::Result<FileReport> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        for file in files {
            bytes += io::copy(&mut File::open(file)?, &mut hash)?;
        }
        Ok(FileReport { path: folder.display().to_string(), bytes, sha256: hexadecimal(hash) })
    }
}

/// What a run was made of, beside what the compiler made of the model.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunReport {
    /// The command line.
    pub command: Vec<String>,
    /// The ONNX file; of an artifact that which it was made of, by its name.
    pub model: FileReport,
    /// The artifact, if the model was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactReport>,
    /// xxh3-64 of names and values of all weights, as they are compiled (folded, and those of other files too), in 16
    /// hexadecimal digits.
    pub weights_xxh3: String,
    /// The instruction set of the compiled engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<&'static str>,
    /// The threads; results don't depend on it.
    pub threads: usize,
    /// Which outputs were asked for, as it was given.
    pub target: String,
    /// The seed's file, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_file: Option<FileReport>,
    /// The labels' file, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<FileReport>,
    /// The masks at cuts.
    pub masks: Vec<MaskReport>,
    /// To how many heat levels maps are floored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heat_quantization: Option<u16>,
    /// How pictures became inputs, or arrays were normalised; none if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessReport>,
    /// What the compiler warned of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An explainer that was compiled before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactReport {
    /// Its path, as it was given.
    pub path: String,
    /// The version of relc that made it.
    pub relc: String,
    /// The instruction set that it was compiled for.
    pub isa: String,
    /// The class of machines that it was compiled for.
    pub machine: String,
}

/// A mask at a cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MaskReport {
    /// A glob on the nodes' ONNX names.
    pub nodes: String,
    /// The channels that pass.
    pub channels: Vec<usize>,
}

impl From<&Mask> for MaskReport {
    fn from(mask: &Mask) -> Self {
        MaskReport { nodes: mask.name.as_str().to_string(), channels: mask.channels.clone() }
    }
}

/// How pictures, or arrays, became inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PreprocessReport {
    /// The preprocessing's name or file.
    pub name: String,
    /// Whether it was not asked for: it is the default.
    pub is_default: bool,
    /// All of it, in a line.
    pub description: String,
    /// All of it, in the words of a preprocessing file, with what the model fixes.
    pub values: Preprocess,
    /// What speaks against it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl PreprocessReport {
    /// What a preprocessing does to the pictures of a model, or the frames; `None` if its input is neither.
    pub fn new(
        explainer: &Explainer,
        preprocess: &Preprocess,
        name: &str,
        is_default: bool,
    ) -> Option<PreprocessReport> {
        let (layout, size) = explainer.frame_input()?;
        let values = preprocess.for_model(layout, size);
        let warnings = preprocess.doubts(explainer, is_default);
        let (name, description) = (name.to_string(), values.to_string());
        Some(PreprocessReport { name, is_default, description, values, warnings })
    }

    /// What a preprocessing does to arrays; `None` if nothing.
    pub fn of_arrays(preprocess: &Preprocess, name: &str) -> Option<PreprocessReport> {
        let (name, description) = (name.to_string(), preprocess.of_arrays());
        let (values, warnings) = (preprocess.clone(), Vec::new());
        let report = PreprocessReport { name, is_default: false, description, values, warnings };
        preprocess.is_of_arrays().then_some(report)
    }
}

/// Which frames of a video were explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FramesReport {
    /// How many it has.
    pub held: usize,
    /// Those that the network saw, from 0.
    pub chosen: Vec<usize>,
}

/// The colours of an explanation's pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PictureReport {
    /// The colour map.
    pub colormap: String,
    /// The magnitude with the last colour is this percentile of all magnitudes.
    pub percentile: f64,
    /// The value with the first colour.
    pub low: f32,
    /// The value with the last colour.
    pub high: f32,
    /// How many values lie beyond these two, and have their colours.
    pub clipped: usize,
}

/// xxh3-64 of names and values of a graph's weights, in 16 hexadecimal digits.
pub fn weights_xxh3(graph: &Graph) -> String {
    let mut hash = Xxh3::new();
    for weight in graph.weights() {
        hash.update(weight.name().as_bytes());
        hash.update(&[0]);
        hash.update(&weight.hash().to_le_bytes());
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_the_hash_that_sha256sum_prints() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let report = FileReport::of(&path).unwrap();
        assert_eq!(report.bytes, 3);
        assert_eq!(report.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(FileReport::of(&folder.path().join("none")).is_err());
    }
}
