//! `relc check`: is the model supported, and what did the compiler make of it?

use relc::report::{ModelReport, model_report};
use relc::unstable::passes::{Remark, RemarkKind};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::compile::{import_options, usual_compiler};
use crate::failure::Failure;
use crate::{print, tables};

/// What `--json` prints: beside what the compiler made of the model, the file and what should be known of it.
#[derive(Serialize)]
struct Report {
    relc: &'static str,
    model: String,
    #[serde(flatten)]
    compiled: ModelReport,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let compiler = usual_compiler(&args.compile, &args.model)?;
    let explainer = compiler.import(import_options(&args.import)?).compile(&args.model)?;
    // What fails for a reason that the model shows fails here, not in `explain`.
    explainer.rehearse()?;
    let remarks = explainer.compiled().passes.iter().flat_map(|p| &p.remarks);
    let report = Report {
        relc: env!("CARGO_PKG_VERSION"),
        model: args.model.display().to_string(),
        compiled: model_report(&explainer, None),
        warnings: remarks.filter(|r| r.kind == RemarkKind::Warning).map(Remark::text).collect(),
    };
    if args.json {
        return Ok(print::json(&serde_json::to_string_pretty(&report)?)?);
    }
    show(&report)
}

fn show(Report { model, compiled: report, warnings, .. }: &Report) -> Result<(), Failure> {
    print::line(format!("{model}: supported"))?;
    print::line(format!("  input    {} {}", report.input.name, report.input.shape))?;
    print::line(format!("  output   {} {}", report.output.name, report.output.shape))?;
    if let Some(head) = report.stripped_head {
        let before = match head {
            "mixture" => "each softmax that the output is a mean of".to_string(),
            head => format!("the final {head}"),
        };
        print::line(format!("  head     relevance starts before {before}"))?;
    }
    print::line(format!(
        "  preset   {} (split {}, batchnorm {})",
        report.preset.as_deref().unwrap_or_default(),
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
    for warning in warnings {
        print::line(format!("  warning: {warning}"))?;
    }
    print::line(format!("  claim    {}", tables::claim(&report.claim)))?;
    Ok(())
}
