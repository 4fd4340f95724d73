//! The library in twenty lines: explain one picture and say where the relevance lies.
//!
//! ```sh
//! cargo run --release -p relc --example explain -- examples/demo/model.onnx examples/demo/images/00_disc.png \
//!     examples/demo/preprocess.toml
//! ```

use std::error::Error;
use std::path::Path;

use ndarray::Axis;
use relc::preprocess::{Preprocess, load_picture};
use relc::{Compiler, Preset, Seed, SeedKind, Targets};

fn main() -> Result<(), Box<dyn Error>> {
    let [model, picture, preprocess] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(
            |_| "usage: explain MODEL PICTURE PREPROCESS (imagenet, cifar10, none or a .toml file)",
        )?;
    let explainer = Compiler::new(Preset::named("two_level")?).compile(model)?;
    let (layout, size) = explainer.picture_input().ok_or("the model's input is no picture")?;
    let channels = explainer.picture_channels().unwrap_or(3);
    let prepared =
        Preprocess::load(&preprocess)?.apply(&load_picture(Path::new(&picture))?, layout, size, channels)?;

    let input = prepared.values.insert_axis(Axis(0)).into_dyn();
    let result = explainer.explain(input.view(), &Seed::Named(SeedKind::Logit), &Targets::Argmax)?;
    let explanation = &result.explanations[0];
    let map = explanation.map.as_ref().ok_or("the model's input is no picture")?;
    let (place, value) = map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("the map is empty")?;
    println!(
        "output {} with probability {:.3}",
        explanation.targets[0],
        result.probabilities[(0, explanation.targets[0])]
    );
    println!("most relevant pixel: row {}, column {} ({value:.4})", place.1, place.2);
    println!("conservation error: {:.1e}", explanation.conservation_error(0));
    Ok(())
}
