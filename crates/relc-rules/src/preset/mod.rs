//! Presets: which rule each node gets, as a TOML file.
//!
//! ```toml
//! name = "mine"
//! description = "what it is for"
//! citation = "where it comes from"
//! extends = "conserve"      # optional: a shipped preset whose options and lines come first; all keys are optional then
//! seed = "logit"            # prob | logit | onehot | contrast
//! batchnorm = "keep"        # keep | fold | fold-as-zennit
//! bias = "exclude"          # exclude | include | all: for the rule lines that don't say
//! split = "ratio"           # ratio | half | half-at-projection | ratio-at-projection | signed | main-only |
//!                           # skip-only | gradient
//! gate = "signal"           # optional: signal | half: what a gate takes of a product's relevance
//!
//! [[rule]]                  # of several lines that match a node, the last one decides
//! op = ["Conv", "@shape"]   # optional: ONNX's names, or classes of them: @activation, @function, @constant,
//!                           # @normalization, @shape, @layer (docs/how-to/add-a-rule.md lists their ops)
//! name = "layer4*"          # optional: a glob on the node's name
//! position = "first"        # optional: first | last: no weighted layer before, or after
//! depth = "0.6.."           # optional: from which fraction of the network's weighted layers on (or "0.2..0.6"), or
//!                           # [0, 3]: from how many to how many weighted layers come before
//! rule = "zplus"            # see docs/rules; or one's own: { name = "mine", parts = ["a+*w+ a-*w-"] }, whose parts are
//!                           # those of a LinearRule
//! input = "signed"          # zplus, average: signed | raw | ones
//! alpha = 2.0               # alpha_beta
//! beta = 1.0                # alpha_beta: alpha - 1
//! gamma = 0.25              # gamma, and rules of one's own with gamma forms
//! low = -3.0                # zbox, and rules of one's own with -l and -h: a number, or one per channel; without it the bounds that the user gives
//! high = 3.0
//! signed_eps = 1e-6         # added to the denominator, with its sign; or plus_eps, whatever its sign; or relative_eps,
//!                           # a factor of the root of the mean square of the sample's denominators, with its sign
//! bias = "exclude"          # optional
//! fallback = "flat"         # optional: none | flat
//! leak = "zplus"            # optional: lost | proportional | zplus | flat: who gets what bias, stabiliser and clipping
//!                           # would take
//! window = "own"            # average: own | paper
//! spread = true             # crop
//!
//! [[split_at]]              # the split policy of some joins
//! name = "/layer4/*"        # a glob on the Add's name
//! policy = "half"
//!
//! [[mask]]                  # only these channels pass, of the nodes whose name matches and of what flows past them
//! name = "/layer4/*"
//! channels = [3, 17]
//!
//! [[readout]]               # a share of the relevance stops at a cut and is spread from there over the input
//! at = "last-feature-map"   # or a glob on a node's name
//! share = 0.65              # in [0,1]
//! ```

mod canonical;
mod depth;
mod error;
mod file;
mod line;
mod own;

pub use error::PresetError;

use relc_ir::rule::{BiasPolicy, Bounds, GatePolicy, Rule, SplitPolicy};
use relc_ir::spelling::did_you_mean_glob;
use relc_ir::{Op, names};
use serde::Deserialize;

use crate::glob::NameGlob;
use crate::seed::SeedKind;
use line::RuleLine;

/// Whether BatchNormalization stays a layer of its own, which relevance passes unchanged, or is folded into the
/// layer before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormPolicy {
    /// It stays.
    Keep,
    /// It is folded.
    Fold,
    /// It is folded, and a BatchNormalization with unit statistics stays, as zennit's canonizer leaves it: its
    /// epsilon still scales the forward pass by `1 / sqrt(1 + epsilon)`. Only good for reproducing zennit's numbers.
    FoldAsZennit,
}

names!(BatchNormPolicy, "batchnorm policy", ["keep" => Keep, "fold" => Fold, "fold-as-zennit" => FoldAsZennit]);

/// Where a node lies among the weighted layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How many weighted layers come before it, on the longest path; 0: it is a first one.
    pub depth: usize,
    /// How many weighted layers the longest path through the network has.
    pub layers: usize,
    /// Whether none comes after it.
    pub last: bool,
}

/// A preset: options and rule lines.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub description: String,
    /// Where it comes from.
    pub citation: String,
    /// The seed unless the user gives another.
    pub seed: SeedKind,
    /// What happens to BatchNormalization.
    pub batchnorm: BatchNormPolicy,
    /// How joins share their relevance, unless a line says otherwise.
    pub split: SplitPolicy,
    /// What gates take.
    pub gate: GatePolicy,
    bias: BiasPolicy,
    bounds: Option<Bounds>,
    /// Who set the split policy: the preset or an option.
    split_origin: String,
    /// Who set the gate policy.
    gate_origin: String,
    lines: Vec<Line>,
    splits: Vec<SplitLine>,
    masks: Vec<Mask>,
    readouts: Vec<ReadoutLine>,
}

