//! Explains pictures on four threads, by a rule of its own.
//!
//! ```sh
//! cargo run --release -- ../demo/model.onnx ../demo/preprocess.toml ../demo/images/*.png
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use own_rule_and_pass::{Service, preset};
use relc::Compiler;
use relc::preprocess::Preprocess;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(preprocess)) = (args.next(), args.next()) else {
        return Err("usage: own-rule-and-pass MODEL PREPROCESS PICTURE...".into());
    };
    let explainer = Compiler::new(preset()?).compile(model)?;
    let service = Service::start(explainer, Preprocess::load(&preprocess)?, 4);
    let answers: Vec<_> = args.map(|picture| service.explain(picture)).collect();
    for answer in answers {
        match answer.recv()? {
            Ok(answer) => println!(
                "{}: class {} with probability {:.3}, conserved to {:.1e}",
                answer.picture.display(),
                answer.class,
                answer.probability,
                answer.conservation_error
            ),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
