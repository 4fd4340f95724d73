//! Pools, and what is spread over windows.

use relc_ir::op::{AveragePool, MaxPool};
use relc_program::Step;
use relc_program::op::Flat;

use super::geometry::window;
use super::{Emitter, Pointer, argument, read, write};
use crate::code::{Booked, Grid, Place};
use crate::error::CudaError;

impl Emitter<'_> {
    /// Pixels of a channel of what a pool reads and of what it writes.
    fn planes(&self, step: &Step) -> [usize; 2] {
        [step.reads[0], step.writes[0]].map(|id| self.image(id)[1..].iter().product())
    }

    pub(super) fn max_pool(&mut self, step: &Step, pool: &MaxPool) -> Result<(), CudaError> {
        let (x, y) = (step.reads[0], step.writes[0]);
        let [from, to] = self.planes(step);
        let g = window(&pool.window, [self.image(x), self.image(y)]);
        let statements = format!(
            "{g}  const float *plane = x + i / {to} * {from};\n  int best = -1;\n  visit_taps<G>((int)(i % {to}), [&](int \
             at) {{ if (best < 0 || plane[at] > plane[best]) best = at; }});\n  y[i] = best < 0 ? -(float)INFINITE : \
             plane[best];\n"
        );
        self.each(self.len(y), vec![read("x", x), write("y", y)], &statements);
        Ok(())
    }

    pub(super) fn average_pool(&mut self, step: &Step, pool: &AveragePool) -> Result<(), CudaError> {
        let (x, y) = (step.reads[0], step.writes[0]);
        let [from, to] = self.planes(step);
        let g = window(&pool.window, [self.image(x), self.image(y)]);
        let divisor = if pool.count_include_pad { "padded_taps" } else { "taps_under" };
        let statements = format!(
            "{g}  const float *plane = x + i / {to} * {from};\n  double sum = 0.0;\n  \
             visit_taps<G>((int)(i % {to}), [&](int at) {{ sum += plane[at]; }});\n  \
             const int divisor = {divisor}<G>((int)(i % {to}));\n  y[i] = divisor ? (float)(sum / divisor) : 0.0f;\n"
        );
        self.each(self.len(y), vec![read("x", x), write("y", y)], &statements);
        Ok(())
    }

    /// First which input won each window, then what each input won.
    pub(super) fn winner(&mut self, step: &Step, pool: &MaxPool) -> Result<(), CudaError> {
        let (r, x, y) = (step.reads[0], step.reads[1], step.writes[0]);
        let [windows, pixels] = [r, x].map(|id| self.image(id)[1..].iter().product::<usize>());
        let g = window(&pool.window, [self.image(x), self.image(r)]);
        self.scratch = self.scratch.max(self.len(r));
        let winners = || argument("winners", Pointer::Words, Place::Scratch);
        let find = format!(
            "{g}  const float *plane = x + i / {windows} * {pixels};\n  int best = -1;\n  \
             visit_taps<G>((int)(i % {windows}), [&](int at) {{ if (best < 0 || plane[at] > plane[best]) best = at; }});\n  \
             winners[i] = best;\n"
        );
        self.each(self.len(r), vec![read("x", x), winners()], &find);
        let gather = format!(
            "{g}  const Long first = i / {pixels} * {windows};\n  const int at = (int)(i % {pixels});\n  float sum = 0.0f;\n  \
             visit_windows<G>(at, [&](int window) {{ if (winners[first + window] == at) sum += r[first + window]; }});\n  \
             y[i] = sum;\n"
        );
        self.each(self.len(y), vec![read("r", r), winners(), write("y", y)], &gather);
        Ok(())
    }

    pub(super) fn spread(&mut self, step: &Step, flat: &Flat) -> Result<(), CudaError> {
        let (r, s, y) = (step.reads[0], step.reads[1], step.writes[0]);
        let (from, to) = (self.image(y), self.image(r));
        let g = window(&flat.window, [from, to]);
        let booked = Booked::Spread {
            node: self.node(step)?,
            joins: self.tallied(step, &flat.tally)?,
            whole: self.tallied(step, &flat.whole)?,
        };
        let width = booked.width();
        let sums = self.booking(1, false, booked);
        let [inputs, outputs] = [from[0], to[0]].map(|channels| channels / flat.groups);
        let (len, out) = (self.len(r), self.len(y));
        let shares = flat.groups * to[1..].iter().product::<usize>();
        self.scratch = self.scratch.max(shares * size_of::<f64>() / size_of::<f32>());
        let body = format!(
            "{g}  const int sample = blockIdx.y;\n  spread<G, {}, {inputs}, {outputs}>(r + (Long)sample * {len}, s + \
             (Long)sample * {len}, y + (Long)sample * {out}, flags[sample], shares + (Long)sample * {shares}, sums + \
             (Long)sample * {width});\n",
            flat.groups
        );
        let arguments = vec![
            read("r", r),
            read("s", s),
            write("y", y),
            argument("flags", Pointer::Flags, Place::Flag(flat.flag)),
            argument("shares", Pointer::Sums, Place::Scratch),
            argument("sums", Pointer::Sums, sums),
        ];
        self.launch(Grid::Sample { x: 1 }, arguments, &body);
        Ok(())
    }
}
