//! Affine index expressions over loop variables.

use std::ops::{Add, Mul, Sub};

/// A loop or task variable of one kernel. It has a value only inside its loop, and appears only in [`Idx`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(pub(crate) u32);

/// `sum_k coefficient_k * variable_k + constant`, in elements of the buffer that it indexes.
///
/// Built by operators: `y * 896 + x * 32 + 4`. Arithmetic saturates: a saturated index lies outside every buffer, so
/// the verifier refuses it.
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

    /// Smallest and largest value, given the smallest and largest of each variable.
    pub(crate) fn interval(&self, range: impl Fn(Var) -> (i128, i128)) -> (i128, i128) {
        let start = i128::from(self.constant);
        self.terms.iter().fold((start, start), |(low, high), &(var, coefficient)| {
            let (first, last) = range(var);
            let (a, b) = (first * i128::from(coefficient), last * i128::from(coefficient));
            (low + a.min(b), high + a.max(b))
        })
    }

    fn insert(&mut self, var: Var, coefficient: i64) {
        match self.terms.binary_search_by_key(&var, |term| term.0) {
            Ok(at) => {
                let sum = self.terms[at].1.saturating_add(coefficient);
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
        self.constant = self.constant.saturating_add(other.constant);
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
        assert_eq!(idx.interval(|_| (0, 4)), (-7, 13));
    }
}
