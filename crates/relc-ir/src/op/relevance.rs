//! Relevance ops: what derive-relevance puts beside the forward graph.
//!
//! Every relevance node belongs to one forward node (`of=`): it takes the relevance of that node's output and
//! yields the relevance that each of its data operands receives from it. Where an output is used more than once,
//! a [`Relevance::Sum`] adds what its users send back.

use super::{
    Activation, Arithmetic, AveragePool, BatchNormalization, Concat, Conv, Expand, Gemm, MaxPool,
    MeanVarianceNormalization, Pad, Reshape, Slice, Softmax, Transpose,
};
use crate::attr::{Attr, AttrMap, Attrs};
use crate::rule::{Frame, Leak, LinearRule, Surrogate};
use crate::types::{Dim, TensorType};

/// A linear layer that relevance passes through by a [`LinearRule`].
#[derive(Clone, Debug, PartialEq)]
pub enum LinearLayer {
    /// Operands `r, act, weight`, then `bias` if the rule includes it, then the layer's output `z` if the rule
    /// [reads it](LinearRule::reads_output).
    Conv(Conv),
    /// Operands as for a convolution.
    Gemm(Gemm),
    /// Operands `r, act`, and `z` as above; every weight is `1 / divisor`.
    AveragePool(AveragePool),
    /// Operands `r, act`, and `z` as above; every weight is `1 / (H * W)`.
    GlobalAveragePool,
}

/// How one join shares its relevance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitKind {
    /// `|F_k| / sum |F|`; `0/0` counts as even.
    Ratio,
    /// Evenly.
    Half,
    /// All to the operand of this index.
    Only(usize),
    /// `F_k / stab(sum F)` with [`SIGNED_EPS`]; the stabiliser takes what is left.
    Signed,
    /// Everything to every branch: the derivative of a sum.
    Copy,
}

/// The signed stabiliser of [`SplitKind::Signed`]: `sum F + eps * (sum F >= 0 ? 1 : -1)`; zennit's default.
pub const SIGNED_EPS: f64 = 1e-6;

/// A relevance op.
#[derive(Clone, Debug, PartialEq)]
pub enum Relevance {
    /// The relevance that the user puts on the output; operand: the explained output, for its shape.
    Seed,
    /// A linear layer's rule. A rule whose leak is not [`Leak::Lost`] has a second output, of the type of `r`: what
    /// it does not pass on.
    Linear {
        /// The layer.
        layer: LinearLayer,
        /// The rule.
        rule: LinearRule,
    },
    /// Operands `r`, the relevance of a layer's input, and `lost`, what its rule did not pass on: the sum of `lost` over
    /// the sample joins `r` in proportion to `|r|`, evenly where that is 0 everywhere.
    Proportional,
    /// A cut at which a share of the relevance stops, to be read out there: outputs `share * r` and the rest.
    Readout {
        /// Which share stops, in `[0,1]`.
        share: f64,
    },
    /// What stopped at a cut, `f32[N,C,..]`, summed over channels and spread over another grid `f32[N,C',..]` of as many
    /// spatial axes, those of size 1 aside (see [`super::matched_axes`]): each pixel's relevance goes to the pixels there in
    /// proportion to the (bi-, tri-)linear weights by which it would be upsampled (half-pixel centres, clamped at the edge),
    /// and evenly to the channels.
    Upsample {
        /// The shape of the other grid.
        shape: Vec<Dim>,
    },
    /// A MaxPool's winner takes all; operands `r, act`.
    Winner(MaxPool),
    /// A residual join. Operands: its branches and then, once derive-relevance has run, `r`. One output per
    /// branch; the branch `skip` takes what the others leave.
    Split {
        /// The shares.
        kind: SplitKind,
        /// The number of branches.
        branches: usize,
        /// The index of the skip branch.
        skip: usize,
    },
    /// A product of a signal and a gate: half of `r` to each. One output per operand of the product; the gate takes
    /// the sum over the axes along which it is repeated.
    Gate {
        /// The signal's index, 0 or 1.
        signal: usize,
        /// The gate's shape.
        gate: Vec<Dim>,
    },
    /// Unchanged.
    Pass,
    /// A Reshape undone.
    Reshape(Reshape),
    /// An Expand undone: the sum over the repetitions.
    Expand {
        /// The expansion.
        expand: Expand,
        /// Its input's shape.
        from: Vec<Dim>,
    },
    /// A Transpose undone; `perm` is the inverse.
    Transpose(Transpose),
    /// A Slice undone: zeros where it did not look.
    Slice {
        /// The slice.
        slice: Slice,
        /// Its input's shape.
        shape: Vec<Dim>,
    },
    /// A Pad undone.
    Pad {
        /// The pad.
        pad: Pad,
        /// Its input's shape.
        shape: Vec<Dim>,
        /// What becomes of relevance on the frame.
        frame: Frame,
    },
    /// A Concat undone: one output per operand.
    Concat {
        /// The axis.
        concat: Concat,
        /// The size of each operand along it.
        sizes: Vec<usize>,
    },
    /// The sum of what several users of a value send back.
    Sum,
    /// The derivative of an activation, or what stands for it; operands `r, x`.
    Activation {
        /// The activation.
        activation: Activation,
        /// What stands for its derivative.
        kind: Surrogate,
    },
    /// The derivative of a batch normalisation; operands `r, scale, var`.
    BatchNormalization(BatchNormalization),
    /// The derivative of a normalisation by the operand's own statistics; operands `r, x`.
    MeanVarianceNormalization(MeanVarianceNormalization),
    /// The derivative of a softmax or its logarithm; operands `r, x`.
    Softmax(Softmax),
    /// The derivatives of a Sub, Mul or Div by some of its operands; operands `r` and all of the forward node's,
    /// one output per index in `wrt`.
    Arithmetic {
        /// The op.
        arithmetic: Arithmetic,
        /// The operands by which it is derived.
        wrt: Vec<usize>,
    },
    /// Only these channels (indices of the second axis) pass; the others' relevance is booked as clipped.
    Mask {
        /// The channels.
        channels: Vec<usize>,
    },
}

