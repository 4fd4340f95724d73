//! Moving elements by a table of runs.

use rayon::prelude::*;

/// Elements that a thread should have to move at least, and a run has at most.
const GRAIN: usize = 1 << 13;

/// Neighbours in the target that come from elements of the source at equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    to: u32,
    len: u32,
    from: Origin,
}

/// Where the elements of a run come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Origin nowhere: they become 0.
    Nowhere,
    /// The first one, and how far it is to the next.
    Source { first: u32, step: i64 },
}

/// The runs of pairs `(to, from)` in ascending order of `to`; 0 comes from nowhere.
pub fn runs(pairs: impl IntoIterator<Item = (u32, Option<u32>)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (to, from) in pairs {
        let joined = runs.last_mut().is_some_and(|run| run.take(to, from));
        if !joined {
            let from = from.map_or(Origin::Nowhere, |first| Origin::Source { first, step: 1 });
            runs.push(Run { to, len: 1, from });
        }
    }
    runs
}

impl Run {
    /// How many elements it moves.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Takes one element more, if it goes on where the run stops.
    fn take(&mut self, to: u32, from: Option<u32>) -> bool {
        let follows = self.to.checked_add(self.len) == Some(to) && (self.len as usize) < GRAIN;
        let step = match (&mut self.from, from) {
            (Origin::Nowhere, None) => follows,
            (Origin::Source { first, step }, Some(from)) => {
                if self.len == 1 && follows {
                    *step = i64::from(from) - i64::from(*first);
                }
                follows && i64::from(*first) + i64::from(self.len) * *step == i64::from(from)
            }
            _ => false,
        };
        self.len += u32::from(step);
        step
    }

    /// Moves the elements to a part of the target, which starts at `start`.
    fn copy(&self, source: &[f32], target: &mut [f32], start: usize) {
        let at = (self.to as usize).saturating_sub(start).min(target.len());
        let end = (at + self.len as usize).min(target.len());
        let target = &mut target[at..end];
        match self.from {
            Origin::Nowhere => target.fill(0.0),
            Origin::Source { first, step: 1 } => {
                let source = source.get(first as usize..).unwrap_or(&[]);
                let known = target.len().min(source.len());
                target[..known].copy_from_slice(&source[..known]);
                target[known..].fill(0.0);
            }
            Origin::Source { first, step } => {
                let mut from = i64::from(first);
                for place in target {
                    *place = usize::try_from(from).ok().and_then(|at| source.get(at)).copied().unwrap_or(0.0);
                    from += step;
                }
            }
        }
    }
}

/// Moves the elements of runs in ascending order, on the current rayon pool if `parallel`. Elements beyond the target's end
/// are left out; those beyond the source's are 0.
pub fn move_elements(runs: &[Run], source: &[f32], target: &mut [f32], parallel: bool) {
    let end = |run: &Run| run.to as usize + run.len as usize;
    let span = runs.last().map_or(0, end) - runs.first().map_or(0, |run| run.to as usize);
    if !parallel || span < 2 * GRAIN {
        runs.iter().for_each(|run| run.copy(source, target, 0));
        return;
    }
    let mut parts = Vec::with_capacity(span / GRAIN + 1);
    let (mut rest, mut start, mut left) = (target, 0, runs);
    while let Some(run) = left.first() {
        let until = run.to as usize + GRAIN;
        let own = left.partition_point(|run| (run.to as usize) < until);
        let (some, after) = left.split_at(own);
        let stop = some.last().map_or(start, end).clamp(start, start + rest.len());
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(stop - start);
        parts.push((some, part, start));
        (rest, start, left) = (behind, stop, after);
    }
    parts.into_par_iter().for_each(|(runs, part, start)| {
        runs.iter().for_each(|run| run.copy(source, part, start));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_at_equal_steps_are_one_run() {
        let pairs =
            [(3, Some(7)), (4, Some(8)), (5, Some(9)), (6, None), (7, None), (9, Some(40)), (10, Some(20))];
        let expected = [
            Run { to: 3, len: 3, from: Origin::Source { first: 7, step: 1 } },
            Run { to: 6, len: 2, from: Origin::Nowhere },
            Run { to: 9, len: 2, from: Origin::Source { first: 40, step: -20 } },
        ];
        assert_eq!(runs(pairs), expected);
    }

    #[test]
    fn threads_move_what_one_does() {
        let count = 5 * GRAIN as u32 + 77;
        let source: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
        for factor in [1, 31] {
            // Every third place is left as it is, every seventh becomes 0, and some pairs lie beyond the end.
            let pairs = (0..count).filter(|to| to % 3 != 0);
            let table = runs(pairs.map(|to| (to, (to % 7 != 0).then_some(to * factor % count))));
            let moved = |parallel| {
                let mut target = vec![-1.0; count as usize - 100];
                move_elements(&table, &source, &mut target, parallel);
                target
            };
            let expected: Vec<f32> = (0..count - 100)
                .map(|to| match to {
                    to if to % 3 == 0 => -1.0,
                    to if to % 7 == 0 => 0.0,
                    to => source[(to * factor % count) as usize],
                })
                .collect();
            assert_eq!(moved(false), expected);
            assert_eq!(moved(true), expected);
        }
    }
}
