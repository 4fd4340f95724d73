//! `Einsum` of two operands that is a product of matrices: labels that both have and the result has not are summed over.

use relc_ir::op::Transpose;
use relc_ir::{Dim, Op, ValueId};

use super::folded::in_shape;
use super::product;
use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;
use crate::tensor::Constant;

/// What an equation says: the labels of both operands and of the result.
struct Equation {
    operands: [Vec<char>; 2],
    result: Vec<char>,
}

impl Equation {
    fn parse(text: &str) -> Result<Equation, Fault> {
        let refused = |why: &str| Fault::unsupported(format!("got the equation \"{text}\", {why}"));
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if plain.contains('.') {
            return Err(refused("expected labels alone, no \"...\""));
        }
        let (left, result) = match plain.split_once("->") {
            Some((left, result)) => (left, Some(result)),
            None => (plain.as_str(), None),
        };
        let operands: Vec<Vec<char>> = left.split(',').map(|labels| labels.chars().collect()).collect();
        let Ok(operands) = <[Vec<char>; 2]>::try_from(operands) else {
            return Err(refused("expected two operands"));
        };
        // Without a result that is stated: the labels that are there once, in their alphabetic order.
        let result = match result {
            Some(result) => result.chars().collect(),
            None => {
                let all: Vec<char> = operands.concat();
                let mut once: Vec<char> =
                    all.iter().copied().filter(|c| all.iter().filter(|o| *o == c).count() == 1).collect();
                once.sort_unstable();
                once
            }
        };
        let distinct = |labels: &[char]| {
            let mut sorted = labels.to_vec();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1])
        };
        if !operands.iter().chain([&result]).all(|labels| distinct(labels)) {
            return Err(refused("expected each label once in an operand"));
        }
        let known = |label: &char| operands.iter().any(|labels| labels.contains(label));
        let alone = |i: usize| {
            let (own, other) = (&operands[i], &operands[1 - i]);
            own.iter().any(|label| !other.contains(label) && !result.contains(label))
        };
        if !result.iter().all(known) || alone(0) || alone(1) {
            return Err(refused("expected a sum over labels that both operands have"));
        }
        Ok(Equation { operands, result })
    }

    /// Labels of the first operand that the second has (or not) and the result has (or not).
    fn labels(&self, of: usize, shared: bool, kept: bool) -> Vec<char> {
        let (own, other) = (&self.operands[of], &self.operands[1 - of]);
        let wanted = |label: &&char| other.contains(label) == shared && self.result.contains(label) == kept;
        own.iter().filter(wanted).copied().collect()
    }
}

/// The matrix that the rows of the first operand are multiplied with, if the equation says no more than that; `weight` is
/// the second operand.
pub(super) fn matrix(call: &mut Call, weight: &Const<f32>) -> Result<Option<Const<f32>>, Fault> {
    let text = call.attributes.string("equation")?.unwrap_or_default();
    let equation = Equation::parse(text)?;
    let [rows, inner] = [equation.labels(0, false, true), equation.labels(0, true, false)];
    let columns = equation.labels(1, false, true);
    let is_product = equation.operands[0] == [&rows[..], &inner].concat()
        && equation.result == [&rows[..], &columns].concat()
        && (inner.len(), columns.len(), weight.dims().len()) == (1, 1, 2);
    if !is_product {
        return Ok(None);
    }
    let turned = equation.operands[1] != [&inner[..], &columns].concat();
    let order: &[usize] = if turned { &[1, 0] } else { &[0, 1] };
    weight.transpose(order, &mut call.builder.budget).map(Some)
}

/// An operand: a tensor or a constant, and its sizes.
enum Operand {
    Tensor(ValueId, Vec<Dim>),
    Constant(Const<f32>),
}

impl Operand {
    fn read(call: &mut Call, i: usize) -> Result<Operand, Fault> {
        match call.value(i)? {
            Value::Constant(Constant::Floats(c)) => Ok(Operand::Constant(c)),
            _ => {
                let value = call.data(i)?;
                Ok(Operand::Tensor(value, call.ty(value).dims().to_vec()))
            }
        }
    }

    fn size(&self, axis: usize) -> Dim {
        match self {
            Operand::Tensor(_, dims) => dims.get(axis).copied().unwrap_or(Dim::Fixed(1)),
            Operand::Constant(c) => Dim::Fixed(c.dims().get(axis).copied().unwrap_or(1)),
        }
    }

    fn rank(&self) -> usize {
        match self {
            Operand::Tensor(_, dims) => dims.len(),
            Operand::Constant(c) => c.dims().len(),
        }
    }

    /// With its axes in the order of `labels` (its own are `own`), in the shape `shape`.
    fn arranged(
        &self,
        call: &mut Call,
        own: &[char],
        labels: &[char],
        shape: Vec<Dim>,
    ) -> Result<Value, Fault> {
        let perm: Vec<usize> =
            labels.iter().filter_map(|label| own.iter().position(|o| o == label)).collect();
        match self {
            Operand::Constant(c) => {
                let turned = c.transpose(&perm, &mut call.builder.budget)?;
                Ok(turned.reshape(shape.iter().map(|d| d.bind(1)).collect())?.into())
            }
            Operand::Tensor(value, _) => arranged(call, *value, perm, shape).map(Value::Graph),
        }
    }
}