const SPLIT_ONLY: &str = "split.only";

impl Relevance {
    pub(super) fn mnemonic(&self) -> String {
        match self {
            Relevance::Seed => "seed".into(),
            Relevance::Linear { layer, rule } => {
                let layer = match layer {
                    LinearLayer::Conv(_) => "conv",
                    LinearLayer::Gemm(_) => "gemm",
                    LinearLayer::AveragePool(_) => "average_pool",
                    LinearLayer::GlobalAveragePool => "global_average_pool",
                };
                format!("{layer}.{}", rule.name)
            }
            Relevance::Proportional => "proportional".into(),
            Relevance::Readout { .. } => "split.readout".into(),
            Relevance::Upsample { .. } => "upsample.bilinear".into(),
            Relevance::Winner(_) => "max_pool.winner".into(),
            Relevance::Split { kind: SplitKind::Ratio, .. } => "split.ratio".into(),
            Relevance::Split { kind: SplitKind::Half, .. } => "split.half".into(),
            Relevance::Split { kind: SplitKind::Only(_), .. } => SPLIT_ONLY.into(),
            Relevance::Split { kind: SplitKind::Signed, .. } => "split.signed".into(),
            Relevance::Split { kind: SplitKind::Copy, .. } => "split.copy".into(),
            Relevance::Gate { .. } => "gate.half".into(),
            Relevance::Pass => "pass".into(),
            Relevance::Reshape(_) => "reshape.pass".into(),
            Relevance::Expand { .. } => "expand.pass".into(),
            Relevance::Transpose(_) => "transpose.pass".into(),
            Relevance::Slice { .. } => "slice.pass".into(),
            Relevance::Pad { .. } => "pad.pass".into(),
            Relevance::Concat { .. } => "concat.pass".into(),
            Relevance::Sum => "sum".into(),
            Relevance::Activation { activation, kind } => {
                format!("{}.{}", activation.mnemonic(), kind.name())
            }
            Relevance::BatchNormalization(_) => "batch_normalization.gradient".into(),
            Relevance::MeanVarianceNormalization(_) => "mean_variance_normalization.gradient".into(),
            Relevance::Softmax(Softmax { log: false, .. }) => "softmax.gradient".into(),
            Relevance::Softmax(Softmax { log: true, .. }) => "log_softmax.gradient".into(),
            Relevance::Arithmetic { arithmetic, .. } => format!("{}.gradient", arithmetic.mnemonic()),
            Relevance::Mask { .. } => "mask".into(),
        }
    }

