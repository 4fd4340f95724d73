//! `relc compile`: the explainer as a file, or as a part of a program in C.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use relc::artifact::summary;
use relc::files::check_writable;
use relc::{Compiler, Explainer};
use serde_json::json;

use crate::args::{CompileArgs, ImportArgs};
use crate::compile::{import_options, usual_compiler};
use crate::emit::Library;
use crate::failure::Failure;
use crate::{emit, print};

/// `relc compile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc compile resnet50.onnx -o resnet50.relc
  relc compile resnet50.onnx --preset conserve -o resnet50.relc
  relc explain resnet50.relc cat.jpg --out out
  relc compile resnet50.onnx --emit staticlib -o libresnet50.a
  cc main.c libresnet50.a -lpthread -ldl -lm          # with what resnet50.h declares

The file holds the program for this machine with its weights, and the model. Every command takes it in place of the
model: it is mapped into memory and runs at once, with the preset that it was compiled with, and explains to the bit
as the model does. With another preset, or on a machine without its instructions, the model inside is compiled anew.
Only the version of relc that made a file reads it.

An object (--emit obj) is this file and its kernels as machine code, behind one symbol, for the linker; a static
library has relc's library for C in it as well, and needs nothing else. Headers are written beside them.")]
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
    /// What to write.
    #[arg(long, value_enum, default_value_t = Emit::Artifact)]
    pub emit: Emit,
    /// The symbol of an object or a library; the name of FILE unless told otherwise.
    #[arg(long, value_name = "SYMBOL")]
    pub name: Option<String>,
    /// relc's library for C, for --emit staticlib; librelc_capi.a beside relc or in ../lib unless told otherwise.
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Print what was written as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// A file that every command takes in place of the model.
    Artifact,
    /// An object file, to be linked with relc's library for C.
    Obj,
    /// A static library that holds both.
    Staticlib,
}

/// Runs the command.
pub fn run(args: &SaveArgs) -> Result<(), Failure> {
    check_writable(&args.out)?;
    match args.emit {
        Emit::Artifact if args.name.is_some() || args.library.is_some() => {
            Err(Failure::usage("--name and --library are of --emit obj and --emit staticlib"))
        }
        Emit::Obj if args.library.is_some() => Err(Failure::usage("--library is of --emit staticlib")),
        Emit::Artifact => artifact(args),
        Emit::Obj | Emit::Staticlib => linked(args),
    }
}

fn compiler(args: &SaveArgs) -> Result<Compiler, Failure> {
    Ok(usual_compiler(&args.compile, &args.model)?.import(import_options(&args.import)?))
}

fn print_notes(explainer: &Explainer) {
    explainer.graph().notes.iter().for_each(|note| print::note(format!("note: {note}")));
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn artifact(args: &SaveArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let explainer = compiler(args)?.save(&args.model, &args.out)?;
    let compiled = start.elapsed();
    print_notes(&explainer);
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
        mib(bytes),
        compiled.as_secs_f64() * 1e3,
        loaded.as_secs_f64() * 1e3
    ))?)
}

/// An object or a static library, and its headers.
fn linked(args: &SaveArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let name = args.name.clone().unwrap_or_else(|| emit::symbol(&args.out));
    let explainer = match args.emit {
        Emit::Staticlib => {
            // Before the model is compiled, which takes longer than to find that this is no library.
            let library = Library::read(args.library.as_deref())?;
            let folder = tempfile::tempdir()?;
            let object = folder.path().join("model.o");
            let explainer = compiler(args)?.save_object(&args.model, &name, &object)?;
            library.write_with(&object, &args.out)?;
            explainer
        }
        _ => compiler(args)?.save_object(&args.model, &name, &args.out)?,
    };
    let model = args.model.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let headers = emit::write_headers(&args.out, &name, &model)?.map(|path| path.display().to_string());
    let compiled = start.elapsed().as_secs_f64() * 1e3;
    print_notes(&explainer);
    let bytes = std::fs::metadata(&args.out)?.len();
    let (file, preset) = (args.out.display().to_string(), explainer.preset().title());
    let isa = explainer.executable().map(|executable| executable.isa().name()).unwrap_or_default();
    if args.json {
        let written = json!({
            "file": file,
            "headers": headers,
            "symbol": name,
            "bytes": bytes,
            "preset": preset,
            "isa": isa,
            "compile_ms": compiled,
        });
        return Ok(print::json(&format!("{written:#}"))?);
    }
    Ok(print::line(format!(
        "{file}: {:.1} MiB, symbol {name}, preset {preset}, for {isa}; compiled and written in {compiled:.0} ms; {} declares it",
        mib(bytes),
        headers[0]
    ))?)
}
