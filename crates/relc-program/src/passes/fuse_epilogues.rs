//! `fuse-epilogues`: what is done to each element of a convolution's sums is done before they are stored.
//!
//! ```text
//! %1 = sigmoid %0            =>   %2 = swish %0
//! %2 = mul %0, %1
//!
//! %1 = conv %0               =>   %2 = conv %0, epilogue=activate, relu=yes
//! %2 = relu %1
//!
//! %1 = conv %0               =>   %2 = conv %0, %r, epilogue=quotient
//! %2 = quotients %r, %1
//!
//! %2 = conv %1               =>   %3 = conv %1, %r, %0, epilogue=quotient, addend=yes
//! %3 = quotients %r, %0, %2
//!
//! %1 = conv.transposed %s    =>   %2 = conv.transposed %s, %a, epilogue=product
//! %2 = mul %a, %1
//!
//! %2 = sum %0, %1            =>   %2 = conv.transposed %s, %a, %0, epilogue=product, addends=1
//!
//! %1 = conv %0               =>   %1, %2 = conv %0, %skip, epilogue=activate, residual=yes, joined=yes, relu=yes
//! %2 = sum %1, %skip, relu
//! ```
//! An affine map, a sum or a product takes the positive part of its result in the same way. At a fork, what the backward
//! convolution sends back joins what the other branches sent, in its epilogue; the ledger's sums of its own part and of the
//! whole are taken there too. At a join, the second convolution writes its own output, which the split of the relevance reads, and the sum.
//!
//! The fused step stands where the later of both stood. A value that something else reads stays.

use relc_ir::op::{Activation, Arithmetic};
use relc_ir::remark::Remarks;
use relc_ir::rule::{Condition, WeightPart};

use super::ProgramPass;
use crate::conv::Direction;
use crate::error::ProgramError;
use crate::op::{
    ConvOp, Denominator, Epilogue, Exactness, MAX_ADDENDS, ProductSigns, QuotientPart, QuotientStabiliser,
    Quotients, StepOp, Vanishing, WeightSource,
};
use crate::program::{Constant, Program, Step, ValueId};
use crate::uses::Uses;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FuseEpilogues;

impl ProgramPass for FuseEpilogues {
    fn name(&self) -> &'static str {
        "fuse-epilogues"
    }

    fn description(&self) -> &'static str {
        "do elementwise work before the sums of convolutions are stored"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        for fusion in [self_gate, positive_part, residual, quotient, product, addend, sums] {
            let mut fuser = Fuser::new(program);
            let count = fuser.steps.len();
            for at in 0..count {
                let before = fuser.described(at);
                match fusion(&mut fuser, at) {
                    // A step that became part of an earlier one is not there any more.
                    Ok(Some(what)) if fuser.steps[at].is_empty() => remarks.applied(before, what),
                    Ok(Some(what)) => remarks.applied(fuser.described(at), what),
                    Ok(None) => {}
                    Err(reason) => remarks.missed(fuser.described(at), reason),
                }
            }
            fuser.finish();
        }
        Ok(())
    }
}

/// A fusion at a step: what was done; nothing where there is nothing to fuse; or why not.
type Fusion = Result<Option<String>, String>;

/// The steps of a program while some are fused into others.
struct Fuser<'p> {
    program: &'p mut Program,
    forward: usize,
    /// The steps; none where one became part of another, several where one became some.
    steps: Vec<Vec<Step>>,
    uses: Uses,
}

impl<'p> Fuser<'p> {
    fn new(program: &'p mut Program) -> Self {
        let uses = Uses::of_program(program);
        let forward = program.forward.len();
        let steps =
            std::mem::take(&mut program.forward).into_iter().chain(std::mem::take(&mut program.backward));
        let steps = steps.map(|step| vec![step]).collect();
        Fuser { program, forward, steps, uses }
    }

    fn finish(self) {
        for (at, steps) in self.steps.into_iter().enumerate() {
            let half = if at < self.forward { &mut self.program.forward } else { &mut self.program.backward };
            half.extend(steps);
        }
    }

    fn described(&self, at: usize) -> String {
        self.steps[at].first().map(|step| step.origin.describe()).unwrap_or_default()
    }

    /// The step at a place, if none was fused there.
    fn at(&self, at: usize) -> Option<&Step> {
        match &self.steps[at][..] {
            [step] => Some(step),
            _ => None,
        }
    }

