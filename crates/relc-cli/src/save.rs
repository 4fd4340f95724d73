//! `relc compile`: the explainer as a file.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use relc::Explainer;
use relc::artifact::summary;
use relc::files::check_writable;
use serde_json::json;

use crate::args::{CompileArgs, ImportArgs};
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::print;

/// `relc compile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc compile resnet50.onnx -o resnet50.relc
  relc compile resnet50.onnx --preset conserve -o resnet50.relc
  relc explain resnet50.relc cat.jpg --out out

The file holds the program for this machine with its weights, and the model. Every command takes it in place of the
model: it is mapped into memory and runs at once, with the preset that it was compiled with, and explains to the bit
as the model does. With another preset, or on a machine without its instructions, the model inside is compiled anew.
Only the version of relc that made a file reads it.")]
pub struct SaveArgs {
    /// The ONNX model.
    pub model: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// The file to write.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was written as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &SaveArgs) -> Result<(), Failure> {
    check_writable(&args.out)?;
    let start = Instant::now();
    let compiler = usual_compiler(&args.compile, &args.model)?.import(import_options(&args.import)?);
    let explainer = compiler.save(&args.model, &args.out)?;
    let compiled = start.elapsed();
    explainer.graph().notes.iter().for_each(|note| print::note(format!("note: {note}")));
    // What was written is read back, so that whoever gets the file need not.
    let start = Instant::now();
    Explainer::load(&args.out)?;
    let loaded = start.elapsed();
    let bytes = std::fs::metadata(&args.out)?.len();
    let (file, preset) = (args.out.display().to_string(), explainer.preset().title());
    let made_for = summary(&args.out)?.map(|summary| (summary.isa, summary.machine));
    let (isa, machine) = made_for.unwrap_or_default();
    if args.json {
        let written = json!({
            "file": file,
            "bytes": bytes,
            "preset": preset,
            "isa": isa,
            "machine": machine,
            "compile_ms": compiled.as_secs_f64() * 1e3,
            "load_ms": loaded.as_secs_f64() * 1e3,
        });
        return Ok(print::json(&format!("{written:#}"))?);
    }
    Ok(print::line(format!(
        "{file}: {:.1} MiB, preset {preset}, for {isa} ({machine}); compiled and written in {:.0} ms, loads in {:.0} ms",
        bytes as f64 / f64::from(1 << 20),
        compiled.as_secs_f64() * 1e3,
        loaded.as_secs_f64() * 1e3
    ))?)
}
