//! Presets: which rule each node gets, as a TOML file.
//!
//! ```toml
//! name = "mine"
//! description = "what it is for"
//! citation = "where it comes from"
//! seed = "logit"            # prob | logit | onehot
//! batchnorm = "keep"        # keep | fold
//! bias = "exclude"          # exclude | include: for the rule lines that don't say
//! split = "ratio"           # ratio | half | half-at-projection | ratio-at-projection
//!
//! [[rule]]                  # of several lines that match a node, the last one decides
//! op = ["Conv", "Gemm"]     # ONNX's names
//! name = "layer4*"          # optional: a glob on the node's name
//! position = "first"        # optional: only layers with no weighted layer before them
//! rule = "zplus"            # zplus | flat | wsquare | winner | average | pass | crop
//! input = "signed"          # zplus, average: signed | raw | ones
//! plus_eps = 1e-5           # optional: added to the denominator; or signed_eps
//! bias = "exclude"          # optional
//! fallback = "flat"         # optional: none | flat
//! window = "own"            # average: own | paper
//! spread = true             # crop
//! ```

use globset::{Glob, GlobMatcher};
use relc_ir::Op;
use relc_ir::rule::{BiasPolicy, Fallback, LinearRule, PoolWindow, Rule, SplitPolicy, Stabiliser};
use serde::Deserialize;
use toml::Spanned;

use crate::rules::{InputForm, flat, wsquare, zplus};
use crate::seed::SeedKind;

/// Whether BatchNormalization stays a layer of its own, which relevance passes unchanged, or is folded into the
/// layer before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormPolicy {
    /// It stays.
    Keep,
    /// It is folded.
    Fold,
}

/// A preset that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresetError {
    /// No preset has that name.
    #[error("there is no preset \"{name}\"; expected {}, or a .toml file{}", known.join(" or "), suggest(nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
        /// The nearest of them, if any is near.
        nearest: Option<String>,
    },
    /// The file is no preset.
    #[error("{file}, line {line}: {message}")]
    Malformed {
        /// The file, or the preset's name.
        file: String,
        /// The line, from 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An option was given that no line of the preset looks at.
    #[error(
        "preset \"{preset}\" fixes the bias in every line, so bias = include would do nothing; use the preset \"paper\""
    )]
    BiasFixed {
        /// The preset.
        preset: String,
    },
}

fn suggest(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(" (did you mean \"{n}\"?)")).unwrap_or_default()
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
    /// How joins share their relevance.
    pub split: SplitPolicy,
    bias: BiasPolicy,
    /// Who set the split policy: the preset or an option.
    split_origin: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    ops: Vec<String>,
    name: Option<GlobMatcher>,
    first: bool,
    rule: RuleLine,
    number: usize,
}

const SHIPPED: [(&str, &str); 2] = [
    ("conserve", include_str!("../presets/conserve.toml")),
    ("paper", include_str!("../presets/paper.toml")),
];

/// The ops that a rule line may name.
const OPS: [&str; 44] = [
    "Conv",
    "Gemm",
    "AveragePool",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
    "LeakyRelu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Swish",
    "Gelu",
    "Mish",
    "Elu",
    "Celu",
    "Selu",
    "ThresholdedRelu",
    "Softplus",
    "Softsign",
    "Tanh",
    "Erf",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Abs",
    "Neg",
    "PRelu",
    "Pow",
    "Max",
    "Min",
    "BatchNormalization",
    "MeanVarianceNormalization",
    "Reshape",
    "Expand",
    "Transpose",
    "Slice",
    "Concat",
    "Pad",
    "Add",
    "Sub",
    "Mul",
    "Div",
];

