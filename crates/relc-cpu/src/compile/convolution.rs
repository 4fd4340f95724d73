//! Convolutions: plans, and weights in the order in which they are read.

use std::sync::Arc;

use relc_ir::rule::WeightPart;
use relc_program::Step as Symbolic;
use relc_program::op::{Algorithm, ConvOp, Epilogue, WeightSource};

use super::Compiler;
use crate::conv::{ConvPlan, PackedWeights};
use crate::error::EngineError;
use crate::step::{self, Action, ConvStep, Finish};
use crate::tile::Part;
use crate::winograd::{Form, Repair, WinogradPlan};

/// A plan and the weights that it packed, or that another one packed alike.
pub(super) type Packed = (Arc<ConvPlan>, Arc<PackedWeights>);

/// The plans of a convolution: of its sums, and by Winograd's algorithm if that is chosen.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    direct: Arc<ConvPlan>,
    winograd: Option<Arc<WinogradPlan>>,
}

/// The part of packed weights that is a form of them; none for forms that have weights of their own.
fn part(form: WeightPart) -> Option<Part> {
    match form {
        WeightPart::Raw => Some(Part::Raw),
        WeightPart::Positive => Some(Part::Positive),
        WeightPart::Negative => Some(Part::Negative),
        _ => None,
    }
}

