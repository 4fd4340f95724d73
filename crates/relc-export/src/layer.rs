//! A linear layer both ways: `sum_i w_ij x_i` and `sum_j w_ij s_j`, with any form of its weight.

use relc_ir::op::{AveragePool, Conv, Gemm, Window};
use relc_ir::rule::WeightPart;
use relc_ir::{Dim, TensorType};

use crate::writer::{Writer, int, ints, window};

/// A linear layer of which the weight, if it has one, is a value of the file.
///
/// An average pool is a convolution of each channel by itself with ones, of which each output is multiplied by its weight
/// `1 / divisor`; a global one is a sum.
pub(crate) struct Layer {
    kind: Kind,
    /// `gamma` in the weight's forms.
    gamma: f64,
    input: Vec<Dim>,
    output: Vec<Dim>,
}

enum Kind {
    Conv { window: Window, group: usize, weight: String },
    Gemm { trans_b: bool, weight: String },
    Average { pool: AveragePool },
    Global,
}

/// Channels.
fn channels(dims: &[Dim]) -> usize {
    dims.get(1).map_or(1, |d| d.bind(1))
}

/// The dimensions behind the channels.
fn spatial(dims: &[Dim]) -> &[Dim] {
    dims.get(2..).unwrap_or_default()
}

/// The sizes behind the channels.
fn sizes(dims: &[Dim]) -> Vec<usize> {
    spatial(dims).iter().map(|d| d.bind(1)).collect()
}

impl Layer {
    pub fn conv(conv: &Conv, weight: String, gamma: f64, types: [&TensorType; 2]) -> Layer {
        let kind = Kind::Conv { window: conv.window, group: conv.group, weight };
        Layer::new(kind, gamma, types)
    }

    pub fn gemm(gemm: &Gemm, weight: String, gamma: f64, types: [&TensorType; 2]) -> Layer {
        Layer::new(Kind::Gemm { trans_b: gemm.trans_b, weight }, gamma, types)
    }

    pub fn average(pool: &AveragePool, input: &TensorType, output: &TensorType) -> Layer {
        Layer::new(Kind::Average { pool: *pool }, 0.0, [input, output])
    }

    pub fn global(input: &TensorType, output: &TensorType) -> Layer {
        Layer::new(Kind::Global, 0.0, [input, output])
    }

    fn new(kind: Kind, gamma: f64, [input, output]: [&TensorType; 2]) -> Layer {
        Layer { kind, gamma, input: input.dims().to_vec(), output: output.dims().to_vec() }
    }

    /// With `gamma` in the forms of an average pool's weights.
    pub fn with_gamma(self, gamma: f64) -> Layer {
        Layer { gamma, ..self }
    }

    /// The shape of the layer's input.
    pub fn input(&self) -> &[Dim] {
        &self.input
    }

    /// `sum_i w_ij x_i` with a form of the weight.
    pub fn apply(&self, w: &mut Writer<'_>, part: WeightPart, x: &str) -> String {
        match &self.kind {
            Kind::Conv { window, group, .. } if part == WeightPart::Ones => {
                let sums = self.group_sums(w, x, *group, &self.input);
                let ones = ones(w, *group, window);
                let sums = convolve(w, window, *group, &sums, &ones);
                self.over_channels(w, &sums, *group, &self.output)
            }
            Kind::Conv { window, group, weight } => {
                let weight = w.form(weight, part, self.gamma);
                convolve(w, window, *group, x, &weight)
            }
            Kind::Gemm { .. } if part == WeightPart::Ones => {
                let sum = w.reduce_sum(x, &[1], true);
                w.expand(&sum, &self.output)
            }
            Kind::Gemm { trans_b, weight } => {
                let weight = w.form(weight, part, self.gamma);
                w.op_with("Gemm", &[x, &weight], vec![int("transB", (*trans_b).into())])
            }
            Kind::Average { pool } => {
                let window = self.plain(pool);
                let ones = ones(w, 1, &window);
                let planes = self.planes(w, x, &self.input);
                let sums = convolve(w, &window, 1, &planes, &ones);
                let sums = w.reshape(&sums, &self.output);
                self.weighted(w, part, &sums)
            }
            Kind::Global => {
                let axes: Vec<usize> = (2..self.input.len()).collect();
                let sums = w.reduce_sum(x, &axes, true);
                self.weighted(w, part, &sums)
            }
        }
    }