    /// The place of the step that writes a value which nobody but the step at `at` reads.
    fn feeds(&self, value: ValueId, at: usize) -> Option<usize> {
        let alone = self.uses.only_reader(value) == Some(at) && !self.program.is_end(value);
        self.uses.only_writer(value).filter(|writer| alone && *writer < at)
    }

    /// The convolution at a place, if nothing is fused into it yet.
    fn bare(&self, at: usize, direction: Direction) -> Option<(&Step, &ConvOp)> {
        let step = self.at(at)?;
        match &step.op {
            StepOp::Conv(conv) if conv.is_bare() && conv.direction == direction => Some((step, conv)),
            _ => None,
        }
    }

    /// Whether a value is sums of products of which none is negative.
    fn is_non_negative(&self, value: ValueId) -> bool {
        let writer = self.uses.only_writer(value).and_then(|writer| self.at(writer));
        let op = writer.map(|step| &step.op);
        matches!(op, Some(StepOp::Conv(conv)) if conv.is_bare() && conv.signs == ProductSigns::NonNegative)
    }

    /// Puts a step in place of two.
    fn fuse(&mut self, before: usize, at: usize, fused: Vec<Step>) {
        self.steps[before].clear();
        self.steps[at] = fused;
    }
}

/// `x * f(x)`: an activation as exporters write it.
fn self_gate(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(step) = f.at(at) else { return Ok(None) };
    let (StepOp::Binary { op: Arithmetic::Mul, relu: false }, &[a, b]) = (&step.op, &step.reads[..]) else {
        return Ok(None);
    };
    for (x, gate) in [(a, b), (b, a)] {
        let Some(writer) = f.uses.only_writer(gate) else { continue };
        let Some(Step { op: StepOp::Activation(function), reads, .. }) = f.at(writer) else { continue };
        let whole = match *function {
            Activation::Sigmoid => Activation::Swish { alpha: 1.0 },
            Activation::HardSigmoid { alpha, beta } if is_sixth(alpha) && beta == 0.5 => {
                Activation::HardSwish
            }
            _ => continue,
        };
        if reads[..] != [x] {
            continue;
        }
        if f.feeds(gate, at).is_none() {
            return Err(format!("{gate} is read by others too"));
        }
        let mut fused = step.clone();
        (fused.op, fused.reads) = (StepOp::Activation(whole), vec![x]);
        f.fuse(writer, at, vec![fused]);
        return Ok(Some("takes the gate of the same value in one step".into()));
    }
    Ok(None)
}

/// Whether a slope is 1/6, as f64 or as f32 has it.
fn is_sixth(alpha: f64) -> bool {
    alpha as f32 == 1.0 / 6.0
}

/// The positive part of what a step writes.
fn positive_part(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(Step { op: StepOp::Activation(Activation::Relu), reads, writes, .. }) = f.at(at) else {
        return Ok(None);
    };
    let (&[x], &[y]) = (&reads[..], &writes[..]) else { return Ok(None) };
    let Some(writer) = f.uses.only_writer(x) else { return Ok(None) };
    let Some(mut step) = f.at(writer).cloned() else { return Ok(None) };
    let alone = f.feeds(x, at).is_some();
    match &mut step.op {
        StepOp::Conv(conv) => {
            let bias = match conv.epilogue {
                Epilogue::None => false,
                Epilogue::Activate { bias, residual: false, joined: false, relu: false } => bias,
                _ => return Ok(None),
            };
            conv.epilogue = Epilogue::Activate { bias, residual: false, joined: !alone, relu: true };
            if !alone && f.uses.readers(x).iter().all(|reader| *reader >= at) {
                step.writes = vec![x, y];
                f.fuse(writer, at, vec![step]);
                return Ok(Some(
                    "takes the positive part of a convolution's sums, and keeps the sums".into(),
                ));
            }
        }
        StepOp::Affine { relu } | StepOp::Binary { relu, .. } | StepOp::Sum { relu } => *relu = true,
        _ => return Ok(None),
    }
    if !alone {
        return Err(format!("{x} is read by others too, so that its positive part is another value"));
    }
    step.writes = vec![y];
    f.fuse(writer, at, vec![step]);
    Ok(Some("takes the positive part of what the step before it writes, in that step".into()))
}

