//! Which output channels a tile computes, and from which input channels.

use std::ops::Range;

use crate::isa::Isa;
use crate::tile::{Kind, max_pixels};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::Blocked;

/// Overhead of a tap, in lanes: reading its offset, and the end of the inner loop.
const TAP_OVERHEAD: usize = 2;

/// The channels that a convolution sums over and those that it produces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    pub direction: Direction,
    /// Channels summed over, in all groups.
    pub reduced: usize,
    /// Of one group.
    pub reduced_group: usize,
    /// Channels produced, in all groups.
    pub produced: usize,
    /// Of one group.
    pub produced_group: usize,
    /// kD * kH * kW.
    pub positions: usize,
}

impl Roles {
    pub fn new(spec: &ConvSpec, direction: Direction) -> Roles {
        let (reduced, produced) = match direction {
            Direction::Forward => (spec.channels_in, spec.channels_out),
            Direction::Transposed => (spec.channels_out, spec.channels_in),
        };
        Roles {
            direction,
            reduced,
            reduced_group: reduced / spec.groups,
            produced,
            produced_group: produced / spec.groups,
            positions: spec.kernel.iter().product(),
        }
    }

    pub fn groups(&self) -> usize {
        self.reduced / self.reduced_group
    }

    /// Whether each channel meets itself alone.
    pub fn is_depthwise(&self) -> bool {
        self.groups() > 1 && self.reduced_group == 1 && self.produced_group == 1
    }

    /// The channels that some of the produced ones are summed from: those of all their groups.
    pub fn sources(&self, produced: Range<usize>) -> Range<usize> {
        let first = produced.start / self.produced_group;
        let last = (produced.end.min(self.produced) - 1) / self.produced_group;
        first * self.reduced_group..(last + 1) * self.reduced_group
    }

    /// Where the weight between two channels lies in `f32[M,C/groups,kD*kH*kW]`; none if they are of different
    /// groups or if there is no such channel.
    pub fn weight(&self, reduced: usize, produced: usize, position: usize) -> Option<usize> {
        let group = produced / self.produced_group;
        if reduced >= self.reduced || produced >= self.produced || reduced / self.reduced_group != group {
            return None;
        }
        let row = match self.direction {
            Direction::Forward => produced * self.reduced_group + (reduced - group * self.reduced_group),
            Direction::Transposed => reduced * self.produced_group + (produced - group * self.produced_group),
        };
        Some(row * self.positions + position)
    }

    /// The weights between a channel and those from `produced` on, where they lie at equal distances: with one group.
    pub fn weights_from<'w>(
        &self,
        weights: &'w [f32],
        [reduced, produced]: [usize; 2],
        position: usize,
    ) -> Option<impl Iterator<Item = &'w f32> + use<'w>> {
        let stride = match self.direction {
            _ if self.produced_group != self.produced => return None,
            Direction::Forward => self.reduced_group * self.positions,
            Direction::Transposed => self.positions,
        };
        let start = self.weight(reduced, produced, position)?;
        Some(weights.get(start..).unwrap_or_default().iter().step_by(stride).take(self.produced - produced))
    }
}

/// A tile's output channels: blocks, or for [`Kind::Dot`] single channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChannelTile {
    pub blocks: Range<usize>,
    /// What it sums over; may go beyond the last channel into the padding of its block.
    pub sources: Range<usize>,
}

/// How channels are cut into tiles and taps.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    pub kind: Kind,
    pub tiles: Vec<ChannelTile>,
    /// Input channels of a tap.
    pub lanes: usize,
}

impl Channels {
    /// Cuts channels, with tiles of at most `blocks` blocks.
    pub fn new(roles: &Roles, isa: Isa, kind: Kind, input: &Blocked, blocks: usize) -> Channels {
        let width = isa.width();
        match kind {
            Kind::Dot => {
                let tile = ChannelTile { blocks: 0..roles.produced, sources: 0..roles.reduced };
                Channels { kind, tiles: vec![tile], lanes: width }
            }
            Kind::Depthwise => {
                let tile = |block: usize| ChannelTile {
                    blocks: block..block + 1,
                    sources: block * width..(block + 1) * width,
                };
                Channels {
                    kind,
                    tiles: (0..roles.produced.div_ceil(width)).map(tile).collect(),
                    lanes: width,
                }
            }
            Kind::Tile => {
                let mut tiles: Vec<ChannelTile> = cut(roles, width, blocks)
                    .map(|blocks| {
                        let sources = roles.sources(blocks.start * width..blocks.end * width);
                        ChannelTile { blocks, sources }
                    })
                    .collect();
                let lanes = lanes(&mut tiles, input);
                Channels { kind, tiles, lanes }
            }
        }
    }