/// A read-out: this share of the relevance at a cut stops there and is spread from there over the input.
#[derive(Clone, Debug)]
pub struct ReadoutLine {
    /// Where.
    pub at: ReadoutPlace,
    /// The share that stops, in `[0,1]`.
    pub share: f64,
    /// The line of the preset, or the option, that asks for it.
    pub origin: String,
}

/// Where a read-out is.
#[derive(Clone, Debug)]
pub enum ReadoutPlace {
    /// At the last value with more than one pixel that every path crosses.
    LastFeatureMap,
    /// At the output of the one node whose ONNX name matches.
    Node(NameGlob),
}

/// The name of [`ReadoutPlace::LastFeatureMap`].
const LAST_FEATURE_MAP: &str = "last-feature-map";

impl ReadoutLine {
    fn new(at: &str, share: f64, origin: String) -> Result<ReadoutLine, String> {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("got a read-out of the share {share}, expected 0 to 1"));
        }
        let at = if at == LAST_FEATURE_MAP {
            ReadoutPlace::LastFeatureMap
        } else {
            ReadoutPlace::Node(NameGlob::new(at)?)
        };
        Ok(ReadoutLine { at, share, origin })
    }
}

/// A mask at a cut: only these channels of the nodes whose name matches pass, and of what flows past them.
#[derive(Clone, Debug)]
pub struct Mask {
    /// A glob on the nodes' ONNX names.
    pub name: NameGlob,
    /// The channels that pass.
    pub channels: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Line {
    /// Empty: every op.
    ops: Vec<&'static str>,
    name: Option<NameGlob>,
    first: bool,
    last: bool,
    depth: Option<depth::Depth>,
    rule: RuleLine,
    origin: String,
}

#[derive(Clone, Debug)]
struct SplitLine {
    name: NameGlob,
    policy: SplitPolicy,
    origin: String,
}

impl Line {
    fn matches(&self, op: &Op, name: &str, place: Place) -> bool {
        (self.ops.is_empty() || self.ops.contains(&op.onnx_name()))
            && (!self.first || place.depth == 0)
            && (!self.last || place.last)
            && self.depth.is_none_or(|depth| depth.holds(place))
            && self.name.as_ref().is_none_or(|glob| glob.is_match(name))
    }
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../presets/", $name, ".toml")))),*]
    };
}

const SHIPPED: [(&str, &str); 13] = shipped![
    "two_level",
    "conserve",
    "paper",
    "epsilon",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "excitation_backprop",
    "guided_backprop",
    "deconvnet",
    "gradient",
];

/// A rule that a preset has for a node, or why it can't give it.
pub type Given = Result<(Rule, String), String>;

impl Preset {
    /// The name of the preset that every command takes if none is given.
    pub const DEFAULT: &'static str = "two_level";