impl Compiler<'_> {
    pub(super) fn convolution(&mut self, step: &Symbolic, conv: &ConvOp) -> Result<Action, EngineError> {
        let error = |source| EngineError::Conv { node: step.origin.describe(), source: Box::new(source) };
        let planned = self.planned(step, conv)?;
        let part = part(conv.weights.form).unwrap_or(Part::Raw);
        // What was packed at another time needs no weights.
        let weights = match self.store.is_given() {
            true => Vec::new(),
            false => self.weights(step, conv)?,
        };
        let flops = planned.direct.flops();
        let algorithm = match planned.winograd {
            None => {
                let (plan, weights) = self.packed(step, conv, planned.direct, &weights)?;
                step::Algorithm::Direct { plan, weights, part }
            }
            Some(plan) => {
                let scratch =
                    step.scratch().ok_or_else(|| self.unsupported(step, "it has no memory to work in"))?;
                let repair = if conv.is_divisor_of_one_sign() {
                    let (direct, packed) = self.packed(step, conv, planned.direct, &weights)?;
                    let repair = match self.store.next()? {
                        Some(bounds) => Repair::adopt(&plan, direct, packed, part, bounds),
                        None => Repair::new(&plan, direct, packed, &weights, part),
                    };
                    let repair = repair.map_err(error)?;
                    self.store.keep(repair.bounds());
                    Some(Arc::new(repair))
                } else {
                    None
                };
                let weights = match self.store.next()? {
                    Some(packed) => plan.adopt(packed),
                    None => plan.pack(&weights, part),
                };
                let weights = Arc::new(weights.map_err(error)?);
                self.store.keep(weights.values());
                step::Algorithm::Winograd { plan, weights, scratch: self.slot(scratch)?, repair }
            }
        };
        let (input, output) = (self.slot(step.reads[0])?, self.slot(step.writes[0])?);
        let finish = self.finish(step, conv)?;
        let joined = match &conv.epilogue {
            Epilogue::Activate { joined: true, .. } => Some(self.slot(step.writes[1])?),
            _ => None,
        };
        let mut tallies = Vec::new();
        for of in step.op.tallies() {
            tallies.push(self.tallied_if_any(step, of)?);
        }
        Ok(Action::Conv(Box::new(ConvStep { algorithm, flops, input, output, finish, joined, tallies })))
    }

    fn finish(&self, step: &Symbolic, conv: &ConvOp) -> Result<Finish, EngineError> {
        let slot = |at: usize| self.slot(step.reads[at]);
        let constant = || match step.epilogue_constant() {
            Some(name) => self.values(step, name),
            None => Err(self.unsupported(step, "a constant is missing")),
        };
        Ok(match &conv.epilogue {
            Epilogue::None => Finish::None,
            Epilogue::Activate { bias, residual, relu, .. } => Finish::Activate {
                bias: if *bias { Some(constant()?) } else { None },
                residual: if *residual { Some(slot(1)?) } else { None },
                relu: *relu,
            },
            Epilogue::Quotient { floor, flag } => {
                Finish::Quotient { relevance: slot(1)?, offset: constant()?, floor: *floor, flag: *flag }
            }
            Epilogue::Product { factor, addends, .. } => {
                let first = 1 + usize::from(*factor);
                Finish::Product {
                    factor: if *factor { Some(slot(1)?) } else { None },
                    addends: (first..first + addends).map(slot).collect::<Result<_, _>>()?,
                }
            }
        })
    }

    fn planned(&mut self, step: &Symbolic, conv: &ConvOp) -> Result<Planned, EngineError> {
        if let Some(known) = step.kernel.and_then(|number| self.plans.get(&number)) {
            return Ok(known.clone());
        }
        let error = |source| EngineError::Conv { node: step.origin.describe(), source: Box::new(source) };
        let (from, to) = (self.layout(step.reads[0])?, self.layout(step.writes[0])?);
        let direct = ConvPlan::new(&conv.spec, conv.direction, &self.machine, &from, &to);
        let form = match conv.algorithm {
            None | Some(Algorithm::Direct) => None,
            Some(Algorithm::Winograd2) => Some(Form::Two),
            Some(Algorithm::Winograd4) => Some(Form::Four),
        };
        let winograd = match form {
            None => None,
            Some(form) => {
                let plan = WinogradPlan::new(&conv.spec, conv.direction, &self.machine, form, &from, &to);
                let plan = plan
                    .map_err(error)?
                    .ok_or_else(|| self.unsupported(step, "Winograd's algorithm does not compute it"))?;
                Some(Arc::new(plan))
            }
        };
        let planned = Planned { direct: Arc::new(direct.map_err(error)?), winograd };
        if let Some(number) = step.kernel {
            self.plans.insert(number, planned.clone());
        }
        Ok(planned)
    }

    /// The weights of a convolution as `f32[M,C/groups,kD,kH,kW]`, of which it uses a [`part`] or all.
    fn weights(&self, step: &Symbolic, conv: &ConvOp) -> Result<Vec<f32>, EngineError> {
        let (form, gamma) = (conv.weights.form, conv.weights.gamma);
        let stored = |at: usize| self.values(step, step.constants.get(at).map_or("", String::as_str));
        let weights: Vec<f32> = match conv.weights.source {
            WeightSource::Constant => stored(0)?.to_vec(),
            WeightSource::Transposed => {
                let (data, k, m) = (stored(0)?, conv.spec.channels_in, conv.spec.channels_out);
                (0..m * k).map(|i| data.get(i % k * m + i / k).copied().unwrap_or(0.0)).collect()
            }
            WeightSource::Tap(tap) => vec![tap; conv.spec.weights_len().unwrap_or(0)],
        };
        Ok(match part(form) {
            Some(_) => weights,
            None => weights.iter().map(|w| form.of(f64::from(*w), gamma) as f32).collect(),
        })
    }

    /// A direct plan with its weights, which are packed once for all plans that pack alike.
    fn packed(
        &mut self,
        step: &Symbolic,
        conv: &ConvOp,
        plan: Arc<ConvPlan>,
        weights: &[f32],
    ) -> Result<Packed, EngineError> {
        let error = |source| EngineError::Conv { node: step.origin.describe(), source: Box::new(source) };
        // One weight may serve two layers, as it is and transposed.
        let transposed = conv.weights.source == WeightSource::Transposed;
        let shared =
            step.constants.first().filter(|_| conv.has_weight() && part(conv.weights.form).is_some());
        let shared = shared.map(|name| (name.clone(), transposed));
        let known = shared.as_ref().and_then(|key| self.packed.get(key)).into_iter().flatten();
        let known =
            known.filter(|(other, _)| other.packs_like(&plan)).map(|(_, packed)| packed.clone()).next();
        let packed = match known {
            Some(packed) => packed,
            None => {
                let packed = match self.store.next()? {
                    Some(packed) => plan.adopt(packed),
                    None => plan.pack(weights),
                };
                let packed = Arc::new(packed.map_err(error)?);
                self.store.keep(packed.values());
                packed
            }
        };
        if let Some(key) = shared {
            self.packed.entry(key).or_default().push((plan.clone(), packed.clone()));
        }
        Ok((plan, packed))
    }
}
