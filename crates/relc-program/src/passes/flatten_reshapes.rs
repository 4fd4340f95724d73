//! `flatten-reshapes`: a value that is another one under other axes gets the axes of that one.
//!
//! A change of shape leaves the row-major elements where they are, but in blocks of channels it moves each of them. Where
//! all that is done to the new shape can be done to the old one (elementwise work, moves, sums, statistics over runs of
//! elements), it is: GroupNormalization's statistics are taken of the picture itself, and values of five axes whose first
//! is only ever indexed are pictures of more channels. The changes of shape are none then, and alias-moves takes them away.

use std::collections::{BTreeMap, BTreeSet};

use relc_ir::remark::Remarks;

use super::ProgramPass;
use crate::error::ProgramError;
use crate::layout::Image;
use crate::op::{Denominator, Move, QuotientStabiliser, StepOp, Strided};
use crate::program::{Constant, Program, Step, ValueId};

const NAME: &str = "flatten-reshapes";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct FlattenReshapes;

impl ProgramPass for FlattenReshapes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "let values under other axes have those of what they are made of"
    }

    fn run(&self, program: &mut Program, remarks: &mut Remarks) -> Result<(), ProgramError> {
        // What has got new axes may be what others are made of.
        loop {
            let changes = changes(program);
            if changes.is_empty() {
                return Ok(());
            }
            for Change { members, constants, old, new } in changes {
                let first = constants.first().and_then(|(at, _)| program.steps().nth(*at));
                let origin = first.map(|step| step.origin.describe()).unwrap_or_default();
                let names: Vec<String> = members.iter().map(ValueId::to_string).collect();
                remarks.applied(origin, format!("{} have the axes {new:?}, not {old:?}", names.join(", ")));
                repeat_constants(program, &constants, new[0] / old[0])?;
                for id in members {
                    if let Some(value) = program.values.get_mut(&id) {
                        value.image = if value.image == old { new } else { pixel_of(new) };
                    }
                }
            }
        }
    }
}

/// Values that get other axes, and the constants of one number per channel that their steps take: the step's place, and
/// which of its constants.
struct Change {
    members: Vec<ValueId>,
    constants: Vec<(usize, usize)>,
    old: Image,
    new: Image,
}

/// One pixel for each plane.
fn pixel_of([c, d, ..]: Image) -> Image {
    [c, d, 1, 1]
}

/// How a step takes the axes of what it reads and writes.
enum Demand {
    /// It counts elements row-major, and each value may have its own axes.
    None,
    /// All of its values have the same, but any.
    Alike,
    /// Those that it has.
    Fixed,
}

fn demand(program: &Program, step: &Step) -> Demand {
    match &step.op {
        // They will be one value.
        StepOp::Move(_) if is_reshape(program, step) && images(program, step).len() == 1 => Demand::Alike,
        StepOp::Move(_) | StepOp::Tally(_) | StepOp::Interpret | StepOp::Raise { .. } => Demand::None,
        StepOp::Quotients(quotients) if quotients.stabiliser == QuotientStabiliser::Given => Demand::Fixed,
        // Of what a product reads, one may be a pixel for each plane of the other.
        StepOp::Binary { .. }
        | StepOp::Quotients(_)
        | StepOp::Activation(_)
        | StepOp::Part(_)
        | StepOp::Affine { .. }
        | StepOp::Sum { .. }
        | StepOp::Scale { .. }
        | StepOp::ScaleChannels { .. }
        | StepOp::ScaleElements
        | StepOp::SplitRatio
        | StepOp::Share { .. }
        | StepOp::Standardise { .. }
        | StepOp::Derivative(_) => Demand::Alike,
        _ => Demand::Fixed,
    }
}

fn images(program: &Program, step: &Step) -> BTreeSet<Image> {
    step.values().filter_map(|id| program.image(id)).collect()
}

/// Values that get their axes together: each knows another one of them, and the first one none.
#[derive(Default)]
struct Joined {
    above: BTreeMap<ValueId, ValueId>,
}

impl Joined {
    fn root(&self, mut id: ValueId) -> ValueId {
        while let Some(above) = self.above.get(&id) {
            id = *above;
        }
        id
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.above.insert(a.max(b), a.min(b));
        }
    }
}

/// Values that have to have their axes together, and what steps do with them.
#[derive(Default)]
struct Group {
    members: Vec<ValueId>,
    images: BTreeSet<Image>,
    constants: Vec<(usize, usize)>,
    /// The runs of statistics that are taken.
    runs: Vec<usize>,
    /// The axes of what members are, under other axes.
    others: Vec<Image>,
}