    /// The names of the presets that come with relc.
    pub fn names() -> Vec<&'static str> {
        SHIPPED.iter().map(|(name, _)| *name).collect()
    }

    /// The text of a preset that comes with relc.
    pub fn text(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
    }

    /// A preset that comes with relc.
    ///
    /// # Errors
    /// If there is none of that name; the nearest name is suggested.
    pub fn named(name: &str) -> Result<Preset, PresetError> {
        match Preset::text(name) {
            Some(text) => Preset::parse(text, name),
            None => {
                let known = Preset::names();
                Err(PresetError::Unknown { name: name.to_string(), known })
            }
        }
    }

    /// A preset from the text of a file; `file` is what errors call it.
    ///
    /// # Errors
    /// If the text is no TOML, has an unknown key, op or rule, or a rule line lacks what its rule needs.
    pub fn parse(text: &str, file: &str) -> Result<Preset, PresetError> {
        file::parse(text, file)
    }

    /// The preset with another split policy, for all joins.
    #[must_use]
    pub fn with_split(mut self, split: SplitPolicy) -> Preset {
        self.split = split;
        self.split_origin = format!("option split = {split}");
        self.splits.clear();
        self
    }

    /// The preset with another gate policy.
    #[must_use]
    pub fn with_gate(mut self, gate: GatePolicy) -> Preset {
        self.gate = gate;
        self.gate_origin = format!("option gate = {gate}");
        self
    }

    /// The preset with another bias policy.
    ///
    /// # Errors
    /// If every line of the preset fixes its bias.
    pub fn with_bias(mut self, bias: BiasPolicy) -> Result<Preset, PresetError> {
        if bias != BiasPolicy::Exclude && !self.lines.iter().any(|l| l.rule.leaves_bias_open()) {
            return Err(PresetError::BiasFixed { preset: self.name, bias: bias.name() });
        }
        self.bias = bias;
        Ok(self)
    }

    /// The preset with a box for those of its zbox lines that have none: the lowest and highest values of the
    /// model's input, one for all channels or one per channel.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Preset {
        self.bounds = Some(bounds);
        self
    }

    /// The preset with a mask, from `GLOB=3,17,42`.
    ///
    /// # Errors
    /// If the text has another form, or the glob is malformed.
    pub fn with_mask(mut self, text: &str) -> Result<Preset, String> {
        let wrong = || format!("got the mask \"{text}\", expected GLOB=CHANNELS, such as /layer4/*=3,17");
        let (glob, channels) = text.rsplit_once('=').ok_or_else(wrong)?;
        let channels: Option<Vec<usize>> = channels.split(',').map(|c| c.trim().parse().ok()).collect();
        let name = NameGlob::new(glob)?;
        self.masks.push(Mask { name, channels: channels.ok_or_else(wrong)? });
        Ok(self)
    }

    /// The preset with other read-outs than its own, from `AT=SHARE`: `last-feature-map=0.65`, or a glob on a node's
    /// name in place of `last-feature-map`; `none` stands for none of them.
    ///
    /// # Errors
    /// If a text has another form, a glob is malformed or a share is not in `[0,1]`.
    pub fn with_readouts(mut self, texts: &[String]) -> Result<Preset, String> {
        self.readouts.clear();
        for text in texts.iter().filter(|text| *text != "none") {
            let wrong =
                || format!("got the read-out \"{text}\", expected AT=SHARE, such as {LAST_FEATURE_MAP}=0.65");
            let (at, share) = text.rsplit_once('=').ok_or_else(wrong)?;
            let share = share.trim().parse().map_err(|_| wrong())?;
            self.readouts.push(ReadoutLine::new(at.trim(), share, format!("option readout = {text}"))?);
        }
        Ok(self)
    }

    /// The read-outs.
    pub fn readouts(&self) -> &[ReadoutLine] {
        &self.readouts
    }

    /// The masks.
    pub fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Whether a zbox line has no box yet, so that [`with_bounds`](Self::with_bounds) is needed.
    pub fn wants_bounds(&self) -> bool {
        self.bounds.is_none() && self.lines.iter().any(|l| l.rule.wants_bounds())
    }

    /// The bias policy of the lines that don't say.
    pub fn bias(&self) -> BiasPolicy {
        self.bias
    }

    /// The rule for a forward node, and which line gave it; `None` if no line matches.
    ///
    /// `name` is the node's ONNX name.
    pub fn rule(&self, op: &Op, name: &str, place: Place) -> Option<Given> {
        let line = self.lines.iter().rev().find(|line| line.matches(op, name, place))?;
        let rule = line.rule.build(op, self.bias, self.bounds.as_ref());
        Some(rule.map(|rule| (rule, line.origin.clone())).map_err(|e| format!("{}: {e}", line.origin)))
    }

    /// The rule of the residual join called `name`, and who gave it.
    pub fn split_rule(&self, name: &str) -> (Rule, String) {
        match self.splits.iter().rev().find(|line| line.name.is_match(name)) {
            Some(line) => (Rule::Split(line.policy), line.origin.clone()),
            None => (Rule::Split(self.split), self.split_origin.clone()),
        }
    }

    /// The rule of a product whose data operand `signal` is gated by the other, and who gave it.
    pub fn gate_rule(&self, signal: usize) -> (Rule, String) {
        (Rule::Gate { signal, policy: self.gate }, self.gate_origin.clone())
    }

    /// The globs that match no node of a model, each with its line and the nearest name.
    ///
    /// `nodes` are the model's nodes with their names, `joins` the names of its residual joins.
    pub fn unmatched(&self, nodes: &[(&Op, &str, Place)], joins: &[&str]) -> Vec<String> {
        let message = |glob: &NameGlob, origin: &str, what: &str, hint: String| {
            format!("{origin}: the glob \"{glob}\" matches no {what}{hint}")
        };
        let rules = self.lines.iter().filter_map(|line| {
            let glob = line.name.as_ref()?;
            let fits = nodes.iter().any(|(op, name, place)| line.matches(op, name, *place));
            let near = || {
                let ops = nodes
                    .iter()
                    .filter(|(op, _, _)| line.ops.is_empty() || line.ops.contains(&op.onnx_name()));
                did_you_mean_glob(glob.as_str(), ops.map(|(_, name, _)| *name))
            };
            (!fits).then(|| message(glob, &line.origin, "node of the line's ops and place", near()))
        });
        let splits = self.splits.iter().filter_map(|line| {
            let fits = joins.iter().any(|name| line.name.is_match(name));
            let near = || did_you_mean_glob(line.name.as_str(), joins.iter().copied());
            (!fits).then(|| message(&line.name, &line.origin, "residual join", near()))
        });
        rules.chain(splits).collect()
    }
}

#[cfg(test)]
mod tests;