    /// Whether the op is a derivative, or stands for one: what it passes on is no relevance.
    pub fn is_derivative(&self) -> bool {
        match self {
            Relevance::Linear { rule, .. } => rule.is_derivative(),
            Relevance::Split { kind, .. } => *kind == SplitKind::Copy,
            Relevance::Activation { .. }
            | Relevance::BatchNormalization(_)
            | Relevance::MeanVarianceNormalization(_)
            | Relevance::Softmax(_)
            | Relevance::Arithmetic { .. } => true,
            _ => false,
        }
    }

    pub(super) fn attrs(&self) -> Attrs {
        match self {
            Relevance::Seed | Relevance::Pass | Relevance::Sum | Relevance::Proportional => Attrs::new(),
            Relevance::Readout { share } => vec![("share", Attr::Float(*share))],
            Relevance::Upsample { shape } => vec![("shape", Attr::dims(shape))],
            Relevance::Linear { layer, rule } => {
                let mut attrs = match layer {
                    LinearLayer::Conv(conv) => conv.attrs(),
                    LinearLayer::Gemm(gemm) => gemm.attrs(),
                    LinearLayer::AveragePool(pool) => pool.attrs(),
                    LinearLayer::GlobalAveragePool => Attrs::new(),
                };
                attrs.extend(rule.attrs());
                attrs
            }
            Relevance::Winner(pool) => pool.attrs(),
            Relevance::Split { kind, branches, skip } => {
                let mut attrs =
                    vec![("branches", Attr::Int(*branches as i64)), ("skip", Attr::Int(*skip as i64))];
                if let SplitKind::Only(branch) = kind {
                    attrs.push(("only", Attr::Int(*branch as i64)));
                }
                attrs
            }
            Relevance::Gate { signal, gate } => {
                vec![("signal", Attr::Int(*signal as i64)), ("gate", Attr::dims(gate))]
            }
            Relevance::Reshape(reshape) => reshape.attrs(),
            Relevance::Expand { expand, from } => {
                let mut attrs = expand.attrs();
                attrs.push(("from", Attr::dims(from)));
                attrs
            }
            Relevance::Transpose(transpose) => transpose.attrs(),
            Relevance::Slice { slice, shape } => {
                let mut attrs = slice.attrs();
                attrs.push(("shape", Attr::dims(shape)));
                attrs
            }
            Relevance::Pad { pad, shape, frame } => {
                let mut attrs = pad.attrs();
                attrs.push(("shape", Attr::dims(shape)));
                attrs.extend(frame.attrs());
                attrs
            }
            Relevance::Concat { concat, sizes } => {
                let mut attrs = concat.attrs();
                attrs.push(("sizes", Attr::sizes(sizes)));
                attrs
            }
            Relevance::Activation { activation, .. } => activation.attrs(),
            Relevance::BatchNormalization(op) => op.attrs(),
            Relevance::MeanVarianceNormalization(op) => op.attrs(),
            Relevance::Softmax(op) => op.attrs(),
            Relevance::Arithmetic { wrt, .. } => vec![("wrt", Attr::sizes(wrt))],
            Relevance::Mask { channels } => vec![("channels", Attr::sizes(channels))],
        }
    }

