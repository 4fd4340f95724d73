//! The metrics. Each is a function of a picture, a map and closures that score inputs, and knows nothing of models.

mod average;
mod complexity;
mod curve;
mod flipping;
mod localisation;
mod removal;
mod road;
mod similarity;
mod stability;

use std::fmt;
use std::str::FromStr;

use relc::unstable::ir::names::{UnknownName, named};

use fastrand::Rng;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

pub use average::{AverageDrop, average_drop};
pub use complexity::{complexity, sparseness};
pub use curve::{Curve, Curves, Ends, area, counts, curve, default_step, resampled};
pub use flipping::{Flipping, patch_side, pixel_flipping};
pub use localisation::{pointing_game, relevance_mass, relevance_rank};
pub use removal::{infidelity, sensitivity_n};
pub use road::{Road, impute, road};
pub use similarity::{cosine, pearson, spearman};
pub use stability::max_sensitivity;

use crate::error::EvalError;
use crate::picture::{Geometry, Picture};
use crate::ranking::{Ranking, Ties};

/// Writes an input: its number among those asked for, and where its values go.
pub type Fill<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

/// The scores of some inputs: how many, and what writes each. A score is the probability of the explained class.
pub type Score<'a> = dyn Fn(usize, &Fill<'_>) -> Result<Vec<f64>, EvalError> + 'a;

/// The map of an input.
pub type Explain<'a> = dyn Fn(&[f32]) -> Result<Vec<f32>, EvalError> + 'a;

/// What a metric found, by column; `None` where it has no value (a correlation with a constant, a mask that is empty).
pub type Values = Vec<(&'static str, Option<f64>)>;

/// What a metric found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Its values.
    pub values: Values,
    /// The curves that they are the areas of, by name: `insertion`, `deletion`.
    pub curves: Vec<(&'static str, Vec<f64>)>,
}

impl From<Values> for Measured {
    fn from(values: Values) -> Self {
        Measured { values, curves: Vec::new() }
    }
}

/// A generator whose numbers depend on nothing but these.
pub fn rng(seed: u64, what: &str, number: usize) -> Rng {
    let mut bytes = seed.to_le_bytes().to_vec();
    bytes.extend(what.as_bytes());
    bytes.extend((number as u64).to_le_bytes());
    Rng::with_seed(xxh3_64(&bytes))
}

/// A standard normal number, by Box and Muller.
pub fn normal(rng: &mut Rng) -> f64 {
    let u = 1.0 - rng.f64();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// Which end of a column is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
    /// Neither: it describes.
    Neither,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The area under the score while the most relevant pixels come in.
    Insertion,
    /// The area under the score while the most relevant pixels go.
    Deletion,
    /// Insertion minus deletion.
    Id,
    /// Remove and debias.
    Road,
    /// Average drop and increase in confidence.
    AverageDrop,
    /// Pixel flipping by patch.
    PixelFlipping,
    /// Sensitivity-n.
    SensitivityN,
    /// Infidelity, at the optimal scale.
    Infidelity,
    /// Max-sensitivity.
    MaxSensitivity,
    /// The pointing game.
    PointingGame,
    /// Relevance mass accuracy.
    RelevanceMass,
    /// Relevance rank accuracy.
    RelevanceRank,
    /// The Gini index of the relevance.
    Sparseness,
    /// The entropy of the relevance.
    Complexity,
    /// Cascading randomisation of the model's parameters.
    Randomisation,
    /// The cosine of the maps of the two largest outputs.
    ClassContrast,
    /// How far the relevance is from adding up to the seed.
    Conservation,
}

/// What is known of a metric.
#[derive(Debug)]
pub struct Description {
    /// The metric.
    pub metric: Metric,
    /// Its name on the command line.
    pub name: &'static str,
    /// Its columns in tables, and which end of each is good.
    pub columns: &'static [(&'static str, Better)],
    /// Where it comes from.
    pub citation: &'static str,
}

use Better::{Higher, Lower, Neither};

