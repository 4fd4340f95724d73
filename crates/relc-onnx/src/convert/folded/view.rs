//! Where the batch is in a tensor of the model, and what stands for the tensor in the graph.

use std::ops::Range;

use relc_ir::{Dim, TensorType, ValueId};

use crate::call::Value;
use crate::error::Fault;
use crate::sym::Sym;

/// A tensor whose batch is not its first axis, or a factor of an axis: `[L,N,C]`, `[4*N,C,H,W]`.
///
/// In the graph the batch comes first, then the other axes in their order: `[N,L,C]`, `[N,4,C,H,W]`.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    /// What stands for it.
    pub value: ValueId,
    /// How.
    pub view: View,
}

/// How a tensor of the graph, `[N,..]`, stands for one of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The model's sizes; of the axis with the batch, those of one sample.
    pub dims: Vec<usize>,
    /// The axis with the batch: `before * N * after`, the first changing slowest.
    pub at: usize,
    /// Its slower factor.
    pub before: usize,
    /// Its faster factor.
    pub after: usize,
}

impl View {
    /// Of a tensor that is in the graph as it is; none if it has no batch.
    pub fn plain(ty: &TensorType) -> Option<View> {
        let dims = ty.is_batched().then(|| ty.bind(1))?;
        Some(View { dims, at: 0, before: 1, after: 1 })
    }

    /// The model's number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The value that the graph's is to the importer.
    pub fn of(self, value: ValueId) -> Value {
        match self {
            View { at: 0, before: 1, after: 1, .. } => Value::Graph(value),
            view => Value::Folded(Folded { value, view }),
        }
    }

    /// The factors of the axis with the batch that are axes of the graph.
    fn factors(&self) -> impl Iterator<Item = usize> + use<> {
        [self.before, self.after].into_iter().filter(|factor| *factor > 1)
    }

    /// The graph's axes of one of the model's, but for the batch.
    pub fn axes(&self, axis: usize) -> Range<usize> {
        let split = self.factors().count();
        let before = if axis > self.at { axis - 1 + split } else { axis };
        let count = if axis == self.at { split } else { 1 };
        before + 1..before + 1 + count
    }

    /// The graph's sizes.
    pub fn sizes(&self) -> Vec<Dim> {
        let fixed = self.dims.iter().enumerate().flat_map(|(axis, size)| {
            let factors: Vec<usize> = if axis == self.at { self.factors().collect() } else { vec![*size] };
            factors
        });
        std::iter::once(Dim::Batch).chain(fixed.map(Dim::Fixed)).collect()
    }

    /// The model's sizes.
    pub fn syms(&self) -> Vec<Sym> {
        let sym = |(axis, size): (usize, &usize)| {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            if axis == self.at { Sym { n: size, c: 0 } } else { Sym::from(size) }
        };
        self.dims.iter().enumerate().map(sym).collect()
    }

