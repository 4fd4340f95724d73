//! The simple proof that tasks are independent: that no task touches what another one writes.

use super::verify::Ranges;
use super::{Buf, Idx, Kernel, Op, Place, Stmt, TaskDim, Ty, Val, walk};

/// What one statement reads or writes: `len` elements from `index` on.
struct Touch<'a> {
    buffer: Buf,
    index: &'a Idx,
    len: i128,
    writes: bool,
}

/// The names of the written buffers for which it is not proved that different tasks touch disjoint elements.
///
/// Proved are those where all reads and writes have the same coefficients `c_k >= 0` of the task variables, and each
/// `c_k` exceeds what the faster variables span: sorted ascending, `c_1 >= S`, `c_2 >= c_1 (n_1 - 1) + S`, and so on,
/// where `S` is the length of the range that the accesses of one task lie in. Then those ranges do not overlap. All of this
/// modulo what the tasks span together, so that a loop of one task which steps over the elements of all of them (from slice
/// to slice) may lie between. Sums that don't fit in an `i128` prove nothing.
pub fn unproven_disjoint(kernel: &Kernel) -> Vec<&str> {
    let mut touches = Vec::new();
    walk(&kernel.body, &mut |stmt| collect(kernel, stmt, &mut touches));
    let ranges = Ranges::of(kernel);
    let buffers = kernel.buffers.iter().zip(0..);
    let unproven = buffers.filter(|(_, buffer)| {
        let own = || touches.iter().filter(|touch| touch.buffer == Buf(*buffer));
        own().any(|touch| touch.writes) && !is_proven(&kernel.tasks, &ranges, own())
    });
    unproven.map(|(buffer, _)| buffer.name.as_str()).collect()
}

fn collect<'a>(kernel: &Kernel, stmt: &'a Stmt, touches: &mut Vec<Touch<'a>>) {
    let lanes = |value: &Val| {
        let ty = kernel.values.get(value.0 as usize).map_or(Ty::F32x4, |decl| decl.ty);
        ty.in_memory().map_or(1, |(_, lanes)| lanes as i128)
    };
    let mut touch = |place: &'a Place, len, writes| {
        touches.push(Touch { buffer: place.buffer, index: &place.index, len, writes });
    };
    match stmt {
        Stmt::Store { value, at } => touch(at, lanes(value), true),
        Stmt::Let { value, op: Op::Load(place) } => touch(place, lanes(value), false),
        Stmt::Let { op: Op::LoadSplat(place), .. } => touch(place, 1, false),
        Stmt::For(_) | Stmt::Let { .. } | Stmt::Set { .. } => {}
    }
}

fn is_proven<'a>(tasks: &[TaskDim], ranges: &Ranges, touches: impl Iterator<Item = &'a Touch<'a>>) -> bool {
    // A dimension of one task separates nothing.
    let tasks: Vec<&TaskDim> = tasks.iter().filter(|dim| dim.extent > 1).collect();
    let touches: Vec<&Touch<'_>> = touches.collect();
    let coefficients = |touch: &Touch<'_>| -> Vec<i64> {
        tasks.iter().map(|dim| touch.index.coefficient(dim.var)).collect()
    };
    let Some(strides) = touches.first().map(|touch| coefficients(touch)) else { return true };
    let spans = strides.iter().zip(&tasks).map(|(stride, dim)| i128::from(*stride) * i128::from(dim.extent));
    let whole = spans.max().unwrap_or(1).max(1);
    let (mut low, mut high) = (i128::MAX, i128::MIN);
    for touch in touches {
        if coefficients(touch) != strides {
            return false;
        }
        let steps_over = |var| i128::from(touch.index.coefficient(var)) % whole == 0;
        let within = |var| match tasks.iter().any(|dim| dim.var == var) || steps_over(var) {
            true => (0, 0),
            false => ranges.range(var),
        };
        let bounds = touch.index.interval(within);
        let Some((first, end)) = bounds.and_then(|(first, last)| Some((first, last.checked_add(touch.len)?)))
        else {
            return false;
        };
        let Some(from) = first.div_euclid(whole).checked_mul(whole) else { return false };
        (low, high) = (low.min(first - from), high.max(end.saturating_sub(from)));
    }
    let mut dims: Vec<(i64, u64)> = strides.into_iter().zip(tasks.iter().map(|dim| dim.extent)).collect();
    dims.sort_unstable();
    let mut span = high.checked_sub(low);
    dims.into_iter().all(|(stride, extent)| {
        let Some(before) = span else { return false };
        let stride = i128::from(stride);
        // Both factors fit in 64 bits.
        span = before.checked_add(stride * i128::from(extent - 1));
        stride >= before
    })
}
