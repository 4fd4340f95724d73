//! From a verified kernel to Cranelift IR.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::types::{F32, F32X4, F64, F64X2, I8, I8X16, I32X4, I64};
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Type, Value};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, Variable};

use super::address::{Scopes, Stream};
use super::simd::{bitcast, fma, max, min, plain, select};
use crate::kir::{Binary, Buf, BufferKind, Compare, For, Kernel, Op, Place, Stmt, Ty, Unary, Val};

/// Where a value of the kernel is.
#[derive(Clone, Copy)]
enum Slot {
    Value(Value),
    Mutable(Variable),
}

/// One function in the making. Ids and types of the kernel are verified, so looking them up cannot fail.
pub(super) struct Lowering<'a, 'f> {
    kernel: &'a Kernel,
    fb: FunctionBuilder<'f>,
    fuses: bool,
    scopes: Scopes,
    /// The base address of each buffer.
    bases: Vec<Value>,
    values: Vec<Option<Slot>>,
}

fn clif_type(ty: Ty) -> Type {
    match ty {
        Ty::F32 => F32,
        Ty::F32x4 => F32X4,
        Ty::F64 => F64,
        Ty::F64x2 => F64X2,
        Ty::Bool => I8,
        Ty::Boolx4 => I32X4,
    }
}

impl<'a, 'f> Lowering<'a, 'f> {
    pub fn new(kernel: &'a Kernel, fb: FunctionBuilder<'f>, fuses: bool) -> Self {
        let values = vec![None; kernel.values.len()];
        Lowering { kernel, fb, fuses, scopes: Scopes::default(), bases: Vec::new(), values }
    }

    /// Generates `fn(buffers, lo, hi)`: the body for each task of the range.
    pub fn finish(mut self, config: TargetFrontendConfig) {
        let entry = self.fb.create_block();
        self.fb.append_block_params_for_function_params(entry);
        self.fb.switch_to_block(entry);
        self.fb.seal_block(entry);
        let [buffers, lo, hi] = [0, 1, 2].map(|k| self.fb.block_params(entry)[k]);
        for (_, offset) in self.kernel.buffers.iter().zip((0..).step_by(8)) {
            let flags = plain().with_aligned().with_readonly().with_can_move();
            let base = self.fb.ins().load(I64, flags, buffers, Offset32::new(offset));
            self.bases.push(base);
        }

        let [header, body, exit] = [(); 3].map(|()| self.fb.create_block());
        let task = self.fb.append_block_param(header, I64);
        self.fb.ins().jump(header, &[lo.into()]);
        self.fb.switch_to_block(header);
        let more = self.fb.ins().icmp(IntCC::UnsignedLessThan, task, hi);
        self.fb.ins().brif(more, body, &[], exit, &[]);
        self.fb.switch_to_block(body);
        self.fb.seal_block(body);
        self.task(task);
        let one = self.fb.ins().iconst(I64, 1);
        let next = self.fb.ins().iadd(task, one);
        self.fb.ins().jump(header, &[next.into()]);
        self.fb.seal_block(header);
        self.fb.switch_to_block(exit);
        self.fb.seal_block(exit);
        self.fb.ins().return_(&[]);
        self.fb.finalize(config);
    }

    /// The body of one task, given its number.
    fn task(&mut self, task: Value) {
        let kernel = self.kernel;
        let mut stride = kernel.task_count() as u64;
        for (k, dim) in kernel.tasks.iter().enumerate() {
            stride /= dim.extent;
            let mut digit = task;
            if stride > 1 {
                let divisor = self.fb.ins().iconst(I64, stride as i64);
                digit = self.fb.ins().udiv(digit, divisor);
            }
            // Task numbers are below the count, so that the first digit needs no remainder.
            if k > 0 {
                let extent = self.fb.ins().iconst(I64, dim.extent as i64);
                digit = self.fb.ins().urem(digit, extent);
            }
            let mut pointers = HashMap::new();
            for stream in self.scopes.streams_of(dim.var, &kernel.body) {
                let (coefficient, parent) = stream.split(dim.var);
                let bytes = self.bytes(stream.buffer, coefficient);
                let scale = self.fb.ins().iconst(I64, bytes);
                let shift = self.fb.ins().imul(digit, scale);
                let parent = self.pointer(&parent);
                pointers.insert(stream, self.fb.ins().iadd(parent, shift));
            }
            self.scopes.open(dim.var, pointers);
        }
        self.block(&kernel.body);
        for dim in kernel.tasks.iter().rev() {
            self.scopes.close(dim.var);
        }
    }

