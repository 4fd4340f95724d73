//! `relc profile`: where the time goes.

use relc::unstable::engine::{StepTime, flops_per_second};
use serde::Serialize;

use crate::args::ProfileArgs;
use crate::bench::noise;
use crate::compile::{engine, import_options, usual_compiler};
use crate::failure::Failure;
use crate::numbers::{percent, significant};
use crate::print;
use crate::table::Table;

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
    of_time: f64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    isa: &'static str,
    threads: usize,
    peak_gflops_per_s: f64,
    total_us: f64,
    steps: Vec<Line>,
}

/// Runs the command.
pub fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let compiler = usual_compiler(&args.compile)?;
    let engine = engine(&args.engine)?;
    let explainer = compiler.engine(engine).import(import_options(&args.import)?).compile(&args.model)?;
    let executable = explainer
        .executable()
        .ok_or_else(|| Failure::usage("only the compiled engine is profiled; use --engine jit"))?;
    let input = noise(&explainer, 1)?;
    let steps = executable.profile(input.as_slice().unwrap_or(&[]), usize::from(args.runs))?;
    let peak = flops_per_second(executable.isa());
    let total: f64 = steps.iter().map(|s| s.time.as_secs_f64()).sum();
    let line = |step: &StepTime| {
        let node = explainer.graph().node(step.node);
        let seconds = step.time.as_secs_f64();
        let rate = (step.flops > 0 && seconds > 0.0).then(|| step.flops as f64 / seconds);
        Line {
            pass: if step.forward { "forward" } else { "backward" },
            node: node.name.clone(),
            op: node.op.mnemonic(),
            step: step.what,
            us: seconds * 1e6,
            flops: step.flops,
            gflops_per_s: rate.map(|r| r / 1e9),
            of_peak: rate.map(|r| r / peak),
            of_time: seconds / total,
        }
    };
    let report = Report {
        model: args.model.display().to_string(),
        isa: executable.isa().name(),
        threads: rayon::current_num_threads(),
        peak_gflops_per_s: peak / 1e9,
        total_us: total * 1e6,
        steps: steps.iter().map(line).collect(),
    };
    if args.json {
        return Ok(print::json(&serde_json::to_string(&report)?)?);
    }
    show(&report)
}

fn show(report: &Report) -> Result<(), Failure> {
    let (isa, threads, peak) = (report.isa, report.threads, report.peak_gflops_per_s);
    print::line(format!("{}: {isa}, {threads} thread(s), peak {peak:.0} GFLOP/s", report.model))?;
    let header = ["pass", "node", "op", "step", "us", "MFLOP", "GFLOP/s", "of peak", "of time"];
    let mut table = Table::new(&header, 4);
    let number = |value: f64| significant(value, 3);
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
            percent(line.of_time),
        ]);
    }
    print::block(table)?;
    let sum = |pass: &str, bookkeeping: bool| -> f64 {
        let lines = report.steps.iter().filter(|l| l.pass == pass && (l.step == "ledger") == bookkeeping);
        lines.map(|l| l.us).sum::<f64>() / 1e3
    };
    let (forward, backward, ledger) = (sum("forward", false), sum("backward", false), sum("backward", true));
    let [forward, backward, ledger] = [forward, backward, ledger].map(number);
    print::line(format!("forward {forward} ms, backward {backward} ms, ledger {ledger} ms"))?;
    Ok(())
}