/// Every metric.
pub const METRICS: &[Description] = &[
    Description {
        metric: Metric::Insertion,
        name: "insertion",
        columns: &[("insertion", Higher)],
        citation: "Petsiuk et al., RISE, BMVC 2018; the protocol of Otsuki et al., ECCV 2024",
    },
    Description {
        metric: Metric::Deletion,
        name: "deletion",
        columns: &[("deletion", Lower)],
        citation: "Petsiuk et al., RISE, BMVC 2018; the protocol of Otsuki et al., ECCV 2024",
    },
    Description {
        metric: Metric::Id,
        name: "id",
        columns: &[("insertion", Higher), ("deletion", Lower), ("id", Higher)],
        citation: "Otsuki et al., ECCV 2024, arXiv:2407.09115",
    },
    Description {
        metric: Metric::Road,
        name: "road",
        columns: &[("road_morf", Lower), ("road_lerf", Higher), ("road", Higher)],
        citation: "Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022",
    },
    Description {
        metric: Metric::AverageDrop,
        name: "average_drop",
        columns: &[("average_drop", Lower), ("increase", Higher)],
        citation: "Chattopadhay et al., Grad-CAM++, WACV 2018",
    },
    Description {
        metric: Metric::PixelFlipping,
        name: "pixel_flipping",
        columns: &[("flipping_auc", Lower), ("aopc", Higher)],
        citation: "Bach et al., PLoS ONE 10(7), 2015; Samek et al., Evaluating the visualization of what a deep \
                   neural network has learned, TNNLS 28(11), 2017",
    },
    Description {
        metric: Metric::SensitivityN,
        name: "sensitivity_n",
        columns: &[("sensitivity_n", Higher)],
        citation: "Ancona et al., Towards better understanding of gradient-based attribution methods, ICLR 2018",
    },
    Description {
        metric: Metric::Infidelity,
        name: "infidelity",
        columns: &[("infidelity", Lower)],
        citation: "Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019",
    },
    Description {
        metric: Metric::MaxSensitivity,
        name: "max_sensitivity",
        columns: &[("max_sensitivity", Lower)],
        citation: "Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019",
    },
    Description {
        metric: Metric::PointingGame,
        name: "pointing_game",
        columns: &[("pointing_game", Higher)],
        citation: "Zhang et al., Top-down neural attention by excitation backprop, IJCV 126(10), 2018",
    },
    Description {
        metric: Metric::RelevanceMass,
        name: "relevance_mass",
        columns: &[("relevance_mass", Higher)],
        citation: "Arras et al., CLEVR-XAI, Information Fusion 81, 2022",
    },
    Description {
        metric: Metric::RelevanceRank,
        name: "relevance_rank",
        columns: &[("relevance_rank", Higher)],
        citation: "Arras et al., CLEVR-XAI, Information Fusion 81, 2022",
    },
    Description {
        metric: Metric::Sparseness,
        name: "sparseness",
        columns: &[("sparseness", Neither)],
        citation: "Chalasani et al., Concise explanations of neural networks using adversarial training, ICML 2020",
    },
    Description {
        metric: Metric::Complexity,
        name: "complexity",
        columns: &[("complexity", Neither)],
        citation: "Bhatt et al., Evaluating and aggregating feature-based model explanations, IJCAI 2020",
    },
    Description {
        metric: Metric::Randomisation,
        name: "randomisation",
        columns: &[("randomisation", Lower)],
        citation: "Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018",
    },
    Description {
        metric: Metric::ClassContrast,
        name: "class_contrast",
        columns: &[("class_cosine", Lower)],
        citation: "Sixt et al., When explanations lie, ICML 2020",
    },
    Description {
        metric: Metric::Conservation,
        name: "conservation",
        columns: &[("conservation_error", Lower)],
        citation: "Bach et al., PLoS ONE 10(7), 2015, equation 2",
    },
];

impl Metric {
    /// What is known of it.
    pub fn description(self) -> &'static Description {
        // Every metric stands in the list, which a test checks.
        METRICS.iter().find(|d| d.metric == self).unwrap_or(&METRICS[0])
    }

    /// Whether it judges maps by masks of what they should show.
    pub fn needs_mask(self) -> bool {
        matches!(self, Metric::PointingGame | Metric::RelevanceMass | Metric::RelevanceRank)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description().name)
    }
}

impl FromStr for Metric {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let table: Vec<(&'static str, Metric)> = METRICS.iter().map(|d| (d.name, d.metric)).collect();
        named("metric", &table, name)
    }
}

/// How the metrics are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// Insertion and deletion.
    pub curves: Curves,
    /// ROAD.
    pub road: Road,
    /// Pixel flipping.
    pub flipping: Flipping,
    /// Random subsets of sensitivity-n at each size, and random squares of infidelity.
    pub subsets: usize,
    /// Random neighbours of max-sensitivity.
    pub neighbours: usize,
    /// How far they are, as a fraction of the range of the picture's values.
    pub radius: f64,
}

impl Protocol {
    /// The defaults for inputs of this size, with strict ranking.
    pub fn for_geometry(geometry: Geometry) -> Protocol {
        let curves = Curves {
            step: default_step(geometry.pixels()),
            ends: Ends::Authors,
            ties: Ties::Strict { orders: 3 },
        };
        Protocol {
            curves,
            road: Road::default(),
            flipping: Flipping { patch: patch_side(geometry.width), most: 100 },
            subsets: 50,
            neighbours: 10,
            radius: 0.02,
        }
    }
}

