//! Pools over windows of `f32[N,C,..]`, channel by channel.

use ndarray::ArrayD;
use rayon::prelude::*;
use relc_ir::op::{AveragePool, MAX_SPATIAL, Window};
use relc_ir::rule::WeightPart;

use crate::element::Element;
use crate::layer::Layer;
use crate::span::{Span, valid_taps};

/// The windows of one channel: a row, a plane or a volume.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    spans: [Span; MAX_SPATIAL],
}

impl Planes {
    /// The windows from the shapes `[N,C,..]` of input and output.
    pub fn new(window: &Window, input: &[usize], output: &[usize]) -> Self {
        Planes { spans: Span::of(window, &input[2..], &output[2..]) }
    }

    /// Pixels of an input plane and of an output plane.
    pub fn pixels(&self) -> [usize; 2] {
        let product = |of: fn(&Span) -> usize| self.spans.iter().map(of).product();
        [product(|span| span.size), product(|span| span.windows)]
    }

    /// The valid input pixels under window `index`, in row-major order.
    fn pixels_of(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let [z, y, x] = self.spans;
        let (slice, line, column) =
            (index / x.windows / y.windows, index / x.windows % y.windows, index % x.windows);
        let (rows, columns) = (y.taps_of(line), x.taps_of(column));
        z.taps_of(slice).flat_map(move |tap_z| {
            let (above, columns) = (z.position(slice, tap_z) * y.size, columns.clone());
            rows.clone().flat_map(move |tap_y| {
                let start = (above + y.position(line, tap_y)) * x.size;
                columns.clone().map(move |tap_x| start + x.position(column, tap_x))
            })
        })
    }

    /// The pixel of a plane that wins window `index`: the first of the largest, in row-major order.
    pub fn winner<T: Element>(&self, index: usize, plane: &[T]) -> Option<usize> {
        self.pixels_of(index).reduce(|best, pixel| if plane[pixel] > plane[best] { pixel } else { best })
    }
}

/// The maximum of each window.
pub(crate) fn max_pool<T: Element>(window: &Window, x: &ArrayD<T>, mut out: ArrayD<T>) -> ArrayD<T> {
    let planes = Planes::new(window, x.shape(), out.shape());
    let [pixels, windows] = planes.pixels();
    if let (Some(x), Some(out)) = (x.as_slice(), out.as_slice_mut()) {
        x.par_chunks_exact(pixels).zip(out.par_chunks_exact_mut(windows)).for_each(|(plane, out)| {
            for (index, out) in out.iter_mut().enumerate() {
                // The verifier refuses windows that cover padding only.
                *out = planes.winner(index, plane).map_or(T::neg_infinity(), |pixel| plane[pixel]);
            }
        });
    }
    out
}

/// The window of a global pool over the shape `[N,C,..]`.
pub(crate) fn global(input: &[usize]) -> AveragePool {
    AveragePool { window: Window::whole(&input[2..]), count_include_pad: false }
}

/// An average pool as a linear layer of `f32[C,..]`: each tap of window `j` has the weight `1 / divisor_j`.
pub(crate) struct AverageLayer {
    planes: Planes,
    /// For each form, the weight of window `j`'s taps.
    weights: Vec<Vec<f64>>,
    fan_in: Vec<usize>,
}

impl AverageLayer {
    /// The layer from the shapes `[N,C,..]` of input and output.
    pub fn new(
        pool: &AveragePool,
        input: &[usize],
        output: &[usize],
        forms: &[WeightPart],
        gamma: f64,
    ) -> Self {
        let planes = Planes::new(&pool.window, input, output);
        let size = &input[2..];
        let divisors: Vec<f64> = ndarray::indices(&output[2..])
            .into_iter()
            .map(|at| pool.divisor(ndarray::Dimension::slice(&at), size) as f64)
            .collect();
        let weight = |part: WeightPart, divisor: f64| part.of(divisor.recip(), gamma);
        let weights = forms.iter().map(|&part| divisors.iter().map(|&d| weight(part, d)).collect()).collect();
        AverageLayer { planes, weights, fan_in: valid_taps(&planes.spans) }
    }

    /// Adds `value_j` to every valid pixel under window `j`.
    fn scatter<T: Element>(&self, values: &[T], out: &mut [T], weight: impl Fn(usize) -> f64 + Sync) {
        let [pixels, windows] = self.planes.pixels();
        values.par_chunks_exact(windows).zip(out.par_chunks_exact_mut(pixels)).for_each(|(values, out)| {
            for (index, value) in values.iter().enumerate().filter(|(_, v)| !v.is_zero()) {
                let value = T::narrow(value.widen() * weight(index));
                self.planes.pixels_of(index).for_each(|pixel| out[pixel] += value);
            }
        });
    }
}

impl<T: Element> Layer<T> for AverageLayer {
    fn apply(&self, form: usize, x: &[T], out: &mut [T]) {
        let [pixels, windows] = self.planes.pixels();
        let weights = &self.weights[form];
        x.par_chunks_exact(pixels).zip(out.par_chunks_exact_mut(windows)).for_each(|(plane, out)| {
            for ((index, out), weight) in out.iter_mut().enumerate().zip(weights) {
                let sum: f64 = self.planes.pixels_of(index).map(|pixel| plane[pixel].widen()).sum();
                *out += T::narrow(sum * weight);
            }
        });
    }

    fn transpose(&self, form: usize, s: &[T], out: &mut [T]) {
        self.scatter(s, out, |index| self.weights[form][index]);
    }

    fn fan_in(&self) -> &[usize] {
        &self.fan_in
    }

    fn spread(&self, share: &[T], out: &mut [T]) {
        self.scatter(share, out, |_| 1.0);
    }
}
