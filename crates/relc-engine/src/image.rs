//! Values as images: the layout of one sample.

use relc_codegen::kernels;
use relc_ir::{Dim, TensorType};
use relc_runtime::layout::Blocked;

/// Channels, height and width of one sample of a value: `f32[N,C,H,W]` as it is, `f32[N,K]` as K channels of one
/// pixel, other ranks so that the row-major order stays.
pub fn image(ty: &TensorType) -> [usize; 3] {
    let dims: Vec<usize> = ty.dims().iter().skip(1).map(|d| d.bind(1)).collect();
    match dims[..] {
        [c, h, w] => [c, h, w],
        [c, w] => [c, 1, w],
        _ => [dims.iter().product::<usize>().max(1), 1, 1],
    }
}

/// The batch dimension of a value.
pub fn batch(ty: &TensorType) -> Option<Dim> {
    ty.dims().first().copied()
}

/// The same layout in the terms of the kernel library; `None` where a size needs more than 32 bits.
pub fn kernel_layout(layout: &Blocked) -> Option<kernels::Blocked> {
    let size = |n: usize| u32::try_from(n).ok();
    let halo = layout.halo();
    Some(kernels::Blocked {
        channels: size(layout.channels())?,
        height: size(layout.height())?,
        width: size(layout.width())?,
        vector: size(layout.block())?,
        halo: kernels::Halo {
            top: size(halo.top)?,
            bottom: size(halo.bottom)?,
            left: size(halo.left)?,
            right: size(halo.right)?,
        },
    })
}

/// Where element `index` of the dense `f32[C,H,W]` lies.
pub fn offset_of(layout: &Blocked, index: usize) -> usize {
    let (h, w, v) = (layout.height(), layout.width(), layout.block());
    let (channel, y, x) = (index / (h * w), index / w % h, index % w);
    layout.offset(channel / v, y, x) + channel % v
}