/// A tensor with its axes in another order, then in another shape.
fn arranged(call: &mut Call, value: ValueId, perm: Vec<usize>, shape: Vec<Dim>) -> Result<ValueId, Fault> {
    let turned = match perm.iter().copied().eq(0..perm.len()) {
        true => value,
        false => call.node(Op::Transpose(Transpose { perm }), &[value])?,
    };
    in_shape(call, turned, shape)
}

pub(crate) fn einsum(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(2..=2)?;
    let text = call.attributes.string("equation")?;
    let equation =
        Equation::parse(text.ok_or_else(|| Fault::invalid("the attribute \"equation\" is missing"))?)?;
    let operands = [Operand::read(call, 0)?, Operand::read(call, 1)?];
    for (labels, operand) in equation.operands.iter().zip(&operands) {
        if labels.len() != operand.rank() {
            return Err(Fault::invalid(format!(
                "got {} axes for the labels {:?}, expected as many",
                operand.rank(),
                labels.iter().collect::<String>()
            )));
        }
    }
    let size = |label: char| {
        let of = |i: usize| {
            equation.operands[i].iter().position(|l| *l == label).map(|axis| operands[i].size(axis))
        };
        of(0).or_else(|| of(1)).unwrap_or(Dim::Fixed(1))
    };
    let product_of = |labels: &[char]| {
        let sizes =
            labels.iter().try_fold(1usize, |product, label| product.checked_mul(size(*label).fixed()?));
        sizes.map(Dim::Fixed)
    };
    // The batch is first where it is.
    let batch_first = |mut labels: Vec<char>| {
        labels.sort_by_key(|label| size(*label) != Dim::Batch);
        labels
    };
    let [lead, rows] = [true, false].map(|shared| batch_first(equation.labels(0, shared, true)));
    let (columns, inner) = (equation.labels(1, false, true), equation.labels(0, true, false));
    let batched = |labels: &[char]| labels.iter().any(|label| size(*label) == Dim::Batch);
    // Rows that the second operand does not have may hold the batch: then they stay axes, before a matrix.
    let stays = batched(&rows);
    let is_constant = matches!(operands[1], Operand::Constant(_));
    if batched(&columns) || batched(&inner) || stays && !(is_constant && lead.is_empty()) {
        return Err(Fault::unsupported(format!(
            "got the equation \"{}\" of [{}] and [{}], expected the batch in both operands, or rows of one and a constant",
            text.unwrap_or_default(),
            relc_ir::TensorType::new((0..operands[0].rank()).map(|axis| operands[0].size(axis))),
            relc_ir::TensorType::new((0..operands[1].rank()).map(|axis| operands[1].size(axis))),
        )));
    }
    let overflow = || Fault::invalid("the number of elements overflows");
    let (k, p) = (product_of(&inner).ok_or_else(overflow)?, product_of(&columns).ok_or_else(overflow)?);
    let sizes = |labels: &[char]| labels.iter().map(|label| size(*label)).collect::<Vec<_>>();
    let row_sizes = if stays { sizes(&rows) } else { vec![product_of(&rows).ok_or_else(overflow)?] };
    let [a, b] = &operands;
    let order = [&lead[..], &rows, &inner].concat();
    let left =
        a.arranged(call, &equation.operands[0], &order, [&sizes(&lead)[..], &row_sizes, &[k]].concat())?;
    let order = [&lead[..], &inner, &columns].concat();
    let right = b.arranged(call, &equation.operands[1], &order, [&sizes(&lead)[..], &[k, p]].concat())?;
    let is_matrix = stays || matches!((&right, lead.len()), (Value::Constant(_), 0));
    call.set_inputs(vec![Some(left), Some(right)]);
    let y = if is_matrix {
        let (x, w) = (call.data(0)?, call.weight(1)?);
        call.node(Op::MatMul, &[x, w])?
    } else {
        match product::of_two(call)? {
            Value::Graph(y) => y,
            other => return Ok(other),
        }
    };
    let order = [&lead[..], &rows, &columns].concat();
    let apart = sizes(&order);
    let y = in_shape(call, y, apart)?;
    let perm: Vec<usize> =
        equation.result.iter().filter_map(|label| order.iter().position(|o| o == label)).collect();
    let shape = sizes(&equation.result);
    arranged(call, y, perm, shape).map(Value::Graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_products_or_refused() {
        let check = |text: &str, expected: Result<[&str; 4], &str>| match (Equation::parse(text), expected) {
            (Ok(e), Ok(expected)) => {
                let parts = [
                    e.labels(0, true, true),
                    e.labels(0, false, true),
                    e.labels(1, false, true),
                    e.labels(0, true, false),
                ];
                assert_eq!(parts.map(String::from_iter), expected.map(String::from), "{text}");
            }
            (Err(fault), Err(part)) => assert!(fault.reason.contains(part), "{}", fault.reason),
            (got, expected) => panic!("{text}: got {:?}, expected {expected:?}", got.map(|e| e.result)),
        };
        check("bhid,bhjd->bhij", Ok(["bh", "i", "j", "d"]));
        check("bnd, hde -> bhne", Ok(["", "bn", "he", "d"]));
        check("ij,jk", Ok(["", "i", "k", "j"]));
        check("i,j->ij", Ok(["", "i", "j", ""]));
        check("ii,ij->ij", Err("each label once"));
        check("ij,jk->k", Err("that both operands have"));
        check("...ij,jk->ik", Err("no \"...\""));
        check("ij->ji", Err("two operands"));
        check("ij,jk->il", Err("that both operands have"));
    }
}