    pub(super) fn from_text(mnemonic: &str, attrs: &mut AttrMap) -> Result<Option<Self>, String> {
        let split = |kind, attrs: &mut AttrMap| {
            Ok::<_, String>(Relevance::Split {
                kind,
                branches: attrs.size("branches")?,
                skip: attrs.size("skip")?,
            })
        };
        Ok(Some(match mnemonic {
            "seed" => Relevance::Seed,
            "pass" => Relevance::Pass,
            "sum" => Relevance::Sum,
            "proportional" => Relevance::Proportional,
            "split.readout" => Relevance::Readout { share: attrs.float("share")? },
            "upsample.bilinear" => Relevance::Upsample { shape: attrs.dims("shape")? },
            "max_pool.winner" => Relevance::Winner(MaxPool::from_attrs(attrs)?),
            "split.ratio" => split(SplitKind::Ratio, attrs)?,
            "split.half" => split(SplitKind::Half, attrs)?,
            "split.signed" => split(SplitKind::Signed, attrs)?,
            "split.copy" => split(SplitKind::Copy, attrs)?,
            SPLIT_ONLY => {
                let only = attrs.size("only")?;
                split(SplitKind::Only(only), attrs)?
            }
            "gate.half" => Relevance::Gate { signal: attrs.size("signal")?, gate: attrs.dims("gate")? },
            "reshape.pass" => Relevance::Reshape(Reshape::from_attrs(attrs)?),
            "expand.pass" => {
                Relevance::Expand { expand: Expand::from_attrs(attrs)?, from: attrs.dims("from")? }
            }
            "transpose.pass" => Relevance::Transpose(Transpose::from_attrs(attrs)?),
            "slice.pass" => {
                Relevance::Slice { slice: Slice::from_attrs(attrs)?, shape: attrs.dims("shape")? }
            }
            "pad.pass" => Relevance::Pad {
                pad: Pad::from_attrs(attrs)?,
                shape: attrs.dims("shape")?,
                frame: Frame::from_attrs(attrs)?,
            },
            "concat.pass" => {
                Relevance::Concat { concat: Concat::from_attrs(attrs)?, sizes: attrs.sizes("sizes")? }
            }
            "mask" => Relevance::Mask { channels: attrs.sizes("channels")? },
            _ => return Self::dotted_from_text(mnemonic, attrs),
        }))
    }

    /// `LAYER.RULE` of a linear layer, or `OP.KIND` of a derivative.
    fn dotted_from_text(mnemonic: &str, attrs: &mut AttrMap) -> Result<Option<Self>, String> {
        let Some((layer, rule)) = mnemonic.split_once('.') else { return Ok(None) };
        let kind = rule.parse().ok();
        let gradient = kind == Some(Surrogate::Gradient);
        if gradient && let Some(op) = Self::normalisation_from_text(layer, attrs)? {
            return Ok(Some(op));
        }
        if let (true, Some(arithmetic)) = (gradient, Arithmetic::from_text(layer)) {
            return Ok(Some(Relevance::Arithmetic { arithmetic, wrt: attrs.sizes("wrt")? }));
        }
        if let Some(kind) = kind
            && let Some(activation) = Activation::from_text(layer, attrs)?
        {
            return Ok(Some(Relevance::Activation { activation, kind }));
        }
        let layer = match layer {
            "conv" => LinearLayer::Conv(Conv::from_attrs(attrs)?),
            "gemm" => LinearLayer::Gemm(Gemm::from_attrs(attrs)?),
            "average_pool" => LinearLayer::AveragePool(AveragePool::from_attrs(attrs)?),
            "global_average_pool" => LinearLayer::GlobalAveragePool,
            _ => return Ok(None),
        };
        Ok(Some(Relevance::Linear { layer, rule: LinearRule::from_attrs(rule, attrs)? }))
    }

    /// The derivative of a normalisation.
    fn normalisation_from_text(op: &str, attrs: &mut AttrMap) -> Result<Option<Self>, String> {
        Ok(Some(match op {
            "batch_normalization" => Relevance::BatchNormalization(BatchNormalization::from_attrs(attrs)?),
            "mean_variance_normalization" => {
                Relevance::MeanVarianceNormalization(MeanVarianceNormalization::from_attrs(attrs)?)
            }
            "softmax" => Relevance::Softmax(Softmax::from_attrs(attrs, false)?),
            "log_softmax" => Relevance::Softmax(Softmax::from_attrs(attrs, true)?),
            _ => return Ok(None),
        }))
    }

