//! What is summed over a sample: quotients with their losses, statistics, and the ledger.

use std::fmt::Write as _;

use relc_ir::rule::Condition;
use relc_program::op::{Denominator, QuotientStabiliser, Quotients, Vanishing};
use relc_program::{Step, ValueId};

use super::{Argument, Emitter, Pointer, argument, double, float, read, write};
use crate::code::{Booked, Grid, Place, Purpose};
use crate::error::CudaError;

/// Elements that a block sums at least, where several do.
const ELEMENTS: usize = 4096;
/// Blocks that sum a sample's elements at most.
const PARTS: usize = 64;

/// How many blocks sum so many elements.
fn parts(len: usize) -> u32 {
    len.div_ceil(ELEMENTS).clamp(1, PARTS) as u32
}

impl Emitter<'_> {
    /// The sums of the two ends, which are taken where no others are.
    pub(super) fn ends(&mut self) -> Result<(), CudaError> {
        let books =
            relc_program::books::Bookkeeper::new(self.graph, self.program).ok_or(CudaError::NoRelevance)?;
        let [seed, returned] = books.ends();
        let ends = self.program.ends;
        self.counted(Purpose::Ends, ends.seed, seed);
        self.first = std::mem::take(&mut self.actions);
        self.counted(Purpose::Ends, ends.relevance, returned);
        self.last = std::mem::take(&mut self.actions);
        Ok(())
    }

    fn counted(&mut self, purpose: Purpose, id: ValueId, of: relc_ir::ValueId) {
        let len = self.len(id);
        let blocks = parts(len);
        let sums = self.booking(blocks, purpose == Purpose::Ends, Booked::Stats(of));
        let body = format!(
            "  const Long sample = blockIdx.y;\n  const float *mine = x + sample * {len};\n  const double start[4] = NOTHING;\n  \
             reduce<4>(Shared({len}), start, sums + (sample * gridDim.x + blockIdx.x) * 4, [=](Long i, double *s) {{ count(s, \
             mine[i]); }}, join_counts);\n"
        );
        self.book(
            purpose,
            Grid::Sample { x: blocks },
            vec![read("x", id), argument("sums", Pointer::Sums, sums)],
            &body,
        );
    }

    pub(super) fn tally(&mut self, step: &Step, of: &[String]) -> Result<(), CudaError> {
        if let Some(value) = self.tallied(step, of)? {
            self.counted(Purpose::Ledger, step.reads[0], value);
        }
        Ok(())
    }

    pub(super) fn absorbed(&mut self, step: &Step, bias: bool) -> Result<(), CudaError> {
        let s = step.reads[0];
        let image = self.image(s);
        let (len, plane) = (self.len(s), image[1..].iter().product::<usize>());
        let blocks = parts(len);
        let sums = self.booking(blocks, false, Booked::Absorbed { node: self.node(step)?, bias });
        let by = argument("by", Pointer::Read, self.constant_of(step, 0)?);
        let body = format!(
            "  const Long sample = blockIdx.y;\n  const float *mine = x + sample * {len};\n  const double start[1] = {{0.0}};\n  \
             reduce<1>(Shared({len}), start, sums + sample * gridDim.x + blockIdx.x, [=](Long i, double *s) {{ s[0] += \
             (double)mine[i] * by[i / {plane}]; }}, join_sums<1>);\n"
        );
        let arguments = vec![read("x", s), by, argument("sums", Pointer::Sums, sums)];
        self.book(Purpose::Ledger, Grid::Sample { x: blocks }, arguments, &body);
        Ok(())
    }

    pub(super) fn stabilise(&mut self, step: &Step, factor: f64) {
        let (x, y) = (step.reads[0], step.writes[0]);
        let len = self.len(x);
        let body = format!(
            "  SHARED(double, sum, 1);\n  const Long sample = blockIdx.y;\n  const float *mine = x + sample * {len};\n  const \
             double start[1] = {{0.0}};\n  reduce<1>(Alone({len}), start, sum, [=](Long i, double *s) {{ s[0] += (double)mine[i] * \
             mine[i]; }}, join_sums<1>);\n  PHASE(THREADS)\n  if (t == 0) y[sample] = (float)({} * sqrt(sum[0] / {len}));\n  \
             END\n",
            double(factor)
        );
        self.launch(Grid::Sample { x: 1 }, vec![read("x", x), write("y", y)], &body);
    }

    pub(super) fn standardise(&mut self, step: &Step, runs: usize, epsilon: f64) {
        let (x, y) = (step.reads[0], step.writes[0]);
        let len = self.len(x);
        let run = len / runs.max(1);
        // A block sums all of a run, one after the other.
        let body = format!(
            "  SHARED(double, sum, 1);\n  const double start[1] = {{0.0}};\n  for (int row = blockIdx.x; row < {runs}; row += \
             gridDim.x) {{\n  const Long first = (Long)blockIdx.y * {len} + (Long)row * {run};\n  const float *mine = x + \
             first;\n  reduce<1>(Alone({run}), start, sum, [=](Long i, double *s) {{ s[0] += mine[i]; }}, join_sums<1>);\n  \
             const double mean = sum[0] / {run};\n  reduce<1>(Alone({run}), start, sum, [=](Long i, double *s) {{ s[0] += \
             (mine[i] - mean) * (mine[i] - mean); }}, join_sums<1>);\n  PHASE(THREADS)\n  const double factor = 1.0 / \
             sqrt(sum[0] / {run} + {});\n  for (Long i = t; i < {run}; i += THREADS) y[first + i] = (float)((mine[i] - mean) * \
             factor);\n  END\n  }}\n",
            double(epsilon)
        );
        let blocks = u32::try_from(runs.min(1024)).unwrap_or(1024).max(1);
        self.launch(Grid::Sample { x: blocks }, vec![read("x", x), write("y", y)], &body);
    }

    /// `s = R / den` of each part of a rule, with what the denominators lose.
    pub(super) fn quotients(&mut self, step: &Step, quotients: &Quotients) -> Result<(), CudaError> {
        let r = step.reads[0];
        let image = self.image(r);
        let (len, plane) = (self.len(r), image[1..].iter().product::<usize>());
        let mut arguments = vec![read("r", r)];
        let mut reads = step.reads.iter().skip(1).copied();
        let mut missing = || reads.next().ok_or_else(|| self.unsupported(step, "an operand is missing"));
        let mut next: Vec<ValueId> = Vec::new();
        if quotients.output {
            arguments.push(read("z", missing()?));
        }
        let given = quotients.stabiliser == QuotientStabiliser::Given;
        if given {
            arguments.push(read("eps", missing()?));
        }
        for denominator in quotients.parts.iter().filter_map(|part| part.denominator) {
            for _ in 0..denominator.tensors() {
                next.push(missing()?);
            }
        }
        let (mut tensors, mut constants) = (next.into_iter().enumerate(), 0..step.constants.len());
        let mut body = String::from("    const float rel = r[i];\n");
        // What no part passes on; and where no part's condition holds, R goes nowhere.
        let conditional = !quotients.lost && quotients.parts.iter().all(|part| part.on != Condition::Always);
        if quotients.lost {
            body.push_str("    float rest = rel;\n");
        } else if conditional {
            body.push_str("    float nowhere = rel;\n");
        }
        let (flag, floor) = match quotients.vanishing {
            Vanishing::Flat { flag, floor } => (Some(flag), Some(floor)),
            Vanishing::Clipped => (None, None),
        };
        for (number, part) in quotients.parts.iter().enumerate() {
            let holds = match part.on {
                Condition::Always => "true",
                Condition::PositiveOutput => "z[i] > 0.0f",
                Condition::NegativeOutput => "z[i] < 0.0f",
            };
            let _ = writeln!(
                body,
                "    {{\n    const bool holds = {holds};\n{}    const float share = holds ? rel * {} : 0.0f;",
                if conditional { "    if (holds) nowhere = 0.0f;\n" } else { "" },
                float(part.scale)
            );
            arguments.push(write(format!("s{number}"), step.writes[number]));
            let Some(denominator) = part.denominator else {
                let _ = writeln!(body, "    s{number}[i] = share;\n    }}");
                continue;
            };
            let [constant, biased] = denominator.constants();
            let mut terms: Vec<String> = Vec::new();
            match denominator {
                Denominator::Output { .. } => terms.push("z[i]".into()),
                Denominator::Sum { tensors: count, .. } => {
                    for (at, id) in tensors.by_ref().take(count) {
                        arguments.push(read(format!("den{at}"), id));
                        terms.push(format!("den{at}[i]"));
                    }
                }
            }
            let mut constant_of =
                |this: &mut Self, name: String, index: String| -> Result<String, CudaError> {
                    let at = constants.next().unwrap_or(usize::MAX);
                    let term = format!("{name}{index}");
                    let argument: Argument = argument(name, Pointer::Read, this.constant_of(step, at)?);
                    arguments.push(argument);
                    Ok(term)
                };
            if constant {
                terms.push(constant_of(self, format!("constant{number}"), format!("[i % {len}]"))?);
            }
            let bias = match biased {
                true => {
                    Some(constant_of(self, format!("bias{number}"), format!("[i / {plane} % {}]", image[0]))?)
                }
                false => None,
            };
            // The output has its bias in it.
            if let (Some(bias), Denominator::Sum { .. }) = (&bias, denominator) {
                terms.push(bias.clone());
            }
            if terms.is_empty() {
                terms.push("0.0f".into());
            }
            let eps = match quotients.stabiliser {
                QuotientStabiliser::None => "0.0f".to_string(),
                QuotientStabiliser::Plain(eps) => float(eps as f32),
                QuotientStabiliser::Signed(eps) => {
                    format!("den >= 0.0f ? {} : {}", float(eps as f32), float(-eps as f32))
                }
                QuotientStabiliser::Given => format!("den >= 0.0f ? eps[i / {len}] : -eps[i / {len}]"),
            };
            let vanishes = match (floor, quotients.stabiliser) {
                (Some(floor), _) => format!("fabsf(d) < {}", float(floor)),
                // A signed stabiliser leaves no denominator at 0.
                (None, QuotientStabiliser::Signed(_)) => "false".into(),
                (None, _) => "d == 0.0f".into(),
            };
            let _ = writeln!(
                body,
                "    const float den = {};\n    const float eps_ = {eps};\n    const float d = den + eps_;\n    const bool \
                 vanishes = {vanishes};\n    const float q = vanishes ? 0.0f : share / d;\n    s{number}[i] = q;",
                terms.join(" + ")
            );
            let bias = bias.unwrap_or_else(|| "0.0f".into());
            if quotients.lost {
                let _ = writeln!(body, "    rest -= q * (den - {bias});");
            } else {
                let clip = if floor.is_some() { "fabsf(share)" } else { "share" };
                let _ = writeln!(
                    body,
                    "    s[0] += (double)q * {bias};\n    s[1] += (double)q * eps_;\n    if (vanishes) s[2] += {clip};"
                );
            }
            body.push_str("    }\n");
        }
        if quotients.lost {
            let last = *step.writes.last().ok_or_else(|| self.unsupported(step, "an output is missing"))?;
            arguments.push(write("lost", last));
            body.push_str("    lost[i] = rest;\n");
        } else if conditional {
            body.push_str("    s[2] += nowhere;\n");
        }
        let blocks = parts(len);
        let booked = Booked::Quotients { node: self.node(step)?, spread: flag.is_some() };
        let sums = self.booking(blocks, false, booked);
        arguments.push(argument("sums", Pointer::Sums, sums));
        let raise = match flag {
            Some(flag) => {
                arguments.push(argument("flags", Pointer::Flags, Place::Flag(flag)));
                "  PHASE(THREADS)\n  if (t == 0 && out[2] > 0.0) flags[sample] = 1;\n  END\n"
            }
            None => "",
        };
        let body = format!(
            "  const Long sample = blockIdx.y;\n  double *out = sums + (sample * gridDim.x + blockIdx.x) * 3;\n  const double \
             start[3] = {{0.0, 0.0, 0.0}};\n  reduce<3>(Shared({len}), start, out, [=](Long at, double *s) {{\n    const Long i = \
             sample * {len} + at;\n{body}  }}, join_sums<3>);\n{raise}"
        );
        self.launch(Grid::Sample { x: blocks }, arguments, &body);
        Ok(())
    }
}
