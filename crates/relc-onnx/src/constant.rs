//! Constants that the importer computes with: dense arrays of floats (weights) or of [`Sym`]s (shapes).
//!
//! Every operation that makes a new array asks the [`Budget`] first, so that a small file cannot ask for much
//! memory.

use std::sync::Arc;

use crate::error::Fault;
use crate::sym::Sym;

/// The most dimensions of a constant, and of any shape that the model gives.
pub(crate) const MAX_RANK: usize = 16;

/// The memory that constants may take beside what the model's files hold, in bytes, unless the user says otherwise.
pub(crate) const DEFAULT_LIMIT: u64 = 1 << 30;

/// The memory that constants may still take, in bytes: the limit, and 32 times what the model's files hold (an integer
/// of one byte, such as a quantised weight, takes 16 and then, as a float, 8 more).
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub fn new(limit: u64, file_bytes: usize) -> Self {
        let mut budget = Budget { limit, left: limit };
        budget.add_file(file_bytes as u64);
        budget
    }

    /// Another file of the model's gives its share.
    pub fn add_file(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes.saturating_mul(32));
    }

    /// Accounts for an array of `count` elements.
    pub fn charge<T>(&mut self, count: usize) -> Result<(), Fault> {
        let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Fault::unsupported(format!(
                "got a constant of {count} elements, with which constants take more than the limit of {:.2} GiB beside \
                 what the model's files hold: raise it (--constant-limit GIB)",
                self.limit as f64 / DEFAULT_LIMIT as f64
            ))
        })?;
        Ok(())
    }

    /// Accounts for an array of the shape `dims`. Returns its number of elements.
    pub fn fold<T>(&mut self, dims: &[usize]) -> Result<usize, Fault> {
        let count = elements(dims)?;
        self.charge::<T>(count)?;
        Ok(count)
    }
}

/// The number of elements of a shape.
pub(crate) fn elements(dims: &[usize]) -> Result<usize, Fault> {
    if dims.len() > MAX_RANK {
        return Err(Fault::unsupported(format!(
            "got {} dimensions, expected at most {MAX_RANK}",
            dims.len()
        )));
    }
    // Without its zeros, the product bounds every partial product, and so every stride.
    let product = dims.iter().filter(|d| **d != 0).try_fold(1usize, |n, d| n.checked_mul(*d));
    match product {
        Some(n) if n <= isize::MAX as usize => Ok(if dims.contains(&0) { 0 } else { n }),
        _ => Err(Fault::invalid(format!("the number of elements of the shape {dims:?} overflows"))),
    }
}

/// A negative axis counts from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Fault> {
    let error = || Fault::invalid(format!("got axis {axis}, expected one of {rank} axes"));
    let shifted = if axis < 0 { axis.checked_add(rank as i64).ok_or_else(error)? } else { axis };
    usize::try_from(shifted).ok().filter(|a| *a < rank).ok_or_else(error)
}

/// A dense row-major array. Cloning shares the elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Const<T> {
    dims: Vec<usize>,
    data: Arc<[T]>,
}

impl<T: Copy> Const<T> {
    pub fn new(dims: Vec<usize>, data: impl Into<Arc<[T]>>) -> Result<Self, Fault> {
        let data = data.into();
        let count = elements(&dims)?;
        if count != data.len() {
            return Err(Fault::invalid(format!(
                "got {} elements, expected {count} for the shape {dims:?}",
                data.len()
            )));
        }
        Ok(Const { dims, data })
    }

    pub fn scalar(value: T) -> Self {
        Const { dims: Vec::new(), data: Arc::from([value]) }
    }

