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
        spec: ConvSpec,
        /// The greatest.
        max: usize,
    },
    /// Channels that groups do not divide.
    #[error("convolution: {} groups do not divide {} input and {} output channels", .spec.groups, .spec.channels_in, .spec.channels_out)]
    Groups {
        /// The convolution.
        spec: ConvSpec,
    },
    /// A kernel that leaves the padded image.
    #[error("convolution: the kernel {:?} with dilation {:?} is larger than the image {image:?} with pads {:?}", .spec.kernel, .spec.dilation, .spec.pads)]
    KernelTooLarge {
        /// The convolution.
        spec: ConvSpec,
        /// H, W.
        image: [usize; 2],
    },
}

/// A two-dimensional convolution `f32[C,H,W] -> f32[M,OH,OW]` with weights `f32[M,C/groups,kH,kW]`.
///
/// A product with a matrix `f32[M,C]` is the convolution of 1x1 images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// C.
    pub channels_in: usize,
    /// M.
    pub channels_out: usize,
    /// Groups; divides both.
    pub groups: usize,
    /// kH, kW.
    pub kernel: [usize; 2],
    /// Vertical, horizontal.
    pub stride: [usize; 2],
    /// Vertical, horizontal.
    pub dilation: [usize; 2],
    /// Zeros at top, left, bottom, right, as in ONNX.
    pub pads: [usize; 4],
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
    /// A square kernel with stride, and padding on all sides; one group, no dilation.
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
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pads: [pad; 4],
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
            return Err(SpecError::Size { spec: *self, max: MAX_SIZE });
        }
        let divides = |channels: usize| channels.is_multiple_of(self.groups);
        if !divides(self.channels_in) || !divides(self.channels_out) {
            return Err(SpecError::Groups { spec: *self });
        }
        Ok(())
    }

    /// Elements of the weights `f32[M,C/groups,kH,kW]`; none if that overflows.
    pub fn weights_len(&self) -> Option<usize> {
        let taps = self.kernel[0].checked_mul(self.kernel[1])?;
        self.channels_out.checked_mul(self.channels_in / self.groups)?.checked_mul(taps)
    }

    /// OH, OW for an image of H, W.
    ///
    /// # Errors
    /// If the spec is invalid, or the kernel is larger than the padded image.
    pub fn output_size(&self, image: [usize; 2]) -> Result<[usize; 2], SpecError> {
        self.validate()?;
        let mut size = [0; 2];
        for axis in 0..2 {
            if image[axis] == 0 || image[axis] > MAX_SIZE {
                return Err(SpecError::Size { spec: *self, max: MAX_SIZE });
            }
            let padded = image[axis] + self.pads[axis] + self.pads[axis + 2];
            let reach = (self.kernel[axis] - 1) * self.dilation[axis];
            let room =
                padded.checked_sub(reach + 1).ok_or(SpecError::KernelTooLarge { spec: *self, image })?;
            size[axis] = room / self.stride[axis] + 1;
        }
        Ok(size)
    }

    /// Multiplications and additions of one pass over one sample, forward or transposed.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn flops(&self, image: [usize; 2]) -> Result<f64, SpecError> {
        let [height, width] = self.output_size(image)?;
        let per_output = self.channels_in / self.groups * self.kernel[0] * self.kernel[1];
        Ok(2.0 * (self.channels_out * height * width) as f64 * per_output as f64)
    }

    /// The halo that the forward convolution reads around its image of H, W.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn forward_halo(&self, image: [usize; 2]) -> Result<Halo, SpecError> {
        self.halo(Direction::Forward, image)
    }

    /// The halo that the transposed convolution reads around its input `f32[M,OH,OW]`, where `image` is the
    /// H, W of its output.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn transposed_halo(&self, image: [usize; 2]) -> Result<Halo, SpecError> {
        self.halo(Direction::Transposed, image)
    }

    fn halo(&self, direction: Direction, image: [usize; 2]) -> Result<Halo, SpecError> {
        let [rows, columns] = self.axes(direction, image)?;
        let ([top, bottom], [left, right]) = (rows.halo(), columns.halo());
        Ok(Halo { top, left, bottom, right })
    }

    /// The vertical and the horizontal axis of a convolution whose forward input is an image of H, W.
    ///
    /// # Errors
    /// As of [`ConvSpec::output_size`].
    pub fn axes(&self, direction: Direction, image: [usize; 2]) -> Result<[Axis; 2], SpecError> {
        let size = self.output_size(image)?;
        Ok([0, 1].map(|axis| match direction {
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
        assert_eq!(stem.output_size([224, 224]).unwrap(), [112, 112]);
        assert_eq!(stem.forward_halo([224, 224]).unwrap(), Halo { top: 3, left: 3, bottom: 2, right: 2 });
        let reach = Halo { top: 1, left: 1, bottom: 2, right: 2 };
        assert_eq!(stem.transposed_halo([224, 224]).unwrap(), reach);
        assert_eq!(ConvSpec::square(8, 8, 3, 1, 1).transposed_halo([5, 9]).unwrap(), Halo::uniform(1));
        assert_eq!(ConvSpec::square(8, 8, 1, 2, 0).forward_halo([7, 8]).unwrap(), Halo::NONE);
    }

    #[test]
    fn absurd_specs_are_refused() {
        let spec = ConvSpec::square(8, 8, 3, 1, 1);
        assert!(matches!(ConvSpec { groups: 3, ..spec }.validate(), Err(SpecError::Groups { .. })));
        assert!(matches!(ConvSpec { stride: [0, 1], ..spec }.validate(), Err(SpecError::Size { .. })));
        assert!(matches!(ConvSpec { pads: [usize::MAX; 4], ..spec }.validate(), Err(SpecError::Size { .. })));
        assert!(matches!(
            ConvSpec { kernel: [9, 1], ..spec }.output_size([4, 4]),
            Err(SpecError::KernelTooLarge { .. })
        ));
    }
}
