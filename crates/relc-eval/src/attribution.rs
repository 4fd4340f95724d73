//! What is judged: presets, methods, and maps that know nothing.

use std::path::Path;

use ndarray::{ArrayD, ArrayViewD, Axis};
use relc::preprocess::Preprocess;
use relc::unstable::ir::names;
use relc::unstable::ir::names::UnknownName;
use relc::{Compiler, Explainer, METHODS, Method, MethodOptions, Preset, Seed, Targets};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::EvalError;
use crate::metric::rng;
use crate::picture::Geometry;

/// Maps that know nothing of the model: what every table is read against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Numbers drawn anew for each picture.
    Random,
    /// The same number everywhere.
    Constant,
    /// The nearer to the centre, the more.
    Centre,
}

names!(Control, "control", ["random" => Random, "constant" => Constant, "centre" => Centre]);

impl Control {
    fn map(self, geometry: Geometry, seed: u64) -> Vec<f32> {
        let mut rng = rng(seed, "random map", 0);
        // From the centre, as a fraction of the side, squared; exactly the same on both sides of it.
        let off = |i: usize, side: usize| ((2 * i + 1).abs_diff(side) as f32 / (2 * side) as f32).powi(2);
        let value = |pixel: usize| match self {
            Control::Random => rng.f32(),
            Control::Constant => 1.0,
            // A bell whose sigma is a quarter of the picture.
            Control::Centre => {
                let [z, y, x] = geometry.place(pixel);
                let [depth, height, width] = geometry.sizes();
                (-8.0 * (off(y, height) + off(x, width) + off(z, depth))).exp()
            }
        };
        (0..geometry.pixels()).map(value).collect()
    }
}

/// Where maps come from.
#[derive(Clone, Debug)]
enum Source {
    Control(Control),
    Method(Method),
    Preset(Box<Preset>),
}

/// A name on the command line, understood.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name, options and all.
    pub name: String,
    source: Source,
}

impl Named {
    /// Understands a name: a control, a method (`rise:400`: how many samples; `grad_cam:LAYER`), or a preset or a
    /// `.toml` file of one (`paper:half`: its split policy).
    ///
    /// # Errors
    /// If there is no such thing; the nearest name is suggested.
    pub fn parse(name: &str) -> Result<Named, EvalError> {
        let named = |source| Ok(Named { name: name.to_string(), source });
        if let Ok(control) = name.parse() {
            return named(Source::Control(control));
        }
        // A layer may hold colons; a preset's path may too, and ends before the last one.
        let (first, rest) = name.split_once(':').map_or((name, None), |(n, o)| (n, Some(o)));
        if METHODS.contains(&first) && first != "random" {
            let samples = rest.and_then(|r| r.parse().ok());
            let layer = rest.filter(|_| samples.is_none()).map(str::to_string);
            let options = MethodOptions { samples, layer, ..MethodOptions::default() };
            let method =
                Method::new(first, &options).map_err(|e| EvalError::Usage(format!("{name}: {e}")))?;
            return named(Source::Method(method));
        }
        let is_file = |n: &str| Path::new(n).extension().is_some_and(|e| e == "toml");
        let (preset, split) = match name.rsplit_once(':') {
            Some((preset, split)) if !is_file(name) => (preset, Some(split)),
            _ => (name, None),
        };
        let mut preset = if is_file(preset) {
            let path = Path::new(preset).to_path_buf();
            let text = std::fs::read_to_string(&path).map_err(|source| EvalError::File {
                what: "read",
                path,
                source,
            })?;
            Preset::parse(&text, preset)?
        } else if Preset::names().contains(&preset) {
            Preset::named(preset)?
        } else {
            return Err(unknown(name));
        };
        if let Some(split) = split {
            preset = preset.with_split(split.parse().map_err(|e| EvalError::Usage(format!("{name}: {e}")))?);
        }
        named(Source::Preset(Box::new(preset)))
    }

