//! What operands each op takes.

use relc_ir::op::Window;

use crate::conv::Direction;
use crate::layout::Image;
use crate::op::{ConvOp, Epilogue, MAX_ADDENDS, QuotientStabiliser, Quotients, StepOp};
use crate::program::{Program, Step};

/// Checks how many operands a step has, and their images and lengths.
///
/// # Errors
/// What was got and what is expected.
pub(crate) fn operands(program: &Program, step: &Step) -> Result<(), String> {
    let images = |ids: &[crate::program::ValueId]| -> Vec<Image> {
        ids.iter().map(|id| program.image(*id).unwrap_or([0; 4])).collect()
    };
    let reads = images(&step.reads);
    let writes = images(&step.writes[..step.writes.len() - usize::from(step.scratch().is_some())]);
    let lengths: Vec<usize> = step
        .constants
        .iter()
        .map(|name| program.constants.get(name).and_then(|c| c.len()).unwrap_or(0))
        .collect();
    let got = Operands { reads: &reads, writes: &writes, constants: &lengths };
    let [channels, depth, ..] = writes.first().copied().unwrap_or([0; 4]);
    // One pixel for all of a slice.
    let pixel = [channels, depth, 1, 1];
    match &step.op {
        StepOp::Conv(conv) => convolution(conv, &got),
        StepOp::MaxPool(pool) => got.count(1, 0, 1).and_then(|()| pooled(&pool.window, reads[0], writes[0])),
        StepOp::AveragePool(pool) => {
            got.count(1, 0, 1).and_then(|()| pooled(&pool.window, reads[0], writes[0]))
        }
        StepOp::Winner(pool) => {
            got.count(2, 0, 1)?;
            same("its output", writes[0], reads[1])?;
            pooled(&pool.window, reads[1], reads[0])
        }
        StepOp::Activation(_) | StepOp::Part(_) | StepOp::Scale { .. } | StepOp::Convert => {
            got.count(1, 0, 1)?;
            got.all_alike()
        }
        StepOp::Affine { .. } => {
            got.count(1, 2, 1)?;
            got.all_alike()?;
            got.lengths(&[channels; 2])
        }
        StepOp::Binary { .. } => {
            got.count(2, 0, 1)?;
            reads
                .iter()
                .filter(|image| **image != pixel)
                .try_for_each(|image| same("an operand", *image, writes[0]))
        }
        StepOp::Sum { .. } if reads.is_empty() => Err("got nothing to add, expected values".into()),
        StepOp::Sum { .. } => {
            got.count(reads.len(), 0, 1)?;
            got.all_alike()
        }
        StepOp::ScaleChannels { addend } => {
            got.count(1 + usize::from(*addend), 1, 1)?;
            got.all_alike()?;
            got.lengths(&[channels])
        }
        StepOp::ScaleElements => {
            got.count(1, 1, 1)?;
            got.all_alike()?;
            got.lengths(&[elements(writes[0])])
        }
        StepOp::Broadcast { product, addend, .. } => {
            if *addend && !product {
                return Err("got an addend without a factor, expected both".into());
            }
            got.count(1 + usize::from(*product) + usize::from(*addend), 0, 1)?;
            same("what is broadcast", reads[0], pixel)?;
            reads[1..].iter().try_for_each(|image| same("an operand", *image, writes[0]))
        }
        StepOp::SplitRatio => {
            got.count(3, 0, 2)?;
            got.all_alike()
        }
        StepOp::Share { .. } => {
            got.count(1, 0, 2)?;
            got.all_alike()
        }
        StepOp::Quotients(quotients) => divided(quotients, &got),
        StepOp::Stabilise { .. } => {
            got.count(1, 0, 1)?;
            same("its output", writes[0], [1; 4])
        }
        StepOp::Standardise { runs, .. } => {
            got.count(1, 0, 1)?;
            got.all_alike()?;
            match *runs > 0 && elements(writes[0]).is_multiple_of(*runs) {
                true => Ok(()),
                false => Err(format!("got {runs} runs, expected a divisor of the elements")),
            }
        }
        StepOp::Derivative(_) => {
            got.count(2, 0, 1)?;
            got.all_alike()
        }
        StepOp::Move(step) => {
            got.count(1, 0, 1)?;
            for (name, at, image) in [("output", &step.to, writes[0]), ("input", &step.from, reads[0])] {
                let ranks = at.strides.len() == step.dims.len() && !step.dims.contains(&0);
                let inside = at.highest(&step.dims).is_some_and(|highest| highest < elements(image));
                if !(ranks && inside) {
                    return Err(format!("got a box that leaves the {name} {image:?}, expected one inside"));
                }
            }
            let count = step.dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            match count.is_some_and(|count| count <= elements(writes[0])) {
                true => Ok(()),
                false => Err("got a box of more elements than the output, expected at most as many".into()),
            }
        }
        StepOp::Interpret => match writes.is_empty() {
            true => Err("got no output, expected one at least".into()),
            false => Ok(()),
        },
        StepOp::Flat(flat) => {
            got.count(2, 0, 1)?;
            same("s", reads[1], reads[0])?;
            if flat.groups == 0
                || !channels.is_multiple_of(flat.groups)
                || !reads[0][0].is_multiple_of(flat.groups)
            {
                return Err(format!("got {} groups, expected a divisor of the channels", flat.groups));
            }
            fields(&flat.window, writes[0], reads[0])
        }
        StepOp::Raise { .. } => got.count(0, 0, 0),
        StepOp::Tally(_) => got.count(1, 0, 0),
        StepOp::Absorbed { .. } => {
            got.count(1, 1, 0)?;
            got.lengths(&[reads[0][0]])
        }
    }
}