    /// The numbers of blocks that tiles may have.
    pub fn choices(roles: &Roles, isa: Isa) -> Vec<usize> {
        let whole = roles.groups() == 1 || roles.produced_group.is_multiple_of(isa.width());
        let limit = if whole { roles.produced_group.div_ceil(isa.width()) } else { 1 };
        (1..=limit).take_while(|&blocks| max_pixels(isa, Kind::Tile, blocks) > 0).collect()
    }
}

/// Ranges of at most `blocks` blocks; of one group each, where groups end at ends of blocks.
fn cut(roles: &Roles, width: usize, blocks: usize) -> impl Iterator<Item = Range<usize>> {
    let aligned = roles.groups() > 1 && roles.produced_group.is_multiple_of(width);
    let whole = if aligned { roles.produced_group } else { roles.produced }.div_ceil(width);
    let parts = if aligned { roles.groups() } else { 1 };
    (0..parts).flat_map(move |part| {
        let start = part * whole;
        (0..whole).step_by(blocks).map(move |first| start + first..start + (first + blocks).min(whole))
    })
}

/// The lanes of a tap, such that no tap crosses a block of the input.
///
/// Where sources fill whole blocks that is V. Else either the greatest common divisor serves, or sources are
/// widened to whole blocks, whose further channels meet zero weights; whichever is less work.
fn lanes(tiles: &mut [ChannelTile], input: &Blocked) -> usize {
    let block = input.block();
    if input.slice_blocks() == 1 && tiles.iter().all(|tile| tile.sources == (0..input.channels())) {
        return input.channels();
    }
    let divisor =
        tiles.iter().fold(block, |lanes, tile| gcd(gcd(lanes, tile.sources.start), tile.sources.len()));
    let widened = |sources: &Range<usize>| sources.start / block * block..sources.end.next_multiple_of(block);
    let work = |len: usize, lanes: usize| len + TAP_OVERHEAD * (len / lanes);
    let exact: usize = tiles.iter().map(|tile| work(tile.sources.len(), divisor)).sum();
    let padded: usize = tiles.iter().map(|tile| work(widened(&tile.sources).len(), block)).sum();
    if exact < padded {
        return divisor;
    }
    tiles.iter_mut().for_each(|tile| tile.sources = widened(&tile.sources));
    block
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    fn channels(channels_in: usize, channels_out: usize, groups: usize, blocks: usize) -> Channels {
        let spec = ConvSpec { groups, ..ConvSpec::square(channels_in, channels_out, 1, 1, 0) };
        let input = Blocked::new(channels_in, 16, 1, 1, Halo::NONE).unwrap();
        Channels::new(&Roles::new(&spec, Direction::Forward), Isa::Avx512, Kind::Tile, &input, blocks)
    }

    #[test]
    fn whole_blocks_use_whole_taps() {
        let cut = channels(64, 80, 1, 2);
        assert_eq!(cut.lanes, 16);
        let blocks: Vec<_> = cut.tiles.iter().map(|tile| tile.blocks.clone()).collect();
        assert_eq!(blocks, [0..2, 2..4, 4..5]);
        assert!(cut.tiles.iter().all(|tile| tile.sources == (0..64)));
    }

    #[test]
    fn few_channels_use_as_many_lanes() {
        assert_eq!(channels(3, 64, 1, 2).lanes, 3);
        // 20 = 16 + 4: five taps of 4 lanes beat two of 16.
        assert_eq!(channels(20, 16, 1, 1).lanes, 4);
        // 17 taps of one lane do not.
        let cut = channels(17, 16, 1, 1);
        assert_eq!((cut.lanes, &cut.tiles[0].sources), (16, &(0..32)));
    }

    #[test]
    fn tiles_stay_in_a_group_where_groups_are_whole_blocks() {
        let cut = channels(48, 144, 3, 2);
        let all: Vec<_> = cut.tiles.iter().map(|tile| (tile.blocks.clone(), tile.sources.clone())).collect();
        assert_eq!(all[1], (2..3, 0..16));
        assert_eq!(all[2], (3..5, 16..32));
    }

    #[test]
    fn a_block_of_several_groups_sums_over_all_of_them() {
        let cut = channels(128, 128, 32, 1);
        assert_eq!((cut.lanes, &cut.tiles[1].sources), (16, &(16..32)));
        let roles =
            Roles::new(&ConvSpec { groups: 2, ..ConvSpec::square(4, 6, 1, 1, 0) }, Direction::Forward);
        assert_eq!(roles.weight(1, 3, 0), None);
        assert_eq!(roles.weight(3, 4, 0), Some(9));
    }
}
