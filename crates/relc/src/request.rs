//! What to explain: seeds and targets.

use std::str::FromStr;

use ndarray::{Array2, ArrayD, Axis};
use relc_ir::Head;
use relc_ir::spelling::did_you_mean;
use relc_rules::SeedKind;

/// The relevance that is put on the explained output.
#[derive(Clone, Debug, PartialEq)]
pub enum Seed {
    /// A named seed at each target.
    Named(SeedKind),
    /// Any tensor: `f32[N,K]`, or `f32[K]` for every sample. Targets don't matter then.
    Tensor(ArrayD<f32>),
}

/// Which outputs to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// The largest logit of each sample.
    Argmax,
    /// These outputs, for every sample.
    Outputs(Vec<usize>),
    /// One output for each sample of the batch.
    Each(Vec<usize>),
    /// The outputs with the `k` largest logits of each sample.
    TopK(usize),
}

/// What a request asks for that the model can't give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A target is no output of the model.
    #[error("target {target} is out of range: the model has {outputs} outputs, 0 to {}", outputs.saturating_sub(1))]
    TargetOutOfRange {
        /// What was asked for.
        target: usize,
        /// How many outputs there are.
        outputs: usize,
    },
    /// [`Targets::Each`] for another number of samples.
    #[error("got {got} targets for {samples} samples, expected one for each")]
    TargetCount {
        /// How many targets there are.
        got: usize,
        /// The number of samples.
        samples: usize,
    },
    /// `top0`, or more than there are.
    #[error("top{k} is out of range: the model has {outputs} outputs; expected top1 to top{outputs}")]
    TopKOutOfRange {
        /// What was asked for.
        k: usize,
        /// How many outputs there are.
        outputs: usize,
    },
    /// A seed tensor of another shape.
    #[error("the seed has the shape {got:?}, expected [{samples}, {outputs}] or [{outputs}]")]
    SeedShape {
        /// Its shape.
        got: Vec<usize>,
        /// The number of samples.
        samples: usize,
        /// The number of outputs.
        outputs: usize,
    },
    /// A label that several outputs have.
    #[error("the label \"{label}\" is that of the outputs {}; give the index of one", list(outputs))]
    AmbiguousLabel {
        /// The label.
        label: String,
        /// The outputs that have it.
        outputs: Vec<usize>,
    },
    /// A target that is no number, `argmax`, `topK` or label.
    #[error("got the target \"{target}\", expected {expected}")]
    UnknownTarget {
        /// What was given.
        target: String,
        /// What is allowed, with the nearest label.
        expected: String,
    },
}

impl Targets {
    /// Reads `argmax`, `top3`, `7`, `3,5,7`, or labels where there are any. A number is an index, whatever the labels
    /// are; `index:7` and `label:7` say which is meant.
    ///
    /// # Errors
    /// If a part is none of these (the nearest label is suggested), or a label that several outputs have.
    pub fn parse(text: &str, labels: Option<&[String]>) -> Result<Targets, RequestError> {
        if text == "argmax" {
            return Ok(Targets::Argmax);
        }
        if let Some(k) = text.strip_prefix("top").and_then(|k| usize::from_str(k).ok())
            && output_of(text, labels)?.is_none()
        {
            return Ok(Targets::TopK(k));
        }
        // A label may hold commas, and may be a number.
        let whole = match text.strip_prefix(LABEL) {
            Some(name) => output_of(name, labels)?,
            None if text.parse::<usize>().is_ok() => None,
            None => output_of(text, labels)?,
        };
        if let Some(index) = whole {
            return Ok(Targets::Outputs(vec![index]));
        }
        let one = |part: &str| {
            let part = part.trim();
            let output = match (part.strip_prefix(LABEL), part.strip_prefix(INDEX).unwrap_or(part).parse()) {
                (Some(name), _) => output_of(name, labels)?,
                (None, Ok(index)) => Some(index),
                (None, Err(_)) => output_of(part, labels)?,
            };
            output.ok_or_else(|| unknown_target(part, text.contains(','), labels))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Targets::Outputs)
    }

