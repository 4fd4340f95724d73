//! Means over a whole picture, forward and transposed: linear in its pixels, where a convolution with a kernel of the
//! picture's size would be quadratic.

use relc_codegen::kernels::{self, Average, Operand};
use relc_runtime::conv::Direction;
use relc_runtime::tile::Part;

use super::Builder;
use super::linear::Weighted;
use super::rule::Ruled;
use crate::error::EngineError;
use crate::step::{Bind, BufferId, Finish};

impl Builder<'_> {
    /// The sums of a layer's products: a convolution, or what a mean over the picture has in its place.
    pub(super) fn sums(
        &mut self,
        ruled: &Ruled<'_>,
        weighted: Weighted,
        weights: &[f32],
        buffers: [BufferId; 2],
        finish: Finish,
    ) -> Result<(), EngineError> {
        let Some(pixels) = ruled.layer.plane else {
            return self.convolve(ruled.node, &ruled.layer.spec, weighted, weights, buffers, finish);
        };
        let weight = weights.first().copied().unwrap_or(0.0);
        let weight = match weighted.part {
            Part::Raw => weight,
            Part::Positive => weight.max(0.0),
            Part::Negative => weight.min(0.0),
        };
        match weighted.direction {
            Direction::Forward => self.plane_sum(ruled, weight * pixels as f32, buffers),
            Direction::Transposed => self.plane_spread(ruled, weight, buffers, finish),
        }
    }

    /// `out[c] = factor mean_yx x[c,y,x]`.
    fn plane_sum(
        &mut self,
        ruled: &Ruled<'_>,
        factor: f32,
        [x, out]: [BufferId; 2],
    ) -> Result<(), EngineError> {
        let node = ruled.node;
        let mean = if factor == 1.0 { out } else { self.scratch(self.layouts[out]) };
        let axes =
            self.axes_of(node, [self.layouts[x].height(), self.layouts[x].width()], &ruled.layer.window)?;
        let (lx, ly) = (self.kernel_layout(node, x)?, self.kernel_layout(node, mean)?);
        let kernel =
            kernels::average_pool("average_pool", lx, ly, Average { axes, count_include_pad: false });
        self.kernel(kernel, vec![Bind::Read(x), Bind::Write(mean)])?;
        if mean != out {
            let (reads, lo) = ([Operand::Tensor("x", ly)], self.kernel_layout(node, out)?);
            let kernel = kernels::elementwise("scaled", reads, [("y", lo)], |b, [x]| {
                let factor = b.const4(factor);
                [b.mul(x, factor)]
            });
            self.kernel(kernel, vec![Bind::Read(mean), Bind::Write(out)])?;
        }
        Ok(())
    }

    /// `out[c,y,x] = weight s[c]`, times a factor of each pixel and plus what else arrives there, if they are given.
    fn plane_spread(
        &mut self,
        ruled: &Ruled<'_>,
        weight: f32,
        [s, out]: [BufferId; 2],
        finish: Finish,
    ) -> Result<(), EngineError> {
        let node = ruled.node;
        let share = Operand::Pixel("s", self.kernel_layout(node, s)?);
        let writes = [("y", self.kernel_layout(node, out)?)];
        let mut binds = vec![Bind::Read(s)];
        let kernel = match finish {
            Finish::Product { factor, addend: None } => {
                binds.push(Bind::Read(factor));
                let reads = [share, Operand::Tensor("a", self.kernel_layout(node, factor)?)];
                kernels::elementwise("plane", reads, writes, |b, [s, a]| {
                    let weight = b.const4(weight);
                    let share = b.mul(s, weight);
                    [b.mul(a, share)]
                })
            }
            Finish::Product { factor, addend: Some(addend) } => {
                binds.extend([Bind::Read(factor), Bind::Read(addend)]);
                let [a, before] = [self.kernel_layout(node, factor)?, self.kernel_layout(node, addend)?];
                let reads = [share, Operand::Tensor("a", a), Operand::Tensor("before", before)];
                kernels::elementwise("plane", reads, writes, |b, [s, a, before]| {
                    let weight = b.const4(weight);
                    let share = b.mul(s, weight);
                    [b.fma(a, share, before)]
                })
            }
            Finish::None => kernels::elementwise("plane", [share], writes, |b, [s]| {
                let weight = b.const4(weight);
                [b.mul(s, weight)]
            }),
            Finish::Activate { .. } | Finish::Quotient { .. } => {
                return Err(self.unsupported(node, "a mean over the picture ends in no such epilogue"));
            }
        };
        binds.push(Bind::Write(out));
        self.kernel(kernel, binds)
    }
}
