//! Weights in the order in which kernels read them.

use rayon::prelude::*;

use super::plan::Panel;
use super::{ConvError, ConvPlan};
use crate::buffer::AlignedBuffer;
use crate::tile::Kind;
use relc_program::layout::check;

/// The weights of one [`ConvPlan`], packed. All parts of them (w, w+, w-) read this one copy.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    data: AlignedBuffer,
}

impl PackedWeights {
    /// The elements, for kernels that are called by name.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
}

impl ConvPlan {
    /// Packs weights `f32[M,C/groups,kH,kW]`: for each tile of output channels `[tap][lane][OB][V]`; zeros
    /// where a block goes beyond the last channel or covers channels of different groups.
    ///
    /// # Errors
    /// If `weights` has another length.
    pub fn pack(&self, weights: &[f32]) -> Result<PackedWeights, ConvError> {
        let expected = self.spec.weights_len().ok_or(ConvError::TooLarge { spec: self.spec })?;
        check("weights", weights.len(), expected)?;
        let mut data = AlignedBuffer::zeroed(self.weights_len);
        let mut rest: &mut [f32] = &mut data;
        let mut parts = Vec::new();
        for (tile, panel) in self
            .panels
            .iter()
            .enumerate()
            .flat_map(|(tile, panels)| panels.iter().map(move |panel| (tile, panel)))
        {
            let len = panel.taps.len() * self.tap_weights(panel);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(len);
            parts.push((tile, panel, part));
            rest = after;
        }
        parts.into_par_iter().for_each(|(tile, panel, part)| self.pack_panel(tile, panel, weights, part));
        Ok(PackedWeights { data })
    }

    fn tap_weights(&self, panel: &Panel) -> usize {
        panel.segments[0].kernel.shape.tap_weights(self.lanes as u32) as usize
    }

    fn pack_panel(&self, tile: usize, panel: &Panel, weights: &[f32], packed: &mut [f32]) {
        let blocks = &self.channels.tiles[tile].blocks;
        let width = self.isa.width();
        let weight = |reduced, produced, position| {
            self.roles
                .weight(reduced, produced, position)
                .and_then(|index| weights.get(index))
                .copied()
                .unwrap_or(0.0)
        };
        let sources = &self.sources[panel.taps.clone()];
        for (source, tap) in sources.iter().zip(packed.chunks_exact_mut(self.tap_weights(panel))) {
            for (row, vector) in tap.chunks_exact_mut(width).enumerate() {
                if self.channels.kind == Kind::Tile && self.roles.produced_group == self.roles.produced {
                    // The usual case, without a division for each weight; what is not there stays 0.
                    let (lane, block) = (row / blocks.len(), row % blocks.len());
                    let channel = source.channel + lane % self.position_lanes;
                    let position = source.position + lane / self.position_lanes;
                    let first = (blocks.start + block) * width;
                    let run = self.roles.weights_from(channel, first, position);
                    let Some((start, stride)) = run else { continue };
                    let count = self.roles.produced.saturating_sub(first);
                    let weights = weights.get(start..).unwrap_or_default().iter().step_by(stride);
                    vector.iter_mut().zip(weights).take(count).for_each(|(value, weight)| *value = *weight);
                    continue;
                }
                for (v, value) in vector.iter_mut().enumerate() {
                    *value = match self.channels.kind {
                        Kind::Tile => {
                            let (lane, block) = (row / blocks.len(), row % blocks.len());
                            let channel = source.channel + lane % self.position_lanes;
                            let position = source.position + lane / self.position_lanes;
                            weight(channel, (blocks.start + block) * width + v, position)
                        }
                        Kind::Depthwise => weight(source.channel + v, source.channel + v, source.position),
                        Kind::Dot => weight(source.channel + v, row, source.position),
                    };
                }
            }
        }
    }
}
