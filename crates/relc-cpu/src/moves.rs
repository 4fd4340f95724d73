//! Moving elements by a table.

use rayon::prelude::*;

use crate::step::NOWHERE;

/// Elements that a thread should have to move at least.
const GRAIN: usize = 1 << 13;

/// Copies `source[from]` to `target[to]` for each pair `(to, from)` of a table in ascending order of `to`; 0 where nothing is
/// copied from. On the current rayon pool if `parallel`. Elements beyond either end are left out.
pub fn move_elements(table: &[(u32, u32)], source: &[f32], target: &mut [f32], parallel: bool) {
    if !parallel || table.len() < 2 * GRAIN {
        return copy(table, source, target, 0);
    }
    let mut parts = Vec::with_capacity(table.len() / GRAIN + 1);
    let (mut rest, mut first) = (target, 0);
    for pairs in table.chunks(GRAIN) {
        let end = pairs.last().map_or(first, |(to, _)| *to as usize + 1).clamp(first, first + rest.len());
        let (own, after) = std::mem::take(&mut rest).split_at_mut(end - first);
        parts.push((pairs, own, first));
        (rest, first) = (after, end);
    }
    parts.into_par_iter().for_each(|(pairs, own, first)| copy(pairs, source, own, first));
}

/// The pairs of a part of the target, which starts at `first`.
fn copy(pairs: &[(u32, u32)], source: &[f32], target: &mut [f32], first: usize) {
    for &(to, from) in pairs {
        let value = if from == NOWHERE { 0.0 } else { source.get(from as usize).copied().unwrap_or(0.0) };
        let place = (to as usize).checked_sub(first).and_then(|at| target.get_mut(at));
        if let Some(place) = place {
            *place = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_move_what_one_does() {
        let count = 5 * GRAIN as u32 + 77;
        let source: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
        // Every third place is left as it is, every seventh becomes 0, and some pairs lie beyond the end.
        let table: Vec<(u32, u32)> = (0..count)
            .filter(|to| to % 3 != 0)
            .map(|to| (to, if to % 7 == 0 { NOWHERE } else { to * 31 % count }))
            .collect();
        let moved = |parallel| {
            let mut target = vec![-1.0; count as usize - 100];
            move_elements(&table, &source, &mut target, parallel);
            target
        };
        let expected: Vec<f32> = (0..count - 100)
            .map(|to| match to {
                to if to % 3 == 0 => -1.0,
                to if to % 7 == 0 => 0.0,
                to => source[(to * 31 % count) as usize],
            })
            .collect();
        assert_eq!(moved(false), expected);
        assert_eq!(moved(true), expected);
    }
}
