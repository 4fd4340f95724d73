//! A preprocessing in words, and what speaks against it.

use std::fmt;

use ndarray::{Array2, ArrayD};
use relc_ir::{Graph, Head, Op, ValueId};

use super::{Channels, Filter, Layout, OF_BYTES, Preprocess, Resize};
use crate::explainer::{Explainer, Explanations};
use crate::request::probabilities;

/// The size that most networks with ImageNet's preprocessing take, each way.
const USUAL_SIZE: usize = 224;

impl Preprocess {
    /// With what the model fixes filled in, so that nothing is left open.
    #[must_use]
    pub fn for_model(&self, layout: Layout, size: [usize; 2]) -> Preprocess {
        let cropped = self.resize == Resize::ShorterSideThenCentreCrop;
        let resize_to = cropped.then(|| self.shorter_side(size));
        let scale = Some(self.scale());
        Preprocess { size: Some(size), resize_to, layout: Some(layout), scale, ..self.clone() }
    }

    /// What it does to the values of arrays, in words.
    pub fn of_arrays(&self) -> String {
        let scale = self.scale.map(|scale| format!(" x {scale}")).unwrap_or_default();
        format!("values{scale}, {}", self.mean_and_std())
    }

    fn mean_and_std(&self) -> String {
        let list = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("mean [{}], std [{}]", list(&self.mean), list(&self.std))
    }

    /// What can be seen to speak against it on a model, each in a sentence. `is_default`: nobody asked for it.
    pub fn doubts(&self, explainer: &Explainer, is_default: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        let Some((layout, [height, width])) = explainer.frame_input() else { return doubts };
        let name = explainer.input().map_or("", |(name, _)| name);
        let says = |word: &str| name.to_lowercase().contains(word);
        if self.channels == Channels::Rgb && says("bgr") {
            doubts.push(format!("the model's input is called \"{name}\", and the preprocessing gives RGB"));
        }
        if self.channels == Channels::Bgr && says("rgb") {
            doubts.push(format!("the model's input is called \"{name}\", and the preprocessing gives BGR"));
        }
        if !is_default {
            return doubts;
        }
        if explainer.picture_input().is_none() {
            doubts.push("the model takes three spatial axes, and networks of videos are seldom trained like those of ImageNet".into());
        }
        if explainer.frame_channels() == Some(1) {
            doubts.push("the model takes one channel, and ImageNet's pictures have three".into());
        }
        if layout == Layout::Nhwc {
            doubts.push("the model takes NHWC, as networks of TensorFlow do, which seldom take ImageNet's mean and std".into());
        }
        if [height, width] != [USUAL_SIZE; 2] {
            doubts.push(format!(
                "the model takes {height} x {width} pixels, and ImageNet's networks take {USUAL_SIZE} x {USUAL_SIZE}"
            ));
        }
        if let Some(node) = normalises(explainer.graph()) {
            doubts.push(format!("the model changes the values of its input itself, by {node}"));
        }
        doubts
    }
}

/// The node by which a network scales or shifts its input before anything else.
fn normalises(graph: &Graph) -> Option<String> {
    let mut value = ValueId { node: *graph.inputs().first()?, port: 0 };
    loop {
        let [(node, _)] = graph.forward_users(value)[..] else { return None };
        match &graph.node(node).op {
            Op::Transpose(_) | Op::Reshape(_) | Op::Pad(_) | Op::Slice(_) => {
                value = ValueId { node, port: 0 }
            }
            Op::BatchNormalization(_) | Op::MeanVarianceNormalization(_) => {
                return Some(graph.describe(node));
            }
            Op::Arithmetic(_) if graph.data_operands(node).len() == 1 => return Some(graph.describe(node)),
            _ => return None,
        }
    }
}

/// A probability changes by at least this much between pictures that a network tells apart.
const MOVES: f64 = 0.01;
/// From which probability on a network is sure, so that another picture may well leave it as sure.
const SURE: f64 = 0.9;
/// Logits change by at least this fraction of the largest.
const MOVES_LOGITS: f64 = 1e-3;

