//! Convolutions: plans, and weights in the order in which they are read.

use std::collections::HashMap;
use std::sync::Arc;

use relc_ir::rule::WeightPart;
use relc_ir::{Values, Weight};
use relc_program::op::{Algorithm, ConvOp, Epilogue, WeightSource};
use relc_program::{Constant, Program, Step as Symbolic};

use super::Compiler;
use crate::bf16x6::{Bf16x6Plan, Bf16x6Weights};
use crate::conv::{ConvError, ConvPlan, PackedWeights};
use crate::error::EngineError;
use crate::step::{self, Action, ConvStep, Finish};
use crate::tile::Part;
use crate::winograd::{Form, Repair, WinogradPlan};

/// A plan whose packed weights serve all parts of them, and other plans that pack alike.
pub(super) trait Packs {
    /// What it packs to.
    type Packed;

    fn packs_like(&self, other: &Self) -> bool;
    fn pack(&self, weights: &[f32]) -> Result<Self::Packed, ConvError>;
    fn adopt(&self, packed: Values) -> Result<Self::Packed, ConvError>;
    fn values(packed: &Self::Packed) -> &Values;
}

macro_rules! packs {
    ($plan:ty, $packed:ty) => {
        impl Packs for $plan {
            type Packed = $packed;

            fn packs_like(&self, other: &Self) -> bool {
                self.packs_like(other)
            }
            fn pack(&self, weights: &[f32]) -> Result<$packed, ConvError> {
                self.pack(weights)
            }
            fn adopt(&self, packed: Values) -> Result<$packed, ConvError> {
                self.adopt(packed)
            }
            fn values(packed: &$packed) -> &Values {
                packed.values()
            }
        }
    };
}

packs!(ConvPlan, PackedWeights);
packs!(Bf16x6Plan, Bf16x6Weights);

/// Plans with the weights that they packed, by the weights' name and whether they are stored transposed.
pub(super) type Packed<P> = HashMap<(String, bool), Vec<(Arc<P>, Arc<<P as Packs>::Packed>)>>;

/// The plans of a convolution: of its plain sums, and of another algorithm that is chosen.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    direct: Arc<ConvPlan>,
    chosen: Option<Chosen>,
}

#[derive(Clone, Debug)]
enum Chosen {
    Winograd(Arc<WinogradPlan>),
    Bf16x6(Arc<Bf16x6Plan>),
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

/// The model's weights that what was packed gives back when they are read.
pub(super) fn unpacked(program: &Program, packed: &Packed<ConvPlan>) -> Vec<Weight> {
    let all = packed.iter().filter_map(|((name, transposed), alike)| {
        let Some(Constant::Weight(weight)) = program.constants.get(name) else { return None };
        let len = weight.ty().elements()?;
        let whole = |plan: &ConvPlan| plan.spec().weights_len() == Some(len) && plan.keeps_weights();
        let (plan, packed) = alike.iter().find(|(plan, _)| !transposed && whole(plan))?.clone();
        // It keeps what it packed.
        let unpack = move || plan.unpack(&packed).unwrap_or_default();
        weight.clone().with_data(Values::later(len, unpack)).ok()
    });
    all.collect()
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
        let algorithm = match planned.chosen {
            None => {
                let packed = self.packed(step, conv, &planned.direct, &weights, |known| &mut known.packed)?;
                step::Algorithm::Direct { plan: planned.direct, weights: packed, part }
            }
            Some(Chosen::Bf16x6(plan)) => {
                let packed = self.packed(step, conv, &plan, &weights, |known| &mut known.split)?;
                step::Algorithm::Bf16x6 { plan, weights: packed, part }
            }
            Some(Chosen::Winograd(plan)) => {
                let scratch =
                    step.scratch().ok_or_else(|| self.unsupported(step, "it has no memory to work in"))?;
                let repair = if conv.is_divisor_of_one_sign() {
                    let direct = planned.direct;
                    let packed = self.packed(step, conv, &direct, &weights, |known| &mut known.packed)?;
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
            Epilogue::Quotient { addend, floor, flag } => Finish::Quotient {
                relevance: slot(1)?,
                offset: constant()?,
                addend: if *addend { Some(slot(2)?) } else { None },
                floor: *floor,
                flag: *flag,
            },
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
        let not_computed = |what| self.unsupported(step, format!("{what} does not compute it"));
        let winograd = |form| {
            let plan = WinogradPlan::new(&conv.spec, conv.direction, &self.machine, form, &from, &to);
            let plan = plan.map_err(error)?.ok_or_else(|| not_computed("Winograd's algorithm"))?;
            Ok::<_, EngineError>(Some(Chosen::Winograd(Arc::new(plan))))
        };
        let chosen = match conv.algorithm {
            None | Some(Algorithm::Direct) => None,
            Some(Algorithm::Winograd2) => winograd(Form::Two)?,
            Some(Algorithm::Winograd4) => winograd(Form::Four)?,
            Some(Algorithm::Bf16x6) => {
                let plan = Bf16x6Plan::new(&conv.spec, conv.direction, &self.machine, &from, &to);
                let plan = plan.map_err(error)?.ok_or_else(|| not_computed("BF16x6"))?;
                Some(Chosen::Bf16x6(Arc::new(plan)))
            }
            Some(Algorithm::Gather | Algorithm::Gemm(..)) => {
                return Err(self.unsupported(step, "its algorithm is one of a GPU"));
            }
        };
        let planned = Planned { direct: Arc::new(direct.map_err(error)?), chosen };
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

    /// The weights of a plan, which are packed once for all plans of its kind that pack alike.
    fn packed<P: Packs>(
        &mut self,
        step: &Symbolic,
        conv: &ConvOp,
        plan: &Arc<P>,
        weights: &[f32],
        known: impl Fn(&mut Self) -> &mut Packed<P>,
    ) -> Result<Arc<P::Packed>, EngineError> {
        let error = |source| EngineError::Conv { node: step.origin.describe(), source: Box::new(source) };
        // One weight may serve two layers, as it is and transposed.
        let transposed = conv.weights.source == WeightSource::Transposed;
        let shared =
            step.constants.first().filter(|_| conv.has_weight() && part(conv.weights.form).is_some());
        let shared = shared.map(|name| (name.clone(), transposed));
        if let Some(key) = &shared
            && let Some(alike) = known(self).get(key)
            && let Some((_, packed)) = alike.iter().find(|(other, _)| other.packs_like(plan))
        {
            return Ok(packed.clone());
        }
        let packed = match self.store.next()? {
            Some(packed) => plan.adopt(packed),
            None => plan.pack(weights),
        };
        let packed = Arc::new(packed.map_err(error)?);
        self.store.keep(P::values(&packed));
        if let Some(key) = shared {
            known(self).entry(key).or_default().push((plan.clone(), packed.clone()));
        }
        Ok(packed)
    }
}