    /// The types of the outputs.
    ///
    /// # Errors
    /// A sentence: what was got and what is expected.
    pub fn infer(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
        match self {
            Relevance::Seed | Relevance::Pass => match operands {
                [x] => Ok(vec![(*x).clone()]),
                _ => Err(format!("got {} operands, expected 1", operands.len())),
            },
            Relevance::Linear { layer, rule } => infer_linear(layer, rule, operands),
            Relevance::Proportional => match operands {
                [r, _] => Ok(vec![(*r).clone()]),
                _ => Err(format!("got {} operands, expected r and lost", operands.len())),
            },
            Relevance::Readout { share } => match operands {
                [r] if (0.0..=1.0).contains(share) => Ok(vec![(*r).clone(); 2]),
                _ => Err(format!("got {} operands and share={share}, expected 1 and 0 to 1", operands.len())),
            },
            Relevance::Upsample { shape } => infer_upsample(shape, operands),
            Relevance::Winner(pool) => {
                let [r, act] = operands else {
                    return Err(format!("got {} operands, expected 2", operands.len()));
                };
                undo("r", r, &pool.infer(&[act])?, act)
            }
            Relevance::Split { branches, skip, kind } => infer_split(*branches, *skip, *kind, operands),
            Relevance::Gate { signal, gate } => infer_gate(*signal, gate, operands),
            Relevance::Reshape(reshape) => Ok(vec![reshape.infer(operands)?]),
            Relevance::Expand { expand, from } => {
                let from = TensorType::new(from.iter().copied());
                undo_one(operands, &expand.infer(&[&from])?, &from)
            }
            Relevance::Transpose(transpose) => Ok(vec![transpose.infer(operands)?]),
            Relevance::Slice { slice, shape } => {
                let shape = TensorType::new(shape.iter().copied());
                undo_one(operands, &slice.infer(&[&shape])?, &shape)
            }
            Relevance::Pad { pad, shape, .. } => {
                let shape = TensorType::new(shape.iter().copied());
                undo_one(operands, &pad.infer(&[&shape])?, &shape)
            }
            Relevance::Concat { concat, sizes } => infer_concat(concat, sizes, operands),
            Relevance::Activation { .. } => match operands {
                [r, x] => undo("r", r, x, x),
                _ => Err(format!("got {} operands, expected r and x", operands.len())),
            },
            Relevance::BatchNormalization(op) => match operands {
                [r, scale, var] => Ok(vec![op.infer(&[r, scale, var, var, var])?]),
                _ => Err(format!("got {} operands, expected r, scale and var", operands.len())),
            },
            Relevance::MeanVarianceNormalization(op) => match operands {
                [r, x] => undo("r", r, &op.infer(&[x])?, x),
                _ => Err(format!("got {} operands, expected r and x", operands.len())),
            },
            Relevance::Softmax(op) => match operands {
                [r, x] => undo("r", r, &op.infer(&[x])?, x),
                _ => Err(format!("got {} operands, expected r and x", operands.len())),
            },
            Relevance::Arithmetic { arithmetic, wrt } => infer_arithmetic(*arithmetic, wrt, operands),
            Relevance::Mask { channels } => infer_mask(channels, operands),
            Relevance::Sum => match operands {
                [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|t| t == first) => {
                    Ok(vec![(*first).clone()])
                }
                _ => {
                    let all: Vec<String> = operands.iter().map(ToString::to_string).collect();
                    Err(format!("got [{}], expected two or more operands of one type", all.join(", ")))
                }
            },
        }
    }
}

/// The relevance of a layer's output has the output's type; that of its input the input's.
fn undo(
    what: &str,
    r: &TensorType,
    output: &TensorType,
    input: &TensorType,
) -> Result<Vec<TensorType>, String> {
    if r != output {
        return Err(format!("operand {what}: got {r}, expected {output}, the type of the layer's output"));
    }
    Ok(vec![input.clone()])
}

fn undo_one(
    operands: &[&TensorType],
    output: &TensorType,
    input: &TensorType,
) -> Result<Vec<TensorType>, String> {
    match operands {
        [r] => undo("r", r, output, input),
        _ => Err(format!("got {} operands, expected 1", operands.len())),
    }
}