/// What is judged.
pub struct Subject<'a> {
    /// The picture.
    pub picture: &'a Picture,
    /// Its map, `f32[H,W]`; of a signal `f32[L]`, of a volume `f32[D,H,W]`.
    pub map: &'a [f32],
    /// The pixels by their relevance.
    pub ranking: &'a Ranking,
    /// The pixels that it should show.
    pub mask: Option<&'a [bool]>,
    /// The score of the whole picture.
    pub clean: f64,
    /// Random numbers of this picture; the same for every method.
    pub seed: u64,
    /// Scores inputs.
    pub score: &'a Score<'a>,
    /// The map of the same class by the same method for other inputs.
    pub explain: &'a Explain<'a>,
    /// The map of the second largest output; `None` if there is none.
    pub rival: &'a dyn Fn() -> Result<Option<Vec<f32>>, EvalError>,
    /// The maps of the same method for models whose parameters were drawn again; `None` if it looks at no model.
    pub randomised: &'a dyn Fn() -> Result<Option<Vec<Vec<f32>>>, EvalError>,
    /// `|sum R - seed| / |seed|`, if relevance is what the method gives.
    pub conservation_error: Option<f64>,
}

impl Metric {
    /// The metric's values, and curves where it measures any.
    ///
    /// # Errors
    /// Those of the subject's closures.
    pub fn measure(self, subject: &Subject<'_>, protocol: &Protocol) -> Result<Measured, EvalError> {
        let s = subject;
        let of_curve = |which| curve(s.picture, s.ranking, which, protocol.curves, s.seed, s.score);
        let masked =
            |f: fn(&[f32], &Ranking, &[bool]) -> Option<f64>| s.mask.and_then(|m| f(s.map, s.ranking, m));
        let values: Values = match self {
            Metric::Insertion => {
                let curve = of_curve(Curve::Insertion)?;
                let values = vec![("insertion", Some(area(&curve)))];
                return Ok(Measured { values, curves: vec![("insertion", curve)] });
            }
            Metric::Deletion => {
                let curve = of_curve(Curve::Deletion)?;
                let values = vec![("deletion", Some(area(&curve)))];
                return Ok(Measured { values, curves: vec![("deletion", curve)] });
            }
            Metric::Id => {
                let curves = [of_curve(Curve::Insertion)?, of_curve(Curve::Deletion)?];
                let [i, d] = [area(&curves[0]), area(&curves[1])];
                let values = vec![("insertion", Some(i)), ("deletion", Some(d)), ("id", Some(i - d))];
                let curves = ["insertion", "deletion"].into_iter().zip(curves).collect();
                return Ok(Measured { values, curves });
            }
            Metric::Road => {
                let [morf, lerf] = road(s.picture, s.ranking, &protocol.road, s.seed, s.score)?;
                vec![("road_morf", Some(morf)), ("road_lerf", Some(lerf)), ("road", Some(lerf - morf))]
            }
            Metric::AverageDrop => {
                let AverageDrop { drop, increase } = average_drop(s.picture, s.map, s.clean, s.score)?;
                vec![("average_drop", drop), ("increase", Some(f64::from(u8::from(increase))))]
            }
            Metric::PixelFlipping => {
                let [auc, aopc] =
                    pixel_flipping(s.picture, s.map, protocol.flipping, s.clean, s.seed, s.score)?;
                vec![("flipping_auc", Some(auc)), ("aopc", Some(aopc))]
            }
            Metric::SensitivityN => {
                let value = sensitivity_n(s.picture, s.map, protocol.subsets, s.clean, s.seed, s.score)?;
                vec![("sensitivity_n", value)]
            }
            Metric::Infidelity => {
                let value = infidelity(s.picture, s.map, protocol.subsets, s.clean, s.seed, s.score)?;
                vec![("infidelity", Some(value))]
            }
            Metric::MaxSensitivity => {
                let (count, radius) = (protocol.neighbours, protocol.radius);
                let value = max_sensitivity(&s.picture.values, s.map, count, radius, s.seed, s.explain)?;
                vec![("max_sensitivity", value)]
            }
            Metric::PointingGame => vec![("pointing_game", masked(pointing_game))],
            Metric::RelevanceMass => vec![("relevance_mass", masked(relevance_mass))],
            Metric::RelevanceRank => vec![("relevance_rank", masked(relevance_rank))],
            Metric::Sparseness => vec![("sparseness", sparseness(s.map))],
            Metric::Complexity => vec![("complexity", complexity(s.map))],
            Metric::Randomisation => {
                let maps = (s.randomised)()?;
                let mean = maps.and_then(|maps| {
                    let all: Option<Vec<f64>> = maps.iter().map(|m| spearman(s.map, m)).collect();
                    all.filter(|a| !a.is_empty()).map(|a| a.iter().sum::<f64>() / a.len() as f64)
                });
                vec![("randomisation", mean)]
            }
            Metric::ClassContrast => {
                vec![("class_cosine", (s.rival)()?.and_then(|rival| cosine(s.map, &rival)))]
            }
            Metric::Conservation => vec![("conservation_error", s.conservation_error)],
        };
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_once_under_its_name() {
        for description in METRICS {
            assert_eq!(description.name.parse::<Metric>(), Ok(description.metric));
            assert_eq!(description.metric.description().name, description.name);
            assert!(!description.citation.is_empty());
        }
        let message = "insertoin".parse::<Metric>().unwrap_err().to_string();
        assert!(message.contains("did you mean \"insertion\"?"), "{message}");
    }
}