/// Whether the outputs of pictures are hardly others than those of an empty input, which is so where a network sees
/// values of another range than it was trained on; says so in a sentence.
pub fn hardly_moves(explainer: &Explainer, result: &Explanations) -> Option<String> {
    let (_, ty) = explainer.input().ok()?;
    let empty = explainer.predict(ArrayD::zeros(ty.bind(1)).view()).ok()?;
    let change = still(&result.logits, &empty, explainer.head())?;
    Some(format!("no probability differs by more than {change:.1e} from that of an empty input (zeros)"))
}

/// The largest change of a probability, if neither that nor the largest change of a logit is worth the name. `logits`
/// is f64[N,K], `empty` f64[1,K].
fn still(logits: &Array2<f64>, empty: &Array2<f64>, head: Head) -> Option<f64> {
    if logits.ncols() < 2 || logits.ncols() != empty.ncols() {
        return None;
    }
    let [of_pictures, of_empty] = [logits, empty].map(|logits| probabilities(logits, head));
    let largest = |of: &Array2<f64>| of.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let change = largest(&(&of_pictures - &of_empty));
    let logit_change = largest(&(logits - empty));
    let sure = largest(&of_pictures) >= SURE;
    let still = logit_change <= MOVES_LOGITS * largest(logits) || (change < MOVES && !sure);
    still.then_some(change)
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.size.map_or("the model's size".to_string(), |[h, w]| format!("{h} x {w}"));
        match (self.resize, self.resize_to) {
            (Resize::None, _) => write!(f, "as it is, {size}")?,
            (Resize::Exact, _) => write!(f, "resized to {size} ({})", self.filter)?,
            (Resize::ShorterSideThenCentreCrop, Some(to)) => {
                write!(f, "shorter side to {to} ({}), centre crop {size}", self.filter)?;
            }
            (Resize::ShorterSideThenCentreCrop, None) => {
                write!(f, "shorter side to 256/224 of the crop ({}), centre crop {size}", self.filter)?;
            }
        }
        if let Some(layout) = self.layout {
            write!(f, ", {layout}")?;
        }
        let channels = if self.channels == Channels::Rgb { "RGB" } else { "BGR" };
        write!(f, ", {channels}, values ")?;
        if self.scale() == OF_BYTES {
            write!(f, "/ 255")?
        } else {
            write!(f, "x {}", self.scale())?
        }
        write!(f, ", {}", self.mean_and_std())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Filter::Nearest => "nearest",
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos3 => "lanczos3",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_preprocessing_is_told_in_a_line() {
        let told =
            |name: &str| Preprocess::named(name).unwrap().for_model(Layout::Nchw, [224, 224]).to_string();
        assert_eq!(
            told("imagenet"),
            "shorter side to 256 (bilinear), centre crop 224 x 224, NCHW, RGB, values / 255, mean [0.485, 0.456, \
             0.406], std [0.229, 0.224, 0.225]"
        );
        assert!(
            told("none")
                .starts_with("resized to 224 x 224 (bilinear), NCHW, RGB, values / 255, mean [0], std [1]")
        );
    }

    #[test]
    fn outputs_that_hardly_move_are_told_from_those_that_are_sure() {
        let says = |logits: Array2<f64>, empty: Array2<f64>| still(&logits, &empty, Head::None).is_some();
        assert!(says(array![[0.1, 0.11, 0.1]], array![[0.1, 0.1, 0.1]]));
        assert!(says(array![[30.0, -3.0], [30.0, -3.0]], array![[30.001, -3.0]]));
        assert!(!says(array![[9.0, -3.0]], array![[7.0, -3.0]]), "sure of both");
        assert!(!says(array![[2.0, 1.0], [0.1, 0.1]], array![[0.1, 0.1]]), "one picture moves");
        assert!(!says(array![[2.0]], array![[2.0]]), "one output has no others");
    }
}
