//! A convolution's geometry, and which input each kernel position meets.

use std::fmt;

use crate::layout::Halo;

/// Sizes above this are refused, so that sums and products of a few of them fit i64.
const MAX_SIZE: usize = 1 << 20;

/// Why there is no such convolution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A size of 0, or an absurd one.
    #[error("{spec}: expected sizes from 1 to {max}, and pads of at most that")]
    Size {
        /// The convolution.
        spec: Box<ConvSpec>,
        /// The greatest.
        max: usize,
    },
    /// Channels that groups do not divide.
    #[error("convolution: {} groups do not divide {} input and {} output channels", .spec.groups, .spec.channels_in, .spec.channels_out)]
    Groups {
        /// The convolution.
        spec: Box<ConvSpec>,
    },
    /// A kernel that leaves the padded image.
    #[error("convolution: the kernel {:?} with dilation {:?} is larger than the image {image:?} with pads {:?}", .spec.kernel, .spec.dilation, .spec.pads)]
    KernelTooLarge {
        /// The convolution.
        spec: Box<ConvSpec>,
        /// D, H, W.
        image: [usize; 3],
    },
}

/// A convolution `f32[C,D,H,W] -> f32[M,OD,OH,OW]` with weights `f32[M,C/groups,kD,kH,kW]`.
///
/// Pictures have one slice, signals one slice of one row. A product with a matrix `f32[M,C]` is the convolution of images of
/// one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// C.
    pub channels_in: usize,
    /// M.
    pub channels_out: usize,
    /// Groups; divides both.
    pub groups: usize,
    /// kD, kH, kW.
    pub kernel: [usize; 3],
    /// From slice to slice, vertical, horizontal.
    pub stride: [usize; 3],
    /// From slice to slice, vertical, horizontal.
    pub dilation: [usize; 3],
    /// Zeros at front, top, left, back, bottom, right, as in ONNX.
    pub pads: [usize; 6],
}

impl fmt::Display for ConvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConvSpec { channels_in, channels_out, groups, kernel, stride, dilation, pads } = self;
        write!(
            f,
            "convolution of {channels_in} to {channels_out} channels (kernel {kernel:?}, strides {stride:?}, dilations \
             {dilation:?}, pads {pads:?}, {groups} groups)"
        )
    }
}

impl ConvSpec {
    /// A square kernel over one slice with stride, and padding on all sides; one group, no dilation.
    pub fn square(
        channels_in: usize,
        channels_out: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> ConvSpec {
        ConvSpec {
            channels_in,
            channels_out,
            groups: 1,
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            dilation: [1; 3],
            pads: [0, pad, pad, 0, pad, pad],
        }
    }

    /// A fully connected layer: `y = W x` with `W: f32[M,C]`.
    pub fn gemm(channels_in: usize, channels_out: usize) -> ConvSpec {
        ConvSpec::square(channels_in, channels_out, 1, 1, 0)
    }

    /// Checks that sizes are positive, not absurd, and that groups divide the channels.
    ///
    /// # Errors
    /// Says which is not.
    pub fn validate(&self) -> Result<(), SpecError> {
        let sizes = [self.channels_in, self.channels_out, self.groups].into_iter();
        let positive = sizes.chain(self.kernel).chain(self.stride).chain(self.dilation);
        if positive.clone().any(|size| size == 0 || size > MAX_SIZE)
            || self.pads.iter().any(|&pad| pad > MAX_SIZE)
        {
            return Err(SpecError::Size { spec: Box::new(*self), max: MAX_SIZE });
        }
        let divides = |channels: usize| channels.is_multiple_of(self.groups);
        if !divides(self.channels_in) || !divides(self.channels_out) {
            return Err(SpecError::Groups { spec: Box::new(*self) });
        }
        Ok(())
    }

    /// Kernel positions, `kD kH kW`; none if that overflows.
    pub fn positions(&self) -> Option<usize> {
        self.kernel.iter().try_fold(1usize, |n, size| n.checked_mul(*size))
    }

    /// Elements of the weights `f32[M,C/groups,kD,kH,kW]`; none if that overflows.
    pub fn weights_len(&self) -> Option<usize> {
        let taps = self.positions()?;
        self.channels_out.checked_mul(self.channels_in / self.groups)?.checked_mul(taps)
    }

    /// OD, OH, OW for an image of D, H, W.
    ///
    /// # Errors
    /// If the spec is invalid, or the kernel is larger than the padded image.
    pub fn output_size(&self, image: [usize; 3]) -> Result<[usize; 3], SpecError> {
        self.validate()?;
        let mut size = [0; 3];
        for axis in 0..3 {
            if image[axis] == 0 || image[axis] > MAX_SIZE {
                return Err(SpecError::Size { spec: Box::new(*self), max: MAX_SIZE });
            }
            let padded = image[axis] + self.pads[axis] + self.pads[axis + 3];
            let reach = (self.kernel[axis] - 1) * self.dilation[axis];
            let room = padded
                .checked_sub(reach + 1)
                .ok_or(SpecError::KernelTooLarge { spec: Box::new(*self), image })?;
            size[axis] = room / self.stride[axis] + 1;
        }
        Ok(size)
    }

    /// Multiplications and additions of one pass over one sample, forward or transposed.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn flops(&self, image: [usize; 3]) -> Result<f64, SpecError> {
        let sizes = self.output_size(image)?.into_iter().chain(self.kernel).map(|size| size as f64);
        let products = (self.channels_out * (self.channels_in / self.groups)) as f64;
        Ok(2.0 * products * sizes.product::<f64>())
    }

