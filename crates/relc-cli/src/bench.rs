//! `relc bench`: how long explanations and forward passes take.

use std::time::Instant;

use ndarray::ArrayD;
use relc::unstable::program::Module;
use relc::{Explainer, Method, Seed, Targets};
use relc_viz::significant;
use serde::Serialize;

use crate::args::{BATCH, BenchArgs};
use crate::compile::{import_options, method, on_engine, usual_compiler};
use crate::failure::Failure;
use crate::print;

/// Runs that fill caches and memory before any counts.
const WARM_UP: usize = 2;

/// What the command prints: times in milliseconds, of whole batches, warm.
#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    engine: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    isa: Option<&'static str>,
    threads: usize,
    batch: usize,
    targets: usize,
    compile_ms: f64,
    explain_ms: Vec<f64>,
    forward_ms: Vec<f64>,
    /// Of the samples that run at a time.
    arena_bytes: usize,
    /// Packed weights and other constants of the compiled program.
    weights_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let method = method(&args.method)?;
    let compiler = match &method {
        Some(_) => Method::compiler()?,
        None => usual_compiler(&args.compile, &args.model)?,
    };
    let start = Instant::now();
    let compiler = on_engine(compiler, &args.engine)?.import(import_options(&args.import)?);
    let explainer = compiler.compile(&args.model)?;
    let compile_ms = milliseconds(start);
    let explainer = explainer.without_sensitivity(); // one explanation is timed, not two
    let explainer = if args.no_ledger { explainer.without_ledger() } else { explainer };
    let batch = usize::from(args.batch);
    let input = noise(&explainer, batch)?;
    let seed = Seed::Named(explainer.preset().seed);
    let targets = Targets::TopK(usize::from(args.targets));
    let explain = || match &method {
        Some(method) => {
            method.explain(&explainer, input.view(), &targets, usize::from(BATCH), &mut |_, _| {})
        }
        None => explainer.explain(input.view(), &seed, &targets),
    };
    let explain_ms = time(args.runs, || explain().map(|_| ()))?;
    let forward_ms = time(args.runs, || explainer.predict(input.view()).map(|_| ()))?;
    let executable = explainer.executable();
    let threads = rayon::current_num_threads();
    let report = Report {
        model: args.model.display().to_string(),
        preset: method.is_none().then(|| explainer.preset().name.clone()),
        method: method.map(|m| m.name()),
        engine: explainer.engine_name(),
        isa: executable.map(|e| e.isa().name()),
        threads,
        batch,
        targets: usize::from(args.targets),
        compile_ms,
        explain_ms,
        forward_ms,
        arena_bytes: executable.map_or(0, |e| e.arena_bytes() * e.at_a_time(batch)),
        weights_bytes: executable.map_or(0, |e| e.weights_bytes()),
        peak_rss_bytes: peak_rss_bytes(),
    };
    if args.json {
        return Ok(print::json(&serde_json::to_string(&report)?)?);
    }
    show(&report)
}

fn show(report: &Report) -> Result<(), Failure> {
    let line = |name: &str, times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, median) = (sorted.first(), sorted.get(sorted.len() / 2));
        let (min, median) = (min.copied().unwrap_or(0.0), median.copied().unwrap_or(0.0));
        let [min, median] = [min, median].map(|ms| significant(ms, 3));
        print::line(format!("  {name:<10} min {min} ms, median {median} ms, of {} runs", times.len()))
    };
    let mib = |bytes: f64| significant(bytes / f64::from(1 << 20), 3);
    let isa = report.isa.map(|isa| format!(" ({isa})")).unwrap_or_default();
    let what = match (&report.preset, report.method) {
        (_, Some(method)) => format!("method {method}"),
        (preset, None) => format!("preset {}", preset.as_deref().unwrap_or_default()),
    };
    print::line(format!("{}: {what}, batch {}, {} target(s)", report.model, report.batch, report.targets))?;
    print::line(format!("  engine     {}{isa}, {} thread(s)", report.engine, report.threads))?;
    print::line(format!("  compile    {} ms", significant(report.compile_ms, 3)))?;
    line("explain", &report.explain_ms)?;
    line("forward", &report.forward_ms)?;
    let (arena, weights) = (mib(report.arena_bytes as f64), mib(report.weights_bytes as f64));
    print::line(format!("  memory     {arena} MiB of values, {weights} MiB of packed weights"))?;
    if let Some(peak) = report.peak_rss_bytes {
        print::line(format!("  peak       {} MiB resident", mib(peak as f64)))?;
    }
    Ok(())
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The times of some runs, in milliseconds.
fn time<E>(runs: u16, mut f: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    for _ in 0..WARM_UP {
        f()?;
    }
    let timed = |_| {
        let start = Instant::now();
        f()?;
        Ok(milliseconds(start))
    };
    (0..runs).map(timed).collect()
}

/// An input of the model's shape, every value of it in `[-2, 2]`.
pub fn noise(explainer: &Explainer, samples: usize) -> Result<ArrayD<f32>, Failure> {
    let (_, ty) = explainer.input()?;
    let mut rng = fastrand::Rng::with_seed(0);
    Ok(ArrayD::from_shape_simple_fn(ty.bind(samples), || rng.f32() * 4.0 - 2.0))
}

/// The most memory that the process had resident.
#[cfg(unix)]
fn peak_rss_bytes() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let kibibytes = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss();
    // macOS counts bytes, the others kibibytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(kibibytes).ok().map(|n| n * unit)
}

/// Not known here.
#[cfg(not(unix))]
fn peak_rss_bytes() -> Option<u64> {
    None
}