    /// A preset that is at hand, under a name.
    pub fn preset(name: &str, preset: Preset) -> Named {
        Named { name: name.to_string(), source: Source::Preset(Box::new(preset)) }
    }

    /// Whether it knows nothing of the model.
    pub fn is_control(&self) -> bool {
        matches!(self.source, Source::Control(_))
    }

    /// The preset, with the box that the preprocessing gives its input, if it needs one.
    fn compiler(&self, compiler: &CompilerOptions<'_>) -> Option<Compiler> {
        let Source::Preset(preset) = &self.source else { return None };
        let preset = match compiler.preprocess {
            Some(preprocess) if preset.wants_bounds() => {
                preset.as_ref().clone().with_bounds(preprocess.bounds())
            }
            _ => preset.as_ref().clone(),
        };
        Some((compiler.configure)(Compiler::new(preset)))
    }

    /// Compiles what it needs of the model.
    ///
    /// # Errors
    /// If relevance can't pass through the model by the preset.
    pub fn compile(&self, model: &Path, options: &CompilerOptions<'_>) -> Result<Attribution, EvalError> {
        let explainer = match self.compiler(options) {
            Some(compiler) => Some(compiler.compile(model)?.without_ledger().without_sensitivity()),
            None => None,
        };
        let source = match &self.source {
            Source::Method(method) => Source::Method(method.clone().with_black(options.black.to_vec())),
            source => source.clone(),
        };
        let identity = match (&source, &explainer) {
            (Source::Preset(preset), Some(explainer)) => {
                let mut graph = explainer.graph().clone();
                graph.rules.clear(); // they say which line of which file gave a rule, too
                format!("{} {graph}", preset.seed)
            }
            (source, _) => format!("{source:?}"),
        };
        let key = xxh3_64(identity.as_bytes());
        Ok(Attribution { name: self.name.clone(), key, source, explainer })
    }
}

/// How presets become programs.
pub struct CompilerOptions<'a> {
    /// The bounds of the input come from it.
    pub preprocess: Option<&'a Preprocess>,
    /// What methods that hide parts of the input put there, for each channel; 0 where it says nothing.
    pub black: &'a [f32],
    /// Gives a compiler the engine and what the model leaves open.
    pub configure: &'a dyn Fn(Compiler) -> Compiler,
}

fn unknown(name: &str) -> EvalError {
    let controls = Control::ALL.iter().map(|(n, _)| *n);
    let methods = METHODS.into_iter().filter(|m| *m != "random");
    let known = Preset::names().into_iter().chain(methods).chain(controls).collect();
    let error =
        UnknownName { what: "method", name: name.to_string(), known, other: Some("a preset's .toml file") };
    EvalError::Usage(error.to_string())
}

/// Something that gives maps, ready to.
#[derive(Debug)]
pub struct Attribution {
    /// What tables call it.
    pub name: String,
    /// A hash of all that its maps depend on besides model and picture; for a preset, of its compiled graph.
    pub key: u64,
    source: Source,
    /// For a preset: its program.
    explainer: Option<Explainer>,
}

/// A map and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// `f32[H,W]`; of a signal `f32[L]`, of a volume `f32[D,H,W]`.
    pub map: Vec<f32>,
    /// `|sum R - seed| / |seed|`, if relevance is what the method gives.
    pub conservation_error: Option<f64>,
}

