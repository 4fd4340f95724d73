//! What is to be explained: the targets, and the relevance to start from.

use std::path::Path;

use relc::files::read_npy_f32;
use relc::unstable::ir::names::UnknownName;
use relc::{Explainer, Seed, Targets};

use crate::args::ExplainArgs;
use crate::failure::Failure;

/// What to explain: `--compare`'s two targets, or `--target`'s.
pub fn targets(args: &ExplainArgs, labels: Option<&[String]>) -> Result<Targets, Failure> {
    let Some(pair) = &args.compare else {
        return Targets::parse(args.target.as_deref().unwrap_or("argmax"), labels).map_err(Failure::usage);
    };
    let mut outputs = Vec::new();
    for text in pair {
        match Targets::parse(text, labels).map_err(Failure::usage)? {
            Targets::Outputs(one) if one.len() == 1 => outputs.extend(one),
            _ => {
                return Err(Failure::usage(format!(
                    "--compare: got \"{text}\", expected an output's index or label"
                )));
            }
        }
    }
    Ok(Targets::Outputs(outputs))
}

/// What of the targets could be meant otherwise.
pub fn doubts(args: &ExplainArgs, labels: Option<&[String]>) -> Vec<String> {
    let texts = args.compare.iter().flatten().chain(&args.target);
    texts.flat_map(|text| Targets::doubts(text, labels.unwrap_or(&[]))).collect()
}

/// The relevance to start from, and what reports call it.
pub fn seed(args: &ExplainArgs, explainer: &Explainer) -> Result<(Seed, String), Failure> {
    if let Some(method) = &args.method.method {
        return Ok((Seed::Named(relc::SeedKind::OneHot), method.clone()));
    }
    let Some(text) = &args.seed else {
        let kind = explainer.preset().seed;
        return Ok((Seed::Named(kind), kind.to_string()));
    };
    if Path::new(text).extension().is_some_and(|e| e == "npy") {
        if args.target.is_some() {
            return Err(Failure::usage(format!(
                "--target does nothing with the seed {text}, which says what each output gets; leave one of them out"
            )));
        }
        return Ok((Seed::Tensor(read_npy_f32(Path::new(text))?), text.clone()));
    }
    let kind: relc::SeedKind = text.parse().map_err(|e: UnknownName| Failure::usage(e.or("a .npy file")))?;
    Ok((Seed::Named(kind), kind.to_string()))
}

/// A seed with a row per sample must have one for each of all inputs, however they are batched.
pub fn check_seed_rows(seed: &Seed, samples: usize) -> Result<(), Failure> {
    match seed {
        Seed::Tensor(tensor) if tensor.ndim() == 2 && tensor.shape().first() != Some(&samples) => {
            Err(Failure::from(format!(
                "the seed has the shape {:?}, expected a row for each of the {samples} samples, or one axis for all",
                tensor.shape()
            )))
        }
        _ => Ok(()),
    }
}
