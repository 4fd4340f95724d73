//! `relc export`: the explainer as an ONNX file.

use std::path::PathBuf;

use clap::Args;
use relc::artifact::summary;
use relc::files::write_atomically;
use relc::{Engine, ExportError, ExportTarget, SeedKind};
use serde_json::json;

use crate::args::{CompileArgs, ImportArgs};
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print;

/// `relc export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc export resnet50.onnx -o explainer.onnx
  relc export resnet50.onnx --preset conserve --target 281 --seed onehot -o tabby.onnx
  relc export resnet50.onnx --target input -o explainer.onnx

In Python:
  session = onnxruntime.InferenceSession(\"explainer.onnx\")
  logits, relevance, map = session.run(None, {\"input\": x})

The file holds ONNX's standard operators of opset 17. Its input is the model's, as the model takes it: pictures are
preprocessed as for the model. Its outputs are logits f32[N,K], relevance in the input's shape and, for signals,
pictures and volumes, map f32[N,..]. With --target input it has a second input, target int64[N].")]
pub struct ExportArgs {
    /// The ONNX model.
    pub model: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// The output to explain: argmax, an output's index, or input: a second input names it for each sample.
    #[arg(long, value_name = "TARGET", default_value = "argmax")]
    pub target: String,
    /// The relevance to start from: prob, logit, onehot or contrast [default: the preset's].
    #[arg(long, value_name = "SEED")]
    pub seed: Option<SeedKind>,
    /// The file to write.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was written as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let target = target(&args.target)?;
    // Nothing is run here, so nothing needs machine code.
    let compiler = usual_compiler(&args.compile, &args.model)?.engine(Engine::InterpF32);
    let explainer = compiler.import(import_options(&args.import)?).compile(&args.model)?;
    explainer.graph().notes.iter().for_each(|note| print::note(format!("note: {note}")));
    let seed = args.seed.unwrap_or(explainer.preset().seed);
    let bytes = explainer.to_onnx(target, seed).map_err(|error| match error {
        ExportError::Target { .. } => Failure::usage(error),
        error => error.into(),
    })?;
    write_atomically(&args.out, |file| std::io::Write::write_all(file, &bytes))?;
    let outputs =
        if explainer.spatial_input().is_some() { "logits, relevance, map" } else { "logits, relevance" };
    let model = match summary(args.model.clone())? {
        Some(artifact) => artifact.model.bytes,
        None => std::fs::metadata(&args.model).map_or(0, |m| m.len()),
    };
    let out = args.out.display().to_string();
    if args.json {
        let written = json!({
            "file": out,
            "bytes": bytes.len(),
            "model_bytes": model,
            "preset": explainer.preset().name,
            "target": args.target,
            "seed": seed.to_string(),
            "conserving": explainer.is_conserving(),
            "outputs": outputs.split(", ").collect::<Vec<_>>(),
        });
        return Ok(print::json(&format!("{written:#}"))?);
    }
    let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    print::line(format!(
        "{out}: {} (the model's file: {}), preset {}, target {}, seed {seed}; gives {outputs}",
        mib(bytes.len() as f64),
        mib(model as f64),
        explainer.preset().name,
        args.target
    ))?;
    let leaks = explainer.leaks().len();
    Ok(print::line(if explainer.is_conserving() {
        "relevance is conserved: it adds up to the seed".to_string()
    } else {
        format!("relevance is not conserved: {leaks} nodes may lose or add some (relc check names them)")
    })?)
}

fn target(text: &str) -> Result<ExportTarget, Failure> {
    match (text, text.parse()) {
        ("argmax", _) => Ok(ExportTarget::Argmax),
        ("input", _) => Ok(ExportTarget::Input),
        (_, Ok(output)) => Ok(ExportTarget::Output(output)),
        _ => Err(Failure::usage(format!(
            "--target: got \"{text}\", expected argmax, an output's index, or input"
        ))),
    }
}