impl Attribution {
    /// The maps of some classes for one input, `f32[1,..]`. `gradients` explains by the preset `gradient`; `seed` is
    /// what random numbers depend on.
    ///
    /// # Errors
    /// If the input can't be explained.
    pub fn explain(
        &self,
        gradients: &Explainer,
        geometry: Geometry,
        input: ArrayViewD<'_, f32>,
        classes: &[usize],
        seed: u64,
    ) -> Result<Vec<Explained>, EvalError> {
        let targets = Targets::Outputs(classes.to_vec());
        let result = match (&self.source, &self.explainer) {
            (Source::Control(control), _) => {
                let map = control.map(geometry, seed);
                return Ok(vec![Explained { map, conservation_error: None }; classes.len()]);
            }
            (Source::Method(method), _) => {
                method.explain(gradients, input, &targets, crate::scorer::BATCH, &mut |_, _| {})?
            }
            (Source::Preset(_), None) => return Ok(Vec::new()), // compiling gives every preset an explainer
            (Source::Preset(preset), Some(explainer)) => {
                explainer.explain(input, &Seed::Named(preset.seed), &targets)?
            }
        };
        let conserves = matches!(self.source, Source::Preset(_));
        let explained = result.explanations.iter().map(|explanation| {
            let map = explanation.map.as_ref().map(|m| m.index_axis(Axis(0), 0).iter().copied().collect());
            Explained {
                map: map.unwrap_or_default(),
                conservation_error: conserves.then(|| explanation.conservation_error(0)),
            }
        });
        Ok(explained.collect())
    }

    /// Whether it looks at the model at all.
    pub fn is_control(&self) -> bool {
        matches!(self.source, Source::Control(_))
    }

    /// The same, for the model of another graph.
    ///
    /// # Errors
    /// As [`Named::compile`].
    pub fn of_graph(
        &self,
        graph: relc::unstable::ir::Graph,
        options: &CompilerOptions<'_>,
    ) -> Result<Attribution, EvalError> {
        let named = Named { name: self.name.clone(), source: self.source.clone() };
        let explainer = match named.compiler(options) {
            Some(compiler) => Some(compiler.compile(graph)?.without_ledger().without_sensitivity()),
            None => None,
        };
        Ok(Attribution { name: named.name, key: self.key, source: named.source, explainer })
    }
}

/// An input with the batch axis of one sample.
pub(crate) fn batch_of_one(values: &[f32], shape: &[usize]) -> ArrayD<f32> {
    // The values are those of a sample of that shape.
    ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { depth: 1, height: 5, width: 5, channels: 3, interleaved: false };

    #[test]
    fn names_carry_options() {
        let source = |name: &str| Named::parse(name).unwrap().source;
        assert!(matches!(source("random"), Source::Control(Control::Random)));
        assert!(matches!(source("rise:400"), Source::Method(Method::Rise { masks: 400, .. })));
        let Source::Method(Method::GradCam { layer }) = source("grad_cam:/layer3/a:b") else { panic!() };
        assert_eq!(layer.as_deref(), Some("/layer3/a:b"));
        let Source::Preset(preset) = source("paper:half") else { panic!() };
        assert_eq!(preset.split.to_string(), "half");
        assert!(matches!(source("conserve"), Source::Preset(_)));
    }

    #[test]
    fn names_of_nothing_get_a_suggestion() {
        let error = |name: &str| Named::parse(name).unwrap_err().to_string();
        assert!(error("grad_cma").contains("did you mean \"grad_cam\"?"));
        assert!(error("paper:halve").contains("half"));
        assert!(error("rise:many").contains("no use for a layer"));
        assert!(error("no/such.toml").contains("no/such.toml"));
    }

    #[test]
    fn preset_files_take_a_split_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, "extends = \"conserve\"\n").unwrap();
        let name = format!("{}:skip-only", path.display());
        let Source::Preset(preset) = Named::parse(&name).unwrap().source else { panic!() };
        assert_eq!(preset.split.to_string(), "skip-only");
    }

    #[test]
    fn controls_know_nothing_but_where_the_centre_is() {
        let random = Control::Random.map(GEOMETRY, 1);
        assert_eq!(random, Control::Random.map(GEOMETRY, 1));
        assert_ne!(random, Control::Random.map(GEOMETRY, 2));
        let centre = Control::Centre.map(GEOMETRY, 1);
        let largest = (0..25).max_by(|a, b| centre[*a].total_cmp(&centre[*b]));
        assert_eq!(largest, Some(12));
        assert!(centre[0] == centre[24] && centre[0] < centre[6]);
    }
}
