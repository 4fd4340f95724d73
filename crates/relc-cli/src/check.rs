//! `relc check`: is the model supported, and what did the compiler make of it?

use relc::Explainer;
use relc::passes::RemarkKind;
use relc::report::{ModelReport, model_report};

use crate::args::CheckArgs;
use crate::compile::compiler;
use crate::failure::Failure;
use crate::tables;

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let (_, compiler) = compiler(&args.compile)?;
    let explainer = compiler.compile(&args.model)?;
    let report = model_report(&explainer);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    print(&explainer, &report, &args.model.display().to_string());
    Ok(())
}

fn print(explainer: &Explainer, report: &ModelReport, model: &str) {
    println!("{model}: supported");
    println!("  input    {} {}", report.input.name, report.input.shape);
    println!("  output   {} {}", report.output.name, report.output.shape);
    if let Some(head) = &report.stripped_head {
        println!("  head     relevance starts before the final {head}");
    }
    println!("  preset   {} (split {}, batchnorm {})", report.preset, report.split, report.batchnorm);
    println!("  joins    {} residual join(s)", report.joins.len());
    if !report.joins.is_empty() {
        println!("{}", tables::joins(&report.joins));
    }
    for remark in explainer.compiled().passes.iter().flat_map(|p| &p.remarks) {
        if remark.kind == RemarkKind::Warning {
            println!("  {remark}");
        }
    }
    println!("  claim    {}", tables::claim(&report.claim));
}