/// `s = R / den` of a convolution's sums.
fn quotient(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(step) = f.at(at) else { return Ok(None) };
    let StepOp::Quotients(quotients) = &step.op else { return Ok(None) };
    let Quotients { parts, stabiliser, vanishing, output: false, lost } = &**quotients else {
        return Ok(None);
    };
    let [QuotientPart { scale, on, denominator: Some(denominator) }] = &parts[..] else { return Ok(None) };
    let Denominator::Sum { tensors: tensors @ 1..=2, constant: false, biased } = *denominator else {
        return Ok(None);
    };
    let (Some(&r), Some(&z), &[s, ..]) = (step.reads.first(), step.reads.last(), &step.writes[..]) else {
        return Ok(None);
    };
    if f.uses.only_writer(z).is_none_or(|writer| f.bare(writer, Direction::Forward).is_none()) {
        return Ok(None);
    }
    // The last of two sums takes the other.
    let addend = if tensors == 2 { step.reads.get(step.reads.len() - 2).copied() } else { None };
    let Some(before) = f.feeds(z, at) else { return Err(format!("{z} is read by others too")) };
    if *lost {
        return Err("what it does not pass on is handed on, so that denominators stay".into());
    }
    if *scale != 1.0 || *on != Condition::Always {
        return Err("its part is scaled, or does not count everywhere".into());
    }
    let (eps, signed) = match *stabiliser {
        QuotientStabiliser::None => (0.0, false),
        QuotientStabiliser::Plain(eps) => (eps, false),
        QuotientStabiliser::Signed(eps) => (eps, true),
        QuotientStabiliser::Given => return Err("its stabiliser measures the denominators".into()),
    };
    let (floor, flag) = match *vanishing {
        Vanishing::Clipped if eps == 0.0 => {
            return Err("what vanishes is booked by the quotient alone".into());
        }
        Vanishing::Clipped => (0.0, None),
        Vanishing::Flat { floor, flag } => (floor, Some(flag)),
    };
    let bias = match (biased, step.constants.first()) {
        (true, Some(name)) => match f.program.constants.get(name).and_then(Constant::values) {
            Some(values) => Some((name.clone(), values)),
            None => return Err(format!("the values of @{name} are not there")),
        },
        _ => None,
    };
    let Some((conv_step, conv)) = f.bare(before, Direction::Forward) else { return Ok(None) };
    let non_negative = conv.signs == ProductSigns::NonNegative;
    let simple = match addend {
        None => {
            conv.weights.form == WeightPart::Positive || matches!(conv.weights.source, WeightSource::Tap(_))
        }
        Some(_) => non_negative,
    };
    if !simple {
        return Err(
            "its products are of both signs, so that its sums are divided by a kernel of their own".into()
        );
    }
    let positive_bias = bias.as_ref().is_none_or(|(_, values)| values.iter().all(|b| *b >= 0.0));
    if signed && !(non_negative && positive_bias && addend.is_none_or(|addend| f.is_non_negative(addend))) {
        return Err("its stabiliser has the sign of the denominator, which may be negative".into());
    }
    let (channels, conv, origin) = (conv.spec.channels_out, conv.clone(), step.origin.clone());
    let (mut reads, mut constants) = (conv_step.reads.clone(), conv_step.constants.clone());
    let offset: Vec<f64> = (0..channels)
        .map(|c| f64::from(eps as f32 + bias.as_ref().and_then(|(_, b)| b.get(c)).copied().unwrap_or(0.0)))
        .collect();
    let offset = f.program.add_constant(&format!("{}.offset", origin.label), vec![channels], offset)?;
    reads.push(r);
    reads.extend(addend);
    constants.push(offset);
    // A sum that something is divided by needs no zeros that are zeros: the floor is above what rounding leaves.
    let exactness = Exactness::Divisor;
    let epilogue = Epilogue::Quotient { addend: addend.is_some(), floor, flag };
    let conv = ConvOp { epilogue, exactness, ..conv };
    let made = |op, reads, constants, writes| Step {
        op,
        reads,
        constants,
        writes,
        kernel: None,
        origin: origin.clone(),
    };
    let mut fused = vec![made(StepOp::Conv(Box::new(conv)), reads, constants, vec![s])];
    if let Some((name, _)) = bias {
        fused.push(made(StepOp::Absorbed { bias: true }, vec![s], vec![name], vec![]));
    }
    if eps != 0.0 {
        let by =
            f.program.add_constant(&format!("{}.eps", origin.label), vec![channels], vec![eps; channels])?;
        fused.push(made(StepOp::Absorbed { bias: false }, vec![s], vec![by], vec![]));
    }
    f.fuse(before, at, fused);
    Ok(Some("divides by a convolution's sums before they are stored".into()))
}

