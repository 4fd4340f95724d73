//! `MatMul` of two computed values, and of constants that are no fully connected layer's.

use relc_ir::op::{Arithmetic, Expand, ReduceMean, Reshape};
use relc_ir::{Dim, Op, TensorType, ValueId};

use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;

/// The most products of one sample that are kept.
const MAX_PRODUCTS: usize = 1 << 24;

/// The products of all pairs, and their sums: `O_mp = sum_k A_mk B_kp` elementwise, so that relevance passes the sum as
/// it does a mean, and the products as it does those of a signal and a gate.
pub(super) fn of_two(call: &mut Call) -> Result<Value, Fault> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let (ta, tb) = (call.ty(a), call.ty(b));
    let refused = |what: &str| Fault::unsupported(format!("got {ta} times {tb}, {what}"));
    let (&[ref lead_a @ .., m, k], &[ref lead_b @ .., k2, p]) = (ta.dims(), tb.dims()) else {
        return Err(refused("expected matrices"));
    };
    if k != k2 {
        return Err(Fault::invalid(format!("got {ta} times {tb}, expected the inner sizes to be one")));
    }
    let (Dim::Fixed(m), Dim::Fixed(k), Dim::Fixed(p)) = (m, k, p) else {
        return Err(refused("expected the batch before the matrices"));
    };
    let one = Dim::Fixed(1);
    let rank = lead_a.len().max(lead_b.len());
    let apart = |lead: &[Dim], rest: [usize; 3]| {
        let missing = vec![one; rank - lead.len()];
        [&missing[..], lead, &rest.map(Dim::Fixed)].concat()
    };
    let (shape_a, shape_b) = (apart(lead_a, [m, k, 1]), apart(lead_b, [1, k, p]));
    let [whole_a, whole_b] = [&shape_a, &shape_b].map(|shape| TensorType::new(shape.iter().copied()));
    let whole = Arithmetic::Mul.infer(&[&whole_a, &whole_b]).map_err(Fault::invalid)?;
    let batched = |v: ValueId, shape: &[Dim]| !call.ty(v).is_batched() || shape.first() == Some(&Dim::Batch);
    if !batched(a, &shape_a) || !batched(b, &shape_b) {
        return Err(refused("expected the batch first in both"));
    }
    if whole.elements().is_none_or(|n| n > MAX_PRODUCTS) {
        return Err(refused(&format!(
            "whose products are {whole}, expected at most {MAX_PRODUCTS} for each sample"
        )));
    }
    let mut factors = Vec::new();
    for (value, shape) in [(a, shape_a), (b, shape_b)] {
        let value = call.node(Op::Reshape(Reshape { shape }), &[value])?;
        let repeat = Op::Expand(Expand { shape: whole.dims().to_vec() });
        // A constant broadcasts; a signal has the products' shape.
        let is_constant = call.builder.graph.is_weight(value);
        factors.push(if is_constant { value } else { call.node(repeat, &[value])? });
    }
    let products = call.node(Op::Arithmetic(Arithmetic::Mul), &factors)?;
    let mean =
        call.node(Op::ReduceMean(ReduceMean { axes: vec![rank + 1], keepdims: false }), &[products])?;
    let count = call.new_weight("count", &Const::scalar(k as f32))?;
    call.emit(Op::Arithmetic(Arithmetic::Mul), &[mean, count])
}
