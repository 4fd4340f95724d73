//! Naive convolutions in f64, and buffers between guard zones.

use relc_cpu::Isa;
use relc_cpu::conv::{Arguments, ConvPlan};
use relc_cpu::epilogue::{Beside, Epilogue};
use relc_cpu::tile::Part;
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo};

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
    pub image: [usize; 2],
    /// What halos have beyond what is needed.
    pub extra: usize,
}

impl Case {
    /// Sizes `[C, H, W]` of what the direction reads and writes.
    pub fn sizes(&self, direction: Direction) -> ([usize; 3], [usize; 3]) {
        let [height, width] = self.spec.output_size(self.image).unwrap();
        let image = [self.spec.channels_in, self.image[0], self.image[1]];
        let result = [self.spec.channels_out, height, width];
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
        let input = Blocked::new(from[0], input_block, from[1], from[2], halo).unwrap();
        let output = Blocked::new(to[0], output_block, to[1], to[2], Halo::uniform(more)).unwrap();
        let plan = match direction {
            Direction::Forward => ConvPlan::forward(&self.spec, isa, &input, &output),
            Direction::Transposed => ConvPlan::transposed(&self.spec, isa, &input, &output),
        };
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
    let ([_, ih, iw], to) = case.sizes(direction);
    let [[ch, h, w], [m, oh, ow]] = match direction {
        Direction::Forward => [case.sizes(direction).0, to],
        Direction::Transposed => [to, case.sizes(direction).0],
    };
    let (group_in, group_out) = (ch / groups, m / groups);
    let mut sums = vec![0.0; to.iter().product()];
    let mut sizes = sums.clone();
    for mo in 0..m {
        for (ci, ky, kx) in (0..group_in)
            .flat_map(|c| (0..kernel[0]).flat_map(move |y| (0..kernel[1]).map(move |x| (c, y, x))))
        {
            let weight =
                f64::from(part.of(weights[((mo * group_in + ci) * kernel[0] + ky) * kernel[1] + kx]));
            let c = mo / group_out * group_in + ci;
            for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                let y = (oy * stride[0] + ky * dilation[0]).wrapping_sub(pads[0]);
                let x = (ox * stride[1] + kx * dilation[1]).wrapping_sub(pads[1]);
                if y >= h || x >= w {
                    continue;
                }
                let (small, large) = ((c * h + y) * w + x, (mo * oh + oy) * ow + ox);
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
    debug_assert_eq!(input.len(), input.len() / (ih * iw) * ih * iw);
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
    let mut source = vec![f32::NAN; input.len() + 2 * guard()];
    let source = &mut source[guard()..][..input.len()];
    input.pack(dense, source).unwrap();
    let packed = plan.pack(weights).unwrap();
    let mut memory = vec![CANARY; output.len() + 2 * guard()];
    let arguments = Arguments { weights: &packed, part, input: source, epilogue };
    let out = &mut memory[guard()..][..output.len()];
    if parallel { plan.run_parallel(&arguments, out, Beside::default()) } else { plan.run(&arguments, out) }
        .unwrap();
    let mut result = vec![0.0; output.dense_len()];
    output.unpack(out, &mut result).unwrap();
    // Padding channels are zeros; what is not of the interior is canaries.
    let lanes = (output.channels() - 1) % output.block() + 1;
    let last = (0..output.height()).flat_map(|y| (0..output.width()).map(move |x| (y, x)));
    let vectors_end = last.map(|(y, x)| guard() + output.offset(output.blocks() - 1, y, x));
    let zero = vectors_end
        .into_iter()
        .all(|start| memory[start + lanes..start + output.block()].iter().all(|&value| value == 0.0));
    let vectors = output.blocks() * output.block() * output.height() * output.width();
    let canaries = memory.iter().filter(|&&value| value == CANARY).count();
    let padding = memory.len() - vectors;
    (result, canaries == padding && zero)
}
