//! Tile micro-kernels: some pixels of a row or two by some blocks of output channels, summed in registers.
//!
//! A kernel sums over a list of *taps*. A tap is the offset of some input channels of one kernel position,
//! relative to the tile's first pixel, so that one kernel serves forward and transposed convolutions of any
//! kernel size, dilation and padding, and products with matrices.

mod body;
mod reference;
mod registry;
mod run;

pub use reference::reference;
pub use registry::{Kernel, find, kernels, max_pixels, most_pixels};
pub use run::{TileCall, TileError};

use crate::isa::Isa;

/// Elements of a cache line.
pub(crate) const LINE: usize = 16;

/// The arguments of every tile kernel, in elements of f32 where they are sizes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TileArgs {
    /// The input of the first pixel; taps count from here.
    pub input: *const f32,
    /// Packed weights, sequential: `[tap][lane][OB][V]`, `[tap][V]` or `[tap][OC][V]`, by [`Kind`].
    pub weights: *const f32,
    /// The output of the first pixel and block.
    pub out: *mut f32,
    /// Offsets from `input`.
    pub taps: *const u32,
    /// What is read after this call; asked for while it runs, a cache line for each lane of each tap.
    pub next: *const f32,
    /// How many taps.
    pub tap_count: u32,
    /// Input channels of a tap; V for kinds that read vectors.
    pub lanes: u32,
    /// From the input of a pixel to that of the next.
    pub in_pixel_stride: u32,
    /// From the output of a pixel to that of the next.
    pub out_pixel_stride: u32,
    /// From the input of a row to that of the next, where there are two.
    pub in_row_stride: u32,
    /// From the output of a row to that of the next, where there are two.
    pub out_row_stride: u32,
    /// From the output of a block to that of the next; for [`Kind::Dot`] of a channel.
    pub out_block_stride: u32,
    /// 0: the sum replaces the output. Else it is added.
    pub accumulate: u32,
}

/// A tile kernel's address.
///
/// # Safety
/// The machine has the kernel's instruction set, the pointers are valid for [`Shape::extents`], and
/// nothing else accesses the output meanwhile. Alignment is that of f32.
pub type TileFn = unsafe extern "C" fn(*const TileArgs);

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Broadcast input channels times vectors of output channels.
    Tile,
    /// Vectors of input channels times vectors of weights: one output channel for each input channel.
    Depthwise,
    /// Dot products of vectors of input channels, for at most four output channels.
    Dot,
}

impl Kind {
    /// The first part of a symbol's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tile => "tile",
            Kind::Depthwise => "depthwise",
            Kind::Dot => "dot",
        }
    }
}

/// Which part of the weights a kernel uses; the parts need no copies of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// w.
    Raw,
    /// `max(w, 0)`.
    Positive,
    /// `min(w, 0)`.
    Negative,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Raw, Part::Positive, Part::Negative];

    /// The last part of a symbol's name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Raw => "raw",
            Part::Positive => "pos",
            Part::Negative => "neg",
        }
    }

    /// The part of one weight.
    pub fn of(self, weight: f32) -> f32 {
        match self {
            Part::Raw => weight,
            Part::Positive => weight.max(0.0),
            Part::Negative => weight.min(0.0),
        }
    }
}

/// The constants that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// What it computes.
    pub kind: Kind,
    /// For which instruction set.
    pub isa: Isa,
    /// Rows; more than one for [`Kind::Tile`] only.
    pub rows: usize,
    /// Pixels of a row.
    pub pixels: usize,
    /// OB, blocks of V output channels; for [`Kind::Dot`] OC, single channels; 1 for [`Kind::Depthwise`].
    pub blocks: usize,
}

/// How many elements from each pointer on a call touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Of the input, read.
    pub input: u64,
    /// Of the weights, read.
    pub weights: u64,
    /// Of the output, written, and read if it accumulates.
    pub out: u64,
    /// Of the taps, read.
    pub taps: u64,
}

impl Shape {
    /// The name of the kernel of a part of the weights: `tile.avx512.14x2.pos`, of two rows `tile.avx512.2x7x2.pos`.
    pub fn symbol(&self, part: Part) -> String {
        let Shape { kind, isa, rows, pixels, blocks } = self;
        let rows = if *rows == 1 { String::new() } else { format!("{rows}x") };
        format!("{}.{isa}.{rows}{pixels}x{blocks}.{}", kind.name(), part.name())
    }

    /// The weights of one tap, in elements.
    pub fn tap_weights(&self, lanes: u32) -> u64 {
        let vectors = match self.kind {
            Kind::Tile => u64::from(lanes) * self.blocks as u64,
            Kind::Depthwise => 1,
            Kind::Dot => self.blocks as u64,
        };
        vectors * self.isa.width() as u64
    }

    /// What a call with these arguments touches, if the greatest tap is `max_tap`. Pointers are not looked
    /// at.
    pub fn extents(&self, args: &TileArgs, max_tap: u32) -> Extents {
        let width = self.isa.width() as u64;
        let (last, last_row) = (self.pixels as u64 - 1, self.rows as u64 - 1);
        let (read, written) = match self.kind {
            Kind::Tile => (u64::from(args.lanes), width),
            Kind::Depthwise => (width, width),
            Kind::Dot => (width, 1),
        };
        let input = match args.tap_count {
            0 => 0,
            _ => {
                let row = last_row * u64::from(args.in_row_stride);
                u64::from(max_tap) + row + last * u64::from(args.in_pixel_stride) + read
            }
        };
        let blocks = (self.blocks as u64 - 1) * u64::from(args.out_block_stride);
        Extents {
            input,
            weights: u64::from(args.tap_count).saturating_mul(self.tap_weights(args.lanes)),
            out: last_row * u64::from(args.out_row_stride)
                + last * u64::from(args.out_pixel_stride)
                + blocks
                + written,
            taps: u64::from(args.tap_count),
        }
    }
}
