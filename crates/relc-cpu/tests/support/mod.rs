//! Naive convolutions in f64, and buffers between guard zones.

use relc_cpu::conv::{Arguments, ConvPlan, Run};
use relc_cpu::epilogue::{Beside, Epilogue};
use relc_cpu::tile::Part;
use relc_cpu::{Isa, Machine};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo, Image};

mod guard;
pub use guard::guard;

/// What outputs hold around and between what may be written.
pub const CANARY: f32 = 12345.0;

/// Values of both signs.
pub fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + seed * 7919) * 2654435761 % 4093) as f32 / 2048.0 - 1.0).collect()
}

/// A convolution and its image.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub spec: ConvSpec,
    /// D, H, W.
    pub image: [usize; 3],
    /// What halos have beyond what is needed.
    pub extra: usize,
}

impl Case {
    /// What the direction reads and writes.
    pub fn sizes(&self, direction: Direction) -> (Image, Image) {
        let of = |channels: usize, [d, h, w]: [usize; 3]| [channels, d, h, w];
        let image = of(self.spec.channels_in, self.image);
        let result = of(self.spec.channels_out, self.spec.output_size(self.image).unwrap());
        match direction {
            Direction::Forward => (image, result),
            Direction::Transposed => (result, image),
        }
    }

    pub fn weights(&self) -> Vec<f32> {
        values(self.spec.weights_len().unwrap(), 1)
    }

    /// The plan with its layouts.
    pub fn plan(&self, direction: Direction, isa: Isa, narrow: bool) -> (ConvPlan, Blocked, Blocked) {
        let (from, to) = self.sizes(direction);
        let block = |channels: usize| if narrow && channels <= 4 { channels } else { isa.width() };
        let halo = match direction {
            Direction::Forward => self.spec.forward_halo(self.image).unwrap(),
            Direction::Transposed => self.spec.transposed_halo(self.image).unwrap(),
        };
        let more = self.extra;
        let halo = Halo {
            top: halo.top + more,
            left: halo.left + more,
            bottom: halo.bottom,
            right: halo.right + more,
        };
        let input_block = if direction == Direction::Forward { block(from[0]) } else { isa.width() };
        let output_block = if direction == Direction::Transposed { block(to[0]) } else { isa.width() };
        let input = Blocked::of(from, input_block, halo).unwrap();
        let output = Blocked::of(to, output_block, Halo::uniform(more)).unwrap();
        let plan = ConvPlan::new(&self.spec, direction, &Machine::generic(isa), &input, &output);
        (plan.unwrap(), input, output)
    }
}

/// The convolution in f64, and the sums of the magnitudes of its terms, both dense.
pub fn naive(
    case: &Case,
    direction: Direction,
    part: Part,
    weights: &[f32],
    input: &[f32],
) -> (Vec<f64>, Vec<f64>) {
    let ConvSpec { groups, kernel, stride, dilation, pads, .. } = case.spec;
    let (from, to) = case.sizes(direction);
    let [[ch, d, h, w], [m, od, oh, ow]] = match direction {
        Direction::Forward => [from, to],
        Direction::Transposed => [to, from],
    };
    let (group_in, group_out) = (ch / groups, m / groups);
    let [kd, kh, kw] = kernel;
    let mut sums = vec![0.0; to.iter().product()];
    let mut sizes = sums.clone();
    let grid = |[a, b, c]: [usize; 3]| (0..a * b * c).map(move |i| [i / (b * c), i / c % b, i % c]);
    for (mo, ci) in (0..m).flat_map(|mo| (0..group_in).map(move |ci| (mo, ci))) {
        for tap in grid(kernel) {
            let place = ((mo * group_in + ci) * kd + tap[0]) * kh * kw + tap[1] * kw + tap[2];
            let weight = f64::from(part.of(weights[place]));
            let c = mo / group_out * group_in + ci;
            for at in grid([od, oh, ow]) {
                let met = |k: usize| (at[k] * stride[k] + tap[k] * dilation[k]).wrapping_sub(pads[k]);
                let [z, y, x] = [met(0), met(1), met(2)];
                if z >= d || y >= h || x >= w {
                    continue;
                }
                let small = ((c * d + z) * h + y) * w + x;
                let large = ((mo * od + at[0]) * oh + at[1]) * ow + at[2];
                let (from, to) = match direction {
                    Direction::Forward => (small, large),
                    Direction::Transposed => (large, small),
                };
                let term = weight * f64::from(input[from]);
                sums[to] += term;
                sizes[to] += term.abs();
            }
        }
    }
    (sums, sizes)
}

/// Runs a plan between guards: NaN around the input, canaries around and in the halo of the output. Returns
/// the dense output and whether the canaries are left.
pub fn guarded(
    (plan, input, output): &(ConvPlan, Blocked, Blocked),
    weights: &[f32],
    dense: &[f32],
    part: Part,
    epilogue: Epilogue<'_>,
    parallel: bool,
) -> (Vec<f32>, bool) {
    let packed = plan.pack(weights).unwrap();
    between_guards([input, output], dense, |input, out| {
        let arguments = Arguments { weights: &packed, part, input, epilogue };
        plan.run_all([Run { arguments, out, beside: Beside::default() }], parallel).unwrap();
    })
}

/// Runs something with such an input and output: see [`guarded`].
pub fn between_guards(
    [input, output]: [&Blocked; 2],
    dense: &[f32],
    run: impl FnOnce(&[f32], &mut [f32]),
) -> (Vec<f32>, bool) {
    let mut source = vec![f32::NAN; input.len() + 2 * guard()];
    let source = &mut source[guard()..][..input.len()];
    input.pack(dense, source).unwrap();
    let mut memory = vec![CANARY; output.len() + 2 * guard()];
    let out = &mut memory[guard()..][..output.len()];
    run(source, out);
    let mut result = vec![0.0; output.dense_len()];
    output.unpack(out, &mut result).unwrap();
    // Padding channels are zeros; what is not of the interior is canaries.
    let pixels = output.height() * output.width();
    let zero = (0..output.blocks() * pixels).all(|i| {
        let (block, pixel) = (i / pixels, i % pixels);
        let start = guard() + output.offset(block, pixel / output.width(), pixel % output.width());
        memory[start + output.channels_of(block)..start + output.block()].iter().all(|&value| value == 0.0)
    });
    let vectors = output.blocks() * output.block() * pixels;
    let canaries = memory.iter().filter(|&&value| value == CANARY).count();
    let padding = memory.len() - vectors;
    (result, canaries == padding && zero)
}