/// `R = a * c` of a transposed convolution's sums.
fn product(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(step) = f.at(at) else { return Ok(None) };
    let (StepOp::Binary { op: Arithmetic::Mul, relu: false }, &[a, b]) = (&step.op, &step.reads[..]) else {
        return Ok(None);
    };
    let (writes, origin) = (step.writes.clone(), step.origin.clone());
    for (factor, sums) in [(a, b), (b, a)] {
        let Some(writer) = f.uses.only_writer(sums).filter(|_| factor != sums) else { continue };
        let Some(mut fused) = f.at(writer).cloned() else { continue };
        match &mut fused.op {
            StepOp::Conv(conv) if conv.is_bare() && conv.direction == Direction::Transposed => {
                conv.epilogue = Epilogue::Product { factor: true, addends: 0, tallies: Vec::new() };
            }
            StepOp::Broadcast { product, .. } if !*product => *product = true,
            _ => continue,
        }
        if f.feeds(sums, at).is_none() {
            return Err(format!("{sums} is read by others too"));
        }
        if f.program.image(factor) != f.program.image(sums) {
            return Err(format!("{factor} is one pixel for all"));
        }
        fused.reads.push(factor);
        fused.writes = writes;
        fused.origin = origin;
        f.fuse(writer, at, vec![fused]);
        return Ok(Some("multiplies a transposed convolution's sums before they are stored".into()));
    }
    Ok(None)
}

/// What else arrives at a fork, or what the terms of a rule before sent back.
fn addend(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(step) = f.at(at) else { return Ok(None) };
    let (StepOp::Sum { relu: false }, &[a, b]) = (&step.op, &step.reads[..]) else { return Ok(None) };
    let writes = step.writes.clone();
    let mut reason = None;
    // The later one: what it adds is there by then.
    let mut sides = [(a, b), (b, a)];
    sides.sort_by_key(|(_, own)| std::cmp::Reverse(f.uses.writers(*own).first().copied()));
    for (other, own) in sides {
        let Some(parts) = f.sent_back(own).filter(|_| other != own) else { continue };
        let tally = match f.beside(own, at) {
            Ok(tally) => tally,
            Err(why) => {
                reason = Some(why);
                continue;
            }
        };
        let labels = match tally.and_then(|tally| f.at(tally)).map(|step| &step.op) {
            Some(StepOp::Tally(labels)) => labels.clone(),
            _ => Vec::new(),
        };
        let mut fused: Vec<Step> = parts.iter().filter_map(|at| f.at(*at).cloned()).collect();
        let summed = fused.iter_mut().all(|step| {
            step.writes = writes.clone();
            match &mut step.op {
                StepOp::Conv(conv) => match &mut conv.epilogue {
                    Epilogue::Product { addends, tallies, .. } => {
                        // The sums before this addend, whose place says which.
                        if !labels.is_empty() {
                            tallies.resize(*addends, Vec::new());
                            tallies.push(labels.clone());
                        }
                        *addends += 1;
                        step.reads.push(other);
                        true
                    }
                    epilogue @ Epilogue::None => {
                        let tallies = if labels.is_empty() { Vec::new() } else { vec![labels.clone()] };
                        *epilogue = Epilogue::Product { factor: false, addends: 1, tallies };
                        step.reads.push(other);
                        true
                    }
                    _ => false,
                },
                StepOp::Broadcast { addend, .. } => {
                    *addend = true;
                    step.reads.push(other);
                    labels.is_empty()
                }
                StepOp::Flat(flat) => {
                    flat.tally.clone_from(&labels);
                    true
                }
                _ => false,
            }
        });
        if !summed {
            reason = Some(format!("the ledger asks for the sums of {own} itself"));
            continue;
        }
        parts.iter().chain(&tally).for_each(|gone| f.steps[*gone].clear());
        f.steps[at] = fused;
        return Ok(Some("is added before a transposed convolution's products are stored".into()));
    }
    reason.map_or(Ok(None), Err)
}

