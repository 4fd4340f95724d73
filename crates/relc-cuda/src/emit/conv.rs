//! Convolutions with their epilogues.

use std::fmt::Write as _;

use relc_ir::rule::WeightPart;
use relc_program::Step;
use relc_program::conv::Direction;
use relc_program::op::{Algorithm, ConvOp, Epilogue, Precision, WeightSource, Weights};

use super::geometry::{of_group, phases, transposed};
use super::{Argument, Emitter, Pointer, argument, flat, float, read, write};
use crate::code::{Grid, Place};
use crate::error::CudaError;

/// Residues of strides that have kernels of their own at most.
const MAX_PHASES: usize = 16;

impl Emitter<'_> {
    pub(super) fn conv(&mut self, step: &Step, conv: &ConvOp) -> Result<(), CudaError> {
        let (x, y) = (step.reads[0], step.writes[0]);
        let (from, to) = (self.image(x), self.image(y));
        let large = match conv.direction {
            Direction::Forward => from,
            Direction::Transposed => to,
        };
        let axes = conv.spec.axes(conv.direction, [large[1], large[2], large[3]]);
        let axes = axes.map_err(|source| self.unsupported(step, source.to_string()))?;
        let tile = match conv.algorithm {
            None | Some(Algorithm::Gather) => None,
            Some(Algorithm::Gemm(tile, precision)) => Some((tile.side(), precision)),
            Some(other) => return Err(self.unsupported(step, format!("{other:?} is no algorithm of a GPU"))),
        };
        let ([_, produced], groups) = (of_group(&conv.spec, conv.direction), conv.spec.groups);
        let residues = axes.iter().fold(1usize, |all, axis| all.saturating_mul(axis.phases.len()));
        if residues > MAX_PHASES {
            let mut arguments = vec![read("x", x)];
            let weight = self.weight(step, conv, &mut arguments)?;
            let finish = self.finish(step, conv, &mut arguments)?;
            arguments.push(write("y", y));
            let g = transposed(&conv.spec, conv.weights.source, [from, to]);
            let body = format!("{g}  conv_transposed<G>(x, n, {weight}, {finish});\n");
            self.launch(flat(self.len(y)), arguments, &body);
            return Ok(());
        }
        for phase in phases(&conv.spec, conv.direction, conv.weights.source, [from, to], &axes) {
            let mut arguments = vec![read("x", x)];
            let weight = self.weight(step, conv, &mut arguments)?;
            let finish = self.finish(step, conv, &mut arguments)?;
            arguments.push(write("y", y));
            // A phase without taps has nothing to sum.
            let (grid, call) = match tile.filter(|_| phase.taps > 0) {
                Some((tile, precision)) => {
                    let rows = u32::try_from(produced.div_ceil(tile as usize)).unwrap_or(u32::MAX);
                    let layers = u32::try_from(groups).unwrap_or(u32::MAX);
                    let grid = Grid::Flat { items: phase.outputs as u64, of: tile, y: rows, z: layers };
                    let call = match precision {
                        Precision::F32 => format!("conv_gemm<G, {tile}>"),
                        Precision::Tf32 => format!("conv_tensor<G, {tile}, 1>"),
                        Precision::Tf32x3 => format!("conv_tensor<G, {tile}, 3>"),
                    };
                    (grid, call)
                }
                None => (flat(produced * groups * phase.outputs), "conv_direct<G>".to_string()),
            };
            let body = format!("{}  {call}(x, n, {weight}, {finish});\n", phase.text);
            self.launch(grid, arguments, &body);
        }
        Ok(())
    }

    /// What a weight is multiplied as, by where it lies.
    fn weight(
        &mut self,
        step: &Step,
        conv: &ConvOp,
        arguments: &mut Vec<Argument>,
    ) -> Result<String, CudaError> {
        let Weights { source, form, gamma } = conv.weights;
        let known = match (source, form) {
            (WeightSource::Tap(weight), _) => Some(form.of(f64::from(weight), gamma) as f32),
            (_, WeightPart::Ones) => Some(1.0),
            _ => None,
        };
        if let Some(known) = known {
            return Ok(format!("[=](Long) {{ return {}; }}", float(known)));
        }
        arguments.push(argument("w", Pointer::Read, self.constant_of(step, 0)?));
        let gamma = float(gamma as f32);
        let of = match form {
            WeightPart::Raw => "v".to_string(),
            WeightPart::Positive => "positive(v)".into(),
            WeightPart::Negative => "negative(v)".into(),
            WeightPart::Square => "v * v".into(),
            WeightPart::Ones => float(1.0),
            WeightPart::GammaPositive => format!("fmaf({gamma}, positive(v), v)"),
            WeightPart::GammaNegative => format!("fmaf({gamma}, negative(v), v)"),
        };
        Ok(format!("[=](Long at) {{ const float v = w[at]; return {of}; }}"))
    }

    /// What is done with a sum.
    fn finish(
        &mut self,
        step: &Step,
        conv: &ConvOp,
        arguments: &mut Vec<Argument>,
    ) -> Result<String, CudaError> {
        let weights = usize::from(conv.has_weight());
        let mut body = String::new();
        match &conv.epilogue {
            Epilogue::None => body.push_str(" y[i] = v;"),
            Epilogue::Activate { bias, residual, joined, relu } => {
                if *bias {
                    arguments.push(argument("bias", Pointer::Read, self.constant_of(step, weights)?));
                    body.push_str(" v += bias[c];");
                }
                let target = match (joined, step.writes.get(1)) {
                    (true, Some(second)) => {
                        arguments.push(write("joined", *second));
                        body.push_str(" y[i] = v;");
                        "joined"
                    }
                    _ => "y",
                };
                if *residual {
                    arguments.push(read("residual", step.reads[1]));
                    body.push_str(" v += residual[i];");
                }
                let _ = write!(body, " {target}[i] = {};", if *relu { "positive(v)" } else { "v" });
            }
            Epilogue::Quotient { addend, floor, flag } => {
                arguments.push(read("r", step.reads[1]));
                if *addend {
                    arguments.push(read("addend", step.reads[2]));
                    body.push_str(" v += addend[i];");
                }
                arguments.push(argument("offset", Pointer::Read, self.constant_of(step, weights)?));
                let raise = match flag {
                    Some(flag) => {
                        arguments.push(argument("flags", Pointer::Flags, Place::Flag(*flag)));
                        " if (!divides && q != 0.0f) flags[sample] = 1;"
                    }
                    None => "",
                };
                let _ = write!(
                    body,
                    " v += offset[c]; const float q = r[i]; const bool divides = fabsf(v) > {}; y[i] = divides ? q / v : \
                     0.0f;{raise}",
                    float(*floor)
                );
            }
            Epilogue::Product { factor, addends, .. } => {
                let first = 1 + usize::from(*factor);
                if *factor {
                    arguments.push(read("factor", step.reads[1]));
                    body.push_str(" v *= factor[i];");
                }
                for (at, id) in step.reads.iter().skip(first).take(*addends).enumerate() {
                    arguments.push(read(format!("addend{at}"), *id));
                    let _ = write!(body, " v += addend{at}[i];");
                }
                body.push_str(" y[i] = v;");
            }
        }
        let named =
            |name: &str, with: &str| if body.contains(with) { name.to_string() } else { String::new() };
        Ok(format!(
            "[=](float v, int {}, Long i, int {}) {{{body} }}",
            named("c", "[c]"),
            named("sample", "[sample]")
        ))
    }
}
