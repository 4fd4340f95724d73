//! `fold-constants`: a denominator that does not depend on the input is divided by when the program is compiled.
//!
//! ```text
//! s = quotients r, @den      =>      s = scale_elements r, @inverse
//! ```
//! with `inverse = 1 / (den + stabiliser)` in f64, 0 where a denominator vanishes; then the flag is raised for every input.
//! What the stabiliser takes is booked by a step of its own.

use std::collections::BTreeSet;

use relc_ir::remark::Remarks;
use relc_ir::rule::Condition;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::op::{Denominator, FlagId, QuotientPart, QuotientStabiliser, StepOp, Vanishing};
use crate::program::{Constant, Program, Step};

const NAME: &str = "fold-constants";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FoldConstants;

impl ProgramPass for FoldConstants {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "divide by constant denominators when compiling"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        let steps = std::mem::take(&mut program.backward);
        let mut folded = Vec::with_capacity(steps.len());
        for step in steps {
            match fold(program, &step) {
                Ok(Some(new)) => {
                    remarks.applied(step.origin.describe(), "divides by a constant");
                    folded.extend(new);
                }
                Ok(None) => folded.push(step),
                Err(reason) => {
                    remarks.missed(step.origin.describe(), reason);
                    folded.push(step);
                }
            }
        }
        // A flag that nothing raises any more asks for nothing.
        let raised: BTreeSet<FlagId> = folded.iter().filter_map(|step| step.op.raises()).collect();
        folded.retain(|step| !matches!(&step.op, StepOp::Flat(flat) if !raised.contains(&flat.flag)));
        program.backward = folded;
        Ok(())
    }
}

/// The steps in place of a quotient by a constant; none for others, and a reason for those that come near.
fn fold(program: &mut Program, step: &Step) -> Result<Option<Vec<Step>>, String> {
    let StepOp::Quotients(quotients) = &step.op else { return Ok(None) };
    let [QuotientPart { scale, on, denominator }] = &quotients.parts[..] else { return Ok(None) };
    let Some(Denominator::Sum { tensors: 0, constant: true, biased }) = *denominator else { return Ok(None) };
    if biased || quotients.lost || *scale != 1.0 || *on != Condition::Always {
        return Err("its denominator is constant, but not all that it does with it".into());
    }
    let (eps, signed) = match quotients.stabiliser {
        QuotientStabiliser::None => (0.0, false),
        QuotientStabiliser::Plain(eps) => (eps, false),
        QuotientStabiliser::Signed(eps) => (eps, true),
        QuotientStabiliser::Given => return Err("its stabiliser is known only when it runs".into()),
    };
    let (&[r], &[s]) = (&step.reads[..], &step.writes[..]) else { return Ok(None) };
    let (floor, flag) = match quotients.vanishing {
        Vanishing::Clipped => (None, None),
        Vanishing::Flat { floor, flag } => (Some(f64::from(floor)), Some(flag)),
    };
    if floor.is_none() && eps == 0.0 {
        return Err("it has neither a stabiliser nor a fallback: what vanishes is booked when it runs".into());
    }
    let denominators = match program.constants.get(&step.constants[0]) {
        Some(Constant::Derived(derived)) => derived.data().cloned(),
        _ => None,
    };
    let Some(denominators) = denominators else {
        return Err("the values of its denominator are not there".into());
    };
    if signed && denominators.iter().any(|den| *den < 0.0) {
        return Err("some of its denominators are negative, so that its stabiliser has both signs".into());
    }
    let vanishing = |den: &f64| floor.map_or(den + eps == 0.0, |floor| (den + eps).abs() < floor);
    let vanishes = denominators.iter().any(vanishing);
    if vanishes && floor.is_none() {
        return Err(
            "one of its denominators is the stabiliser's opposite: what vanishes is booked when it runs"
                .into(),
        );
    }
    let inverse = |den: &f64| if vanishing(den) { 0.0 } else { f64::from((1.0 / (den + eps)) as f32) };
    let inverse: Vec<f64> = denominators.iter().map(inverse).collect();
    let image = program.image(s).unwrap_or([0; 4]);
    let name = program.add_constant(&format!("{}.inverse", step.origin.label), image.to_vec(), inverse)?;
    let made = |op, reads, constants, writes| Step {
        op,
        reads,
        constants,
        writes,
        kernel: None,
        origin: step.origin.clone(),
    };
    let mut steps = vec![made(StepOp::ScaleElements, vec![r], vec![name], vec![s])];
    if let (Some(flag), true) = (flag, vanishes) {
        steps.push(made(StepOp::Raise { flag }, vec![], vec![], vec![]));
    }
    if eps != 0.0 {
        let channels = image[0];
        let by = program.add_constant(
            &format!("{}.eps", step.origin.label),
            vec![channels],
            vec![eps; channels],
        )?;
        steps.push(made(StepOp::Absorbed { bias: false }, vec![s], vec![by], vec![]));
    }
    Ok(Some(steps))
}
