//! `relc preset`.

use relc::Preset;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::{PresetArgs, PresetCommand};
use crate::failure::Failure;
use crate::print;

/// What `relc preset list --json` prints.
#[derive(Serialize)]
struct List {
    relc: &'static str,
    presets: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: String,
    is_default: bool,
}

/// What `relc preset show --json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    relc: &'static str,
    name: &'a str,
    /// As `compiled.preset_hash` in a report.
    hash: String,
    /// The file.
    text: &'a str,
    /// What the file says.
    values: Value,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command.
pub fn run(args: &PresetArgs) -> Result<(), Failure> {
    match &args.command {
        PresetCommand::List => list(args.json),
        PresetCommand::Show { name } => show(name, args.json),
    }
}

fn list(json: bool) -> Result<(), Failure> {
    let listed = |name: &'static str| {
        let (description, is_default) = (Preset::named(name)?.description, name == Preset::DEFAULT);
        Ok::<_, Failure>(Listed { name, description, is_default })
    };
    let presets = Preset::names().into_iter().map(listed).collect::<Result<Vec<_>, _>>()?;
    if json {
        return Ok(print::json(&serde_json::to_string_pretty(&List { relc: VERSION, presets })?)?);
    }
    for preset in presets {
        print::line(format!("{:26} {}", preset.name, preset.description))?;
    }
    Ok(())
}

fn show(name: &str, json: bool) -> Result<(), Failure> {
    let preset = Preset::named(name).map_err(Failure::usage)?; // suggests the nearest name
    let text = Preset::text(name).unwrap_or_default();
    if !json {
        return Ok(print::block(text.trim_end())?);
    }
    // As it is applied: with what a preset that it extends gives it.
    let mut values: Map<String, Value> = toml::from_str(&preset.canonical())?;
    for (key, value) in [("name", name), ("description", &preset.description), ("citation", &preset.citation)]
    {
        values.insert(key.into(), value.into());
    }
    let hash = format!("{:016x}", preset.hash());
    let shown = Shown { relc: VERSION, name, hash, text, values: values.into() };
    Ok(print::json(&serde_json::to_string_pretty(&shown)?)?)
}
