//! Explains a picture by the library: which output, whether relevance was conserved, and the pixel that mattered most.
//!
//! ```sh
//! cargo run --release --bin explain-a-picture
//! ```
#![forbid(unsafe_code)]

use relc::ndarray::Axis;
use relc::preprocess::{Preprocess, load_picture};
use relc::{Compiler, Preset, Seed, Targets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo");
    let preset = Preset::named(Preset::DEFAULT)?;
    let seed = Seed::Named(preset.seed);
    let explainer = Compiler::new(preset).compile(format!("{demo}/model.onnx"))?;

    let preprocess = Preprocess::load(&format!("{demo}/preprocess.toml"))?;
    let picture = load_picture(format!("{demo}/images/00_disc.png").as_ref())?;
    let input = preprocess.prepare(&picture, &explainer)?.values.into_dyn();

    let batch = input.insert_axis(Axis(0));
    let result = explainer.explain(batch.view(), &seed, &Targets::Argmax)?;
    let explanation = &result.explanations[0];
    let target = explanation.targets[0];
    println!("output {target}, probability {:.3}", result.probabilities[(0, target)]);
    println!("conserved to {:.1e}", explanation.conservation_error(0));
    let map = explanation.picture(0).ok_or("the input is no picture")?;
    let most = map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1));
    if let Some(((y, x), relevance)) = most {
        println!("most relevant pixel: row {y}, column {x} ({relevance:.4})");
    }
    Ok(())
}
