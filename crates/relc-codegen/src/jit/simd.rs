//! Floating-point operations in the forms that Cranelift turns into single instructions.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value};
use cranelift_frontend::FunctionBuilder;

/// Accesses that are in bounds. Vectors are not aligned to their size.
pub(crate) fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

fn ty(fb: &FunctionBuilder<'_>, value: Value) -> Type {
    fb.func.dfg.value_type(value)
}

/// `mask ? a : b`, the mask being the result of comparing values of the same number of lanes.
pub(crate) fn select(fb: &mut FunctionBuilder<'_>, mask: Value, a: Value, b: Value) -> Value {
    let ty = ty(fb, a);
    if ty.is_vector() {
        let mask = bitcast(fb, ty, mask);
        fb.ins().bitselect(mask, a, b)
    } else {
        fb.ins().select(mask, a, b)
    }
}

/// `a < b ? b : a`.
pub(crate) fn max(fb: &mut FunctionBuilder<'_>, a: Value, b: Value) -> Value {
    let mask = fb.ins().fcmp(FloatCC::LessThan, a, b);
    select(fb, mask, b, a)
}

/// `b < a ? b : a`.
pub(crate) fn min(fb: &mut FunctionBuilder<'_>, a: Value, b: Value) -> Value {
    let mask = fb.ins().fcmp(FloatCC::LessThan, b, a);
    select(fb, mask, b, a)
}

/// `a * b + c`, rounded once if the target `fuses`. Cranelift would call a library where it does not.
pub(crate) fn fma(fb: &mut FunctionBuilder<'_>, fuses: bool, [a, b, c]: [Value; 3]) -> Value {
    if fuses {
        fb.ins().fma(a, b, c)
    } else {
        let product = fb.ins().fmul(a, b);
        fb.ins().fadd(product, c)
    }
}

/// The same bits as another type of the same size.
pub(crate) fn bitcast(fb: &mut FunctionBuilder<'_>, ty: Type, value: Value) -> Value {
    fb.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
}
