//! Weights in the order in which kernels read them.

use relc_ir::Values;

use super::plan::Panel;
use super::{ConvError, ConvPlan};
use crate::buffer::filled;
use crate::tile::Kind;
use relc_program::layout::check;

/// Bits of the first of the f32 that number weights: normal ones, which no copy changes.
const FIRST: usize = f32::MIN_POSITIVE.to_bits() as usize;
/// Of the last.
const LAST: usize = f32::MAX.to_bits() as usize;

/// The weights of one [`ConvPlan`], packed. All parts of them (w, w+, w-) read this one copy.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    data: Values,
}

impl PackedWeights {
    /// The elements, for kernels that are called by name.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// The elements, shared.
    pub(crate) fn values(&self) -> &Values {
        &self.data
    }
}

impl ConvPlan {
    /// Packs weights `f32[M,C/groups,kD,kH,kW]`: for each tile of output channels `[tap][lane][OB][V]`; zeros
    /// where a block goes beyond the last channel or covers channels of different groups.
    ///
    /// # Errors
    /// If `weights` has another length.
    pub fn pack(&self, weights: &[f32]) -> Result<PackedWeights, ConvError> {
        let expected = self.spec.weights_len().ok_or(ConvError::TooLarge { spec: Box::new(self.spec) })?;
        check("weights", weights.len(), expected)?;
        let fill = |(tile, panel), part: &mut [f32]| self.pack_panel(tile, panel, weights, part);
        Ok(PackedWeights { data: filled(self.weights_len, self.parts(), fill) })
    }

    /// The lengths of what is packed, one after the other, with the tiles and panels that it is for.
    fn parts(&self) -> impl Iterator<Item = (usize, (usize, &Panel))> {
        let panels = self.panels.iter().enumerate();
        let all = panels.flat_map(|(tile, panels)| panels.iter().map(move |panel| (tile, panel)));
        let own = all.filter(|(_, panel)| !panel.shares);
        own.map(|(tile, panel)| (panel.taps.len() * self.tap_weights(panel), (tile, panel)))
    }

    /// Whether [`unpack`](Self::unpack) gives back all that was packed: there is one group, and every slice of the kernel
    /// meets one of the input. Kernels without tiles are of few weights, and are not asked.
    pub fn keeps_weights(&self) -> bool {
        let numbered = self
            .spec
            .weights_len()
            .is_some_and(|len| FIRST.checked_add(len).is_some_and(|last| last <= LAST));
        if self.channels.kind != Kind::Tile || self.roles.groups() != 1 || !numbered {
            return false;
        }
        let (reduced, positions) = (self.roles.reduced, self.roles.positions);
        self.panels.iter().all(|panels| {
            let mut met = vec![false; reduced * positions];
            for source in panels.iter().flat_map(|panel| &self.sources[panel.taps.clone()]) {
                for lane in 0..self.lanes {
                    let channel = source.channel + lane % self.position_lanes;
                    let position = source.position + lane / self.position_lanes;
                    if channel < reduced && position < positions {
                        met[channel * positions + position] = true;
                    }
                }
            }
            met.iter().all(|met| *met)
        })
    }

    /// The weights `f32[M,C,kD,kH,kW]` that [`pack`](Self::pack) packed, to the bit; none if the plan does not
    /// [keep](Self::keeps_weights) them, or did not pack these. On this thread alone.
    pub fn unpack(&self, packed: &PackedWeights) -> Option<Vec<f32>> {
        if packed.data.len() != self.weights_len || !self.keeps_weights() {
            return None;
        }
        // Where each weight lies is known by packing their numbers in their place.
        let mut weights = vec![0.0; self.spec.weights_len()?];
        let numbers = (FIRST..FIRST + weights.len()).map(|number| f32::from_bits(number as u32));
        let numbers: Vec<f32> = numbers.collect();
        let mut rest: &[f32] = &packed.data;
        let mut places = Vec::new();
        for (len, (tile, panel)) in self.parts() {
            let (values, after) = rest.split_at(len);
            places.clear();
            places.resize(len, 0.0);
            self.pack_panel(tile, panel, &numbers, &mut places);
            for (place, value) in places.iter().zip(values) {
                // Padding is 0.
                let weight = (place.to_bits() as usize).checked_sub(FIRST).and_then(|at| weights.get_mut(at));
                if let Some(weight) = weight {
                    *weight = *value;
                }
            }
            rest = after;
        }
        Some(weights)
    }

    /// Weights that [`pack`](Self::pack) packed at another time.
    ///
    /// # Errors
    /// If there are more or fewer than that gives.
    pub fn adopt(&self, packed: Values) -> Result<PackedWeights, ConvError> {
        check("packed weights", packed.len(), self.weights_len)?;
        Ok(PackedWeights { data: packed })
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
                // The channels of the row's first weight, and how many of each the next is further.
                let ([reduced, produced], [across, down], position) = match self.channels.kind {
                    Kind::Tile => {
                        let (lane, block) = (row / blocks.len(), row % blocks.len());
                        let channel = source.channel + lane % self.position_lanes;
                        let position = source.position + lane / self.position_lanes;
                        ([channel, (blocks.start + block) * width], [0, 1], position)
                    }
                    Kind::Depthwise => ([source.channel; 2], [1, 1], source.position),
                    Kind::Dot => ([source.channel, row], [1, 0], source.position),
                };
                if across == 0
                    && let Some(run) = self.roles.weights_from(weights, [reduced, produced], position)
                {
                    vector.iter_mut().zip(run).for_each(|(value, weight)| *value = *weight);
                    continue;
                }
                for (v, value) in vector.iter_mut().enumerate() {
                    *value = weight(reduced + v * across, produced + v * down, position);
                }
            }
        }
    }
}