    /// The halo that the forward convolution reads around each slice of its image of D, H, W.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn forward_halo(&self, image: [usize; 3]) -> Result<Halo, SpecError> {
        self.halo(Direction::Forward, image)
    }

    /// The halo that the transposed convolution reads around each slice of its input `f32[M,OD,OH,OW]`, where `image` is
    /// the D, H, W of its output.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn transposed_halo(&self, image: [usize; 3]) -> Result<Halo, SpecError> {
        self.halo(Direction::Transposed, image)
    }

    fn halo(&self, direction: Direction, image: [usize; 3]) -> Result<Halo, SpecError> {
        let [_, rows, columns] = self.axes(direction, image)?;
        let ([top, bottom], [left, right]) = (rows.halo(), columns.halo());
        Ok(Halo { top, left, bottom, right })
    }

    /// The axis from slice to slice, the vertical and the horizontal one of a convolution whose forward input is an image
    /// of D, H, W.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn axes(&self, direction: Direction, image: [usize; 3]) -> Result<[Axis; 3], SpecError> {
        let size = self.output_size(image)?;
        Ok([0, 1, 2].map(|axis| match direction {
            Direction::Forward => self.forward_axis(axis, image[axis], size[axis]),
            Direction::Transposed => self.transposed_axis(axis, image[axis], size[axis]),
        }))
    }

    fn forward_axis(&self, axis: usize, input: usize, count: usize) -> Axis {
        let offset = |k: usize| (k * self.dilation[axis]) as i64 - self.pads[axis] as i64;
        let taps = (0..self.kernel[axis]).map(|k| AxisTap { k, offset: offset(k) }).collect();
        Axis {
            input,
            out_step: 1,
            in_step: self.stride[axis],
            phases: vec![AxisPhase { origin: 0, count, taps }],
        }
    }

    /// Output i = s q + r receives from inputs o with `i = o s - pad + k d`, so `o = q + (r + pad - k d) / s`
    /// for those k that s divides this of. Each residue r is a phase: a convolution of stride 1.
    fn transposed_axis(&self, axis: usize, image: usize, input: usize) -> Axis {
        let stride = self.stride[axis];
        let phase =
            |origin: usize| AxisPhase { origin, count: (image - origin).div_ceil(stride), taps: Vec::new() };
        let mut phases: Vec<AxisPhase> = (0..stride.min(image)).map(phase).collect();
        for k in 0..self.kernel[axis] {
            // The residue that meets k, and where.
            let distance = (k * self.dilation[axis]) as i64 - self.pads[axis] as i64;
            let origin = distance.rem_euclid(stride as i64);
            if let Some(phase) = phases.get_mut(origin as usize) {
                phase.taps.push(AxisTap { k, offset: (origin - distance).div_euclid(stride as i64) });
            }
        }
        Axis { input, out_step: stride, in_step: 1, phases }
    }
}

