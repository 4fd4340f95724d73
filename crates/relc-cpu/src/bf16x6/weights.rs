//! Weights in the order in which they are split and multiplied.

use std::ops::Range;

use relc_ir::Values;

use super::kernel::CHANNELS;
use super::{Bf16x6Plan, Source};
use crate::buffer::filled;
use crate::conv::ConvError;
use relc_program::layout::check;

/// The weights of one [`Bf16x6Plan`], packed. All parts of them (w, w+, w-) read this one copy.
#[derive(Clone, Debug)]
pub struct Bf16x6Weights {
    pub(super) data: Values,
}

impl Bf16x6Weights {
    /// The elements, shared.
    pub(crate) fn values(&self) -> &Values {
        &self.data
    }
}

impl Bf16x6Plan {
    /// Packs weights `f32[M,C,kH,kW]`: for each tile of output channels and phase `[step][block][V][2][V]`: the
    /// channels of two input blocks interleave. Zeros beyond the last channel.
    ///
    /// # Errors
    /// If `weights` has another length.
    pub fn pack(&self, weights: &[f32]) -> Result<Bf16x6Weights, ConvError> {
        let expected = self.spec.weights_len().ok_or(ConvError::TooLarge { spec: Box::new(self.spec) })?;
        check("weights", weights.len(), expected)?;
        let parts = self.tiles.iter().map(|blocks| (self.panel_len(self.steps.len(), blocks.len()), blocks));
        let fill = |blocks: &Range<usize>, panel: &mut [f32]| self.pack_panel(blocks, weights, panel);
        Ok(Bf16x6Weights { data: filled(self.weights_len, parts, fill) })
    }

    fn pack_panel(&self, blocks: &Range<usize>, weights: &[f32], panel: &mut [f32]) {
        let width = self.isa.width();
        let steps = self.sources.iter().flat_map(|source| blocks.clone().map(move |block| (*source, block)));
        for ((Source { channel, position, .. }, block), part) in
            steps.zip(panel.chunks_exact_mut(CHANNELS * width))
        {
            for (row, vector) in part.chunks_exact_mut(width).enumerate() {
                let lane = row % 2 * width + row / 2;
                let run = self.roles.weights_from(weights, [channel + lane, block * width], position);
                vector.iter_mut().zip(run.into_iter().flatten()).for_each(|(value, weight)| *value = *weight);
            }
        }
    }

    /// Weights that [`pack`](Self::pack) packed at another time.
    ///
    /// # Errors
    /// If there are more or fewer than that gives.
    pub fn adopt(&self, packed: Values) -> Result<Bf16x6Weights, ConvError> {
        check("packed weights", packed.len(), self.weights_len)?;
        Ok(Bf16x6Weights { data: packed })
    }

    /// Whether both plans pack the same weights alike.
    pub fn packs_like(&self, other: &Bf16x6Plan) -> bool {
        let same = |(a, b): (&Source, &Source)| (a.channel, a.position) == (b.channel, b.position);
        self.spec == other.spec
            && self.isa == other.isa
            && self.roles.direction == other.roles.direction
            && self.tiles == other.tiles
            && self.sources.len() == other.sources.len()
            && self.sources.iter().zip(&other.sources).all(same)
    }
}