    /// `sum_j w_ij s_j` with a form of the weight.
    pub fn transpose(&self, w: &mut Writer<'_>, part: WeightPart, s: &str) -> String {
        match &self.kind {
            Kind::Conv { .. } | Kind::Gemm { .. } if part == WeightPart::Ones => self.spread(w, s),
            Kind::Conv { window, group, weight } => {
                let weight = w.form(weight, part, self.gamma);
                self.deconvolve(w, window, *group, s, &weight)
            }
            Kind::Gemm { trans_b, weight } => {
                let weight = w.form(weight, part, self.gamma);
                w.op_with("Gemm", &[s, &weight], vec![int("transB", (!*trans_b).into())])
            }
            Kind::Average { .. } | Kind::Global => {
                let shares = self.weighted(w, part, s);
                self.spread(w, &shares)
            }
        }
    }

    /// `sum_j share_j` over the outputs whose receptive field holds `i`.
    pub fn spread(&self, w: &mut Writer<'_>, share: &str) -> String {
        match &self.kind {
            Kind::Conv { window, group, .. } => {
                let sums = self.group_sums(w, share, *group, &self.output);
                let ones = ones(w, *group, window);
                let spread = self.deconvolve(w, window, *group, &sums, &ones);
                self.over_channels(w, &spread, *group, &self.input)
            }
            Kind::Gemm { .. } => {
                let sum = w.reduce_sum(share, &[1], true);
                w.expand(&sum, &self.input)
            }
            Kind::Average { pool } => {
                let window = self.plain(pool);
                let ones = ones(w, 1, &window);
                let planes = self.planes(w, share, &self.output);
                let spread = self.deconvolve(w, &window, 1, &planes, &ones);
                w.reshape(&spread, &self.input)
            }
            Kind::Global => w.expand(share, &self.input),
        }
    }

    /// `1 / inputs` for each output's receptive field, 0 where no input lies in it; it broadcasts to the output.
    pub fn reciprocal_fan_in(&self, w: &mut Writer<'_>) -> String {
        let reciprocal = |n: usize| if n == 0 { 0.0 } else { 1.0 / n as f64 };
        let (window, inputs) = match &self.kind {
            Kind::Gemm { .. } => {
                let inputs = self.input.get(1).map_or(1, |d| d.bind(1));
                return w.scalar(reciprocal(inputs));
            }
            Kind::Global => return w.scalar(reciprocal(sizes(&self.input).iter().product())),
            Kind::Conv { window, group, .. } => (*window, channels(&self.input) / group.max(&1)),
            Kind::Average { pool } => (pool.window, 1),
        };
        let taps = |axis: usize, windows: usize, size: usize| -> Vec<f64> {
            (0..windows).map(|i| reciprocal(window.axes[axis].taps(i, size).count())).collect()
        };
        let mut along = self.along_axes(taps);
        if let Some(first) = along.first_mut() {
            first.iter_mut().for_each(|v| *v *= reciprocal(inputs));
        }
        let factors = self.factors(w, &along);
        factors.into_iter().reduce(|product, factor| w.op("Mul", &[&product, &factor])).unwrap_or_default()
    }

    /// Numbers for each output along each spatial axis, of an axis' index, its windows and the input's size there.
    fn along_axes(&self, of: impl Fn(usize, usize, usize) -> Vec<f64>) -> Vec<Vec<f64>> {
        let axes = sizes(&self.output).into_iter().zip(sizes(&self.input)).enumerate();
        axes.map(|(axis, (windows, size))| of(axis, windows, size)).collect()
    }

    /// Numbers along each spatial axis as constants that broadcast to the output.
    fn factors(&self, w: &mut Writer<'_>, along: &[Vec<f64>]) -> Vec<String> {
        let rank = self.output.len();
        let dims = |axis: usize, size: usize| -> Vec<usize> {
            (0..rank).map(|i| if i == axis + 2 { size } else { 1 }).collect()
        };
        along.iter().enumerate().map(|(axis, values)| w.numbers(&dims(axis, values.len()), values)).collect()
    }