    pub fn vector(values: Vec<T>) -> Self {
        Const { dims: vec![values.len()], data: values.into() }
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub fn data(&self) -> &Arc<[T]> {
        &self.data
    }

    /// The only element.
    pub fn single(&self) -> Result<T, Fault> {
        match &*self.data {
            [value] => Ok(*value),
            _ => Err(Fault::invalid(format!(
                "got a constant of shape {:?}, expected a single element",
                self.dims
            ))),
        }
    }

    /// The same elements in another shape.
    pub fn reshape(&self, dims: Vec<usize>) -> Result<Self, Fault> {
        if elements(&dims)? != self.data.len() {
            return Err(Fault::invalid(format!(
                "got the shape {dims:?} for a constant of shape {:?}",
                self.dims
            )));
        }
        Ok(Const { dims, data: self.data.clone() })
    }

    /// The array of shape `dims` whose elements are those at `offset` plus `steps` per axis.
    fn gathered(
        &self,
        dims: Vec<usize>,
        offset: i64,
        steps: &[i64],
        budget: &mut Budget,
    ) -> Result<Self, Fault> {
        let count = budget.fold::<T>(&dims)?;
        let mut out = Vec::with_capacity(count);
        for at in positions(&dims, offset, steps, count) {
            out.push(*self.data.get(at).ok_or_else(|| Fault::invalid("an index lies outside the constant"))?);
        }
        Const::new(dims, out)
    }

    /// How far apart the elements along each axis are.
    fn strides(&self) -> Vec<i64> {
        let mut strides = vec![1i64; self.dims.len()];
        for axis in (1..self.dims.len()).rev() {
            strides[axis - 1] = strides[axis] * self.dims[axis] as i64;
        }
        strides
    }

    pub fn transpose(&self, perm: &[usize], budget: &mut Budget) -> Result<Self, Fault> {
        let strides = self.strides();
        let dims: Option<Vec<usize>> = perm.iter().map(|a| self.dims.get(*a).copied()).collect();
        let steps: Option<Vec<i64>> = perm.iter().map(|a| strides.get(*a).copied()).collect();
        match (dims, steps) {
            (Some(dims), Some(steps)) if perm.len() == self.dims.len() => {
                self.gathered(dims, 0, &steps, budget)
            }
            _ => Err(Fault::invalid(format!("got perm={perm:?} for a constant of shape {:?}", self.dims))),
        }
    }

    /// Elements `start, start + step, ...`, `size` of them, along each axis; all in range.
    pub fn slice(&self, ranges: &[Range], budget: &mut Budget) -> Result<Self, Fault> {
        let strides = self.strides();
        if ranges.len() != strides.len() {
            return Err(Fault::invalid(format!(
                "got {} ranges for a constant of shape {:?}",
                ranges.len(),
                self.dims
            )));
        }
        let offset = ranges.iter().zip(&strides).map(|(r, s)| r.start.saturating_mul(*s)).sum();
        // A step beyond the array is never taken; bounded, it cannot overflow the position either.
        let bound = self.data.len() as i64;
        let step = |(r, s): (&Range, &i64)| r.step.saturating_mul(*s).clamp(-bound, bound);
        let steps: Vec<i64> = ranges.iter().zip(&strides).map(step).collect();
        self.gathered(ranges.iter().map(|r| r.size).collect(), offset, &steps, budget)
    }

    /// The array repeated along axes of size 1 (and new leading axes) to the shape `dims`.
    pub fn expand(&self, dims: Vec<usize>, budget: &mut Budget) -> Result<Self, Fault> {
        let steps = self.steps_over(&dims)?;
        self.gathered(dims, 0, &steps, budget)
    }

    /// The steps per axis of `dims` with which the array is repeated to that shape.
    fn steps_over(&self, dims: &[usize]) -> Result<Vec<i64>, Fault> {
        let error = || {
            Fault::invalid(format!("got the shape {:?}, expected one that broadcasts to {dims:?}", self.dims))
        };
        let missing = dims.len().checked_sub(self.dims.len()).ok_or_else(error)?;
        let mut steps = vec![0; missing];
        for ((&from, &to), stride) in self.dims.iter().zip(&dims[missing..]).zip(self.strides()) {
            match from {
                1 => steps.push(0),
                _ if from == to => steps.push(stride),
                _ => return Err(error()),
            }
        }
        Ok(steps)
    }

    /// The slices of `self` along `axis` that `indices` (with `shape`) name.
    pub fn gather(
        &self,
        axis: usize,
        indices: &[usize],
        shape: &[usize],
        budget: &mut Budget,
    ) -> Result<Self, Fault> {
        let (before, rest) =
            self.dims.split_at_checked(axis).ok_or_else(|| Fault::invalid("got an axis out of range"))?;
        let (size, after) = rest.split_first().ok_or_else(|| Fault::invalid("got an axis out of range"))?;
        let dims = [before, shape, after].concat();
        let count = budget.fold::<T>(&dims)?;
        let inner = elements(after)?;
        let mut out = Vec::with_capacity(count);
        let outer_count = if count == 0 { 0 } else { elements(before)? };
        for outer in 0..outer_count {
            for index in indices {
                let start = (outer * size + index) * inner;
                let part = self.data.get(start..start + inner).filter(|_| index < size);
                out.extend_from_slice(
                    part.ok_or_else(|| Fault::invalid(format!("got index {index} into {size} elements")))?,
                );
            }
        }
        Const::new(dims, out)
    }

    pub fn concat(parts: &[&Self], axis: usize, budget: &mut Budget) -> Result<Self, Fault> {
        let first = parts.first().ok_or_else(|| Fault::invalid("got nothing to concatenate"))?;
        let mut dims = first.dims.clone();
        let mut total = 0usize;
        for part in parts {
            let matches = |(i, (a, b)): (usize, (&usize, &usize))| i == axis || a == b;
            if part.dims.len() != dims.len() || !part.dims.iter().zip(&dims).enumerate().all(matches) {
                return Err(Fault::invalid(format!(
                    "got constants of shapes {:?} and {:?} to concatenate",
                    first.dims, part.dims
                )));
            }
            let size = part.dims.get(axis).ok_or_else(|| Fault::invalid("got an axis out of range"))?;
            total = total.checked_add(*size).ok_or_else(|| Fault::invalid("the size overflows"))?;
        }
        *dims.get_mut(axis).ok_or_else(|| Fault::invalid("got an axis out of range"))? = total;
        let count = budget.fold::<T>(&dims)?;
        let inner = elements(&dims[axis + 1..])?;
        let mut out = Vec::with_capacity(count);
        let outer_count = if count == 0 { 0 } else { elements(&dims[..axis])? };
        for outer in 0..outer_count {
            for part in parts {
                let chunk = part.dims[axis] * inner;
                out.extend_from_slice(&part.data[outer * chunk..(outer + 1) * chunk]);
            }
        }
        Const::new(dims, out)
    }

    /// The elements along `axes` combined, from `start` on; and how many make one. The axes stay with size 1, or go.
    pub fn reduce(
        &self,
        axes: &[usize],
        keepdims: bool,
        start: T,
        combine: impl Fn(T, T) -> Result<T, Fault>,
        budget: &mut Budget,
    ) -> Result<(Self, usize), Fault> {
        let kept: Vec<usize> = (0..self.dims.len()).filter(|i| !axes.contains(i)).collect();
        let rows = self.transpose(&[&kept[..], axes].concat(), budget)?;
        let size = |axis: &usize| self.dims.get(*axis).copied().unwrap_or(1);
        let count: usize = axes.iter().map(size).product();
        let keep = |(i, d): (usize, &usize)| match (axes.contains(&i), keepdims) {
            (false, _) => Some(*d),
            (true, true) => Some(1),
            (true, false) => None,
        };
        let dims: Vec<usize> = self.dims.iter().enumerate().filter_map(keep).collect();
        if count == 0 {
            return Err(Fault::invalid(format!("got a constant of shape {:?} to reduce", self.dims)));
        }
        let combined =
            rows.data.chunks_exact(count).map(|row| row.iter().try_fold(start, |a, b| combine(a, *b)));
        let combined = combined.collect::<Result<Vec<T>, Fault>>()?;
        budget.charge::<T>(combined.len())?;
        Ok((Const::new(dims, combined)?, count))
    }

    /// `f` of each element.
    pub fn map<U: Copy>(
        &self,
        budget: &mut Budget,
        f: impl Fn(T) -> Result<U, Fault>,
    ) -> Result<Const<U>, Fault> {
        budget.charge::<U>(self.data.len())?;
        let data: Vec<U> = self.data.iter().map(|v| f(*v)).collect::<Result<_, _>>()?;
        Const::new(self.dims.clone(), data)
    }

    /// `f` of the elements of both, broadcast as numpy does.
    pub fn zip<U: Copy, V: Copy>(
        &self,
        other: &Const<U>,
        budget: &mut Budget,
        f: impl Fn(T, U) -> Result<V, Fault>,
    ) -> Result<Const<V>, Fault> {
        let dims = broadcast(&self.dims, &other.dims)?;
        let count = budget.fold::<V>(&dims)?;
        let (left, right) = (self.steps_over(&dims)?, other.steps_over(&dims)?);
        let mut out = Vec::with_capacity(count);
        for (i, j) in positions(&dims, 0, &left, count).zip(positions(&dims, 0, &right, count)) {
            out.push(f(self.data[i], other.data[j])?);
        }
        Const::new(dims, out)
    }
}

/// Where the elements of an array of shape `dims` (`count` of them) lie in another: at `offset`, plus `steps` for
/// each index.
fn positions(dims: &[usize], offset: i64, steps: &[i64], count: usize) -> impl Iterator<Item = usize> {
    let mut index = vec![0usize; dims.len()];
    let mut at = offset;
    (0..count).map(move |_| {
        let here = at;
        for (axis, i) in index.iter_mut().enumerate().rev() {
            *i += 1;
            at += steps[axis];
            if *i < dims[axis] {
                break;
            }
            at -= steps[axis] * dims[axis] as i64;
            *i = 0;
        }
        // A negative position, which no caller makes, lies outside every array.
        usize::try_from(here).unwrap_or(usize::MAX)
    })
}

/// What a slice takes along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first index; 0 if nothing is taken.
    pub start: i64,
    /// The distance between indices, not 0.
    pub step: i64,
    /// How many indices.
    pub size: usize,
}

