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

/// Channels, height and width of an image.
fn image(dims: &[Dim]) -> [usize; 3] {
    [1, 2, 3].map(|axis| dims.get(axis).map_or(1, |d| d.bind(1)))
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
                let [c, _, _] = image(&self.input);
                let ones = ones(w, 1, &window);
                let planes = self.planes(w, x, &self.input);
                let sums = convolve(w, &window, 1, &planes, &ones);
                let [_, height, width] = image(&self.output);
                let sums = w.reshape(&sums, &[Dim::Batch, c.into(), height.into(), width.into()]);
                self.weighted(w, part, &sums)
            }
            Kind::Global => {
                let sums = w.reduce_sum(x, &[2, 3], true);
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
                let [c, height, width] = image(&self.input);
                w.reshape(&spread, &[Dim::Batch, c.into(), height.into(), width.into()])
            }
            Kind::Global => w.expand(share, &self.input),
        }
    }

    /// `1 / inputs` for each output's receptive field, 0 where no input lies in it; it broadcasts to the output.
    pub fn reciprocal_fan_in(&self, w: &mut Writer<'_>) -> String {
        let reciprocal = |n: usize| if n == 0 { 0.0 } else { 1.0 / n as f64 };
        let (window, channels) = match &self.kind {
            Kind::Gemm { .. } => {
                let inputs = self.input.get(1).map_or(1, |d| d.bind(1));
                return w.scalar(reciprocal(inputs));
            }
            Kind::Global => {
                let [_, height, width] = image(&self.input);
                return w.scalar(reciprocal(height * width));
            }
            Kind::Conv { window, group, .. } => (*window, image(&self.input)[0] / group.max(&1)),
            Kind::Average { pool } => (pool.window, 1),
        };
        let ([_, in_y, in_x], [_, out_y, out_x]) = (image(&self.input), image(&self.output));
        let taps = |axis: usize, windows: usize, size: usize| -> Vec<f64> {
            (0..windows).map(|i| reciprocal(window.taps(axis, i, size).count())).collect()
        };
        let (rows, columns) = (taps(0, out_y, in_y), taps(1, out_x, in_x));
        let rows: Vec<f64> = rows.iter().map(|v| v * reciprocal(channels)).collect();
        let (rows, columns) = (w.numbers(&[1, 1, out_y, 1], &rows), w.numbers(&[1, 1, 1, out_x], &columns));
        w.op("Mul", &[&rows, &columns])
    }

    /// Each output of an average pool times the form of its weight.
    fn weighted(&self, w: &mut Writer<'_>, part: WeightPart, x: &str) -> String {
        let ([_, in_y, in_x], [_, out_y, out_x]) = (image(&self.input), image(&self.output));
        let weight = |divisor: usize| part.of((divisor.max(1) as f64).recip(), self.gamma);
        let pool = match &self.kind {
            Kind::Average { pool } => pool,
            _ => return w.scaled(x, weight(in_y * in_x)),
        };
        // Every form is a number times a power of the weight, so that it is a product of one for each axis; where no tap
        // counts, there is nothing to weigh.
        let factors = |axis: usize, windows: usize, size: usize| -> Vec<f64> {
            (0..windows).map(|i| weight(pool.counted(axis, i, size))).collect()
        };
        let (rows, columns) = (factors(0, out_y, in_y), factors(1, out_x, in_x));
        let number = part.of(1.0, self.gamma);
        let scale = |v: &f64| if number == 0.0 { 0.0 } else { v / number };
        let columns: Vec<f64> = columns.iter().map(scale).collect();
        let even = |values: &[f64]| values.first().copied().filter(|first| values.iter().all(|v| v == first));
        if let (Some(row), Some(column)) = (even(&rows), even(&columns)) {
            return w.scaled(x, row * column);
        }
        let (rows, columns) = (w.numbers(&[1, 1, out_y, 1], &rows), w.numbers(&[1, 1, 1, out_x], &columns));
        let weighted = w.op("Mul", &[x, &rows]);
        w.op("Mul", &[&weighted, &columns])
    }

    /// The window of an average pool, its sizes not rounded up.
    fn plain(&self, pool: &AveragePool) -> Window {
        let [_, height, width] = image(&self.input);
        pool.window.without_ceil([height, width]).unwrap_or(pool.window)
    }

    /// An image whose channels are samples.
    fn planes(&self, w: &mut Writer<'_>, x: &str, dims: &[Dim]) -> String {
        let [_, height, width] = image(dims);
        w.reshape(x, &[Dim::Batch, 1.into(), height.into(), width.into()])
    }

    /// The sum over each group's channels, `f32[N,group,H,W]`.
    fn group_sums(&self, w: &mut Writer<'_>, x: &str, group: usize, dims: &[Dim]) -> String {
        let [c, height, width] = image(dims);
        if group == c {
            return x.to_string();
        }
        if group == 1 {
            return w.reduce_sum(x, &[1], true);
        }
        let per_group = (c / group.max(1)).into();
        let groups = w.reshape(x, &[Dim::Batch, group.into(), per_group, height.into(), width.into()]);
        w.reduce_sum(&groups, &[2], false)
    }

    /// `f32[N,group,H,W]` to all channels of each group.
    fn over_channels(&self, w: &mut Writer<'_>, x: &str, group: usize, dims: &[Dim]) -> String {
        let [c, height, width] = image(dims);
        if group == c {
            return x.to_string();
        }
        if group == 1 {
            return w.expand(x, dims);
        }
        let (group, per_group) = (Dim::from(group), Dim::from(c / group.max(1)));
        let groups = w.reshape(x, &[Dim::Batch, group, 1.into(), height.into(), width.into()]);
        let all = w.expand(&groups, &[Dim::Batch, group, per_group, height.into(), width.into()]);
        w.reshape(&all, &[Dim::Batch, c.into(), height.into(), width.into()])
    }

    /// A convolution's transpose, to the sizes of the layer's input.
    fn deconvolve(&self, w: &mut Writer<'_>, of: &Window, group: usize, s: &str, weight: &str) -> String {
        let ([_, in_y, in_x], [_, out_y, out_x]) = (image(&self.input), image(&self.output));
        let rest = |axis: usize, input: usize, windows: usize| {
            let covered = (windows.saturating_sub(1)) * of.strides[axis] + of.extent(axis);
            (input + of.pads[axis] + of.pads[axis + 2]).saturating_sub(covered)
        };
        let mut attributes = window(of);
        attributes.push(int("group", group));
        attributes.push(ints("output_padding", &[rest(0, in_y, out_y), rest(1, in_x, out_x)]));
        w.op_with("ConvTranspose", &[s, weight], attributes)
    }
}

fn convolve(w: &mut Writer<'_>, of: &Window, group: usize, x: &str, weight: &str) -> String {
    let mut attributes = window(of);
    attributes.push(int("group", group));
    w.op_with("Conv", &[x, weight], attributes)
}

/// A weight `f32[group,1,kH,kW]` of ones.
fn ones(w: &mut Writer<'_>, group: usize, window: &Window) -> String {
    let [kernel_y, kernel_x] = window.kernel;
    let (one, shape) = (w.scalar(1.0), w.sizes(&[group, 1, kernel_y, kernel_x]));
    w.op("Expand", &[&one, &shape])
}