    /// What of a target that [`parse`](Self::parse) reads could be meant otherwise: numbers that are an index and, of
    /// another output, the label.
    pub fn doubts(text: &str, labels: &[String]) -> Vec<String> {
        let doubt = |part: &str| {
            let index: usize = part.parse().ok()?;
            let other = labels.iter().position(|label| label == part).filter(|other| *other != index)?;
            let own = labels.get(index).map(|label| format!(", \"{label}\"")).unwrap_or_default();
            Some(format!(
                "the target {part} is output {index}{own}, not output {other}, whose label is \"{part}\"; write \
                 {LABEL}{part} for that one, or {INDEX}{part} to leave no doubt"
            ))
        };
        text.split(',').filter_map(|part| doubt(part.trim())).collect()
    }

    /// Checks that there is a target for each of a batch's samples, and no more.
    ///
    /// # Errors
    /// If there are fewer or more.
    pub(crate) fn check_count(&self, samples: usize) -> Result<(), RequestError> {
        match self {
            Targets::Each(list) if list.len() != samples => {
                Err(RequestError::TargetCount { got: list.len(), samples })
            }
            _ => Ok(()),
        }
    }

    /// How many targets each sample of a model with so many outputs has.
    #[cfg(feature = "cuda")]
    pub(crate) fn count(&self, outputs: usize) -> usize {
        match self {
            Targets::Argmax | Targets::Each(_) => 1,
            Targets::Outputs(list) => list.len(),
            Targets::TopK(k) => (*k).min(outputs),
        }
    }

    /// The targets for logits `f64[N,K]`, of which the first are those of the batch's sample `first`: one list of N
    /// outputs per target.
    ///
    /// # Errors
    /// If a target is out of range.
    pub(crate) fn resolve(
        &self,
        logits: &Array2<f64>,
        first: usize,
    ) -> Result<Vec<Vec<usize>>, RequestError> {
        let (samples, outputs) = logits.dim();
        let inside = |target: usize| {
            (target < outputs).then_some(target).ok_or(RequestError::TargetOutOfRange { target, outputs })
        };
        match self {
            Targets::Argmax => Ok(rank(logits, 1)),
            Targets::TopK(k) if (1..=outputs).contains(k) => Ok(rank(logits, *k)),
            Targets::TopK(k) => Err(RequestError::TopKOutOfRange { k: *k, outputs }),
            Targets::Outputs(list) => list.iter().map(|&target| Ok(vec![inside(target)?; samples])).collect(),
            Targets::Each(list) => {
                let missing = RequestError::TargetCount { got: list.len(), samples: first + samples };
                let own = list.get(first..first + samples).ok_or(missing)?;
                Ok(vec![own.iter().map(|&target| inside(target)).collect::<Result<_, _>>()?])
            }
        }
    }
}

/// Says that a target is a label.
const LABEL: &str = "label:";
/// Says that a target is an index.
const INDEX: &str = "index:";

/// The output of a label, if there is one.
fn output_of(name: &str, labels: Option<&[String]>) -> Result<Option<usize>, RequestError> {
    let all = labels.unwrap_or(&[]).iter().enumerate();
    let outputs: Vec<usize> = all.filter(|(_, label)| *label == name).map(|(i, _)| i).collect();
    match outputs[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(RequestError::AmbiguousLabel { label: name.to_string(), outputs }),
    }
}

/// `3, 5 and 7`; of many, the first ten.
fn list(outputs: &[usize]) -> String {
    let shown: Vec<String> = outputs.iter().take(10).map(ToString::to_string).collect();
    match (&shown[..], outputs.len()) {
        ([first @ .., last], 2..=10) => format!("{} and {last}", first.join(", ")),
        (_, count) => format!("{}, ... ({count})", shown.join(", ")),
    }
}

