//! The memory plan as a chart: which value lies where, from its first to its last use.

use std::collections::{BTreeMap, BTreeSet};

use relc::unstable::program::{Program, ValueId, lifetimes};

use crate::chart::{Axis, Mark, Shape, chart};
use crate::error::PageError;
use crate::words::number;

/// The slots of the table: the largest.
const LARGEST: usize = 10;
const MIB: f64 = (1 << 20) as f64;

/// What is shown of a memory plan.
pub struct Memory {
    /// The chart.
    pub svg: String,
    /// What it shows.
    pub words: String,
    /// The largest slots.
    pub slots: Vec<SlotRow>,
}

/// A slot of the table.
pub struct SlotRow {
    /// Its number.
    pub slot: usize,
    /// Its size.
    pub bytes: usize,
    /// Its size, in words.
    pub size: String,
    /// What its values are: `f32[N,64,56,56]`.
    pub shape: String,
    /// The values that share it.
    pub values: usize,
    /// The steps at which it holds one of them.
    pub steps: usize,
}

/// A value in its slot.
struct Placed {
    id: ValueId,
    slot: usize,
    /// The first step that uses it, and the one behind the last.
    steps: [usize; 2],
}

/// Draws the plan of a program that has one.
pub fn memory(program: &Program) -> Result<Option<Memory>, PageError> {
    let sizes: BTreeMap<usize, usize> = program
        .slots()
        .into_iter()
        .map(|(slot, elements)| (slot, elements.saturating_mul(size_of::<f32>())))
        .collect();
    let placed = placed(program);
    if sizes.is_empty() || placed.is_empty() {
        return Ok(None);
    }
    let mut offsets = BTreeMap::new();
    let mut total = 0;
    for (slot, size) in &sizes {
        offsets.insert(*slot, total);
        total += size;
    }
    let size = |value: &Placed| {
        program.layout(value.id).map_or(0, |layout| layout.len().saturating_mul(size_of::<f32>()))
    };
    let steps = (program.forward.len() + program.backward.len()).max(1);
    let scratch: BTreeSet<ValueId> = program.steps().filter_map(|step| step.scratch()).collect();
    let mark = |value: &Placed| {
        let low = offsets.get(&value.slot).copied().unwrap_or(0) as f64 / MIB;
        let high = low + size(value) as f64 / MIB;
        let [first, behind] = value.steps;
        let series = match value.steps {
            _ if scratch.contains(&value.id) => 2,
            [first, _] if first >= program.forward.len() => 1,
            _ => 0,
        };
        Mark {
            shape: Shape::Rectangle([first as f64, low], [behind as f64, high]),
            class: format!("slot s{series}"),
            series: value.slot,
            title: format!(
                "{} {}, {} in slot {}, steps {first} to {}",
                value.id,
                shape(program, value.id),
                bytes(size(value)),
                value.slot,
                behind - 1
            ),
        }
    };
    let mut marks: Vec<Mark> = placed.iter().map(mark).collect();
    let (border, top) = (program.forward.len() as f64, total as f64 / MIB);
    marks.push(Mark {
        shape: Shape::Line(vec![[border, 0.0], [border, top]]),
        class: "limit".into(),
        series: 0,
        title: "the first backward step".into(),
    });
    let alive =
        |step: usize| placed.iter().filter(|v| v.steps[0] <= step && step < v.steps[1]).map(size).sum();
    let peak: (usize, usize) = (0..steps)
        .map(|step| (alive(step), step))
        .fold((0, 0), |most, now| if now.0 > most.0 { now } else { most });
    let without: usize = placed.iter().map(size).sum();
    let words = format!(
        "{} values of a sample share {} slots of {} together; without sharing they would take {}, {} times as much. Most is \
         in use at step {} of {steps}: {}.",
        placed.len(),
        sizes.len(),
        bytes(total),
        bytes(without),
        number(without as f64 / total.max(1) as f64),
        peak.1,
        bytes(peak.0),
    );
    let x = Axis { label: "step", ends: [0.0, steps as f64], logarithmic: false };
    let y = Axis { label: "MiB, slot upon slot", ends: [0.0, top.max(1.0 / MIB)], logarithmic: false };
    let svg = chart(&format!("Memory over the steps of the program. {words}"), x, y, &marks)?;
    let row = |(slot, size): (&usize, &usize)| {
        let within: Vec<&Placed> = placed.iter().filter(|value| value.slot == *slot).collect();
        SlotRow {
            slot: *slot,
            bytes: *size,
            size: bytes(*size),
            shape: within.first().map(|value| shape(program, value.id)).unwrap_or_default(),
            values: within.len(),
            steps: within.iter().map(|value| value.steps[1] - value.steps[0]).sum(),
        }
    };
    let mut slots: Vec<SlotRow> = sizes.iter().map(row).collect();
    slots.sort_by_key(|row| (std::cmp::Reverse(row.bytes), row.slot));
    slots.truncate(LARGEST);
    Ok(Some(Memory { svg, words, slots }))
}

/// The values that have a slot, with the steps between which `plan-memory` keeps it for them. What is kept is read behind the
/// last step, where nothing is drawn.
fn placed(program: &Program) -> Vec<Placed> {
    let behind = (program.forward.len() + program.backward.len()).max(1);
    let place = |(id, (first, last)): (ValueId, (usize, usize))| {
        let slot = program.values.get(&id)?.slot?;
        Some(Placed { id, slot, steps: [first.min(behind - 1), (last + 1).min(behind)] })
    };
    lifetimes(program).into_iter().filter_map(place).collect()
}

fn shape(program: &Program, id: ValueId) -> String {
    match program.image(id) {
        Some([c, 1, h, w]) => format!("f32[N,{c},{h},{w}]"),
        Some([c, d, h, w]) => format!("f32[N,{c},{d},{h},{w}]"),
        None => String::new(),
    }
}

fn bytes(bytes: usize) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((unit, bits)) => format!("{} {unit}", number(bytes as f64 / f64::from(1u32 << bits))),
        None => format!("{bytes} bytes"),
    }
}