    /// The size of `elements` of a buffer. Wraps where no verified access uses it.
    fn bytes(&self, buffer: Buf, elements: i64) -> i64 {
        elements.wrapping_mul(self.kernel.buffers[buffer.0 as usize].elem.bytes() as i64)
    }

    fn pointer(&self, stream: &Stream) -> Value {
        self.scopes.pointer(stream).unwrap_or(self.bases[stream.buffer.0 as usize])
    }

    /// An address and an offset from it.
    fn address(&mut self, place: &Place) -> (Value, Offset32) {
        let (stream, constant) = self.scopes.stream(place.buffer, &place.index);
        let pointer = self.pointer(&stream);
        let bytes = self.bytes(place.buffer, constant);
        match i32::try_from(bytes) {
            Ok(bytes) => (pointer, Offset32::new(bytes)),
            Err(_) => (self.shifted(pointer, bytes), Offset32::new(0)),
        }
    }

    fn shifted(&mut self, pointer: Value, bytes: i64) -> Value {
        if bytes == 0 {
            return pointer;
        }
        let bytes = self.fb.ins().iconst(I64, bytes);
        self.fb.ins().iadd(pointer, bytes)
    }

    fn block(&mut self, body: &'a [Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For(inner) if inner.unroll || inner.trips() == 1 => {
                    for trip in 0..inner.trips() as i64 {
                        // Below `end`; only the product may wrap.
                        self.scopes.fix(inner.var, inner.start.wrapping_add(trip.wrapping_mul(inner.step)));
                        self.block(&inner.body);
                    }
                }
                Stmt::For(inner) => self.counted(inner),
                Stmt::Let { value, op } => self.define(*value, op),
                Stmt::Set { value, from } => {
                    let from = self.get(*from);
                    if let Some(Slot::Mutable(variable)) = self.values[value.0 as usize] {
                        self.fb.def_var(variable, from);
                    }
                }
                Stmt::Store { value, at } => {
                    let value = self.get(*value);
                    let (pointer, offset) = self.address(at);
                    self.fb.ins().store(plain(), value, pointer, offset);
                }
            }
        }
    }

    /// A loop that counts down and carries the pointers of its streams.
    fn counted(&mut self, inner: &'a For) {
        let streams = self.scopes.streams_of(inner.var, &inner.body);
        let [header, exit] = [(); 2].map(|()| self.fb.create_block());
        let counter = self.fb.append_block_param(header, I64);
        let mut initial: Vec<BlockArg> = vec![self.fb.ins().iconst(I64, inner.trips() as i64).into()];
        let mut steps = Vec::with_capacity(streams.len());
        let mut pointers = HashMap::with_capacity(streams.len());
        for stream in streams {
            let (coefficient, parent) = stream.split(inner.var);
            let parent = self.pointer(&parent);
            let start = self.bytes(stream.buffer, coefficient.wrapping_mul(inner.start));
            initial.push(self.shifted(parent, start).into());
            let pointer = self.fb.append_block_param(header, I64);
            steps.push((pointer, self.bytes(stream.buffer, coefficient.wrapping_mul(inner.step))));
            pointers.insert(stream, pointer);
        }
        self.fb.ins().jump(header, &initial);
        self.fb.switch_to_block(header);
        self.scopes.open(inner.var, pointers);
        self.block(&inner.body);
        self.scopes.close(inner.var);
        self.repeat(header, exit, counter, &steps);
    }

    /// Ends a loop's body: one trip less, each pointer one step further.
    fn repeat(&mut self, header: Block, exit: Block, counter: Value, steps: &[(Value, i64)]) {
        let left = self.shifted(counter, -1);
        let mut next: Vec<BlockArg> = vec![left.into()];
        next.extend(steps.iter().map(|&(pointer, bytes)| BlockArg::from(self.shifted(pointer, bytes))));
        self.fb.ins().brif(left, header, &next, exit, &[]);
        self.fb.seal_block(header);
        self.fb.switch_to_block(exit);
        self.fb.seal_block(exit);
    }

    fn get(&mut self, value: Val) -> Value {
        match self.values[value.0 as usize] {
            Some(Slot::Value(value)) => value,
            Some(Slot::Mutable(variable)) => self.fb.use_var(variable),
            None => unreachable!("the verifier refuses uses before the definition"),
        }
    }

    fn define(&mut self, value: Val, op: &Op) {
        let decl = &self.kernel.values[value.0 as usize];
        let result = self.op(op, decl.ty);
        let slot = if decl.mutable {
            let variable = self.fb.declare_var(clif_type(decl.ty));
            self.fb.def_var(variable, result);
            Slot::Mutable(variable)
        } else {
            Slot::Value(result)
        };
        self.values[value.0 as usize] = Some(slot);
    }

    fn load(&mut self, place: &Place, ty: Ty) -> Value {
        let (pointer, offset) = self.address(place);
        let flags = match self.kernel.buffers[place.buffer.0 as usize].kind {
            BufferKind::Const => plain().with_readonly().with_can_move(),
            BufferKind::In | BufferKind::Out | BufferKind::InOut => plain(),
        };
        self.fb.ins().load(clif_type(ty), flags, pointer, offset)
    }

    fn op(&mut self, op: &Op, ty: Ty) -> Value {
        match *op {
            Op::Const(number) => self.constant(number, ty),
            Op::Load(ref place) => self.load(place, ty),
            Op::LoadSplat(ref place) => {
                let value = self.load(place, Ty::F32);
                self.fb.ins().splat(F32X4, value)
            }
            Op::Copy(a) => self.get(a),
            Op::Unary(op, a) => {
                let a = self.get(a);
                self.unary(op, a)
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.get(a), self.get(b));
                match op {
                    Binary::Add => self.fb.ins().fadd(a, b),
                    Binary::Sub => self.fb.ins().fsub(a, b),
                    Binary::Mul => self.fb.ins().fmul(a, b),
                    Binary::Div => self.fb.ins().fdiv(a, b),
                    Binary::Max => max(&mut self.fb, a, b),
                    Binary::Min => min(&mut self.fb, a, b),
                }
            }
            Op::Fma(a, b, c) => {
                let operands = [a, b, c].map(|value| self.get(value));
                fma(&mut self.fb, self.fuses, operands)
            }
            Op::Compare(op, a, b) => {
                let (a, b) = (self.get(a), self.get(b));
                let condition = match op {
                    Compare::Lt => FloatCC::LessThan,
                    Compare::Le => FloatCC::LessThanOrEqual,
                    Compare::Gt => FloatCC::GreaterThan,
                    Compare::Ge => FloatCC::GreaterThanOrEqual,
                    Compare::Eq => FloatCC::Equal,
                };
                self.fb.ins().fcmp(condition, a, b)
            }
            Op::Select(mask, a, b) => {
                let [mask, a, b] = [mask, a, b].map(|value| self.get(value));
                select(&mut self.fb, mask, a, b)
            }
            Op::Extract(a, lane) => {
                let a = self.get(a);
                self.fb.ins().extractlane(a, lane)
            }
        }
    }

    fn constant(&mut self, number: f64, ty: Ty) -> Value {
        let scalar = match ty {
            Ty::F64 | Ty::F64x2 => self.fb.ins().f64const(number),
            Ty::F32 | Ty::F32x4 | Ty::Bool | Ty::Boolx4 => self.fb.ins().f32const(number as f32),
        };
        match ty {
            Ty::F32x4 | Ty::F64x2 => self.fb.ins().splat(clif_type(ty), scalar),
            Ty::F32 | Ty::F64 | Ty::Bool | Ty::Boolx4 => scalar,
        }
    }

    fn unary(&mut self, op: Unary, a: Value) -> Value {
        match op {
            Unary::Abs => self.fb.ins().fabs(a),
            Unary::Neg => self.fb.ins().fneg(a),
            Unary::Sqrt => self.fb.ins().sqrt(a),
            Unary::Splat => self.fb.ins().splat(F32X4, a),
            Unary::ReduceAdd => self.reduce_add(a),
            Unary::Promote => self.fb.ins().fpromote(F64, a),
            Unary::PromoteLow => self.fb.ins().fvpromote_low(a),
            Unary::PromoteHigh => {
                let bytes = bitcast(&mut self.fb, I8X16, a);
                let high: Vec<u8> = (8..16).chain(8..16).collect();
                let mask = self.fb.func.dfg.immediates.push(high.into());
                let bytes = self.fb.ins().shuffle(bytes, bytes, mask);
                let low = bitcast(&mut self.fb, F32X4, bytes);
                self.fb.ins().fvpromote_low(low)
            }
            Unary::Demote => self.fb.ins().fdemote(F32, a),
        }
    }

    fn reduce_add(&mut self, a: Value) -> Value {
        let lanes = self.fb.func.dfg.value_type(a).lane_count();
        let mut pair = |first: u8| {
            let low = self.fb.ins().extractlane(a, first);
            let high = self.fb.ins().extractlane(a, first + 1);
            self.fb.ins().fadd(low, high)
        };
        let low = pair(0);
        if lanes == 2 {
            return low;
        }
        let high = pair(2);
        self.fb.ins().fadd(low, high)
    }
}
