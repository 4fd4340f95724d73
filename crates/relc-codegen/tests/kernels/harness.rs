//! One `check` for all kernels: text, verifier, interpreter and compiled code on both targets must agree.

use std::sync::OnceLock;

use relc_codegen::interp::{Data, interpret};
use relc_codegen::jit::{Binding, Target, compile};
use relc_codegen::kir::{Elem, Kernel, parse, unproven_disjoint};
use relc_program::layout::{Blocked, Halo, Image};

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

/// A dense `f32[C,D,H,W]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    pub shape: Image,
    pub data: Vec<f32>,
}

impl Dense {
    /// Elements that `f` makes of the channel, the slice, the row and the column.
    pub fn from_fn(shape: Image, mut f: impl FnMut(Image) -> f32) -> Self {
        let [_, d, h, w] = shape;
        let point = |i: usize| [i / (d * h * w), i / (h * w) % d, i / w % h, i % w];
        Dense { shape, data: (0..shape.iter().product()).map(|i| f(point(i))).collect() }
    }

    /// Numbers from a seed: many small integers, so that ties and zeros occur.
    pub fn random(shape: Image, seed: u64) -> Self {
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

    fn index(&self, [c, z, y, x]: Image) -> usize {
        let [_, d, h, w] = self.shape;
        ((c * d + z) * h + y) * w + x
    }

    pub fn at(&self, at: Image) -> f32 {
        self.data[self.index(at)]
    }

    pub fn at_mut(&mut self, at: Image) -> &mut f32 {
        let index = self.index(at);
        &mut self.data[index]
    }
}

/// The layout of a dense tensor.
pub fn blocked(shape: Image, vector: u32, halo: Halo) -> Blocked {
    Blocked::of(shape, vector as usize, halo).unwrap()
}

/// What each lane of each block has for its channel, zeros beyond the last.
pub fn per_channel(layout: &Blocked, f: impl Fn(usize) -> f32) -> Data {
    let channel = |lane: usize| lane % (layout.slice_blocks() * layout.block());
    let lanes = (0..layout.blocks() * layout.block()).map(channel);
    Data::F32(lanes.map(|c| if c < layout.channels() { f(c) } else { 0.0 }).collect())
}

/// Where the interior has the lanes of channels beyond the last.
fn beyond(layout: &Blocked) -> Vec<usize> {
    let mut places = Vec::new();
    for block in 0..layout.blocks() {
        for pixel in 0..layout.height() * layout.width() {
            let start = layout.offset(block, pixel / layout.width(), pixel % layout.width());
            places.extend((layout.channels_of(block)..layout.block()).map(|lane| start + lane));
        }
    }
    places
}

/// The blocked form of a dense tensor: zeros beyond its channels, `halo` in the halo.
pub fn to_blocked(dense: &Dense, layout: &Blocked, halo: f32) -> Data {
    let mut data = vec![halo; layout.len()];
    beyond(layout).into_iter().for_each(|at| data[at] = 0.0);
    dense.data.iter().enumerate().for_each(|(i, value)| data[layout.offset_of(i)] = *value);
    Data::F32(data)
}

/// The dense form; asserts that channels beyond the last are zero and the halo is untouched NaN.
pub fn from_written(data: &Data, layout: &Blocked) -> Dense {
    let Data::F32(data) = data else { panic!("got {:?}", Elem::F64) };
    let mut rest = data.clone();
    let mut take = |at: usize| std::mem::replace(&mut rest[at], f32::NAN);
    let dense = (0..layout.dense_len()).map(|i| take(layout.offset_of(i))).collect();
    let zero = beyond(layout).into_iter().all(|at| take(at) == 0.0);
    assert!(zero, "a channel beyond the last");
    assert!(rest.iter().all(|value| value.is_nan()), "the halo was written");
    Dense { shape: layout.image(), data: dense }
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
