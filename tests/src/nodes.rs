//! ONNX's backend node tests, as `tools/make_node_tests.py` writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::npz::Npz;

/// A node test.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The operator that it tests.
    pub op: String,
    /// Every operator in it.
    pub ops: Vec<String>,
    /// Why it can't be asked of relc.
    #[serde(default)]
    pub skip: Option<String>,
}

/// The node tests of a folder, by name.
///
/// # Panics
/// If the folder has no readable `nodes.json`.
pub fn cases(folder: &Path) -> BTreeMap<String, Case> {
    let index = folder.join("nodes.json");
    let text = std::fs::read_to_string(&index).unwrap_or_else(|e| panic!("{}: {e}", index.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", index.display()))
}

/// Relative and absolute tolerance of the node tests: ONNX's own relative one, and what f32 sums need.
const TOLERANCE: (f64, f64) = (1e-3, 1e-5);

/// Runs a node test in the f64 interpreter.
///
/// # Errors
/// What relc says if it can't, or how far its output is off.
///
/// # Panics
/// If the arrays beside the model can't be read.
pub fn run(folder: &Path, name: &str) -> Result<(), String> {
    let path: PathBuf = folder.join(format!("{name}.onnx"));
    let graph = relc_onnx::import_path(&path).map_err(|e| crate::zoo::chain(&e))?.graph;
    let arrays = Npz::open(folder.join(format!("{name}.npz")));
    let (x, expected) = (arrays.f32("x").mapv(f64::from), arrays.f32("y"));
    let forward = relc_interp::forward(&graph, &[x]).map_err(|e| e.to_string())?;
    let (_, output) = forward.outputs().next().ok_or("got no output")?;
    if output.shape() != expected.shape() {
        return Err(format!("got the shape {:?}, expected {:?}", output.shape(), expected.shape()));
    }
    let (relative, absolute) = TOLERANCE;
    let off = output.iter().zip(&expected).map(|(got, expected)| {
        let expected = f64::from(*expected);
        (got - expected).abs() / (absolute + relative * expected.abs())
    });
    match off.fold(0.0, f64::max) {
        worst if worst <= 1.0 => Ok(()),
        worst => Err(format!("off by {worst:.1e} times the tolerance")),
    }
}