    /// The shape for messages.
    pub fn text(&self) -> String {
        self.syms().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// With axes of size 1 put first, up to `rank` of them.
    pub fn widened(&self, rank: usize) -> View {
        let missing = rank.saturating_sub(self.rank());
        View { dims: [&vec![1; missing], &self.dims[..]].concat(), at: self.at + missing, ..*self }
    }

    /// In the shape `target`: 0 copies a size unless it is one, -1 takes what is left. The batch stays where it is among
    /// the elements; the graph's elements of a sample keep their order.
    pub fn reshaped(&self, target: &[Sym], zero_is_zero: bool) -> Result<View, Fault> {
        let text = target.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let refused =
            |why: &str| Fault::unsupported(format!("got [{}] in the shape [{text}], {why}", self.text()));
        let own = self.syms();
        let mut open = None;
        let mut sizes = Vec::with_capacity(target.len());
        for (axis, sym) in target.iter().enumerate() {
            let sym = match sym.known() {
                Some(0) if !zero_is_zero => {
                    *own.get(axis).ok_or_else(|| refused("whose 0 copies nothing"))?
                }
                _ => *sym,
            };
            if sym.known() == Some(-1) && open.replace(axis).is_some() {
                return Err(refused("expected at most one -1"));
            }
            sizes.push(sym);
        }
        let batches: Vec<usize> = (0..sizes.len()).filter(|axis| sizes[*axis].n != 0).collect();
        let at = match (&batches[..], open) {
            ([at], _) => *at,
            ([], Some(open)) => open,
            _ => return Err(refused("expected the batch in one of its axes")),
        };
        let all = product(&self.dims).ok_or_else(|| refused("whose elements are too many"))?;
        let size = |axis: usize| {
            let sym = sizes[axis];
            let size = if axis == at { sym.n } else { sym.c };
            usize::try_from(size).ok().filter(|size| *size > 0 && (axis != at || sym.c == 0))
        };
        let others: Option<Vec<usize>> =
            (0..sizes.len()).filter(|axis| Some(*axis) != open).map(size).collect();
        let others =
            others.and_then(|sizes| product(&sizes)).ok_or_else(|| refused("expected sizes of 1 or more"))?;
        let left = all.checked_div(others).filter(|left| left * others == all);
        let left = left.ok_or_else(|| refused("expected the same number of elements"))?;
        if open.is_none() && left != 1 {
            return Err(refused("expected the same number of elements"));
        }
        let dims: Option<Vec<usize>> =
            (0..sizes.len()).map(|axis| if Some(axis) == open { Some(left) } else { size(axis) }).collect();
        let dims = dims.ok_or_else(|| refused("expected sizes of 1 or more"))?;
        // Of a sample, what changes slower than the batch stays so.
        let slower = |dims: &[usize], at: usize| product(&dims[..at]);
        let (had, has) = (slower(&self.dims, self.at), slower(&dims, at));
        let before = had.zip(has).and_then(|(had, has)| {
            (had * self.before).checked_div(has).filter(|b| b * has == had * self.before)
        });
        let after = before.and_then(|before| dims[at].checked_div(before).filter(|a| a * before == dims[at]));
        match before.zip(after) {
            Some((before, after)) => Ok(View { dims, at, before, after }),
            None => Err(refused("which mixes the batch with other axes")),
        }
    }
}

/// The product of sizes; none if it is larger than any tensor's.
fn product(sizes: &[usize]) -> Option<usize> {
    let product = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    (product <= relc_ir::MAX_ELEMENTS).then_some(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dims: &[usize], at: usize, [before, after]: [usize; 2]) -> View {
        View { dims: dims.to_vec(), at, before, after }
    }

    #[test]
    fn the_graph_has_the_batch_first() {
        let rows = view(&[5, 1, 7], 1, [1, 1]);
        assert_eq!(
            (rows.text().as_str(), TensorType::new(rows.sizes()).to_string().as_str()),
            ("5,N,7", "f32[N,5,7]")
        );
        assert_eq!([0, 1, 2].map(|axis| rows.axes(axis)), [1..2, 2..2, 2..3]);
        let frames = view(&[12, 3, 8], 0, [3, 4]);
        assert_eq!(TensorType::new(frames.sizes()).to_string(), "f32[N,3,4,3,8]");
        assert_eq!([0, 1, 2].map(|axis| frames.axes(axis)), [1..3, 3..4, 4..5]);
        assert_eq!(frames.text(), "12*N,3,8");
    }

    #[test]
    fn reshapes_keep_the_place_of_the_batch() {
        let n = |n| Sym { n, c: 0 };
        let check = |from: &View, target: &[Sym], expected: Result<View, &str>| match (
            from.reshaped(target, false),
            expected,
        ) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(fault), Err(part)) => assert!(fault.reason.contains(part), "{}", fault.reason),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        };
        let video = view(&[1, 4, 3, 8], 0, [1, 1]);
        let frames = view(&[4, 3, 8], 0, [1, 4]);
        check(&video, &[n(4), 3.into(), 8.into()], Ok(frames.clone()));
        check(&video, &[(-1).into(), 3.into(), 8.into()], Ok(frames.clone()));
        check(&frames, &[n(1), 4.into(), (-1).into()], Ok(view(&[1, 4, 24], 0, [1, 1])));
        check(&frames, &[0.into(), 24.into()], Ok(view(&[4, 24], 0, [1, 4])));
        // Heads of tokens that come before the batch.
        let tokens = view(&[5, 1, 12], 1, [1, 1]);
        let heads = view(&[5, 3, 4], 1, [1, 3]);
        check(&tokens, &[5.into(), n(3), 4.into()], Ok(heads.clone()));
        check(&heads, &[n(5), 12.into()], Ok(view(&[5, 12], 0, [5, 1])));
        check(&heads, &[n(15), 4.into()], Ok(view(&[15, 4], 0, [5, 3])));
        check(&tokens, &[12.into(), n(1), 5.into()], Err("mixes the batch"));
        check(&tokens, &[n(7), (-1).into()], Err("same number of elements"));
        check(&tokens, &[5.into(), 12.into()], Err("the batch in one of its axes"));
        check(&tokens, &[i64::MAX.into(), n(i64::MAX), (-1).into()], Err("sizes of 1 or more"));
    }
}