impl Preset {
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
                let distance = |n: &&&str| strsim::damerau_levenshtein(n, name);
                let nearest = known.iter().min_by_key(distance).filter(|n| distance(n) <= 3);
                let nearest = nearest.map(ToString::to_string);
                Err(PresetError::Unknown { name: name.to_string(), known, nearest })
            }
        }
    }

    /// A preset from the text of a file; `file` is what errors call it.
    ///
    /// # Errors
    /// If the text is no TOML, has an unknown key, op or rule, or a rule line lacks what its rule needs.
    pub fn parse(text: &str, file: &str) -> Result<Preset, PresetError> {
        let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let malformed = |line, message| PresetError::Malformed { file: file.to_string(), line, message };
        let raw: RawPreset = toml::from_str(text)
            .map_err(|e| malformed(e.span().map_or(0, |s| line_of(s.start)), e.message().to_string()))?;
        let mut lines = Vec::new();
        for spanned in raw.rule {
            let number = line_of(spanned.span().start);
            lines.push(spanned.into_inner().check(number).map_err(|e| malformed(number, e))?);
        }
        let split = raw.split.parse().map_err(|e| malformed(0, e))?;
        let split_origin = format!("preset {}, split", raw.name);
        Ok(Preset {
            name: raw.name,
            description: raw.description,
            citation: raw.citation,
            seed: raw.seed,
            batchnorm: raw.batchnorm,
            split,
            bias: raw.bias.into(),
            split_origin,
            lines,
        })
    }

    /// The preset with another split policy.
    #[must_use]
    pub fn with_split(mut self, split: SplitPolicy) -> Preset {
        self.split = split;
        self.split_origin = format!("option split = {split}");
        self
    }

    /// The preset with another bias policy.
    ///
    /// # Errors
    /// If every line of the preset fixes its bias.
    pub fn with_bias(mut self, bias: BiasPolicy) -> Result<Preset, PresetError> {
        if bias == BiasPolicy::Include
            && !self.lines.iter().any(|l| l.rule.bias.is_none() && l.rule.divides())
        {
            return Err(PresetError::BiasFixed { preset: self.name });
        }
        self.bias = bias;
        Ok(self)
    }

    /// The bias policy of the lines that don't say.
    pub fn bias(&self) -> BiasPolicy {
        self.bias
    }

    /// The rule for a forward node, and which line gave it; `None` if no line matches.
    ///
    /// `first` says whether no weighted layer comes before the node; `name` is its ONNX name.
    pub fn rule(&self, op: &Op, name: &str, first: bool) -> Option<(Rule, String)> {
        let matches = |line: &&Line| {
            line.ops.iter().any(|o| o == op.onnx_name())
                && (first || !line.first)
                && line.name.as_ref().is_none_or(|glob| glob.is_match(name))
        };
        let line = self.lines.iter().rev().find(matches)?;
        Some((line.rule.build(self.bias), format!("preset {}, line {}", self.name, line.number)))
    }

    /// The rule of a residual join, and who gave it.
    pub fn split_rule(&self) -> (Rule, String) {
        (Rule::Split(self.split), self.split_origin.clone())
    }
}

// -- the file as serde reads it -------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPreset {
    name: String,
    description: String,
    #[serde(default)]
    citation: String,
    seed: SeedKind,
    batchnorm: BatchNormPolicy,
    bias: RawBias,
    split: String,
    #[serde(default)]
    rule: Vec<Spanned<RawLine>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBias {
    Exclude,
    Include,
}