fn infer_arithmetic(
    arithmetic: Arithmetic,
    wrt: &[usize],
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, String> {
    let [r, forward @ ..] = operands else { return Err("got no operands, expected r first".into()) };
    let output = arithmetic.infer(forward)?;
    if **r != output {
        return Err(format!("operand r: got {r}, expected {output}, the type of the op's output"));
    }
    let derived: Option<Vec<TensorType>> =
        wrt.iter().map(|&i| forward.get(i).map(|t| (*t).clone())).collect();
    derived.filter(|d| !d.is_empty()).ok_or_else(|| {
        format!("got wrt={wrt:?}, expected indices of the {} operands of the forward op", forward.len())
    })
}

fn infer_mask(channels: &[usize], operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
    let [r] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    match r.dims().get(1) {
        Some(Dim::Fixed(n)) if channels.iter().all(|c| c < n) => Ok(vec![(*r).clone()]),
        _ => Err(format!("got {r}, expected a value whose second axis has the channels {channels:?}")),
    }
}

fn infer_linear(
    layer: &LinearLayer,
    rule: &LinearRule,
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, String> {
    let [r, forward @ ..] = operands else { return Err("got no operands, expected r first".into()) };
    rule.check()?;
    let (read, forward) = match forward {
        [rest @ .., z] if rule.reads_output() => (Some(*z), rest),
        _ => (None, forward),
    };
    let output = match layer {
        LinearLayer::Conv(conv) => conv.infer(forward)?,
        LinearLayer::Gemm(gemm) => gemm.infer(forward)?,
        LinearLayer::AveragePool(pool) => pool.infer(forward)?,
        LinearLayer::GlobalAveragePool => super::pool::infer_global(forward)?,
    };
    let [act, ..] = forward else { return Err("got 1 operand, expected r and act".into()) };
    if let Some(z) = read.filter(|z| **z != output) {
        return Err(format!("operand z: got {z}, expected {output}, the type of the layer's output"));
    }
    let channels = act.dims().get(1).and_then(|d| d.fixed());
    if let Some(bounds) = &rule.bounds
        && bounds.low.len() != 1
        && Some(bounds.low.len()) != channels
    {
        return Err(format!(
            "got bounds of {} channels for the input {act}, expected 1 or as many",
            bounds.low.len()
        ));
    }
    let mut types = undo("r", r, &output, act)?;
    if rule.leak != Leak::Lost {
        types.push((*r).clone());
    }
    Ok(types)
}

fn infer_upsample(shape: &[Dim], operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
    let to = TensorType::new(shape.iter().copied());
    let &[r] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let matched = r.spatial().zip(to.spatial()).and_then(|(from, to)| super::matched_axes(&from, &to));
    if matched.is_some() && r.dims()[0] == to.dims()[0] {
        return Ok(vec![to]);
    }
    Err(format!("got {r} to spread over {to}, expected two f32[N,C,..] of the same spatial axes"))
}

fn infer_split(
    branches: usize,
    skip: usize,
    kind: SplitKind,
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, String> {
    let only = if let SplitKind::Only(branch) = kind { branch } else { 0 };
    if branches < 2 || skip >= branches || only >= branches {
        return Err(format!(
            "got branches={branches}, skip={skip}, only={only}, expected indices below branches"
        ));
    }
    if operands.len() != branches && operands.len() != branches + 1 {
        return Err(format!("got {} operands, expected {branches} branches and r", operands.len()));
    }
    match operands {
        [first, rest @ ..] if rest.iter().all(|t| t == first) => Ok(vec![(*first).clone(); branches]),
        _ => Err("got operands of several types, expected one".into()),
    }
}

fn infer_gate(signal: usize, gate: &[Dim], operands: &[&TensorType]) -> Result<Vec<TensorType>, String> {
    let [r] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let gate = TensorType::new(gate.iter().copied());
    if signal > 1 {
        return Err(format!("got signal={signal}, expected 0 or 1"));
    }
    let product = Arithmetic::Mul.infer(&[*r, &gate])?;
    if product != **r {
        return Err(format!("got a gate {gate} of {r}, expected one that broadcasts to it"));
    }
    let mut types = vec![(*r).clone(), gate];
    types.rotate_left(signal);
    Ok(types)
}

fn infer_concat(
    concat: &Concat,
    sizes: &[usize],
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, String> {
    let [r] = operands else { return Err(format!("got {} operands, expected 1", operands.len())) };
    let axis = concat.axis;
    let total = sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
    match r.dims().get(axis) {
        Some(Dim::Fixed(n)) if Some(*n) == total && !sizes.is_empty() => {}
        _ => return Err(format!("got {r}, expected sizes {sizes:?} along axis {axis}")),
    }
    let part = |&size: &usize| {
        TensorType::new(
            r.dims().iter().enumerate().map(|(i, d)| if i == axis { Dim::Fixed(size) } else { *d }),
        )
    };
    Ok(sizes.iter().map(part).collect())
}
