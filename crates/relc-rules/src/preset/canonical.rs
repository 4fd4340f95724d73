//! A preset as text of one form: what it computes, whatever it is called, however its file was written, and with the
//! user's options in it.

use std::fmt::{self, Write};

use relc_ir::rule::{Bounds, Fallback, Leak, PoolWindow, Stabiliser};
use serde::Serialize;
use toml::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::line::{RawRule, RuleLine};
use super::{Line, Preset, ReadoutPlace};
use crate::glob::NameGlob;

impl Preset {
    /// The preset as a file that [`Preset::parse`] reads back: every option and line that decides what is computed,
    /// and nothing else, so that two presets that compute the same from the same lines have one text.
    pub fn canonical(&self) -> String {
        self.written(self.bounds.as_ref())
    }

    /// xxh3-64 of [`canonical`](Self::canonical).
    pub fn hash(&self) -> u64 {
        xxh3_64(self.canonical().as_bytes())
    }

    /// Whether the preset bears the name of one that comes with relc, and computes something else. A box for lines
    /// that ask for one is no change.
    pub fn is_modified(&self) -> bool {
        let shipped = Preset::text(&self.name).and_then(|_| Preset::named(&self.name).ok());
        shipped.is_some_and(|shipped| shipped.written(None) != self.written(None))
    }

    /// The name, with "(modified)" behind it if the preset is not what comes with relc under that name.
    pub fn title(&self) -> String {
        if self.is_modified() { format!("{} (modified)", self.name) } else { self.name.clone() }
    }

    fn written(&self, bounds: Option<&Bounds>) -> String {
        let mut text = String::new();
        // Writing to a string never fails.
        let _ = self.write(&mut text, bounds);
        text
    }

    fn write(&self, text: &mut String, bounds: Option<&Bounds>) -> fmt::Result {
        writeln!(text, "seed = \"{}\"", self.seed)?;
        writeln!(text, "batchnorm = \"{}\"", self.batchnorm.name())?;
        writeln!(text, "bias = \"{}\"", self.bias.name())?;
        writeln!(text, "split = \"{}\"", self.split)?;
        writeln!(text, "gate = \"{}\"", self.gate)?;
        for line in &self.lines {
            writeln!(text, "\n[[rule]]")?;
            line.write(text, bounds)?;
        }
        for split in &self.splits {
            writeln!(text, "\n[[split_at]]\nname = {}\npolicy = \"{}\"", quoted(&split.name), split.policy)?;
        }
        for mask in &self.masks {
            writeln!(text, "\n[[mask]]\nname = {}\nchannels = {:?}", quoted(&mask.name), mask.channels)?;
        }
        for readout in &self.readouts {
            writeln!(text, "\n[[readout]]\nat = {}\nshare = {:?}", readout.at.toml(), readout.share)?;
        }
        Ok(())
    }
}

impl ReadoutPlace {
    fn toml(&self) -> Value {
        match self {
            ReadoutPlace::LastFeatureMap => Value::String(super::LAST_FEATURE_MAP.into()),
            ReadoutPlace::Node(glob) => quoted(glob),
        }
    }
}

fn quoted(glob: &NameGlob) -> Value {
    Value::String(glob.as_str().to_string())
}

/// A value of one word, as serde reads it.
fn word(value: impl Serialize) -> Value {
    Value::try_from(value).unwrap_or_else(|_| Value::String(String::new()))
}

impl Line {
    fn write(&self, text: &mut String, bounds: Option<&Bounds>) -> fmt::Result {
        if !self.ops.is_empty() {
            writeln!(text, "op = {:?}", self.ops)?;
        }
        if let Some(name) = &self.name {
            writeln!(text, "name = {}", quoted(name))?;
        }
        if self.first || self.last {
            writeln!(text, "position = \"{}\"", if self.first { "first" } else { "last" })?;
        }
        if let Some(depth) = self.depth {
            writeln!(text, "depth = {depth}")?;
        }
        self.rule.write(text, bounds)
    }
}

impl RuleLine {
    fn write(&self, text: &mut String, bounds: Option<&Bounds>) -> fmt::Result {
        match &self.own {
            None => writeln!(text, "rule = {}", word(self.rule))?,
            Some(own) => {
                let parts: Vec<String> = own.parts.iter().map(ToString::to_string).collect();
                writeln!(text, "rule = {{ name = {:?}, parts = {parts:?} }}", own.name)?;
            }
        }
        if matches!(self.rule, RawRule::Zplus | RawRule::Average) {
            writeln!(text, "input = {}", word(self.input))?;
        }
        match self.rule {
            RawRule::Average => {
                let window = if self.window == PoolWindow::Paper { "paper" } else { "own" };
                writeln!(text, "window = \"{window}\"")?;
            }
            RawRule::AlphaBeta => writeln!(text, "alpha = {:?}\nbeta = {:?}", self.alpha, self.alpha - 1.0)?,
            RawRule::Crop if self.spread => writeln!(text, "spread = true")?,
            _ => {}
        }
        if self.gamma != 0.0 {
            writeln!(text, "gamma = {:?}", self.gamma)?;
        }
        let boxed = self.bounds.as_ref().or(bounds).filter(|_| self.takes_bounds());
        if let Some(Bounds { low, high }) = boxed {
            writeln!(text, "low = {low:?}\nhigh = {high:?}")?;
        }
        if !self.divides() {
            return Ok(()); // no denominator: the keys below say nothing
        }
        match self.stabiliser {
            Stabiliser::None => {}
            Stabiliser::Plus(eps) => writeln!(text, "plus_eps = {eps:?}")?,
            Stabiliser::Signed(eps) => writeln!(text, "signed_eps = {eps:?}")?,
            Stabiliser::Relative(k) => writeln!(text, "relative_eps = {k:?}")?,
        }
        if let Some(bias) = self.bias {
            writeln!(text, "bias = \"{}\"", bias.name())?;
        }
        if self.fallback == Fallback::Flat {
            writeln!(text, "fallback = \"flat\"")?;
        }
        if self.leak != Leak::Lost {
            writeln!(text, "leak = \"{}\"", self.leak.name())?;
        }
        Ok(())
    }
}