    /// Each output of an average pool times the form of its weight.
    fn weighted(&self, w: &mut Writer<'_>, part: WeightPart, x: &str) -> String {
        let weight = |divisor: usize| part.of((divisor.max(1) as f64).recip(), self.gamma);
        let pool = match &self.kind {
            Kind::Average { pool } => pool,
            _ => return w.scaled(x, weight(sizes(&self.input).iter().product())),
        };
        // Every form is a number times a power of the weight, so that it is a product of one for each axis; where no tap
        // counts, there is nothing to weigh.
        let mut along = self.along_axes(|axis, windows, size| {
            (0..windows).map(|i| weight(pool.counted(axis, i, size))).collect()
        });
        let number = part.of(1.0, self.gamma);
        let scale = |v: &mut f64| *v = if number == 0.0 { 0.0 } else { *v / number };
        along.iter_mut().skip(1).flatten().for_each(scale);
        let even =
            |values: &Vec<f64>| values.first().copied().filter(|first| values.iter().all(|v| v == first));
        if let Some(even) = along.iter().map(even).collect::<Option<Vec<f64>>>() {
            return w.scaled(x, even.iter().product());
        }
        let factors = self.factors(w, &along);
        factors.iter().fold(x.to_string(), |product, factor| w.op("Mul", &[&product, factor]))
    }

    /// The window of an average pool, its sizes not rounded up.
    fn plain(&self, pool: &AveragePool) -> Window {
        pool.window.without_ceil(&sizes(&self.input)).unwrap_or(pool.window)
    }

    /// A value whose channels are samples.
    fn planes(&self, w: &mut Writer<'_>, x: &str, dims: &[Dim]) -> String {
        w.reshape(x, &[&[Dim::Batch, 1.into()], spatial(dims)].concat())
    }

    /// The sum over each group's channels, `f32[N,group,..]`.
    fn group_sums(&self, w: &mut Writer<'_>, x: &str, group: usize, dims: &[Dim]) -> String {
        let c = channels(dims);
        if group == c {
            return x.to_string();
        }
        if group == 1 {
            return w.reduce_sum(x, &[1], true);
        }
        let per_group = (c / group.max(1)).into();
        let groups = w.reshape(x, &[&[Dim::Batch, group.into(), per_group], spatial(dims)].concat());
        w.reduce_sum(&groups, &[2], false)
    }

    /// `f32[N,group,..]` to all channels of each group.
    fn over_channels(&self, w: &mut Writer<'_>, x: &str, group: usize, dims: &[Dim]) -> String {
        let c = channels(dims);
        if group == c {
            return x.to_string();
        }
        if group == 1 {
            return w.expand(x, dims);
        }
        let (group, per_group) = (Dim::from(group), Dim::from(c / group.max(1)));
        let groups = w.reshape(x, &[&[Dim::Batch, group, 1.into()], spatial(dims)].concat());
        let all = w.expand(&groups, &[&[Dim::Batch, group, per_group], spatial(dims)].concat());
        w.reshape(&all, &[&[Dim::Batch, c.into()], spatial(dims)].concat())
    }

    /// A convolution's transpose, to the sizes of the layer's input.
    fn deconvolve(&self, w: &mut Writer<'_>, of: &Window, group: usize, s: &str, weight: &str) -> String {
        let ends = of.axes.iter().zip(sizes(&self.input).into_iter().zip(sizes(&self.output)));
        let rest = ends.map(|(axis, (input, windows))| {
            let covered = (windows.saturating_sub(1)) * axis.stride + axis.extent();
            (input + axis.pads[0] + axis.pads[1]).saturating_sub(covered)
        });
        let rest: Vec<usize> = rest.collect();
        let mut attributes = window(of);
        attributes.push(int("group", group));
        attributes.push(ints("output_padding", &rest));
        w.op_with("ConvTranspose", &[s, weight], attributes)
    }
}

fn convolve(w: &mut Writer<'_>, of: &Window, group: usize, x: &str, weight: &str) -> String {
    let mut attributes = window(of);
    attributes.push(int("group", group));
    w.op_with("Conv", &[x, weight], attributes)
}

/// A weight `f32[group,1,k..]` of ones.
fn ones(w: &mut Writer<'_>, group: usize, window: &Window) -> String {
    let (one, shape) = (w.scalar(1.0), w.sizes(&[&[group, 1], &window.kernel()[..]].concat()));
    w.op("Expand", &[&one, &shape])
}
