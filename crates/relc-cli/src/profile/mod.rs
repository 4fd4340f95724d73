//! `relc profile`: where the time goes, and where it should.

#[cfg(feature = "cuda")]
mod gpu;

use std::path::Path;

use relc::Explainer;
use relc::unstable::engine::{Cost, Executable, Level, Machine, StepTime, flops_per_second};
use relc_html::{Profile, ProfileStep};
use relc_viz::{percent, significant};
use serde::Serialize;

use crate::args::ProfileArgs;
use crate::bench::noise;
use crate::compile::{import_options, on_engine, usual_compiler};
use crate::failure::Failure;
use crate::print;
use crate::table::Table;

/// The share of the time from which on a step counts in the model's summary.
const COUNTED: f64 = 0.01;
/// By what a prediction that is near the measured time differs from it at most.
const NEAR: f64 = 1.5;

/// A line of the table.
#[derive(Serialize)]
struct Line {
    pass: &'static str,
    node: String,
    op: String,
    step: &'static str,
    us: f64,
    flops: u64,
    /// Of the plain sums: Winograd's algorithm may exceed the peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    gflops_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of_peak: Option<f64>,
    /// Multiply-adds that run, by the model, and cycles of a core that has all data in its first cache.
    multiply_adds: f64,
    cycles: f64,
    /// What comes from beyond the first cache, by the model, and from where.
    bytes: f64,
    bytes_of: BytesOf,
    gbytes_per_s: f64,
    /// The least time by the roofline, and what sets it.
    bound_us: f64,
    bound_by: &'static str,
    predicted_us: f64,
    /// Measured over predicted time.
    ratio: f64,
    of_time: f64,
}

/// Bytes by the level that they come from.
#[derive(Serialize)]
struct BytesOf {
    l2: f64,
    l3: f64,
    memory: f64,
}

