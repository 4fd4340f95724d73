//! Affine index expressions over loop variables.

use std::ops::{Add, Mul, Sub};

/// A loop or task variable of one kernel. It has a value only inside its loop, and appears only in [`Idx`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(pub(crate) u32);

/// `sum_k coefficient_k * variable_k + constant`, in elements of the buffer that it indexes.
///
/// Built by operators: `y * 896 + x * 32 + 4`. Arithmetic saturates, and what is saturated stays so, whatever is added:
/// such an index has no bounds, so the verifier refuses it.
///
/// **Invariant:** terms are sorted by variable, each variable once, no coefficient is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Idx {
    terms: Vec<(Var, i64)>,
    constant: i64,
}

impl Idx {
    /// The variables and their coefficients, sorted by variable.
    pub fn terms(&self) -> &[(Var, i64)] {
        &self.terms
    }

    /// The part without variables.
    pub fn constant(&self) -> i64 {
        self.constant
    }

    /// The coefficient of a variable; 0 if it does not appear.
    pub fn coefficient(&self, var: Var) -> i64 {
        self.terms.binary_search_by_key(&var, |term| term.0).map_or(0, |at| self.terms[at].1)
    }

    /// Smallest and largest value, given the smallest and largest of each variable; none if a coefficient is saturated
    /// or a bound does not fit in an `i128`.
    pub(crate) fn interval(&self, range: impl Fn(Var) -> (i128, i128)) -> Option<(i128, i128)> {
        let exact = |n: i64| (!is_saturated(n)).then_some(i128::from(n));
        let start = exact(self.constant)?;
        self.terms.iter().try_fold((start, start), |(low, high), &(var, coefficient)| {
            let (coefficient, (first, last)) = (exact(coefficient)?, range(var));
            let (a, b) = (first.checked_mul(coefficient)?, last.checked_mul(coefficient)?);
            Some((low.checked_add(a.min(b))?, high.checked_add(a.max(b))?))
        })
    }

    fn insert(&mut self, var: Var, coefficient: i64) {
        match self.terms.binary_search_by_key(&var, |term| term.0) {
            Ok(at) => {
                let sum = sum(self.terms[at].1, coefficient);
                if sum == 0 {
                    self.terms.remove(at);
                } else {
                    self.terms[at].1 = sum;
                }
            }
            Err(at) if coefficient != 0 => self.terms.insert(at, (var, coefficient)),
            Err(_) => {}
        }
    }

    fn plus(mut self, other: &Idx) -> Idx {
        for &(var, coefficient) in &other.terms {
            self.insert(var, coefficient);
        }
        self.constant = sum(self.constant, other.constant);
        self
    }

    fn times(mut self, factor: i64) -> Idx {
        if factor == 0 {
            return Idx::default();
        }
        for (_, coefficient) in &mut self.terms {
            *coefficient = coefficient.saturating_mul(factor);
        }
        self.constant = self.constant.saturating_mul(factor);
        self
    }
}

/// Whether a number stands for all that don't fit.
fn is_saturated(n: i64) -> bool {
    n == i64::MIN || n == i64::MAX
}

/// `a + b`; a saturated operand stays what it is.
fn sum(a: i64, b: i64) -> i64 {
    match (is_saturated(a), is_saturated(b)) {
        (true, _) => a,
        (_, true) => b,
        _ => a.saturating_add(b),
    }
}

impl From<Var> for Idx {
    fn from(var: Var) -> Idx {
        Idx { terms: vec![(var, 1)], constant: 0 }
    }
}

impl From<&Idx> for Idx {
    fn from(idx: &Idx) -> Idx {
        idx.clone()
    }
}

impl From<i64> for Idx {
    fn from(constant: i64) -> Idx {
        Idx { terms: Vec::new(), constant }
    }
}

/// For literals: `x * 8 + 4`.
impl From<i32> for Idx {
    fn from(constant: i32) -> Idx {
        i64::from(constant).into()
    }
}

macro_rules! arithmetic {
    ($($operand:ty),*) => {$(
        impl<T: Into<Idx>> Add<T> for $operand {
            type Output = Idx;
            fn add(self, other: T) -> Idx {
                Idx::from(self).plus(&other.into())
            }
        }
        impl<T: Into<Idx>> Sub<T> for $operand {
            type Output = Idx;
            fn sub(self, other: T) -> Idx {
                Idx::from(self).plus(&other.into().times(-1))
            }
        }
        impl Mul<i64> for $operand {
            type Output = Idx;
            fn mul(self, factor: i64) -> Idx {
                Idx::from(self).times(factor)
            }
        }
    )*};
}
arithmetic!(Var, Idx, &Idx);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_canonical() {
        let (x, y) = (Var(1), Var(0));
        let sum = x * 8 + y * 100 + 3 - x * 8 + (y + 1) * 2;
        assert_eq!(sum.terms(), [(y, 102)]);
        assert_eq!(sum.constant(), 5);
        assert_eq!(x * 0 + 4, Idx::from(4));
        assert_eq!((x + y).coefficient(x), 1);
        assert_eq!((x - x).coefficient(x), 0);
    }

    #[test]
    fn intervals_take_the_sign_into_account() {
        let idx = Var(0) * -2 + Var(1) * 3 + 1;
        assert_eq!(idx.interval(|_| (0, 4)), Some((-7, 13)));
    }

    #[test]
    fn what_does_not_fit_has_no_bounds() {
        let far = (i128::from(i64::MIN), i128::from(i64::MAX) - 1);
        let term = |n: u32| Var(n) * (1 << 62);
        assert!(term(0).interval(|_| far).is_some());
        // Each is near 2^125: their sum wraps around an i128.
        let many = (0..9).fold(Idx::default(), |sum, n| sum + term(n));
        assert_eq!(many.interval(|_| far), None);
        // A saturated coefficient is unknown, and nothing brings it back.
        let saturated = Var(0) * i64::MAX + Var(0) - Var(0) * i64::MAX;
        assert_eq!(saturated.coefficient(Var(0)), i64::MAX);
        assert_eq!(saturated.interval(|_| (0, 0)), None);
        let constant = Idx::from(i64::MAX) + 1 - i64::MAX;
        assert_eq!(constant.interval(|_| (0, 0)), None);
    }
}
