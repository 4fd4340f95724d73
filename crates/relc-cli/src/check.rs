//! `relc check`: is the model supported, and what did the compiler make of it?

use relc::Explainer;
use relc::passes::RemarkKind;
use relc::report::{ModelReport, model_report};

use crate::args::CheckArgs;
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::{print, tables};

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let compiler = usual_compiler(&args.compile)?;
    let explainer = compiler.import(import_options(&args.import)?).compile(&args.model)?;
    // What fails for a reason that the model shows fails here, not in `explain`.
    explainer.rehearse()?;
    let report = model_report(&explainer, None);
    if args.json {
        print::block(serde_json::to_string_pretty(&report)?)?;
        return Ok(());
    }
    show(&explainer, &report, &args.model.display().to_string())
}

fn show(explainer: &Explainer, report: &ModelReport, model: &str) -> Result<(), Failure> {
    print::line(format!("{model}: supported"))?;
    print::line(format!("  input    {} {}", report.input.name, report.input.shape))?;
    print::line(format!("  output   {} {}", report.output.name, report.output.shape))?;
    if let Some(head) = &report.stripped_head {
        print::line(format!("  head     relevance starts before the final {head}"))?;
    }
    print::line(format!(
        "  preset   {} (split {}, batchnorm {})",
        explainer.preset().title(),
        report.split,
        report.batchnorm
    ))?;
    for line in tables::unfolded(&report.unfolded) {
        print::line(format!("  {line}"))?;
    }
    print::line(format!("  joins    {} residual join(s)", report.joins.len()))?;
    if !report.joins.is_empty() {
        print::block(tables::joins(&report.joins))?;
    }
    for remark in explainer.compiled().passes.iter().flat_map(|p| &p.remarks) {
        if remark.kind == RemarkKind::Warning {
            print::line(format!("  {remark}"))?;
        }
    }
    print::line(format!("  claim    {}", tables::claim(&report.claim)))?;
    Ok(())
}
