//! `LRN`: local response normalisation, over neighbouring channels.

use relc_ir::op::{Arithmetic, AveragePool, Reshape, Window};
use relc_ir::{Dim, Op};

use crate::call::{Call, Value};
use crate::constant::Const;
use crate::error::Fault;

/// The most channels that are normalised together.
const MAX_SIZE: i64 = 1 << 16;

/// `x / (bias + alpha * mean of the neighbours' squares)^beta`. Relevance takes what is divided by as a constant, as with
/// every normalisation by a value's own statistics.
pub(crate) fn lrn(call: &mut Call) -> Result<Value, Fault> {
    call.expect_inputs(1..=1)?;
    let real =
        |name: &str, default: f32| Ok::<_, Fault>(call.attributes.float(name)?.unwrap_or(f64::from(default)));
    let (alpha, beta, bias) = (real("alpha", 1e-4)?, real("beta", 0.75)?, real("bias", 1.0)?);
    let size =
        call.attributes.int("size")?.ok_or_else(|| Fault::invalid("the attribute \"size\" is missing"))?;
    let size = usize::try_from(size).ok().filter(|s| (1..=MAX_SIZE as usize).contains(s));
    let size = size.ok_or_else(|| Fault::invalid(format!("expected a size from 1 to {MAX_SIZE}")))?;
    let x = call.data(0)?;
    let ty = call.ty(x);
    let &[n, Dim::Fixed(channels), ref rest @ ..] = ty.dims() else {
        return Err(Fault::unsupported(format!("got an input {ty}, expected f32[N,C,..]")));
    };
    let positions = rest.iter().try_fold(1usize, |product, d| product.checked_mul(d.fixed()?));
    let positions = positions.ok_or_else(|| Fault::invalid("the number of elements overflows"))?;
    let square = call.node(Op::Arithmetic(Arithmetic::Mul), &[x, x])?;
    let column = vec![n, Dim::Fixed(1), Dim::Fixed(channels), Dim::Fixed(positions)];
    let square = call.node(Op::Reshape(Reshape { shape: column }), &[square])?;
    let pads = [(size - 1) / 2, 0, size / 2, 0];
    let window = Window::from_lists(&[size, 1], &[1; 2], &pads, &[1; 2]).map_err(Fault::invalid)?;
    let mean = call.node(Op::AveragePool(AveragePool { window, count_include_pad: true }), &[square])?;
    let mean = call.node(Op::Reshape(Reshape { shape: ty.dims().to_vec() }), &[mean])?;
    let mut by = mean;
    for (op, role, value) in
        [(Arithmetic::Mul, "alpha", alpha), (Arithmetic::Add, "bias", bias), (Arithmetic::Pow, "beta", beta)]
    {
        let constant = call.new_weight(role, &Const::scalar(value as f32))?;
        by = call.node(Op::Arithmetic(op), &[by, constant])?;
    }
    call.emit(Op::Arithmetic(Arithmetic::Div), &[x, by])
}
