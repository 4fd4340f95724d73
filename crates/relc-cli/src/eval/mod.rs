//! `relc eval`: how good maps are, over a data set.

pub mod args;
mod page;
mod show;
mod subject;
pub mod tune;

use std::path::Path;

use relc::files::{check_writable, write_atomically};
use relc_eval::metric::{METRICS, Metric};
use relc_eval::{Control, GridRow, Named, Settings, Table, grid};
use relc_viz::ColorMap;

use crate::failure::Failure;
use crate::outputs::write_json;
use crate::print;
use args::EvalArgs;
use show::Report;
use subject::Subject;

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<(), Failure> {
    let metrics = metrics(&args.metrics)?;
    let methods = methods(&args.methods, args.baseline.as_deref())?;
    let colormap: ColorMap = args.colormap.parse().map_err(Failure::usage)?;
    let subject = &args.subject;
    let to_stdout = subject.json.as_deref() == Some(Path::new("-"));
    let files = [&subject.json, &subject.csv, &args.grid, &args.report];
    for path in files.into_iter().flatten().filter(|p| p.as_path() != Path::new("-")) {
        check_writable(path)?; // rather now than after an hour's work
    }
    let opened = Subject::open(subject)?;
    if args.grid.is_some() && !opened.is_of_pictures() {
        return Err(Failure::usage(
            "--grid: a sheet shows pictures, and the model takes none; relc explain --out draws signals and volumes",
        ));
    }
    let unmasked = metrics.iter().find(|m| m.needs_mask()).filter(|_| !opened.dataset.has_masks());
    if let Some(metric) = unmasked {
        return Err(Failure::usage(format!(
            "the metric {metric} needs masks; give --masks, or a CSV that names them"
        )));
    }
    let settings = opened.settings(metrics)?;
    let attributions = opened.compile(&methods)?;
    let mut results = subject::results(&subject.results)?;
    let before = results.len();
    let outcome = opened.run(&attributions, &opened.dataset, &settings, &mut results)?;
    let used: usize = outcome.iter().map(Vec::len).sum();
    let other = results.len().saturating_sub(used);
    if other > 0 {
        let path = subject.results.display();
        eprintln!("{path}: {other} record(s) of another model, method, protocol or picture are not counted");
    }
    let found = used - (results.len() - before);
    if found > 0 {
        eprintln!("{}: {found} of {used} results were there already", subject.results.display());
    }
    let names: Vec<String> = methods.iter().map(|m| m.name.clone()).collect();
    let table = Table::new(&names, &outcome, &settings.metrics, args.baseline.as_deref(), settings.seed);
    let report = Report::new(subject, args.time, &opened.dataset, &settings, &table, &outcome);
    if let Some(path) = &args.grid {
        let sheet = sheet(&opened, &attributions, &settings, args, &names, colormap)?;
        write_atomically(path, |file| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            sheet.write_to(&mut bytes, image::ImageFormat::Png).map_err(std::io::Error::other)?;
            file.write_all(bytes.get_ref())
        })?;
    }
    if let Some(path) = &args.report {
        let page = page::page(&opened, &attributions, &settings, args, &report, &outcome)?;
        write_atomically(path, |file| file.write_all(page.as_bytes()))?;
    }
    if let Some(path) = &subject.csv {
        write_atomically(path, |file| file.write_all(table.csv().as_bytes()))?;
    }
    if let Some(path) = &subject.json {
        write_json(path, &report)?;
    }
    if !to_stdout {
        for line in report.lines(args.time) {
            print::line(line)?;
        }
    }
    if !args.time {
        eprintln!("time per picture: {}", report.times());
    }
    Ok(())
}

/// The metrics of some names; `all` is all that the data set allows for.
fn metrics(names: &[String]) -> Result<Vec<Metric>, Failure> {
    let mut metrics = Vec::new();
    for name in names {
        let found = match name.as_str() {
            "all" => METRICS.iter().map(|d| d.metric).collect(),
            name => vec![name.parse().map_err(Failure::usage)?],
        };
        metrics.extend(found);
    }
    // `id` measures both curves.
    let covers = metrics.contains(&Metric::Id);
    metrics.retain(|m| !(covers && matches!(m, Metric::Insertion | Metric::Deletion)));
    let mut seen = Vec::new();
    metrics.retain(|m| {
        !seen.contains(m) && {
            seen.push(*m);
            true
        }
    });
    Ok(metrics)
}

/// The methods of some names, the baseline and the controls, each once.
fn methods(names: &[String], baseline: Option<&str>) -> Result<Vec<Named>, Failure> {
    let controls = Control::ALL.iter().map(|(name, _)| *name);
    let mut methods: Vec<Named> = Vec::new();
    for name in names.iter().map(String::as_str).chain(baseline).chain(controls) {
        if methods.iter().all(|m| m.name != name) {
            methods.push(Named::parse(name).map_err(Failure::usage)?);
        }
    }
    Ok(methods)
}

fn sheet(
    opened: &Subject<'_>,
    attributions: &[relc_eval::Attribution],
    settings: &Settings,
    args: &EvalArgs,
    names: &[String],
    colormap: ColorMap,
) -> Result<image::RgbImage, Failure> {
    let bench = opened.bench(attributions, &[]);
    let maps = bench.maps(&opened.dataset, settings, usize::from(args.grid_pictures))?;
    let rows = opened.dataset.items.iter().zip(maps);
    let rows = rows.map(|(item, (picture, maps))| GridRow { label: item.name.clone(), picture, maps });
    Ok(grid(&rows.collect::<Vec<_>>(), names, colormap)?)
}