impl Range {
    /// The start and the step of what is not empty, as the graph has them.
    pub fn of_elements(&self) -> Result<(usize, isize), Fault> {
        // The step of one element leads nowhere, whatever it is.
        let step = if self.size == 1 { 1 } else { self.step };
        match (usize::try_from(self.start), isize::try_from(step)) {
            (Ok(start), Ok(step)) => Ok((start, step)),
            _ => Err(Fault::invalid(format!("got start {} and step {step}, expected indices", self.start))),
        }
    }

    /// ONNX's `Slice` of an axis of `size` elements: negative bounds count from the end, bounds outside are clamped.
    pub fn of_slice(size: usize, start: i64, end: i64, step: i64) -> Result<Range, Fault> {
        if step == 0 {
            return Err(Fault::invalid("got a step of 0, expected another"));
        }
        let n = i64::try_from(size).map_err(|_| Fault::invalid("a size overflows"))?;
        let from_front = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        let start = from_front(start).clamp(if step > 0 { 0 } else { -1 }, high);
        let end = from_front(end).clamp(low, high);
        let span = if step > 0 { end - start } else { start - end };
        let stride = step.unsigned_abs();
        let count = if span <= 0 { 0 } else { (span as u64).div_ceil(stride) };
        Ok(Range { start: if count == 0 { 0 } else { start }, step, size: count as usize })
    }
}

fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Fault> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let dim = |i| match (at(a, i), at(b, i)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(Fault::invalid(format!("got the shapes {a:?} and {b:?}, expected shapes that broadcast"))),
    };
    (0..rank).map(dim).collect()
}

impl Const<Sym> {
    /// The elements as numbers.
    pub fn known(&self) -> Result<Vec<i64>, Fault> {
        let known = |s: &Sym| {
            s.known()
                .ok_or_else(|| Fault::unsupported(format!("got {s}, expected a number without the batch N")))
        };
        self.data.iter().map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(1 << 16, 0)
    }

    fn array(dims: &[usize]) -> Const<i64> {
        let count = elements(dims).unwrap();
        Const::new(dims.to_vec(), (0..count as i64).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn elements_move_as_numpy_moves_them() {
        let (a, b) = (array(&[2, 3]), &mut budget());
        assert_eq!(*a.transpose(&[1, 0], b).unwrap().data, [0, 3, 1, 4, 2, 5]);
        let reversed =
            [Range::of_slice(2, -1, i64::MIN, -1).unwrap(), Range::of_slice(3, 0, i64::MAX, 2).unwrap()];
        let sliced = a.slice(&reversed, b).unwrap();
        assert_eq!((sliced.dims(), &sliced.data[..]), (&[2, 2][..], &[3, 5, 0, 2][..]));
        assert_eq!(*array(&[2, 1]).expand(vec![2, 2, 2], b).unwrap().data, [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(*a.gather(1, &[2, 0], &[2], b).unwrap().data, [2, 0, 5, 3]);
        assert_eq!(*a.gather(0, &[1], &[], b).unwrap().data, [3, 4, 5]);
        assert_eq!(*Const::concat(&[&a, &array(&[2, 1])], 1, b).unwrap().data, [0, 1, 2, 0, 3, 4, 5, 1]);
        let sum = a.zip(&array(&[2, 1]), b, |x, y| Ok(x + 10 * y)).unwrap();
        assert_eq!(*sum.data, [0, 1, 2, 13, 14, 15]);
    }

    #[test]
    fn slices_follow_onnx() {
        let range = |start, end, step| {
            let r = Range::of_slice(5, start, end, step).unwrap();
            (0..r.size as i64).map(|i| r.start + i * r.step).collect::<Vec<_>>()
        };
        assert_eq!(range(1, 4, 1), [1, 2, 3]);
        assert_eq!(range(0, i64::MAX, 2), [0, 2, 4]);
        assert_eq!(range(-2, 100, 1), [3, 4]);
        assert_eq!(range(4, i64::MIN, -2), [4, 2, 0]);
        assert_eq!(range(100, 0, -1), [4, 3, 2, 1]);
        assert_eq!(range(3, 1, 1), [] as [i64; 0]);
        assert_eq!(range(i64::MIN, i64::MAX, i64::MAX), [0]);
        assert_eq!(range(i64::MAX, i64::MIN, i64::MIN), [4]);
        assert!(Range::of_slice(5, 0, 1, 0).is_err());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (a, b) = (array(&[2, 3]), &mut budget());
        assert!(a.reshape(vec![4]).is_err());
        assert!(a.transpose(&[0], b).is_err());
        assert!(a.transpose(&[0, 2], b).is_err());
        assert!(a.gather(2, &[0], &[1], b).is_err());
        assert!(a.gather(0, &[2], &[1], b).unwrap_err().reason.contains("index 2"));
        assert!(a.expand(vec![3], b).is_err());
        assert!(a.zip(&array(&[2]), b, |x, _: i64| Ok(x)).unwrap_err().reason.contains("broadcast"));
        assert!(Const::concat(&[&a, &array(&[3, 2])], 0, b).is_err());
        assert!(Const::concat(&[&a], 2, b).is_err());
        assert!(Const::new(vec![usize::MAX, 2], vec![0u8]).is_err());
        assert!(Const::new(vec![1; MAX_RANK + 1], vec![0u8]).is_err());
    }

    #[test]
    fn empty_arrays_of_huge_dimensions_take_no_time() {
        let (empty, b) = (Const::new(vec![1 << 40, 0], Vec::<i64>::new()).unwrap(), &mut budget());
        assert!(empty.gather(1, &[], &[0], b).is_ok());
        assert!(Const::concat(&[&empty, &empty], 1, b).is_ok());
        assert!(empty.transpose(&[1, 0], b).is_ok());
        assert!(Const::new(vec![0, 1 << 40, 1 << 40], Vec::<i64>::new()).is_err());
    }

    #[test]
    fn small_files_get_little_memory() {
        let one = Const::scalar(0i64);
        assert!(
            one.expand(vec![(1 << 13) + 1], &mut budget()).unwrap_err().reason.contains("--constant-limit")
        );
        let mut b = budget();
        assert!(one.expand(vec![1 << 13], &mut b).is_ok());
        assert!(one.expand(vec![1], &mut b).unwrap_err().reason.contains("--constant-limit"));
    }
}
