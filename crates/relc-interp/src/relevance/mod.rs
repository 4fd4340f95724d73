//! The relevance ops.

mod derivative;
mod linear;
mod mask;
mod readout;
mod shaping;
mod split;
mod winner;

use ndarray::{ArrayD, IxDyn};
use relc_ir::ledger::Losses;
use relc_ir::op::{LinearLayer, Relevance};
use relc_ir::rule::LinearRule;

use crate::element::Element;
use crate::layer::{Layer, weight_part};
use crate::ops::conv::ConvLayer;
use crate::ops::gemm::{GemmLayer, rows_of};
use crate::ops::pool::{AverageLayer, global};
use linear::Linear;

/// An operand of a relevance node.
pub(crate) enum Operand<'a, T> {
    /// Relevance; this node is its only user.
    Relevance(ArrayD<T>),
    /// An activation of the forward pass.
    Activation(&'a ArrayD<T>),
    /// A weight.
    Weight(ArrayD<T>),
}

impl<T> Operand<'_, T> {
    fn array(&self) -> &ArrayD<T> {
        match self {
            Operand::Relevance(array) | Operand::Weight(array) => array,
            Operand::Activation(array) => array,
        }
    }

    fn into_relevance(self) -> Option<ArrayD<T>> {
        match self {
            Operand::Relevance(array) => Some(array),
            _ => None,
        }
    }
}

/// What a relevance node yields.
pub(crate) struct Propagated<T> {
    /// One array per output.
    pub outputs: Vec<ArrayD<T>>,
    /// A whole number for each sample, in their order, or none if the op loses nothing.
    pub losses: Vec<Losses>,
}

impl<T> From<ArrayD<T>> for Propagated<T> {
    fn from(output: ArrayD<T>) -> Self {
        Propagated { outputs: vec![output], losses: Vec::new() }
    }
}

/// The outputs of a relevance op but the seed, of the shapes that inference gives them. `None` if the operands
/// don't fit, which the verifier rules out.
pub(crate) fn propagate<T: Element>(
    op: &Relevance,
    operands: Vec<Operand<'_, T>>,
    shapes: &[Vec<usize>],
    batch: usize,
) -> Option<Propagated<T>> {
    let shape = shapes.first()?;
    let arrays: Vec<&ArrayD<T>> = operands.iter().map(Operand::array).collect();
    match op {
        Relevance::Seed => None,
        Relevance::Linear { layer, rule } => through_layer(layer, rule, &arrays, shape),
        Relevance::Winner(pool) => match arrays[..] {
            [r, act] => Some(winner::winner(&pool.window, r, act).into()),
            _ => None,
        },
        Relevance::Split { kind, branches, skip } => {
            let r = operands.get(*branches)?.array();
            Some(split::split(*kind, *skip, &arrays[..*branches], r, batch))
        }
        Relevance::Pass => Some(operands.into_iter().next()?.into_relevance()?.into()),
        Relevance::Gate { signal, .. } => {
            split::halves(*signal, operands.into_iter().next()?.into_relevance()?, shapes)
        }
        Relevance::Proportional => {
            let mut operands = operands.into_iter().map(Operand::into_relevance);
            readout::proportional(operands.next()??, &operands.next()??, batch)
        }
        Relevance::Readout { share } => {
            Some(readout::readout(*share, operands.into_iter().next()?.into_relevance()?))
        }
        Relevance::Upsample { .. } => {
            readout::upsample(&operands.into_iter().next()?.into_relevance()?, shape).map(Into::into)
        }
        Relevance::Mask { channels } => {
            Some(mask::mask(channels, operands.into_iter().next()?.into_relevance()?))
        }
        Relevance::Activation { .. }
        | Relevance::BatchNormalization(_)
        | Relevance::MeanVarianceNormalization(_)
        | Relevance::Softmax(_)
        | Relevance::Arithmetic { .. } => derive(op, operands),
        Relevance::Sum => split::sum(operands.into_iter().map(Operand::into_relevance)).map(Into::into),
        _ => {
            let r = operands.into_iter().next()?.into_relevance()?;
            shaping::undo(op, r, shape, batch)
        }
    }
}

/// The derivative of an elementwise op or a normalisation.
fn derive<T: Element>(op: &Relevance, operands: Vec<Operand<'_, T>>) -> Option<Propagated<T>> {
    let mut operands = operands.into_iter();
    let r = operands.next()?.into_relevance()?;
    let rest: Vec<Operand<'_, T>> = operands.collect();
    let rest: Vec<&ArrayD<T>> = rest.iter().map(Operand::array).collect();
    match (op, &rest[..]) {
        (Relevance::Activation { activation, kind }, [x]) => {
            Some(derivative::activation(*activation, *kind, r, x).into())
        }
        (Relevance::BatchNormalization(op), [scale, var]) => {
            Some(derivative::batch_normalization(*op, r, scale, var).into())
        }
        (Relevance::MeanVarianceNormalization(op), [x]) => {
            derivative::mean_variance_normalization(op, &r, x).map(Into::into)
        }
        (Relevance::Softmax(op), [x]) => Some(derivative::softmax(op, r, x).into()),
        (Relevance::Arithmetic { arithmetic, wrt }, operands) => {
            let by = |&wrt: &usize| derivative::arithmetic(*arithmetic, wrt, &r, operands);
            Some(Propagated { outputs: wrt.iter().map(by).collect::<Option<_>>()?, losses: Vec::new() })
        }
        _ => None,
    }
}

/// A linear layer's rule.
fn through_layer<T: Element>(
    layer: &LinearLayer,
    rule: &LinearRule,
    operands: &[&ArrayD<T>],
    shape: &[usize],
) -> Option<Propagated<T>> {
    let (&r, &act, parameters) = match operands {
        [r, act, parameters @ ..] => (r, act, parameters),
        _ => return None,
    };
    let (output, parameters) = match parameters {
        [rest @ .., z] if rule.reads_output() => (Some(*z), rest),
        _ => (None, parameters),
    };
    let forms: Vec<_> = rule.terms().map(|term| term.weight).collect();
    let rows;
    let (layer, folded): (Box<dyn Layer<T> + '_>, bool) = match layer {
        LinearLayer::Conv(conv) => {
            let weight = parameters.first()?.as_slice()?;
            let weights = forms.iter().map(|part| weight_part(weight, *part, rule.gamma)).collect();
            (Box::new(ConvLayer::new(conv, act.shape(), r.shape(), weights)), conv.folded_bias)
        }
        LinearLayer::Gemm(gemm) => {
            rows = rows_of(parameters.first()?, gemm.trans_b);
            let weights = forms.iter().map(|part| weight_part(&rows, *part, rule.gamma)).collect();
            (Box::new(GemmLayer::new(*act.shape().last()?, weights)), gemm.folded_bias)
        }
        LinearLayer::AveragePool(pool) => {
            (Box::new(AverageLayer::new(pool, act.shape(), r.shape(), &forms, rule.gamma)), false)
        }
        LinearLayer::GlobalAveragePool => (
            Box::new(AverageLayer::new(&global(act.shape()), act.shape(), r.shape(), &forms, rule.gamma)),
            false,
        ),
    };
    let bias = parameters.get(1).filter(|_| rule.bias.admits(folded)).map(|bias| bias.as_slice());
    let bias = match bias {
        Some(values) => Some(values?),
        None => None,
    };
    let linear = Linear { layer: layer.as_ref(), rule, bias, output };
    linear.rows(r, act, ArrayD::zeros(IxDyn(shape)))
}
