//! Random kernels: every operation, in loops of every kind, compiled against interpreted, to the bit.

use proptest::prelude::*;
use relc_codegen::interp::{Data, interpret};
use relc_codegen::jit::{Binding, Target, compile};
use relc_codegen::kir::{
    Binary, Body, Buf, BufferKind, Compare, Elem, Idx, Kernel, KernelBuilder, Ty, Unary, Val, parse,
};

/// Elements of each buffer. Indices below [`reach`] fit four lanes.
const LEN: usize = 4096;

/// One decision of the generator; what it means depends on what there is.
type Choice = (u8, u8, u8, u8);

struct Generator<'a> {
    choices: std::slice::Iter<'a, Choice>,
    buffers: [Buf; 3],
    doubles: Buf,
    /// Loop variables in scope with the largest value.
    vars: Vec<(Idx, i64)>,
    /// Values in scope.
    values: Vec<Val>,
    mutable: Vec<Val>,
}

impl Generator<'_> {
    fn pick(&self, b: &Body, ty: Ty, at: u8) -> Option<Val> {
        let candidates: Vec<Val> = self.values.iter().copied().filter(|value| b.ty(*value) == ty).collect();
        (!candidates.is_empty()).then(|| candidates[usize::from(at) % candidates.len()])
    }

    /// An index whose value stays in the buffer: positive and negative coefficients.
    fn index(&self, (_, p, q, r): Choice) -> Idx {
        let mut idx = Idx::from(i64::from(p));
        for (k, (var, last)) in self.vars.iter().enumerate() {
            let coefficient = [0, 1, 4, 16, -4][(usize::from(q) + k * usize::from(r)) % 5];
            idx = idx + var * coefficient;
            if coefficient < 0 {
                idx = idx + last * -coefficient;
            }
        }
        idx
    }

    fn block(&mut self, b: &mut Body, depth: usize, statements: usize) {
        let (values, mutable) = (self.values.len(), self.mutable.len());
        for _ in 0..statements {
            let Some(&choice) = self.choices.next() else { break };
            self.statement(b, depth, choice);
        }
        self.values.truncate(values);
        self.mutable.truncate(mutable);
    }

    fn statement(&mut self, b: &mut Body, depth: usize, choice: Choice) {
        let (kind, p, q, r) = choice;
        let float = [Ty::F32, Ty::F32x4, Ty::F64, Ty::F64x2][usize::from(p % 4)];
        match kind % 16 {
            0 | 1 if depth < 4 => {
                let (start, step) = (i64::from(q % 3) - 1, i64::from(r % 3) + 1);
                let trips = i64::from(p % 4) + 1;
                let last = start + (trips - 1) * step;
                let unroll = q % 2 == 0;
                let body = |b: &mut Body, var: relc_codegen::kir::Var| {
                    // Counted from 0, so that indices are not negative.
                    self.vars.push((var - start, last - start));
                    self.block(b, depth + 1, 6);
                    self.vars.pop();
                };
                if unroll {
                    b.unrolled("i", start, last + 1, step, body);
                } else {
                    b.for_range("i", start, last + 1, step, body);
                }
            }
            2 | 3 => {
                let buffer = if matches!(float, Ty::F64 | Ty::F64x2) {
                    self.doubles
                } else {
                    self.buffers[usize::from(q % 3)]
                };
                let value = b.load(float, buffer, self.index(choice));
                self.values.push(value);
            }
            4 => {
                let value = b.load_splat(self.buffers[usize::from(q % 3)], self.index(choice));
                self.values.push(value);
            }
            5 => {
                let number = [0.0, 1.0, -0.5, f64::INFINITY, f64::NEG_INFINITY, 3.25][usize::from(q % 6)];
                let value = b.constant(float, number);
                self.values.push(value);
            }
            6 | 7 => self.arithmetic(b, float, choice),
            8 => {
                let op = [
                    Unary::Abs,
                    Unary::Neg,
                    Unary::Sqrt,
                    Unary::Splat,
                    Unary::ReduceAdd,
                    Unary::Promote,
                    Unary::PromoteLow,
                    Unary::PromoteHigh,
                    Unary::Demote,
                ][usize::from(q % 9)];
                let operand = match op {
                    Unary::Splat | Unary::Promote => Ty::F32,
                    Unary::PromoteLow | Unary::PromoteHigh => Ty::F32x4,
                    Unary::ReduceAdd if p % 2 == 0 => Ty::F32x4,
                    Unary::ReduceAdd => Ty::F64x2,
                    Unary::Demote => Ty::F64,
                    _ => float,
                };
                if let Some(a) = self.pick(b, operand, r) {
                    let value = b.unary(op, a);
                    self.values.push(value);
                }
            }
            9 => self.choose(b, float, choice),
            10 => {
                if let Some(a) = self.pick(b, Ty::F32x4, r) {
                    let value = b.extract(a, q % 4);
                    self.values.push(value);
                }
            }
            11 => {
                if let Some(init) = self.pick(b, float, q) {
                    let value = b.var(init);
                    self.values.push(value);
                    self.mutable.push(value);
                }
            }
            12 | 13 => {
                let Some(&value) = self.mutable.get(usize::from(q) % self.mutable.len().max(1)) else {
                    return;
                };
                if let Some(from) = self.pick(b, b.ty(value), r) {
                    b.set(value, from);
                }
            }
            _ => {
                if let Some(value) = self.pick(b, float, q) {
                    let double = matches!(float, Ty::F64 | Ty::F64x2);
                    let buffer = if double { self.doubles } else { self.buffers[1 + usize::from(r % 2)] };
                    b.store(value, buffer, self.index(choice));
                }
            }
        }
    }

    fn arithmetic(&mut self, b: &mut Body, float: Ty, (_, _, q, r): Choice) {
        let ops = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min];
        let (Some(x), Some(y)) = (self.pick(b, float, q), self.pick(b, float, r)) else { return };
        let value = match ops.get(usize::from(q.wrapping_add(r) % 7)) {
            Some(&op) => b.binary(op, x, y),
            None => b.fma(x, y, x),
        };
        self.values.push(value);
    }

    fn choose(&mut self, b: &mut Body, float: Ty, (_, _, q, r): Choice) {
        let float = if float == Ty::F64x2 { Ty::F32x4 } else { float };
        let ops = [Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge, Compare::Eq];
        let (Some(x), Some(y)) = (self.pick(b, float, q), self.pick(b, float, r)) else { return };
        let mask = b.compare(ops[usize::from(q % 5)], x, y);
        let value = b.select(mask, y, x);
        self.values.push(value);
    }
}

