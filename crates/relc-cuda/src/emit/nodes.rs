//! Nodes that a program leaves to the interpreter, and that a GPU computes all the same: two copies and a wait cost it more.

use std::fmt::Write as _;

use relc_ir::op::{Relevance, Softmax, bilinear_shares, matched_axes};
use relc_ir::{NodeId, Op};
use relc_program::Step;

use super::{Emitter, Pointer, Table, argument, read, write};
use crate::code::Place;
use crate::error::CudaError;

impl Emitter<'_> {
    /// Whether the node of a step has kernels here, which are launched then.
    pub(super) fn node_alone(&mut self, step: &Step, node: NodeId) -> Result<bool, CudaError> {
        match &self.graph.node(node).op {
            Op::Softmax(softmax) => {
                let softmax = *softmax;
                self.softmax(step, node, softmax);
                Ok(true)
            }
            Op::Relevance(Relevance::Upsample { .. }) => self.upsample(step, node),
            _ => Ok(false),
        }
    }

    /// The sizes of a node's first operand and output, of one sample.
    fn sizes(&self, node: NodeId) -> [Vec<usize>; 2] {
        let operand = self.graph.operands(node).first().map(|value| self.graph.ty(*value).bind(1));
        [
            operand.unwrap_or_default(),
            self.graph.node(node).types().first().map(|ty| ty.bind(1)).unwrap_or_default(),
        ]
    }

    /// Each thread goes along the axis for its element: axes are short where a network has one inside.
    fn softmax(&mut self, step: &Step, node: NodeId, Softmax { axis, log }: Softmax) {
        let (x, y) = (step.reads[0], step.writes[0]);
        let [sizes, _] = self.sizes(node);
        let count = sizes.get(axis).copied().unwrap_or(1);
        let stride: usize = sizes.get(axis + 1..).unwrap_or_default().iter().product();
        let result = if log { "x[i] - most - (float)log(sum)" } else { "expf(x[i] - most) / (float)sum" };
        let statements = format!(
            "  const float *row = x + (i - i / {stride} % {count} * {stride});\n  float most = row[0];\n  \
             for (int k = 1; k < {count}; ++k) most = row[(Long)k * {stride}] > most ? row[(Long)k * {stride}] : most;\n  \
             double sum = 0.0;\n  for (int k = 0; k < {count}; ++k) sum += expf(row[(Long)k * {stride}] - most);\n  \
             y[i] = {result};\n"
        );
        self.each(self.len(y), vec![read("x", x), write("y", y)], &statements);
    }

    /// First each pixel's sum over the channels, then what the pixels of the other grid take of it: none if the grids don't
    /// match.
    fn upsample(&mut self, step: &Step, node: NodeId) -> Result<bool, CudaError> {
        let (r, y) = (step.reads[0], step.writes[0]);
        let [from, to] = self.sizes(node);
        let ([_, planes, from @ ..], [_, channels, to @ ..]) = (&from[..], &to[..]) else { return Ok(false) };
        let Some((from, to)) = matched_axes(from, to) else { return Ok(false) };
        let (pixels, plane): (usize, usize) = (from.iter().product(), to.iter().product());
        self.scratch = self.scratch.max(pixels * size_of::<f64>() / size_of::<f32>());
        let sums = || argument("sums", Pointer::Sums, Place::Scratch);
        let statements = format!(
            "  const float *at = r + i / {pixels} * {} + i % {pixels};\n  double sum = 0.0;\n  \
             for (int c = 0; c < {planes}; ++c) sum += at[(Long)c * {pixels}];\n  sums[i] = sum;\n",
            planes * pixels
        );
        self.each(pixels, vec![read("r", r), sums()], &statements);
        let mut arguments = vec![sums(), write("y", y)];
        let mut places = format!("  Long q = i % {plane};\n");
        let (mut loops, mut at, mut weight) = (String::new(), String::new(), String::from("1.0"));
        let mut stride = 1;
        // The innermost axis first: its pixels lie side by side.
        for (axis, (from, to)) in from.iter().zip(&to).enumerate().rev() {
            let (table, most) = self.shares(step, *from, *to)?;
            arguments.push(argument(format!("shares{axis}"), Pointer::Read, table));
            let _ = writeln!(
                places,
                "  const float *s{axis} = shares{axis} + q % {to} * {};\n  q /= {to};",
                2 * most
            );
            let _ = writeln!(loops, "  for (int k{axis} = 0; k{axis} < {most}; ++k{axis})");
            let _ = write!(at, " + (Long)s{axis}[2 * k{axis}] * {stride}");
            let _ = write!(weight, " * s{axis}[2 * k{axis} + 1]");
            stride *= from;
        }
        let statements = format!(
            "{places}  const double *own = sums + i / {} * {pixels};\n  double sum = 0.0;\n{loops}    sum += {weight} * \
             own[0{at}];\n  y[i] = (float)(sum / {channels});\n",
            channels * plane
        );
        self.each(channels * plane, arguments, &statements);
        Ok(true)
    }

    /// A table of what each of `to` pixels takes along an axis: so many pairs of a pixel and its share, those of 0 at the end.
    fn shares(&mut self, step: &Step, from: usize, to: usize) -> Result<(Place, usize), CudaError> {
        // A pixel's number is a constant of f32.
        if from >= 1 << f32::MANTISSA_DIGITS {
            return Err(self.unsupported(step, format!("an axis of {from} pixels")));
        }
        let taken = bilinear_shares(from, to);
        let most = taken.iter().map(Vec::len).max().unwrap_or(0);
        let pairs = taken.iter().flat_map(|taken| {
            let pair =
                |k: usize| taken.get(k).map_or([0.0; 2], |(pixel, share)| [*pixel as f32, *share as f32]);
            (0..most).flat_map(pair)
        });
        Ok((self.table(Table::Shares(from, to), pairs), most))
    }
}