/// What `--json` prints.
#[derive(Serialize)]
pub struct Report {
    model: String,
    isa: &'static str,
    machine: &'static str,
    threads: usize,
    peak_gflops_per_s: f64,
    total_us: f64,
    predicted_us: f64,
    near: Near,
    steps: Vec<Line>,
    /// The machine with its caches, and what it gives of each level beyond the first, in GB/s.
    #[serde(skip)]
    details: (String, Vec<(&'static str, f64)>),
}

/// How many of the steps that count are predicted well.
#[derive(Serialize)]
struct Near {
    steps: usize,
    within: usize,
}

/// Runs the command.
pub fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let compiler = usual_compiler(&args.compile, &args.model)?;
    let explainer =
        on_engine(compiler, &args.engine)?.import(import_options(&args.import)?).compile(&args.model)?;
    #[cfg(feature = "cuda")]
    if let Some(module) = explainer.on_gpu() {
        return gpu::run(module, &explainer, args);
    }
    if args.batch > 1 {
        return Err(Failure::usage("--batch is of a GPU: the processor's steps are timed on one sample"));
    }
    let report = measure(&explainer, &args.model, usize::from(args.runs))?;
    if args.json {
        return Ok(print::json(&serde_json::to_string(&report)?)?);
    }
    show(&report, args.model_times)
}

/// Times every step of an explanation, so many times.
pub fn measure(explainer: &Explainer, model: &Path, runs: usize) -> Result<Report, Failure> {
    let executable = explainer
        .executable()
        .ok_or_else(|| Failure::usage("only the compiled engine is profiled; use --engine jit"))?;
    let input = noise(explainer, 1)?;
    let steps = executable.profile(input.as_slice().unwrap_or(&[]), runs)?;
    let costs = executable.costs();
    let peak = flops_per_second(executable.isa());
    let total: f64 = steps.iter().map(|s| s.time.as_secs_f64()).sum();
    let lines = steps.iter().zip(&costs).map(|(step, cost)| {
        let node = explainer.graph().node(step.node);
        line(executable, (node.name.clone(), node.op.mnemonic()), (step, cost), [peak, total])
    });
    let lines: Vec<Line> = lines.collect();
    let counted = lines.iter().filter(|line| line.of_time >= COUNTED);
    let near = Near {
        steps: counted.clone().count(),
        within: counted.filter(|line| line.ratio.max(1.0 / line.ratio) <= NEAR).count(),
    };
    let (machine, threads) = (executable.machine(), rayon::current_num_threads());
    Ok(Report {
        model: model.display().to_string(),
        isa: executable.isa().name(),
        machine: machine.class.name(),
        threads,
        peak_gflops_per_s: peak / 1e9,
        total_us: total * 1e6,
        predicted_us: lines.iter().map(|line| line.predicted_us).sum(),
        near,
        steps: lines,
        details: (machine.to_string(), rates_of(machine, threads)),
    })
}

/// The GB/s of each level beyond the first cache, by the model of the machine.
fn rates_of(machine: &Machine, threads: usize) -> Vec<(&'static str, f64)> {
    let rate = |level: Level| {
        let mut cost = Cost::default();
        cost.bytes[level as usize] = 1e9;
        (level.name(), 1.0 / cost.roofline(machine, threads).0)
    };
    Level::ALL.into_iter().skip(1).map(rate).collect()
}

impl Report {
    /// As a page shows it, of so many runs.
    pub fn to_page(&self, runs: usize) -> Profile {
        let step = |line: &Line| ProfileStep {
            pass: line.pass,
            node: line.node.clone(),
            op: line.op.clone(),
            step: line.step.to_string(),
            us: line.us,
            flops: line.flops as f64,
            bytes: line.bytes,
            bound_us: line.bound_us,
            bound_by: line.bound_by,
            of_time: line.of_time,
        };
        let (machine, levels) = self.details.clone();
        let (threads, peak) = (self.threads, self.peak_gflops_per_s);
        Profile { machine, threads, runs, peak, levels, steps: self.steps.iter().map(step).collect() }
    }
}

fn line(
    executable: &Executable,
    (node, op): (String, String),
    (step, cost): (&StepTime, &Cost),
    [peak, total]: [f64; 2],
) -> Line {
    let (machine, threads) = (executable.machine(), rayon::current_num_threads());
    // A clock may not tell a short step from none.
    let seconds = step.time.as_secs_f64().max(1e-9);
    let rate = (step.flops > 0).then(|| step.flops as f64 / seconds);
    let (bound, by) = cost.roofline(machine, threads);
    let predicted = cost.seconds(machine, threads);
    let [_, l2, l3, memory] = cost.bytes;
    Line {
        pass: if step.forward { "forward" } else { "backward" },
        node,
        op,
        step: step.what,
        us: seconds * 1e6,
        flops: step.flops,
        gflops_per_s: rate.map(|r| r / 1e9),
        of_peak: rate.map(|r| r / peak),
        multiply_adds: cost.multiply_adds,
        cycles: cost.cycles,
        bytes: cost.traffic(),
        bytes_of: BytesOf { l2, l3, memory },
        gbytes_per_s: cost.traffic() / seconds / 1e9,
        bound_us: bound * 1e6,
        bound_by: by.name(),
        predicted_us: predicted * 1e6,
        ratio: seconds / predicted,
        of_time: seconds / total,
    }
}

fn number(value: f64) -> String {
    significant(value, 3)
}

fn show(report: &Report, model: bool) -> Result<(), Failure> {
    let (isa, threads, peak) = (report.isa, report.threads, report.peak_gflops_per_s);
    let machine = report.machine;
    print::line(format!("{}: {machine}, {isa}, {threads} thread(s), peak {peak:.0} GFLOP/s", report.model))?;
    print::block(if model { predictions(report) } else { rates(report) })?;
    if model {
        let Near { steps, within } = report.near;
        let (predicted, total) = (number(report.predicted_us / 1e3), number(report.total_us / 1e3));
        print::line(format!("predicted {predicted} ms, measured {total} ms"))?;
        print::line(format!(
            "{within} of {steps} steps of more than {} of the time are within a factor of {NEAR} of the prediction",
            percent(COUNTED)
        ))?;
    }
    show_totals(report.steps.iter().map(|line| (line.pass, line.step, line.us)))
}

/// The milliseconds of each half, and of the ledger's steps, from passes, steps and microseconds.
fn show_totals<'l>(lines: impl Iterator<Item = (&'l str, &'l str, f64)> + Clone) -> Result<(), Failure> {
    let sum = |half: &str, of_ledger: bool| {
        let lines = lines.clone().filter(|(pass, step, _)| *pass == half && (*step == "ledger") == of_ledger);
        number(lines.map(|(_, _, us)| us).sum::<f64>() / 1e3)
    };
    let (forward, backward, ledger) = (sum("forward", false), sum("backward", false), sum("backward", true));
    print::line(format!("forward {forward} ms, backward {backward} ms, ledger {ledger} ms"))?;
    Ok(())
}

/// How fast each step is, and how fast it could be.
fn rates(report: &Report) -> Table {
    let header = [
        "pass", "node", "op", "step", "us", "MFLOP", "GFLOP/s", "of peak", "MB", "GB/s", "bound us",
        "bound by", "of time",
    ];
    let mut table = Table::new(&header, 4);
    for line in &report.steps {
        table.add_row([
            line.pass.to_string(),
            line.node.clone(),
            line.op.clone(),
            line.step.to_string(),
            number(line.us),
            if line.flops > 0 { number(line.flops as f64 / 1e6) } else { String::new() },
            line.gflops_per_s.map(number).unwrap_or_default(),
            line.of_peak.map(percent).unwrap_or_default(),
            number(line.bytes / 1e6),
            number(line.gbytes_per_s),
            number(line.bound_us),
            line.bound_by.to_string(),
            percent(line.of_time),
        ]);
    }
    table
}

/// What the model says of each step.
fn predictions(report: &Report) -> Table {
    let header = ["pass", "node", "op", "step", "us", "predicted us", "ratio", "bound by", "of time"];
    let mut table = Table::new(&header, 4);
    for line in &report.steps {
        table.add_row([
            line.pass.to_string(),
            line.node.clone(),
            line.op.clone(),
            line.step.to_string(),
            number(line.us),
            number(line.predicted_us),
            number(line.ratio),
            line.bound_by.to_string(),
            percent(line.of_time),
        ]);
    }
    table
}