/// `listed`: whether the part stands in a list, where `argmax` and `topK` have no place.
fn unknown_target(part: &str, listed: bool, labels: Option<&[String]>) -> RequestError {
    let is_choice =
        |t: &str| t == "argmax" || t.strip_prefix("top").is_some_and(|k| k.parse::<usize>().is_ok());
    let alone =
        if listed && is_choice(part) { format!("; {part} stands alone, in no list") } else { String::new() };
    let expected = match labels {
        None => format!("an output's index (or its name, with --labels), or several with commas{alone}"),
        Some(labels) => {
            let hint = did_you_mean(part, labels.iter().map(String::as_str));
            format!("an output's index or label{hint}, or several with commas{alone}")
        }
    };
    let choices = if listed { "" } else { "argmax, topK (for example top3), " };
    RequestError::UnknownTarget { target: part.to_string(), expected: format!("{choices}{expected}") }
}

/// The `k` largest outputs of each sample, first the largest of all samples, then the second, ...; of equal ones the
/// first.
pub(crate) fn rank(logits: &Array2<f64>, k: usize) -> Vec<Vec<usize>> {
    let orders: Vec<Vec<usize>> = logits
        .axis_iter(Axis(0))
        .map(|row| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
            order
        })
        .collect();
    (0..k).map(|i| orders.iter().filter_map(|o| o.get(i).copied()).collect()).collect()
}

/// The probabilities `f64[N,K]` that belong to logits: softmax over the outputs (over the groups that a final softmax
/// normalises), or sigmoid if the model ended in one; of a mean of softmaxes, the outputs themselves, of which a weighted
/// sum is shared out.
pub(crate) fn probabilities(logits: &Array2<f64>, head: Head) -> Array2<f64> {
    if head == Head::Sigmoid {
        return logits.mapv(|z| 1.0 / (1.0 + (-z).exp()));
    }
    let mut p = logits.clone();
    if head == Head::Mixture {
        for mut row in p.axis_iter_mut(Axis(0)) {
            let sum = row.sum();
            row.mapv_inplace(|share| share / sum);
        }
        return p;
    }
    for mut row in p.axis_iter_mut(Axis(0)) {
        let outputs = row.len();
        let mut done = vec![false; outputs];
        for output in 0..outputs {
            if std::mem::replace(&mut done[output], true) {
                continue;
            }
            let group: Vec<usize> = group(head, outputs, output);
            let max = group.iter().fold(f64::NEG_INFINITY, |m, &k| m.max(row[k]));
            let sum: f64 = group.iter().map(|&k| (row[k] - max).exp()).sum();
            for k in group {
                row[k] = (row[k] - max).exp() / sum;
                done[k] = true;
            }
        }
    }
    p
}

/// The outputs that are normalised together with an output, itself among them.
fn group(head: Head, outputs: usize, output: usize) -> Vec<usize> {
    match head.groups() {
        Some(groups) => groups.of(output).filter(|k| *k < outputs).collect(),
        None => (0..outputs).collect(),
    }
}

/// `onehot - softmax` for one target per sample, over the outputs that the model's own softmax contrasts it with. The
/// target's `1 - p` is the sum of the others' `p`, which keeps its digits where the model is sure.
fn contrast(logits: &Array2<f64>, head: Head, targets: &[usize]) -> Array2<f64> {
    let outputs = logits.ncols();
    let p = probabilities(logits, if head == Head::Sigmoid { Head::None } else { head });
    let mut seed = Array2::zeros(logits.dim());
    for ((mut row, p), &target) in seed.axis_iter_mut(Axis(0)).zip(p.axis_iter(Axis(0))).zip(targets) {
        let others: Vec<usize> = group(head, outputs, target).into_iter().filter(|k| *k != target).collect();
        for &k in &others {
            row[k] = -p[k];
        }
        if let Some(slot) = row.get_mut(target) {
            *slot = others.iter().map(|&k| p[k]).sum();
        }
    }
    seed
}

impl Seed {
    /// The seed of one of `samples` samples, of a model with `outputs` outputs.
    ///
    /// # Errors
    /// If a seed tensor has another shape than the whole batch.
    pub(crate) fn of_sample(
        &self,
        sample: usize,
        samples: usize,
        outputs: usize,
    ) -> Result<Seed, RequestError> {
        match self {
            Seed::Tensor(tensor) if tensor.shape() == [samples, outputs] => {
                Ok(Seed::Tensor(tensor.index_axis(Axis(0), sample).to_owned()))
            }
            Seed::Tensor(tensor) if tensor.shape() != [outputs] => {
                Err(RequestError::SeedShape { got: tensor.shape().to_vec(), samples, outputs })
            }
            seed => Ok(seed.clone()),
        }
    }

