//! One `check` for all kernels: text, verifier, interpreter and compiled code on both targets must agree.

use std::sync::OnceLock;

use relc_codegen::interp::{Data, interpret};
use relc_codegen::jit::{Binding, Target, compile};
use relc_codegen::kir::{Elem, Kernel, parse, unproven_disjoint};
use relc_program::layout::{Blocked, Halo};

pub fn targets() -> &'static [Target; 2] {
    static TARGETS: OnceLock<[Target; 2]> = OnceLock::new();
    TARGETS.get_or_init(|| [Target::host().unwrap(), Target::baseline().unwrap()])
}

fn bits(data: &Data) -> Vec<u64> {
    let canonical = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    match data {
        Data::F32(data) => data.iter().map(|&value| canonical(value.into())).collect(),
        Data::F64(data) => data.iter().map(|&value| canonical(value)).collect(),
    }
}

fn bind(data: &mut Data) -> Binding<'_> {
    match data {
        Data::F32(data) => Binding::Write(data),
        Data::F64(data) => Binding::Write64(data),
    }
}

/// Runs a kernel on `buffers`, in which those of kind `out` hold NaN, in every way there is; all must agree to the
/// bit, whatever the order of the tasks. Returns the result with all of the host's instructions.
fn check(kernel: &Kernel, buffers: &[Data]) -> Vec<Data> {
    let text = kernel.to_string();
    assert_eq!(parse(&text).as_ref(), Ok(kernel), "{text}");
    let [host, _] = targets().each_ref().map(|target| {
        let mut expected = buffers.to_vec();
        interpret(kernel, &mut expected, 0..kernel.task_count(), target.fuses()).unwrap();
        let compiled = compile(std::slice::from_ref(kernel), target).unwrap();
        let compiled = compiled.get(0).unwrap();
        let mut at_once = buffers.to_vec();
        compiled.call(&mut at_once.iter_mut().map(bind).collect::<Vec<_>>(), 0..compiled.tasks()).unwrap();
        let mut backwards = buffers.to_vec();
        for task in (0..compiled.tasks()).rev() {
            compiled.call(&mut backwards.iter_mut().map(bind).collect::<Vec<_>>(), task..task + 1).unwrap();
        }
        for (k, expected) in expected.iter().enumerate() {
            assert_eq!(bits(&at_once[k]), bits(expected), "{target:?}, buffer {k} of {text}");
            assert_eq!(
                bits(&backwards[k]),
                bits(expected),
                "{target:?}, reverse order, buffer {k} of {text}"
            );
        }
        at_once
    });
    host
}

/// [`check`] for kernels whose tasks are proven to write disjoint elements.
pub fn check_disjoint(kernel: &Kernel, buffers: &[Data]) -> Vec<Data> {
    assert_eq!(unproven_disjoint(kernel), Vec::<&str>::new(), "{kernel}");
    check(kernel, buffers)
}

/// A dense `f32[C,H,W]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    pub shape: [usize; 3],
    pub data: Vec<f32>,
}

impl Dense {
    /// Elements that `f` makes of the channel, the row and the column.
    pub fn from_fn([c, h, w]: [usize; 3], mut f: impl FnMut([usize; 3]) -> f32) -> Self {
        let points = (0..c).flat_map(|c| (0..h).flat_map(move |y| (0..w).map(move |x| [c, y, x])));
        Dense { shape: [c, h, w], data: points.map(&mut f).collect() }
    }

    /// Numbers from a seed: many small integers, so that ties and zeros occur.
    pub fn random(shape: [usize; 3], seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Dense::from_fn(shape, |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 33) as u32;
            let value = f32::from((bits >> 8) as u8) / 16.0 - 8.0;
            match bits % 4 {
                0 => 0.0,
                1 => value.round(),
                _ => value,
            }
        })
    }

    pub fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Dense { shape: self.shape, data: self.data.iter().map(|&value| f(value)).collect() }
    }

    pub fn at(&self, [c, y, x]: [usize; 3]) -> f32 {
        self.data[(c * self.shape[1] + y) * self.shape[2] + x]
    }

    pub fn at_mut(&mut self, [c, y, x]: [usize; 3]) -> &mut f32 {
        &mut self.data[(c * self.shape[1] + y) * self.shape[2] + x]
    }
}

/// The layout of a dense tensor.
pub fn blocked([channels, height, width]: [usize; 3], vector: u32, halo: Halo) -> Blocked {
    Blocked::new(channels, vector as usize, height, width, halo).unwrap()
}

fn offset(layout: &Blocked, [c, y, x]: [usize; 3]) -> usize {
    layout.offset(c / layout.block(), y, x) + c % layout.block()
}

/// The blocked form of a dense tensor: zeros beyond its channels, `halo` in the halo.
pub fn to_blocked(dense: &Dense, layout: &Blocked, halo: f32) -> Data {
    let mut data = vec![halo; layout.len()];
    let channels = layout.blocks() * layout.block();
    for c in 0..channels {
        for y in 0..dense.shape[1] {
            for x in 0..dense.shape[2] {
                let value = if c < dense.shape[0] { dense.at([c, y, x]) } else { 0.0 };
                data[offset(layout, [c, y, x])] = value;
            }
        }
    }
    Data::F32(data)
}

/// The dense form; asserts that channels beyond the last are zero and the halo is untouched NaN.
pub fn from_written(data: &Data, layout: &Blocked) -> Dense {
    let Data::F32(data) = data else { panic!("got {:?}", Elem::F64) };
    let shape = [layout.channels(), layout.height(), layout.width()];
    let mut rest = data.clone();
    let dense = Dense::from_fn(shape, |at| std::mem::replace(&mut rest[offset(layout, at)], f32::NAN));
    for c in shape[0]..layout.blocks() * layout.block() {
        for y in 0..shape[1] {
            for x in 0..shape[2] {
                let value = &mut rest[offset(layout, [c, y, x])];
                assert_eq!(*value, 0.0, "channel {c} beyond the last");
                *value = f32::NAN;
            }
        }
    }
    assert!(rest.iter().all(|value| value.is_nan()), "the halo was written");
    dense
}

/// A buffer that the kernel writes.
pub fn unwritten(layout: &Blocked) -> Data {
    Data::F32(vec![f32::NAN; layout.len()])
}

pub fn assert_close(got: &Dense, expected: &Dense, tolerance: f32) {
    assert_eq!(got.shape, expected.shape);
    let largest = expected.data.iter().fold(1.0, |max: f32, value| max.max(value.abs()));
    for (k, (got, expected)) in got.data.iter().zip(&expected.data).enumerate() {
        let near = (got - expected).abs() <= tolerance * largest;
        assert!(near, "element {k}: got {got}, expected {expected}");
    }
}