/// Which values can have other axes now.
fn changes(program: &Program) -> Vec<Change> {
    let mut joined = Joined::default();
    let mut fixed: BTreeSet<ValueId> = program.taps.values().copied().collect();
    let ends = &program.ends;
    fixed.extend([ends.input, ends.output, ends.seed, ends.relevance]);
    for step in program.steps() {
        let values: Vec<ValueId> = step.values().collect();
        match demand(program, step) {
            Demand::None => {}
            Demand::Fixed => fixed.extend(values),
            Demand::Alike => values.windows(2).for_each(|pair| joined.join(pair[0], pair[1])),
        }
    }
    let fixed: BTreeSet<ValueId> = fixed.into_iter().map(|id| joined.root(id)).collect();
    let mut groups: BTreeMap<ValueId, Group> = BTreeMap::new();
    for (id, value) in program.values.iter().filter(|(id, _)| !fixed.contains(&joined.root(**id))) {
        let group = groups.entry(joined.root(*id)).or_default();
        group.members.push(*id);
        group.images.insert(value.image);
    }
    for (at, step) in program.steps().enumerate() {
        if is_reshape(program, step) {
            for [own, other] in [[step.writes[0], step.reads[0]], [step.reads[0], step.writes[0]]] {
                let image = program.image(other).filter(|_| fixed.contains(&joined.root(other)));
                if let (Some(group), Some(image)) = (groups.get_mut(&joined.root(own)), image) {
                    group.others.push(image);
                }
            }
        }
        let Some(group) = step.writes.first().and_then(|id| groups.get_mut(&joined.root(*id))) else {
            continue;
        };
        group.constants.extend(per_channel(&step.op).into_iter().map(|constant| (at, constant)));
        if let StepOp::Standardise { runs, .. } = step.op {
            group.runs.push(runs);
        }
    }
    groups.into_values().filter_map(|group| group.change(program)).collect()
}

impl Group {
    fn change(self, program: &Program) -> Option<Change> {
        let old = self.image()?;
        // Under these axes its values are what they are made of.
        if self.others.contains(&old) {
            return None;
        }
        let [c, d, h, w] = old;
        let flat = (d > 1).then_some([c * d, 1, h, w]);
        let new = self.others.iter().copied().chain(flat).find(|new| self.can_have(program, old, *new))?;
        Some(Change { members: self.members, constants: self.constants, old, new })
    }

    /// The axes of its values, of which some may be a pixel for each plane of the others.
    fn image(&self) -> Option<Image> {
        let mut planes = self.images.iter().filter(|image| **image != pixel_of(**image));
        let image = *planes.next().or(self.images.first())?;
        self.images.iter().all(|other| *other == image || *other == pixel_of(image)).then_some(image)
    }

    /// Whether a channel of the old axes is a whole number of channels of the new ones, so that constants per channel
    /// have their counterparts, and what is one pixel for each plane stays that.
    fn can_have(&self, program: &Program, old: Image, new: Image) -> bool {
        let elements = |image: Image| image.iter().product::<usize>();
        let planes = |[c, d, h, w]: Image| [c * d, h * w];
        let known = |(at, constant): &(usize, usize)| {
            let step = program.steps().nth(*at);
            let name = step.and_then(|step| step.constants.get(*constant));
            let constant = name.and_then(|name| program.constants.get(name));
            matches!(constant, Some(Constant::Derived(derived)) if derived.data().is_some())
        };
        new != old
            && elements(new) == elements(old)
            && new[0].is_multiple_of(old[0])
            && (self.images.len() == 1 || planes(new) == planes(old))
            && self.runs.iter().all(|runs| !old[0].is_multiple_of(*runs) || new[0].is_multiple_of(*runs))
            && self.constants.iter().all(known)
    }
}

/// Whether a step moves each element of one value to the same place of another, row-major.
fn is_reshape(program: &Program, step: &Step) -> bool {
    let (StepOp::Move(Move { dims, to, from, .. }), &[x], &[y]) =
        (&step.op, &step.reads[..], &step.writes[..])
    else {
        return false;
    };
    let dense = Strided::dense(dims);
    let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let elements = |id| program.image(id).map(|image| image.iter().product());
    *to == dense && *from == dense && count == elements(x) && count == elements(y)
}

/// Which of a step's constants have one number per channel.
fn per_channel(op: &StepOp) -> Vec<usize> {
    match op {
        StepOp::Affine { .. } => vec![0, 1],
        StepOp::ScaleChannels { .. } => vec![0],
        StepOp::Quotients(quotients) => {
            let of = quotients.parts.iter().filter_map(|part| part.denominator).map(Denominator::constants);
            let kinds = of.flat_map(|[constant, biased]| {
                [constant.then_some(false), biased.then_some(true)].into_iter().flatten()
            });
            kinds.enumerate().filter(|(_, biased)| *biased).map(|(at, _)| at).collect()
        }
        _ => Vec::new(),
    }
}

/// Repeats each number of constants so many times.
fn repeat_constants(
    program: &mut Program,
    places: &[(usize, usize)],
    times: usize,
) -> Result<(), ProgramError> {
    for (at, constant) in places.iter().copied().filter(|_| times > 1) {
        let Some(step) = program.steps().nth(at) else { continue };
        let (origin, name) = (step.origin.clone(), step.constants.get(constant).cloned().unwrap_or_default());
        let Some(Constant::Derived(derived)) = program.constants.get(&name) else { continue };
        let data = derived.data().into_iter().flat_map(|data| data.iter());
        let data: Vec<f64> = data.flat_map(|value| std::iter::repeat_n(*value, times)).collect();
        let name = program
            .add_constant(&name, vec![data.len()], data)
            .map_err(|reason| ProgramError::Step { pass: NAME, step: origin.describe(), reason })?;
        if let Some(place) = program.steps_mut().nth(at).and_then(|step| step.constants.get_mut(constant)) {
            *place = name;
        }
    }
    Ok(())
}