    /// The seed tensor `f64[N,K]` for one target per sample.
    ///
    /// # Errors
    /// If a seed tensor has another shape.
    pub(crate) fn tensor(
        &self,
        logits: &Array2<f64>,
        head: Head,
        targets: &[usize],
    ) -> Result<Array2<f64>, RequestError> {
        let (samples, outputs) = logits.dim();
        match self {
            Seed::Tensor(tensor) => {
                let wrong = || RequestError::SeedShape { got: tensor.shape().to_vec(), samples, outputs };
                if tensor.shape() != [samples, outputs] && tensor.shape() != [outputs] {
                    return Err(wrong());
                }
                let full = tensor.broadcast((samples, outputs)).ok_or_else(wrong)?;
                Ok(full.mapv(f64::from))
            }
            Seed::Named(SeedKind::Contrast) => Ok(contrast(logits, head, targets)),
            Seed::Named(kind) => {
                let mut seed = Array2::zeros((samples, outputs));
                let values = match kind {
                    SeedKind::OneHot => Array2::ones((samples, outputs)),
                    SeedKind::Logit => logits.clone(),
                    SeedKind::Prob | SeedKind::Contrast => probabilities(logits, head),
                };
                for (sample, &target) in targets.iter().enumerate() {
                    if let (Some(slot), Some(value)) =
                        (seed.get_mut((sample, target)), values.get((sample, target)))
                    {
                        *slot = *value;
                    }
                }
                Ok(seed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr2, array};

    #[test]
    fn targets_parse() {
        let labels = ["cat".to_string(), "great dane, dog".to_string(), "top1".to_string()];
        let parse = |text| Targets::parse(text, Some(&labels));
        assert_eq!(parse("argmax"), Ok(Targets::Argmax));
        assert_eq!(parse("top3"), Ok(Targets::TopK(3)));
        assert_eq!(parse("top1"), Ok(Targets::Outputs(vec![2])));
        assert_eq!(parse("2, cat"), Ok(Targets::Outputs(vec![2, 0])));
        assert_eq!(parse("great dane, dog"), Ok(Targets::Outputs(vec![1])));
        assert!(parse("cot").unwrap_err().to_string().contains("did you mean \"cat\"?"));
        assert!(Targets::parse("cat", None).unwrap_err().to_string().contains("--labels"));
        let error = |text| parse(text).unwrap_err().to_string();
        assert!(error("argmax,1").contains("argmax stands alone"), "{}", error("argmax,1"));
        assert!(!error("-1").contains("did you mean"), "{}", error("-1"));
    }

    #[test]
    fn a_number_is_an_index_and_a_label_names_one_output() {
        let labels = ["1", "10", "2", "3", "crane", "crane", "top1"].map(String::from);
        let parse = |text| Targets::parse(text, Some(&labels));
        assert_eq!(parse("1"), Ok(Targets::Outputs(vec![1])));
        assert_eq!(parse("index:1"), Ok(Targets::Outputs(vec![1])));
        assert_eq!(parse("label:1"), Ok(Targets::Outputs(vec![0])));
        assert_eq!(parse("label:10,10, label:3"), Ok(Targets::Outputs(vec![1, 10, 3])));
        assert_eq!(parse("top1"), Ok(Targets::Outputs(vec![6])));
        assert!(parse("label:11").is_err() && parse("index:one").is_err());
        for text in ["crane", "label:crane", "1,crane"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("\"crane\" is that of the outputs 4 and 5"), "{error}");
        }
        let doubts = Targets::doubts("1, 3", &labels);
        assert!(
            doubts.len() == 1 && doubts[0].contains("label:1") && doubts[0].contains("\"10\""),
            "{doubts:?}"
        );
        assert!(Targets::doubts("label:1,index:1,0,2,4", &labels).is_empty());
    }

    #[test]
    fn targets_resolve_per_sample_and_refuse_what_is_not_there() {
        let logits = arr2(&[[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]]);
        assert_eq!(Targets::Argmax.resolve(&logits, 0), Ok(vec![vec![1, 0]]));
        assert_eq!(Targets::TopK(2).resolve(&logits, 0), Ok(vec![vec![1, 0], vec![2, 1]]));
        assert_eq!(Targets::Outputs(vec![2]).resolve(&logits, 0), Ok(vec![vec![2, 2]]));
        assert!(Targets::Outputs(vec![3]).resolve(&logits, 0).unwrap_err().to_string().contains("0 to 2"));
        assert!(Targets::TopK(0).resolve(&logits, 0).is_err());
        let each = Targets::Each(vec![0, 2, 1]);
        assert_eq!(each.resolve(&logits, 1), Ok(vec![vec![2, 1]]));
        assert!(
            each.resolve(&logits, 2).is_err() && each.check_count(2).is_err() && each.check_count(3).is_ok()
        );
    }

    #[test]
    fn seeds_stand_at_the_target() {
        let logits = arr2(&[[0.0, 2.0f64.ln()]]);
        let seed = |kind, head| Seed::Named(kind).tensor(&logits, head, &[1]).unwrap();
        assert_eq!(seed(SeedKind::OneHot, Head::None), arr2(&[[0.0, 1.0]]));
        assert!((seed(SeedKind::Prob, Head::Softmax(None))[(0, 1)] - 2.0 / 3.0).abs() < 1e-12);
        assert!((seed(SeedKind::Prob, Head::Sigmoid)[(0, 1)] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(seed(SeedKind::Logit, Head::None)[(0, 1)], 2.0f64.ln());
    }

    /// A softmax over the three channels of two pixels: the outputs of a pixel are 2 apart.
    #[test]
    fn a_softmax_over_one_axis_normalises_groups() {
        let head = Head::Softmax(Some(relc_ir::Groups { size: 3, stride: 2 }));
        let logits = arr2(&[[1.0f64, 5.0, 2.0, 1.0, 2.0, 1.0].map(f64::ln)]);
        let p = probabilities(&logits, head);
        let expected = arr2(&[[0.2, 5.0 / 7.0, 0.4, 1.0 / 7.0, 0.4, 1.0 / 7.0]]);
        assert!((&p - &expected).iter().all(|d| d.abs() < 1e-12), "{p}");
        let seed = |kind| Seed::Named(kind).tensor(&logits, head, &[2]).unwrap();
        assert!((seed(SeedKind::Prob)[(0, 2)] - 0.4).abs() < 1e-12);
        let contrast = seed(SeedKind::Contrast);
        let expected = arr2(&[[-0.2, 0.0, 0.6, 0.0, -0.4, 0.0]]);
        assert!((&contrast - &expected).iter().all(|d| d.abs() < 1e-12), "{contrast}");
    }

    #[test]
    fn the_outputs_of_a_mixture_are_shares() {
        let outputs = arr2(&[[0.5, 1.25, 0.25]]);
        assert_eq!(probabilities(&outputs, Head::Mixture), arr2(&[[0.25, 0.625, 0.125]]));
        let seed = |kind| Seed::Named(kind).tensor(&outputs, Head::Mixture, &[1]).unwrap();
        assert_eq!(seed(SeedKind::Logit), arr2(&[[0.0, 1.25, 0.0]]));
        assert_eq!(seed(SeedKind::Prob), arr2(&[[0.0, 0.625, 0.0]]));
        assert_eq!(seed(SeedKind::Contrast), arr2(&[[-0.25, 0.375, -0.125]]));
    }

    #[test]
    fn seed_tensors_broadcast_over_samples_only() {
        let logits = Array2::zeros((2, 3));
        let tensor = |t: ArrayD<f32>| Seed::Tensor(t).tensor(&logits, Head::None, &[0, 0]);
        assert_eq!(tensor(array![1.0, 2.0, 3.0].into_dyn()).unwrap().row(1).to_vec(), [1.0, 2.0, 3.0]);
        assert!(tensor(array![[1.0], [2.0]].into_dyn()).is_err());
        assert!(tensor(array![1.0].into_dyn()).is_err());
    }
}
