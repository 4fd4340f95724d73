//! From the command line's options to a compiler.

use std::path::Path;

use relc::ir::Dim;
use relc::ir::rule::BiasPolicy;
use relc::{BatchNormPolicy, Compiler, Engine, Explainer, ImportOptions, Preset};

use crate::args::{BatchNorm, Bias, CompileArgs, EngineArgs, ImportArgs};
use crate::failure::Failure;

/// The preset with the options in it, and a compiler for it.
pub fn compiler(args: &CompileArgs) -> Result<(Preset, Compiler), Failure> {
    let mut preset = preset(&args.preset)?;
    if let Some(split) = &args.split {
        preset = preset.with_split(split.parse().map_err(Failure::usage)?);
    }
    if let Some(bias) = args.bias {
        let policy = match bias {
            Bias::Include => BiasPolicy::Include,
            Bias::Exclude => BiasPolicy::Exclude,
        };
        preset = preset.with_bias(policy).map_err(Failure::usage)?;
    }
    let mut compiler = Compiler::new(preset.clone());
    if let Some(policy) = args.batchnorm {
        compiler = compiler.batchnorm(match policy {
            BatchNorm::Fold => BatchNormPolicy::Fold,
            BatchNorm::Keep => BatchNormPolicy::Keep,
        });
    }
    Ok((preset, compiler))
}

/// Imports and compiles a model.
pub fn compile(compiler: &Compiler, model: &Path, args: &ImportArgs) -> Result<Explainer, Failure> {
    let input_shape = args.input_shape.as_deref().map(shape).transpose().map_err(Failure::usage)?;
    let options = ImportOptions { output: args.output.clone(), input_shape };
    if options == ImportOptions::default() {
        return Ok(compiler.compile(model)?);
    }
    Ok(compiler.compile_graph(relc::import(model, &options)?)?)
}

/// `N,3,224,224` or `1x3x224x224`.
fn shape(text: &str) -> Result<Vec<Dim>, String> {
    let dim = |part: &str| match part.trim() {
        "N" => Ok(Dim::Batch),
        part => match part.parse() {
            Ok(size) if size > 0 => Ok(Dim::Fixed(size)),
            _ => Err(format!("got the shape \"{text}\", expected sizes with commas: N,3,224,224")),
        },
    };
    text.split([',', 'x']).map(dim).collect()
}

/// The engine; sets the number of threads, once for the process.
pub fn engine(args: &EngineArgs) -> Result<Engine, Failure> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global()?;
    }
    args.engine.parse().map_err(Failure::usage)
}

/// A shipped preset, or one from a file.
fn preset(name: &str) -> Result<Preset, Failure> {
    if Path::new(name).extension().is_some_and(|e| e == "toml") {
        let text = std::fs::read_to_string(name).map_err(|e| format!("can't read the preset {name}: {e}"))?;
        return Ok(Preset::parse(&text, name)?);
    }
    Preset::named(name).map_err(Failure::usage)
}