impl From<RawBias> for BiasPolicy {
    fn from(raw: RawBias) -> Self {
        match raw {
            RawBias::Exclude => BiasPolicy::Exclude,
            RawBias::Include => BiasPolicy::Include,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPosition {
    First,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawRule {
    Zplus,
    Flat,
    Wsquare,
    Winner,
    Average,
    Pass,
    Crop,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFallback {
    None,
    Flat,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawWindow {
    Own,
    Paper,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLine {
    op: OneOrMany,
    name: Option<String>,
    position: Option<RawPosition>,
    rule: RawRule,
    input: Option<InputForm>,
    plus_eps: Option<f64>,
    signed_eps: Option<f64>,
    bias: Option<RawBias>,
    fallback: Option<RawFallback>,
    window: Option<RawWindow>,
    spread: Option<bool>,
}

/// What a line asks for, once checked.
#[derive(Clone, Debug)]
struct RuleLine {
    rule: RawRule,
    input: InputForm,
    stabiliser: Stabiliser,
    bias: Option<BiasPolicy>,
    fallback: Fallback,
    window: PoolWindow,
    spread: bool,
}

impl RawLine {
    fn check(self, number: usize) -> Result<Line, String> {
        let ops = match self.op {
            OneOrMany::One(op) => vec![op],
            OneOrMany::Many(ops) => ops,
        };
        if let Some(unknown) = ops.iter().find(|op| !OPS.contains(&op.as_str())) {
            let nearest = OPS.iter().min_by_key(|o| strsim::damerau_levenshtein(o, unknown));
            return Err(format!(
                "got the op \"{unknown}\", expected one of {} (did you mean \"{}\"?)",
                OPS.join(", "),
                nearest.unwrap_or(&"Conv")
            ));
        }
        let uses_input = matches!(self.rule, RawRule::Zplus | RawRule::Average);
        if uses_input != self.input.is_some() {
            let expected = if uses_input { "input = signed, raw or ones" } else { "no input" };
            return Err(format!("rule {:?}: expected {expected}", self.rule));
        }
        if matches!(self.rule, RawRule::Average) != self.window.is_some() {
            return Err("expected window = own or paper with rule = \"average\", and only there".into());
        }
        if self.spread.is_some() && !matches!(self.rule, RawRule::Crop) {
            return Err("expected spread only with rule = \"crop\"".into());
        }
        let stabiliser = match (self.plus_eps, self.signed_eps) {
            (None, None) => Stabiliser::None,
            (Some(eps), None) => Stabiliser::Plus(eps),
            (None, Some(eps)) => Stabiliser::Signed(eps),
            (Some(_), Some(_)) => return Err("got both plus_eps and signed_eps, expected one".into()),
        };
        if let Stabiliser::Plus(eps) | Stabiliser::Signed(eps) = stabiliser
            && !(eps > 0.0 && eps.is_finite())
        {
            return Err(format!("got a stabiliser of {eps}, expected a positive number"));
        }
        let name = self.name.map(|n| Glob::new(&n).map_err(|e| e.to_string())).transpose()?;
        let rule = RuleLine {
            rule: self.rule,
            input: self.input.unwrap_or(InputForm::Signed),
            stabiliser,
            bias: self.bias.map(Into::into),
            fallback: match self.fallback {
                Some(RawFallback::Flat) => Fallback::Flat,
                _ => Fallback::None,
            },
            window: match self.window {
                Some(RawWindow::Paper) => PoolWindow::Paper,
                _ => PoolWindow::Own,
            },
            spread: self.spread.unwrap_or(false),
        };
        if rule.divides() && rule.stabiliser == Stabiliser::None && rule.fallback == Fallback::None {
            return Err("expected plus_eps, signed_eps or fallback = \"flat\": a denominator can be 0".into());
        }
        Ok(Line {
            ops,
            name: name.map(|g| g.compile_matcher()),
            first: self.position.is_some(),
            rule,
            number,
        })
    }
}

impl RuleLine {
    /// Whether the rule has a denominator.
    fn divides(&self) -> bool {
        matches!(self.rule, RawRule::Zplus | RawRule::Flat | RawRule::Wsquare | RawRule::Average)
    }

    fn linear(&self, name: &str, terms: Vec<relc_ir::rule::Product>, bias: BiasPolicy) -> LinearRule {
        let bias = self.bias.unwrap_or(bias);
        LinearRule { name: name.into(), terms, stabiliser: self.stabiliser, bias, fallback: self.fallback }
    }

    fn build(&self, bias: BiasPolicy) -> Rule {
        match self.rule {
            RawRule::Zplus => Rule::Linear(self.linear("zplus", zplus::terms(self.input), bias)),
            RawRule::Flat => Rule::Linear(self.linear("flat", flat::terms(), BiasPolicy::Exclude)),
            RawRule::Wsquare => Rule::Linear(self.linear("wsquare", wsquare::terms(), BiasPolicy::Exclude)),
            RawRule::Average => Rule::AsAverage {
                window: self.window,
                rule: self.linear("zplus", zplus::terms(self.input), BiasPolicy::Exclude),
            },
            RawRule::Winner => Rule::Winner,
            RawRule::Pass => Rule::Pass,
            RawRule::Crop => Rule::Crop { spread: self.spread },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_ir::op::{Conv, Window};

    fn conv() -> Op {
        let window = Window::new([3, 3], [1, 1]);
        Op::Conv(Conv { window, group: 1, folded_bias: false })
    }

    fn check_error(text: &str, expected: &str) {
        let base =
            "name='t'\ndescription=''\nseed='logit'\nbatchnorm='keep'\nbias='exclude'\nsplit='ratio'\n";
        let error = Preset::parse(&format!("{base}{text}"), "t.toml").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn shipped_presets_parse_and_are_called_what_they_are() {
        for name in Preset::names() {
            assert_eq!(Preset::named(name).unwrap().name, name);
        }
    }

    #[test]
    fn the_last_matching_line_decides_and_is_named() {
        let paper = Preset::named("paper").unwrap();
        let (first, origin) = paper.rule(&conv(), "c", true).unwrap();
        let (later, _) = paper.rule(&conv(), "c", false).unwrap();
        assert!(matches!(&first, Rule::Linear(r) if r.terms == zplus::terms(InputForm::Ones)));
        assert!(matches!(&later, Rule::Linear(r) if r.terms == zplus::terms(InputForm::Raw)));
        let line: usize = origin.strip_prefix("preset paper, line ").unwrap().parse().unwrap();
        let text = Preset::text("paper").unwrap();
        assert_eq!(text.lines().nth(line - 1), Some("[[rule]]"));
        assert_eq!(text.lines().nth(line + 1), Some("position = \"first\""));
    }

    #[test]
    fn the_bias_option_reaches_only_lines_that_leave_it_open() {
        let paper = Preset::named("paper").unwrap().with_bias(BiasPolicy::Include).unwrap();
        let bias = |op: &Op| match paper.rule(op, "", false) {
            Some((Rule::Linear(rule), _)) => rule.bias,
            other => panic!("{other:?}"),
        };
        assert_eq!(bias(&conv()), BiasPolicy::Include);
        assert_eq!(bias(&Op::GlobalAveragePool), BiasPolicy::Exclude);
        let error = Preset::named("conserve").unwrap().with_bias(BiasPolicy::Include).unwrap_err();
        assert_eq!(error, PresetError::BiasFixed { preset: "conserve".into() });
    }

    #[test]
    fn errors_name_the_line_and_what_is_expected() {
        check_error(
            "[[rule]]\nop='Conv'\nrule='zplus'\nplus_eps=1e-5\n",
            "t.toml, line 7: rule Zplus: expected input",
        );
        check_error("[[rule]]\nop='Konv'\nrule='pass'\n", "did you mean \"Conv\"");
        check_error("[[rule]]\nop='Conv'\nrule='zplus'\ninput='raw'\n", "a denominator can be 0");
        check_error("[[rule]]\nop='Conv'\nrule='zpluss'\n", "unknown variant `zpluss`");
        check_error("speed=1\n", "unknown field `speed`");
        let error = Preset::named("papr").unwrap_err().to_string();
        assert!(error.contains("did you mean \"paper\"?"), "{error}");
    }
}
