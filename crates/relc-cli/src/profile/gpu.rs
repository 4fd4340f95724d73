//! The same of a GPU.

use relc::Explainer;
use relc::unstable::cuda::{CudaModule, Peaks, StepTime};
use relc_viz::percent;
use serde::Serialize;

use super::{number, show_totals};
use crate::args::ProfileArgs;
use crate::bench::noise;
use crate::failure::Failure;
use crate::print;
use crate::table::Table;

/// A line of the table.
#[derive(Serialize)]
struct Line {
    pass: &'static str,
    node: String,
    op: String,
    step: String,
    launches: usize,
    us: f64,
    flops: f64,
    precision: &'static str,
    gflops_per_s: f64,
    bytes: f64,
    gbytes_per_s: f64,
    /// The least time by the device's peaks, and what sets it, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_by: Option<&'static str>,
    of_time: f64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    device: String,
    batch: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    peaks: Option<Limits>,
    total_us: f64,
    steps: Vec<Line>,
}

/// The device's peaks.
#[derive(Serialize)]
struct Limits {
    fp32_gflops_per_s: f64,
    tf32_gflops_per_s: f64,
    gbytes_per_s: f64,
}

/// Times the kernels of an explanation, and prints a table.
pub fn run(module: &CudaModule, explainer: &Explainer, args: &ProfileArgs) -> Result<(), Failure> {
    if args.model_times {
        return Err(Failure::usage(
            "--model is of processors; a GPU's table has the least time by its peaks",
        ));
    }
    let batch = usize::from(args.batch);
    let input = noise(explainer, batch)?;
    let steps = module.profile(input.as_slice().unwrap_or(&[]), batch, usize::from(args.runs))?;
    let report = report(module, &steps, args);
    if args.json {
        return Ok(print::json(&serde_json::to_string(&report)?)?);
    }
    show(&report)
}

fn report(module: &CudaModule, steps: &[StepTime], args: &ProfileArgs) -> Report {
    let peaks = module.device().peaks();
    let total: f64 = steps.iter().map(|step| step.time.as_secs_f64()).sum();
    Report {
        model: args.model.display().to_string(),
        device: module.device().name(),
        batch: args.batch,
        peaks: peaks.map(|peaks| Limits {
            fp32_gflops_per_s: peaks.fp32 / 1e9,
            tf32_gflops_per_s: peaks.tf32 / 1e9,
            gbytes_per_s: peaks.bandwidth / 1e9,
        }),
        total_us: total * 1e6,
        steps: steps.iter().map(|step| line(step, peaks.as_ref(), total)).collect(),
    }
}

fn line(step: &StepTime, peaks: Option<&Peaks>, total: f64) -> Line {
    // A clock may not tell a short kernel from none.
    let seconds = step.time.as_secs_f64().max(1e-9);
    let bound = peaks.filter(|_| !step.of_ledger).map(|peaks| step.cost.bound(peaks));
    Line {
        pass: if step.forward { "forward" } else { "backward" },
        node: step.origin.name.clone(),
        op: step.origin.op.clone(),
        step: step.what.clone(),
        launches: step.launches,
        us: seconds * 1e6,
        flops: step.cost.flops,
        precision: step.cost.precision.name(),
        gflops_per_s: step.cost.flops / seconds / 1e9,
        bytes: step.cost.bytes,
        gbytes_per_s: step.cost.bytes / seconds / 1e9,
        bound_us: bound.map(|(bound, _)| bound * 1e6),
        bound_by: bound.map(|(_, by_bytes)| if by_bytes { "memory" } else { "arithmetic" }),
        of_time: seconds / total.max(1e-9),
    }
}

fn show(report: &Report) -> Result<(), Failure> {
    let peaks = report.peaks.as_ref().map(|peaks| {
        let [fp32, tf32] = [peaks.fp32_gflops_per_s, peaks.tf32_gflops_per_s].map(|rate| number(rate / 1e3));
        format!(", peaks {fp32} TFLOP/s, {tf32} in TF32, {} GB/s", number(peaks.gbytes_per_s))
    });
    let (model, device, batch) = (&report.model, &report.device, report.batch);
    print::line(format!("{model}: {device}, batch {batch}{}", peaks.unwrap_or_default()))?;
    let header = [
        "pass", "node", "op", "step", "kernels", "us", "MFLOP", "GFLOP/s", "MB", "GB/s", "bound us",
        "bound by", "of time",
    ];
    let mut table = Table::new(&header, 4);
    for line in &report.steps {
        let counted = |text: String| if line.step == "ledger" { String::new() } else { text };
        let computed = |text: String| if line.flops > 0.0 { text } else { String::new() };
        table.add_row([
            line.pass.to_string(),
            line.node.clone(),
            line.op.clone(),
            line.step.clone(),
            line.launches.to_string(),
            number(line.us),
            computed(number(line.flops / 1e6)),
            computed(number(line.gflops_per_s)),
            counted(number(line.bytes / 1e6)),
            counted(number(line.gbytes_per_s)),
            line.bound_us.map(number).unwrap_or_default(),
            line.bound_by.unwrap_or_default().to_string(),
            percent(line.of_time),
        ]);
    }
    print::block(table)?;
    show_totals(report.steps.iter().map(|line| (line.pass, line.step.as_str(), line.us)))?;
    print::line("kernels one by one: as parts of a graph they start sooner, see relc bench --device cuda")?;
    Ok(())
}
