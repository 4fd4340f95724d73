//! Reading ahead: inputs are read and prepared while what came before them is computed.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// The most threads that read. Each may hold a whole file while it prepares a small input of it.
const READERS: usize = 4;

/// Values that threads of their own make ahead of who takes them, in the order of what they are made of.
///
/// Reader `i` of `n` makes every `n`-th value from the `i`-th on, into a queue of its own, so that the queues in turn give
/// the values in their order. Readers stop when this is dropped, and when all is made; if one panics, the values end
/// there, and the panic is that of the scope.
#[derive(Debug)]
pub struct Ahead<T> {
    queues: Vec<Receiver<T>>,
    /// Whose turn it is.
    turn: usize,
}

impl<T: Send> Ahead<T> {
    /// Begins to make values of `items`, at most `limit` of them (at least one) ahead of those that were taken.
    pub fn new<'scope, I>(
        scope: &'scope Scope<'scope, '_>,
        items: I,
        limit: usize,
        make: impl Fn(I::Item) -> T + Clone + Send + 'scope,
    ) -> Ahead<T>
    where
        T: 'scope,
        I: Iterator + Clone + Send + 'scope,
    {
        let limit = limit.max(1);
        let readers = limit.min(rayon::current_num_threads()).clamp(1, READERS);
        let reader = |first: usize| {
            // One more is in the reader's hands.
            let (queue, values) = sync_channel(limit / readers - 1);
            let (own, make) = (items.clone().skip(first).step_by(readers), make.clone());
            scope.spawn(move || {
                for item in own {
                    if queue.send(make(item)).is_err() {
                        break;
                    }
                }
            });
            values
        };
        Ahead { queues: (0..readers).map(reader).collect(), turn: 0 }
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let value = self.queues.get(self.turn)?.recv().ok()?;
        self.turn = (self.turn + 1) % self.queues.len();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_come_in_order_and_no_more_are_alive_than_allowed() {
        /// Counts those that are alive, and the most that ever were.
        struct Value<'a>(usize, &'a [AtomicUsize; 2]);
        impl Drop for Value<'_> {
            fn drop(&mut self) {
                self.1[0].fetch_sub(1, SeqCst);
            }
        }
        for limit in [1, 2, 3, 4, 7] {
            let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
            thread::scope(|scope| {
                let make = |i: usize| {
                    let alive = counts[0].fetch_add(1, SeqCst) + 1;
                    counts[1].fetch_max(alive, SeqCst);
                    Value(i, &counts)
                };
                for (i, value) in Ahead::new(scope, 0..100, limit, make).enumerate() {
                    assert_eq!(value.0, i);
                    if i % 10 == 0 {
                        thread::sleep(Duration::from_millis(2)); // they come to fill their queues
                    }
                }
            });
            let (left, most) = (counts[0].load(SeqCst), counts[1].load(SeqCst));
            assert_eq!(left, 0);
            assert!(most <= limit + 1, "{most} of {limit}, and the one that was taken");
            assert!(limit == 1 || most > 1, "{most}: nothing was made ahead");
        }
    }

    #[test]
    fn readers_stop_when_nobody_takes_what_they_make() {
        let made = AtomicUsize::new(0);
        let taken: Vec<usize> = thread::scope(|scope| {
            let make = |i: usize| {
                made.fetch_add(1, SeqCst);
                i
            };
            Ahead::new(scope, 0..usize::MAX, 4, make).take(3).collect()
        });
        assert_eq!(taken, [0, 1, 2]);
        assert!(made.load(SeqCst) <= 3 + 4 + READERS);
    }

    #[test]
    fn a_panic_ends_the_values_and_the_scope() {
        let mut taken = Vec::new();
        let run = || {
            thread::scope(|scope| {
                let make = |i: usize| if i == 5 { panic!("five") } else { i };
                taken.extend(Ahead::new(scope, 0..100, 3, make));
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    }
}
