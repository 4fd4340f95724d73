//! Sizes as structs of constants, which the templates of the prelude take.

use std::fmt::Write as _;

use relc_ir::op::{Window, WindowAxis};
use relc_program::conv::{Axis, AxisPhase, ConvSpec, Direction};
use relc_program::layout::Image;
use relc_program::op::WeightSource;

/// A struct of constants.
pub struct Constants(String);

impl Constants {
    pub fn new() -> Self {
        Constants("  struct G {\n    enum : int {".into())
    }

    pub fn add(&mut self, name: &str, value: impl Into<i128>) {
        let _ = write!(self.0, " {name} = {},", value.into());
    }

    pub fn text(mut self) -> String {
        self.0.pop();
        self.0.push_str(" };\n  };\n");
        self.0
    }
}

/// A phase of an axis whose taps lie at equal steps: the first position and input, and the steps.
struct Affine {
    taps: usize,
    k: [i64; 2],
    offset: [i64; 2],
}

impl Affine {
    /// Those of one stride all do.
    fn of(phase: &AxisPhase) -> Affine {
        let along = |of: fn(&relc_program::conv::AxisTap) -> i64| {
            let at = |i: usize| phase.taps.get(i).map_or(0, of);
            let step = if phase.taps.len() > 1 { at(1) - at(0) } else { 0 };
            [at(0), step]
        };
        Affine { taps: phase.taps.len(), k: along(|tap| tap.k as i64), offset: along(|tap| tap.offset) }
    }
}

/// One combination of the phases of three axes.
pub struct Phase {
    /// Outputs of a channel.
    pub outputs: usize,
    /// Taps of a channel.
    pub taps: usize,
    /// The struct `G`.
    pub text: String,
}

/// The channels of a group that are summed over, and those that are produced.
pub fn of_group(spec: &ConvSpec, direction: Direction) -> [usize; 2] {
    let [inputs, outputs] = [spec.channels_in, spec.channels_out].map(|channels| channels / spec.groups);
    match direction {
        Direction::Forward => [inputs, outputs],
        Direction::Transposed => [outputs, inputs],
    }
}

/// The channels and weights of a convolution.
fn channels(spec: &ConvSpec, direction: Direction, source: WeightSource) -> Constants {
    let positions: usize = spec.kernel.iter().product();
    let [inputs, outputs] = of_group(spec, Direction::Forward);
    let [reduced, produced] = of_group(spec, direction);
    // Of `f32[M,C/groups,positions]`, or `f32[C,M]`: from an output channel to the next, and from an input channel.
    let (along_m, along_c) = match source {
        WeightSource::Transposed => (1, spec.channels_out),
        _ => (inputs * positions, positions),
    };
    let (produced_step, reduced_step) = match direction {
        Direction::Forward => (along_m, along_c),
        Direction::Transposed => (along_c, along_m),
    };
    let mut g = Constants::new();
    let mut add = |name: &str, value: usize| g.add(name, value as i128);
    add("GROUPS", spec.groups);
    add("REDUCED", reduced);
    add("PRODUCED", produced);
    add("GROUP_STEP", outputs * inputs * positions);
    add("PRODUCED_STEP", produced_step);
    add("REDUCED_STEP", reduced_step);
    add("KERNEL_Z", spec.kernel[0]);
    add("KERNEL_Y", spec.kernel[1]);
    add("KERNEL_X", spec.kernel[2]);
    g
}

/// The struct of a transposed convolution from one image to another, as a whole.
pub fn transposed(spec: &ConvSpec, source: WeightSource, [from, to]: [Image; 2]) -> String {
    let mut g = channels(spec, Direction::Transposed, source);
    for (k, name) in ["Z", "Y", "X"].into_iter().enumerate() {
        let mut add = |what: &str, value: usize| g.add(&format!("{what}_{name}"), value as i128);
        add("IN", from[k + 1]);
        add("OUT", to[k + 1]);
        add("STRIDE", spec.stride[k]);
        add("PAD", spec.pads[k]);
        add("DILATION", spec.dilation[k]);
    }
    g.text()
}

/// The phases of a convolution from one image to another.
pub fn phases(
    spec: &ConvSpec,
    direction: Direction,
    source: WeightSource,
    [from, to]: [Image; 2],
    axes: &[Axis; 3],
) -> Vec<Phase> {
    let mut all = Vec::new();
    for z in &axes[0].phases {
        for y in &axes[1].phases {
            for x in &axes[2].phases {
                let mut g = channels(spec, direction, source);
                for (k, (name, phase)) in [("Z", z), ("Y", y), ("X", x)].into_iter().enumerate() {
                    let affine = Affine::of(phase);
                    let mut add = |what: &str, value: i64| g.add(&format!("{what}_{name}"), value);
                    add("IN", from[k + 1] as i64);
                    add("OUT", to[k + 1] as i64);
                    add("COUNT", phase.count as i64);
                    add("ORIGIN", phase.origin as i64);
                    add("OUT_STEP", axes[k].out_step as i64);
                    add("IN_STEP", axes[k].in_step as i64);
                    add("TAPS", affine.taps as i64);
                    add("K", affine.k[0]);
                    add("K_STEP", affine.k[1]);
                    add("OFFSET", affine.offset[0]);
                    add("OFFSET_STEP", affine.offset[1]);
                }
                let product = |of: fn(&AxisPhase) -> usize| [z, y, x].into_iter().map(of).product();
                all.push(Phase {
                    outputs: product(|phase| phase.count),
                    taps: product(|phase| phase.taps.len()),
                    text: g.text(),
                });
            }
        }
    }
    all
}

/// The struct of a window from one image to another.
pub fn window(window: &Window, [from, to]: [Image; 2]) -> String {
    let mut g = Constants::new();
    for (k, (name, axis)) in ["Z", "Y", "X"].into_iter().zip(window.over_volume()).enumerate() {
        let WindowAxis { kernel, stride, dilation, pads } = axis;
        let mut add = |what: &str, value: usize| g.add(&format!("{what}_{name}"), value as i128);
        add("IN", from[k + 1]);
        add("OUT", to[k + 1]);
        add("KERNEL", kernel);
        add("STRIDE", stride);
        add("PAD", pads[0]);
        add("PAD_END", pads[1]);
        add("DILATION", dilation);
    }
    g.text()
}