struct Operands<'a> {
    reads: &'a [Image],
    writes: &'a [Image],
    constants: &'a [usize],
}

impl Operands<'_> {
    fn count(&self, reads: usize, constants: usize, writes: usize) -> Result<(), String> {
        let got = [self.reads.len(), self.constants.len(), self.writes.len()];
        if got == [reads, constants, writes] {
            return Ok(());
        }
        Err(format!(
            "got {} values read, {} constants and {} values written, expected {reads}, {constants} and {writes}",
            got[0], got[1], got[2]
        ))
    }

    fn all_alike(&self) -> Result<(), String> {
        let Some(first) = self.writes.first() else { return Ok(()) };
        self.reads.iter().chain(self.writes).try_for_each(|image| same("an operand", *image, *first))
    }

    fn lengths(&self, expected: &[usize]) -> Result<(), String> {
        if self.constants == expected {
            return Ok(());
        }
        Err(format!("got constants of {:?} elements, expected {expected:?}", self.constants))
    }
}

fn elements(image: Image) -> usize {
    image.iter().fold(1usize, |n, d| n.saturating_mul(*d))
}

fn same(what: &str, got: Image, expected: Image) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}: got [C,D,H,W] = {got:?}, expected {expected:?}"))
    }
}

/// The windows of a pool over an image.
fn windows(window: &Window, [c, d, h, w]: Image) -> Result<Image, String> {
    let [slices, rows, columns] = window.over_volume();
    Ok([
        c,
        slices.pooled_size(d, window.ceil)?,
        rows.pooled_size(h, window.ceil)?,
        columns.pooled_size(w, window.ceil)?,
    ])
}

fn pooled(window: &Window, image: Image, got: Image) -> Result<(), String> {
    same("what a pool makes", got, windows(window, image)?)
}

/// What each of the receptive fields of a layer over `image` has; of any number of channels.
fn fields(window: &Window, image: Image, got: Image) -> Result<(), String> {
    let [_, d, h, w] = windows(window, image)?;
    same("the windows", got, [got[0], d, h, w])
}

fn convolution(conv: &ConvOp, got: &Operands<'_>) -> Result<(), String> {
    let weights = usize::from(conv.has_weight());
    let [reads, constants, writes] = match &conv.epilogue {
        Epilogue::None => [1, 0, 1],
        Epilogue::Activate { bias, residual, joined, .. } => {
            [1 + usize::from(*residual), usize::from(*bias), 1 + usize::from(*joined)]
        }
        Epilogue::Quotient { addend, .. } => [2 + usize::from(*addend), 1, 1],
        Epilogue::Product { factor, addends, tallies } => {
            if *addends > MAX_ADDENDS || tallies.len() > *addends + 1 {
                return Err(format!("got {addends} addends and the sums of {} values", tallies.len()));
            }
            [1 + usize::from(*factor) + addends, 0, 1]
        }
    };
    got.count(reads, weights + constants, writes)?;
    let spec = &conv.spec;
    let (x, y) = match conv.direction {
        Direction::Forward => (got.reads[0], got.writes[0]),
        Direction::Transposed => (got.writes[0], got.reads[0]),
    };
    let [_, d, h, w] = x;
    same("the convolution's input", x, [spec.channels_in, d, h, w])?;
    let [d, h, w] = spec.output_size([d, h, w]).map_err(|e| e.to_string())?;
    same("the convolution's output", y, [spec.channels_out, d, h, w])?;
    let others = got.reads[1..].iter().chain(&got.writes[1..]);
    others.into_iter().try_for_each(|image| same("an operand", *image, got.writes[0]))?;
    let mut expected = Vec::new();
    if conv.has_weight() {
        expected.push(spec.weights_len().ok_or("its weights are too many")?);
    }
    if constants == 1 {
        expected.push(got.writes[0][0]);
    }
    got.lengths(&expected)
}

fn divided(quotients: &Quotients, got: &Operands<'_>) -> Result<(), String> {
    if quotients.parts.is_empty() {
        return Err("got no part, expected one at least".into());
    }
    let given = quotients.stabiliser == QuotientStabiliser::Given;
    let fixed = 1 + usize::from(quotients.output) + usize::from(given);
    let denominators = || quotients.parts.iter().filter_map(|part| part.denominator);
    let tensors: usize = denominators().map(|d| d.tensors()).fold(0, usize::saturating_add);
    let constants: usize = denominators().flat_map(|d| d.constants()).map(usize::from).sum();
    got.count(fixed.saturating_add(tensors), constants, quotients.parts.len() + usize::from(quotients.lost))?;
    let r = got.reads[0];
    let eps = 1 + usize::from(quotients.output);
    for (at, image) in got.reads.iter().enumerate() {
        same("an operand", *image, if given && at == eps { [1; 4] } else { r })?;
    }
    got.writes.iter().try_for_each(|image| same("an output", *image, r))?;
    let mut expected = Vec::new();
    for [constant, biased] in denominators().map(|d| d.constants()) {
        expected.extend(constant.then_some(elements(r)));
        expected.extend(biased.then_some(r[0]));
    }
    got.lengths(&expected)
}