/// The ledger's sums of what a transposed convolution sends back.
fn sums(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(Step { op: StepOp::Tally(labels), reads, .. }) = f.at(at) else { return Ok(None) };
    let (&[own], labels) = (&reads[..], labels.clone()) else { return Ok(None) };
    let writers = f.uses.writers(own).to_vec();
    let Some((&first, rest)) = writers.split_first().filter(|_| writers.iter().all(|writer| *writer < at))
    else {
        return Ok(None);
    };
    if !rest.iter().all(|place| f.is_flat(*place)) {
        return Ok(None);
    }
    let Some(mut step) = f.at(first).cloned() else { return Ok(None) };
    let StepOp::Conv(conv) = &mut step.op else { return Ok(None) };
    match &mut conv.epilogue {
        Epilogue::Product { addends, tallies, .. } if tallies.len() <= *addends => {
            tallies.resize(*addends, Vec::new());
            tallies.push(labels.clone());
        }
        epilogue @ Epilogue::None if conv.direction == Direction::Transposed => {
            *epilogue = Epilogue::Product { factor: false, addends: 0, tallies: vec![labels.clone()] };
        }
        _ => return Ok(None),
    }
    f.steps[first] = vec![step];
    for place in rest {
        if let [Step { op: StepOp::Flat(flat), .. }] = &mut f.steps[*place][..] {
            flat.whole.clone_from(&labels);
        }
    }
    f.steps[at].clear();
    Ok(Some("is summed for the ledger before a transposed convolution's products are stored".into()))
}

impl Fuser<'_> {
    /// The places of the steps that write what a rule sends back: a transposed convolution's sums or products, and the flat
    /// fallback that adds to them.
    fn sent_back(&self, own: ValueId) -> Option<Vec<usize>> {
        let (first, rest) = self.uses.writers(own).split_first()?;
        let product = match &self.at(*first)?.op {
            StepOp::Conv(conv) => {
                let bare = conv.direction == Direction::Transposed && conv.is_bare();
                bare || matches!(conv.epilogue, Epilogue::Product { addends: ..MAX_ADDENDS, .. })
            }
            StepOp::Broadcast { product, addend, .. } => *product && !addend,
            _ => false,
        };
        let flats = rest.len() < 2 && rest.iter().all(|place| self.is_flat(*place));
        (product && flats).then(|| self.uses.writers(own).to_vec())
    }

    /// Whether the step at a place is a flat fallback.
    fn is_flat(&self, at: usize) -> bool {
        self.at(at).is_some_and(|step| matches!(step.op, StepOp::Flat(_)))
    }

    /// The place of the step that reads a value beside the one at `at`, if that takes its sums for the ledger.
    fn beside(&self, own: ValueId, at: usize) -> Result<Option<usize>, String> {
        if self.program.is_end(own) {
            return Err(format!("{own} is a result"));
        }
        let others: Vec<usize> =
            self.uses.readers(own).iter().copied().filter(|reader| *reader != at).collect();
        let is_tally = |at: usize| self.at(at).is_some_and(|step| matches!(step.op, StepOp::Tally(_)));
        match others[..] {
            [] => Ok(None),
            [tally] if is_tally(tally) => Ok(Some(tally)),
            _ => Err(format!("{own} is read by others too")),
        }
    }
}

/// A skip connection that meets a convolution.
fn residual(f: &mut Fuser<'_>, at: usize) -> Fusion {
    let Some(step) = f.at(at) else { return Ok(None) };
    let (StepOp::Sum { relu }, &[a, b]) = (&step.op, &step.reads[..]) else { return Ok(None) };
    let (rectified, sum) = (*relu, step.writes.clone());
    let mut sides = [(a, b), (b, a)];
    sides.sort_by_key(|(_, own)| std::cmp::Reverse(f.uses.writers(*own).last().copied()));
    let mut reason = None;
    for (other, own) in sides {
        let Some(writer) = f.uses.only_writer(own).filter(|writer| *writer < at) else { continue };
        let Some(mut fused) = f.at(writer).cloned() else { continue };
        let StepOp::Conv(conv) = &mut fused.op else { continue };
        if conv.direction == Direction::Transposed || other == own {
            continue;
        }
        let bias = match conv.epilogue {
            Epilogue::None => false,
            Epilogue::Activate { bias, residual: false, joined: false, relu: false } => bias,
            _ => {
                reason = Some(format!("{own} is not what its convolution sums"));
                continue;
            }
        };
        let others: Vec<usize> = f.uses.readers(own).iter().copied().filter(|reader| *reader != at).collect();
        if others.iter().any(|reader| *reader < at) {
            reason = Some(format!("{own} is read before the sum is there"));
            continue;
        }
        let joined = !others.is_empty() || f.program.is_end(own);
        conv.epilogue = Epilogue::Activate { bias, residual: true, joined, relu: rectified };
        fused.reads.push(other);
        fused.writes = if joined { [vec![own], sum].concat() } else { sum };
        f.fuse(writer, at, vec![fused]);
        return Ok(Some("is added before a convolution's sums are stored".into()));
    }
    reason.map_or(Ok(None), Err)
}