/// Which way a convolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `z[m] = sum_c w[m,c] * a[c]`.
    Forward,
    /// `c[c] = sum_m w[m,c]^T * s[m]`: the forward's transposition.
    Transposed,
}

/// One axis of a convolution, as convolutions of the output's residues.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The input's size.
    pub input: usize,
    /// From an output of a phase to the next.
    pub out_step: usize,
    /// From an output's input to the next one's.
    pub in_step: usize,
    /// The residues.
    pub phases: Vec<AxisPhase>,
}

/// Outputs `origin + q * out_step` for q in `0..count`, from inputs `q * in_step + offset`.
#[derive(Clone, Debug)]
pub struct AxisPhase {
    /// The first output.
    pub origin: usize,
    /// How many outputs.
    pub count: usize,
    /// What each output sums over.
    pub taps: Vec<AxisTap>,
}

/// A kernel position along an axis.
#[derive(Clone, Copy, Debug)]
pub struct AxisTap {
    /// The kernel position.
    pub k: usize,
    /// Of the input, from that of the output.
    pub offset: i64,
}

impl Axis {
    /// How far taps reach before and beyond the input.
    fn halo(&self) -> [usize; 2] {
        let mut halo = [0; 2];
        for phase in &self.phases {
            for tap in &phase.taps {
                let last = ((phase.count - 1) * self.in_step) as i64 + tap.offset;
                let reach = [-tap.offset, last - (self.input as i64 - 1)];
                halo = [0, 1].map(|side| halo[side].max(usize::try_from(reach[side]).unwrap_or(0)));
            }
        }
        halo
    }

    /// Whether output i is input i alone, and there are no inputs beside. A padded convolution's transposition
    /// has some: what the padding received.
    pub fn is_pointwise(&self) -> bool {
        let identity = |phase: &AxisPhase| {
            phase.count == self.input && matches!(phase.taps[..], [AxisTap { offset: 0, .. }])
        };
        self.in_step == 1 && self.out_step == 1 && self.phases.iter().all(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_halos_of_resnet_layers() {
        let stem = ConvSpec::square(3, 64, 7, 2, 3);
        assert_eq!(stem.output_size([1, 224, 224]).unwrap(), [1, 112, 112]);
        assert_eq!(stem.forward_halo([1, 224, 224]).unwrap(), Halo { top: 3, left: 3, bottom: 2, right: 2 });
        let reach = Halo { top: 1, left: 1, bottom: 2, right: 2 };
        assert_eq!(stem.transposed_halo([1, 224, 224]).unwrap(), reach);
        assert_eq!(ConvSpec::square(8, 8, 3, 1, 1).transposed_halo([1, 5, 9]).unwrap(), Halo::uniform(1));
        assert_eq!(ConvSpec::square(8, 8, 1, 2, 0).forward_halo([1, 7, 8]).unwrap(), Halo::NONE);
    }

    #[test]
    fn absurd_specs_are_refused() {
        let spec = ConvSpec::square(8, 8, 3, 1, 1);
        assert!(matches!(ConvSpec { groups: 3, ..spec }.validate(), Err(SpecError::Groups { .. })));
        assert!(matches!(ConvSpec { stride: [1, 0, 1], ..spec }.validate(), Err(SpecError::Size { .. })));
        assert!(matches!(ConvSpec { pads: [usize::MAX; 6], ..spec }.validate(), Err(SpecError::Size { .. })));
        assert!(matches!(
            ConvSpec { kernel: [1, 9, 1], ..spec }.output_size([1, 4, 4]),
            Err(SpecError::KernelTooLarge { .. })
        ));
    }
}
