//! From the command line's options to a compiler.

use std::path::Path;
use std::thread::available_parallelism;

use relc::artifact::summary;
use relc::files::read_npy_f32;
use relc::preprocess::Preprocess;
use relc::read;
use relc::unstable::ir::Dim;
use relc::unstable::ir::rule::{BiasPolicy, Bounds};
use relc::{
    BatchNormPolicy, CompileError, Compiler, Engine, Held, ImportOptions, Method, MethodOptions, Precision,
    Preset,
};

use crate::args::{BatchNorm, Bias, CompileArgs, EngineArgs, ImportArgs, MethodArgs};
use crate::failure::Failure;
use crate::print;

/// The preprocessing unless `--preprocess` says otherwise.
pub const DEFAULT_PREPROCESS: &str = "imagenet";

/// The preset with the options in it, and a compiler for it. An artifact's own preset is the one that it was compiled with.
fn compiler(args: &CompileArgs, model: &Path) -> Result<(Preset, Compiler), Failure> {
    let mut preset = match &args.preset {
        Some(name) => preset(name)?,
        None => match summary(model)? {
            Some(artifact) => artifact.preset,
            None => preset(Preset::DEFAULT)?,
        },
    };
    if let Some(split) = &args.split {
        preset = preset.with_split(split.parse().map_err(Failure::usage)?);
    }
    if let Some(gate) = &args.gate {
        preset = preset.with_gate(gate.parse().map_err(Failure::usage)?);
    }
    if let Some(bias) = args.bias {
        let policy = match bias {
            Bias::Include => BiasPolicy::Include,
            Bias::Exclude => BiasPolicy::Exclude,
            Bias::All => BiasPolicy::All,
        };
        preset = preset.with_bias(policy).map_err(Failure::usage)?;
    }
    if !args.readout.is_empty() {
        preset = preset.with_readouts(&args.readout).map_err(Failure::usage)?;
    }
    for mask in &args.mask {
        preset = preset.with_mask(mask).map_err(Failure::usage)?;
    }
    if !args.low.is_empty() {
        preset = preset.with_bounds(Bounds { low: args.low.clone(), high: args.high.clone() });
    }
    let mut compiler = Compiler::new(preset.clone());
    if let Some(policy) = args.batchnorm {
        compiler = compiler.batchnorm(batchnorm(policy));
    }
    Ok((preset, compiler))
}

/// What the model leaves open.
pub fn import_options(args: &ImportArgs) -> Result<ImportOptions, Failure> {
    let input_shape = args.input_shape.as_deref().map(shape).transpose().map_err(Failure::usage)?;
    let hold = args.hold.iter().map(|text| held(text)).collect::<Result<_, _>>()?;
    let constant_limit = bytes(args.constant_limit).map_err(Failure::usage)?;
    Ok(ImportOptions { output: args.output.clone(), input_shape, hold, constant_limit })
}

/// A number of GiB in bytes.
fn bytes(gib: f64) -> Result<u64, String> {
    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
    if gib >= 0.0 && gib.is_finite() {
        return Ok((gib * GIB) as u64);
    }
    Err(format!("--constant-limit: got {gib}, expected a number of GiB that is not negative"))
}

/// `NAME=VALUE`: a number, or an `.npy` file.
fn held(text: &str) -> Result<Held, Failure> {
    let wrong = || format!("--hold: got \"{text}\", expected NAME=NUMBER or NAME=FILE.npy");
    let (name, value) = text.rsplit_once('=').ok_or_else(|| Failure::usage(wrong()))?;
    let name = name.to_string();
    if Path::new(value).extension().is_some_and(|e| e == "npy") {
        let array = read_npy_f32(Path::new(value))?;
        return Ok(Held { name, shape: array.shape().to_vec(), values: array.iter().copied().collect() });
    }
    let number = value.parse().map_err(|_| Failure::usage(wrong()))?;
    Ok(Held { name, shape: Vec::new(), values: vec![number] })
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

/// As [`compiler`], for commands that see no picture: a zbox without bounds takes those of ImageNet's preprocessing, as
/// `relc explain` does unless told otherwise.
pub fn usual_compiler(args: &CompileArgs, model: &Path) -> Result<Compiler, Failure> {
    picture_compiler(args, model, &Preprocess::load(DEFAULT_PREPROCESS)?)
}

/// As [`compiler`], for models of pictures of three channels: a zbox without bounds takes those of the preprocessing.
pub fn picture_compiler(
    args: &CompileArgs,
    model: &Path,
    preprocess: &Preprocess,
) -> Result<Compiler, Failure> {
    let (preset, compiler) = compiler(args, model)?;
    if !preset.wants_bounds() {
        return Ok(compiler);
    }
    let policy = args.batchnorm.map(batchnorm);
    let compiler = Compiler::new(preset.with_bounds(preprocess.bounds()));
    Ok(match policy {
        Some(policy) => compiler.batchnorm(policy),
        None => compiler,
    })
}

fn batchnorm(policy: BatchNorm) -> BatchNormPolicy {
    match policy {
        BatchNorm::Fold => BatchNormPolicy::Fold,
        BatchNorm::Keep => BatchNormPolicy::Keep,
        BatchNorm::FoldAsZennit => BatchNormPolicy::FoldAsZennit,
    }
}

/// The method that the options ask for.
pub fn method(args: &MethodArgs) -> Result<Option<Method>, Failure> {
    let Some(name) = &args.method else { return Ok(None) };
    let options = MethodOptions {
        samples: args.samples,
        sigma: args.sigma,
        layer: args.layer.clone(),
        seed: args.rng_seed,
    };
    Method::new(name, &options).map(Some).map_err(|e| Failure::usage(e.to_string()))
}

/// A compiler with the engine and the device; sets the number of threads, once for the process.
pub fn on_engine(compiler: Compiler, args: &EngineArgs) -> Result<Compiler, Failure> {
    if let Some(threads) = args.threads {
        let (asked, most) = (usize::from(threads), available_parallelism().map_or(1, usize::from));
        if asked > most {
            eprintln!("note: {asked} threads asked for, {most} used: one for each processor");
        }
        rayon::ThreadPoolBuilder::new().num_threads(asked.min(most)).build_global()?;
    }
    let engine: Engine = args.engine.parse().map_err(Failure::usage)?;
    let missing = |why: &str| print::note(format!("note: the processor is used, in fp32: {why}"));
    compiler.engine(engine).device(args.device, args.precision, missing).map_err(|error| match error {
        // A device that is not there, as an option that can't be had.
        CompileError::Device(why) => {
            let precision = match args.precision {
                Precision::F32 => String::new(),
                other => format!(" --precision {other}"),
            };
            Failure::usage(format!("--device {}{precision}: {why}", args.device))
        }
        other => other.into(),
    })
}

/// A shipped preset, or one from a file.
fn preset(name: &str) -> Result<Preset, Failure> {
    if Path::new(name).extension().is_some_and(|e| e == "toml") {
        let text = read::text(Path::new(name), read::PRESET)?;
        return Ok(Preset::parse(&text, name)?);
    }
    Preset::named(name).map_err(Failure::usage)
}
