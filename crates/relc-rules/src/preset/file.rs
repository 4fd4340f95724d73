//! A preset's file as serde reads it.

use relc_ir::names::UnknownName;
use relc_ir::rule::{BiasPolicy, GatePolicy, SplitPolicy};
use relc_ir::spelling::did_you_mean;
use serde::Deserialize;
use toml::Spanned;

use super::line::RawLine;
use super::{BatchNormPolicy, Mask, Preset, PresetError, ReadoutLine, SplitLine};
use crate::glob::NameGlob;
use crate::seed::SeedKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    extends: Option<String>,
    name: Option<String>,
    description: Option<String>,
    citation: Option<String>,
    seed: Option<SeedKind>,
    batchnorm: Option<BatchNormPolicy>,
    bias: Option<RawBias>,
    split: Option<String>,
    gate: Option<String>,
    #[serde(default)]
    rule: Vec<Spanned<RawLine>>,
    #[serde(default, rename = "split_at")]
    split_at: Vec<Spanned<RawSplit>>,
    #[serde(default)]
    mask: Vec<Spanned<RawMask>>,
    readout: Option<Vec<Spanned<RawReadout>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReadout {
    at: String,
    share: f64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawBias {
    Exclude,
    Include,
    All,
}

impl From<RawBias> for BiasPolicy {
    fn from(raw: RawBias) -> Self {
        match raw {
            RawBias::Exclude => BiasPolicy::Exclude,
            RawBias::Include => BiasPolicy::Include,
            RawBias::All => BiasPolicy::All,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSplit {
    name: String,
    policy: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMask {
    name: String,
    channels: Vec<usize>,
}

/// A preset from the text of a file; `file` is what errors call it.
pub(super) fn parse(text: &str, file: &str) -> Result<Preset, PresetError> {
    let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let malformed = |line, message| PresetError::Malformed { file: file.to_string(), line, message };
    let raw: RawPreset = toml::from_str(text)
        .map_err(|e| malformed(e.span().map_or(0, |s| line_of(s.start)), with_nearest(e.message())))?;
    let base = match &raw.extends {
        Some(base) => Some(Preset::named(base).map_err(|e| malformed(0, format!("extends: {e}")))?),
        None => None,
    };
    let name = raw.name.unwrap_or_else(|| file.to_string());
    // A file that bears a shipped preset's name is told from it.
    let from = if Preset::text(&name).is_some() { file } else { &name };
    let missing = |key: &str| {
        malformed(0, format!("missing field `{key}`, which only a preset that extends another may leave out"))
    };
    let unknown = |line: usize| move |e: UnknownName| malformed(line, e.to_string());
    let split: Option<SplitPolicy> = raw.split.map(|s| s.parse()).transpose().map_err(unknown(0))?;
    let gate: Option<GatePolicy> = raw.gate.map(|g| g.parse()).transpose().map_err(unknown(0))?;
    let mut preset = match base {
        Some(base) => base,
        None => Preset {
            name: name.clone(),
            description: String::new(),
            citation: String::new(),
            seed: raw.seed.ok_or_else(|| missing("seed"))?,
            batchnorm: raw.batchnorm.ok_or_else(|| missing("batchnorm"))?,
            split: split.ok_or_else(|| missing("split"))?,
            bias: raw.bias.ok_or_else(|| missing("bias"))?.into(),
            gate: GatePolicy::default(),
            gate_origin: "structure: the signal of a gate takes the relevance".into(),
            bounds: None,
            split_origin: format!("preset {from}, split"),
            lines: Vec::new(),
            splits: Vec::new(),
            masks: Vec::new(),
            readouts: Vec::new(),
        },
    };
    if let Some(split) = split {
        preset = preset.with_split(split);
        preset.split_origin = format!("preset {from}, split");
    }
    if let Some(gate) = gate {
        preset = preset.with_gate(gate);
        preset.gate_origin = format!("preset {from}, gate");
    }
    preset.seed = raw.seed.unwrap_or(preset.seed);
    preset.batchnorm = raw.batchnorm.unwrap_or(preset.batchnorm);
    preset.bias = raw.bias.map_or(preset.bias, Into::into);
    preset.description = raw.description.unwrap_or(preset.description);
    preset.citation = raw.citation.unwrap_or(preset.citation);
    for spanned in raw.rule {
        let number = line_of(spanned.span().start);
        let origin = format!("preset {from}, line {number}");
        preset.lines.push(spanned.into_inner().check(origin).map_err(|e| malformed(number, e))?);
    }
    for spanned in raw.split_at {
        let number = line_of(spanned.span().start);
        let RawSplit { name: glob, policy } = spanned.into_inner();
        preset.splits.push(SplitLine {
            name: NameGlob::new(&glob).map_err(|e| malformed(number, e))?,
            policy: policy.parse().map_err(unknown(number))?,
            origin: format!("preset {from}, line {number}"),
        });
    }
    for spanned in raw.mask {
        let number = line_of(spanned.span().start);
        let RawMask { name: glob, channels } = spanned.into_inner();
        let name = NameGlob::new(&glob).map_err(|e| malformed(number, e))?;
        preset.masks.push(Mask { name, channels });
    }
    if let Some(readouts) = raw.readout {
        // They add up to one way of reading: those of a preset that is extended are replaced, not added to.
        preset.readouts.clear();
        for spanned in readouts {
            let number = line_of(spanned.span().start);
            let RawReadout { at, share } = spanned.into_inner();
            let line = ReadoutLine::new(&at, share, format!("preset {from}, line {number}"));
            preset.readouts.push(line.map_err(|e| malformed(number, e))?);
        }
    }
    preset.name = name;
    Ok(preset)
}

/// Serde's message about an unknown key or value, with the nearest that is known.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown "));
    let hint = unknown.map(|name| did_you_mean(name, quoted)).unwrap_or_default();
    format!("{message}{hint}")
}