fn kernel(choices: &[Choice]) -> Kernel {
    let mut k = KernelBuilder::new("random");
    let buffers = [k.constant("w", LEN), k.inout("x", LEN), k.inout("y", LEN)];
    let doubles = k.buffer("d", BufferKind::InOut, Elem::F64, LEN);
    k.tasks([("t", 2), ("u", 3)], |b, [t, u]| {
        let vars = vec![(t.into(), 1), (u.into(), 2)];
        let choices = choices.iter();
        let mut generator =
            Generator { choices, buffers, doubles, vars, values: Vec::new(), mutable: Vec::new() };
        generator.block(b, 0, usize::MAX);
    })
}

fn bits(data: &Data) -> Vec<u64> {
    let canonical = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    match data {
        Data::F32(data) => data.iter().map(|&value| canonical(value.into())).collect(),
        Data::F64(data) => data.iter().map(|&value| canonical(value)).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn compiled_code_does_what_the_interpreter_does(
        choices in proptest::collection::vec(any::<Choice>(), 1..120),
        tasks in (0usize..7, 0usize..7),
    ) {
        let kernel = kernel(&choices);
        let text = kernel.to_string();
        let parsed = parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&kernel), "{}", text);
        let tasks = tasks.0.min(tasks.1)..tasks.0.max(tasks.1).min(6);
        let floats = |salt: usize| (0..LEN).map(|k| ((k * salt) % 97) as f32 / 8.0 - 6.0).collect::<Vec<_>>();
        let data = [floats(31), floats(37), floats(41)].map(Data::F32);
        let doubles = Data::F64(floats(43).into_iter().map(f64::from).collect());
        for target in [Target::host().unwrap(), Target::baseline().unwrap()] {
            let mut expected: Vec<Data> = data.iter().cloned().chain([doubles.clone()]).collect();
            interpret(&kernel, &mut expected, tasks.clone(), target.fuses()).unwrap();
            let mut got: Vec<Data> = data.iter().cloned().chain([doubles.clone()]).collect();
            let compiled = compile(std::slice::from_ref(&kernel), &target).unwrap();
            let mut bound: Vec<_> = got
                .iter_mut()
                .map(|data| match data {
                    Data::F32(data) => Binding::Write(data),
                    Data::F64(data) => Binding::Write64(data),
                })
                .collect();
            compiled.get(0).unwrap().call(&mut bound, tasks.clone()).unwrap();
            for (got, expected) in got.iter().zip(&expected) {
                prop_assert!(bits(got) == bits(expected), "{:?}, tasks {:?} of {}", target, tasks, text);
            }
        }
    }
}
