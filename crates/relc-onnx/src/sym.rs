//! Integers of shape arithmetic: `n * N + c`, where `N` is the symbolic batch.
//!
//! Exporters compute shapes in the graph (`Shape`, `Gather`, `Mul`, `Concat`, ...). With a dynamic batch, such a
//! chain carries `N` through; everything that it may do with `N` stays affine, and what does not is an error that
//! says so. The index of a sample (what `Range` from 0 to `N` counts) goes along too, to where it says that each sample
//! is looked at by itself.

use std::fmt;

use relc_ir::Dim;

use crate::error::Fault;

/// The integer `n * N + c` for every batch size `N >= 1`, or `c` more than the index of each sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sym {
    /// How often the batch is counted; [`INDEXED`] where the sample is.
    pub n: i64,
    /// The constant part.
    pub c: i64,
}

/// No size counts the batch so often. (A field of its own would make the integers of quantised weights larger.)
const INDEXED: i64 = i64::MIN;

impl Sym {
    pub const BATCH: Sym = Sym { n: 1, c: 0 };
    /// The index of each sample.
    pub const SAMPLE: Sym = Sym { n: INDEXED, c: 0 };

    /// The number, if it does not depend on the batch.
    pub fn known(self) -> Option<i64> {
        (self.n == 0).then_some(self.c)
    }

    /// The dimension, if it is one: the batch itself or a number that is not negative.
    pub fn dim(self) -> Option<Dim> {
        if self == Sym::BATCH {
            return Some(Dim::Batch);
        }
        usize::try_from(self.known()?).ok().map(Dim::Fixed)
    }

    fn checked(n: Option<i64>, c: Option<i64>) -> Result<Sym, Fault> {
        match (n.filter(|n| *n != INDEXED), c) {
            (Some(n), Some(c)) => Ok(Sym { n, c }),
            _ => Err(overflow()),
        }
    }

    fn is_indexed(self) -> bool {
        self.n == INDEXED
    }

    pub fn add(self, other: Sym) -> Result<Sym, Fault> {
        let sum = self.c.checked_add(other.c);
        match (self.is_indexed(), other.is_indexed()) {
            (false, false) => Sym::checked(self.n.checked_add(other.n), sum),
            (true, false) if other.n == 0 => sum.map(|c| Sym { c, ..self }).ok_or_else(overflow),
            (false, true) if self.n == 0 => sum.map(|c| Sym { c, ..other }).ok_or_else(overflow),
            _ => Err(unknown(format!("({self}) + ({other})"))),
        }
    }

    pub fn sub(self, other: Sym) -> Result<Sym, Fault> {
        let difference = self.c.checked_sub(other.c);
        match (self.is_indexed(), other.is_indexed()) {
            (false, false) => Sym::checked(self.n.checked_sub(other.n), difference),
            (true, false) if other.n == 0 => difference.map(|c| Sym { c, ..self }).ok_or_else(overflow),
            (true, true) => difference.map(Sym::from).ok_or_else(overflow),
            _ => Err(unknown(format!("({self}) - ({other})"))),
        }
    }

    pub fn mul(self, other: Sym) -> Result<Sym, Fault> {
        if self.is_indexed() || other.is_indexed() {
            return Err(unknown(format!("({self}) * ({other})")));
        }
        let (s, k) = match (self.known(), other.known()) {
            (_, Some(k)) => (self, k),
            (Some(k), None) => (other, k),
            (None, None) => {
                return Err(Fault::unsupported(format!("got ({self}) * ({other}), expected no power of N")));
            }
        };
        Sym::checked(s.n.checked_mul(k), s.c.checked_mul(k))
    }

    /// Division as ONNX has it for integers: towards zero.
    pub fn div(self, other: Sym) -> Result<Sym, Fault> {
        if other == Sym::default() {
            return Err(Fault::invalid(format!("got ({self}) / 0")));
        }
        if self.is_indexed() || other.is_indexed() {
            return Err(unknown(format!("({self}) / ({other})")));
        }
        if let (Some(a), Some(b)) = (self.known(), other.known()) {
            return a.checked_div(b).map(Sym::from).ok_or_else(overflow);
        }
        if let Some(d) = other.known()
            && self.n.checked_rem(d) == Some(0)
            && self.c.checked_rem(d) == Some(0)
        {
            return Sym::checked(self.n.checked_div(d), self.c.checked_div(d));
        }
        if other.n != 0
            && let Some(k) = self.n.checked_div(other.n)
            && other.mul(k.into()) == Ok(self)
        {
            return Ok(k.into());
        }
        Err(Fault::unsupported(format!(
            "got ({self}) / ({other}), expected a quotient that is the same for every batch N"
        )))
    }

    /// Whether `self >= other` for every `N >= 1`; `false` means that `self <= other` for every `N`.
    pub fn is_at_least(self, other: Sym) -> Result<bool, Fault> {
        let d = self.sub(other)?;
        // At N = 1 the difference has its first value, from where it moves in the direction of n.
        match d.n.checked_add(d.c).filter(|_| !d.is_indexed()) {
            Some(first) if first >= 0 && d.n >= 0 => Ok(true),
            Some(first) if first <= 0 && d.n <= 0 => Ok(false),
            _ => Err(undecided(self, other)),
        }
    }

    /// Whether the two are equal, if it is the same for every `N >= 1`.
    pub fn equals(self, other: Sym) -> Result<bool, Fault> {
        let d = self.sub(other)?;
        if d.is_indexed() {
            return Err(undecided(self, other));
        }
        if d.n == 0 {
            return Ok(d.c == 0);
        }
        // n * N = -c has a solution N >= 1 only if n divides c and the quotient is positive.
        let solvable = d.c.checked_rem(d.n) == Some(0) && d.c.checked_div(d.n).is_none_or(|q| q < 0);
        if solvable {
            return Err(undecided(self, other));
        }
        Ok(false)
    }
}

fn overflow() -> Fault {
    Fault::invalid("an integer overflows")
}

fn unknown(what: String) -> Fault {
    Fault::unsupported(format!("got {what}, expected no arithmetic with the index of a sample"))
}

fn undecided(a: Sym, b: Sym) -> Fault {
    Fault::unsupported(format!("got a comparison of {a} and {b}, which depends on the batch N"))
}

impl From<i64> for Sym {
    fn from(c: i64) -> Self {
        Sym { n: 0, c }
    }
}

impl From<Dim> for Sym {
    fn from(dim: Dim) -> Self {
        // A size is at most MAX_ELEMENTS, far below i64::MAX.
        dim.fixed().map_or(Sym::BATCH, |n| Sym::from(n as i64))
    }
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.n, self.c) {
            (0, c) => write!(f, "{c}"),
            (INDEXED, c) => write!(f, "sample{c:+}"),
            (1, 0) => write!(f, "N"),
            (n, 0) => write!(f, "{n}*N"),
            (n, c) => write!(f, "{n}*N{c:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: Sym = Sym::BATCH;

    fn int(c: i64) -> Sym {
        Sym::from(c)
    }

    #[test]
    fn the_batch_goes_through_affine_arithmetic() {
        let twice = N.mul(int(2)).unwrap();
        assert_eq!(twice.add(int(-3)).unwrap().to_string(), "2*N-3");
        assert_eq!(twice.div(int(2)), Ok(N));
        assert_eq!(twice.div(N), Ok(int(2)));
        assert_eq!(twice.sub(N), Ok(N));
        assert_eq!(int(-7).div(int(2)), Ok(int(-3)));
        assert_eq!(
            (N.dim(), int(4).dim(), twice.dim(), int(-1).dim()),
            (Some(Dim::Batch), Some(Dim::Fixed(4)), None, None)
        );
    }

    #[test]
    fn what_depends_on_the_batch_is_an_error() {
        assert!(N.mul(N).unwrap_err().reason.contains("power of N"));
        assert!(N.div(int(2)).unwrap_err().reason.contains("every batch"));
        assert!(int(6).div(N).unwrap_err().reason.contains("every batch"));
        assert!(N.equals(int(3)).unwrap_err().reason.contains("depends on the batch"));
        assert!(N.is_at_least(int(3)).unwrap_err().reason.contains("depends on the batch"));
    }

    #[test]
    fn the_index_of_a_sample_is_no_number() {
        let later = int(2).add(Sym::SAMPLE).unwrap();
        assert_eq!((later.known(), later.dim(), later.to_string().as_str()), (None, None, "sample+2"));
        assert_eq!(later.sub(int(2)), Ok(Sym::SAMPLE));
        assert_eq!(later.sub(Sym::SAMPLE), Ok(int(2)));
        assert_eq!(later.equals(later), Ok(true));
        assert!(later.equals(int(0)).unwrap_err().reason.contains("depends on the batch"));
        assert!(later.is_at_least(int(0)).unwrap_err().reason.contains("depends on the batch"));
        for refused in
            [later.add(N), N.sub(later), later.add(later), later.mul(int(2)), later.div(int(2)), N.div(later)]
        {
            assert!(refused.unwrap_err().reason.contains("the index of a sample"));
        }
    }

    #[test]
    fn comparisons_that_hold_for_every_batch_are_decided() {
        assert_eq!(N.equals(int(0)), Ok(false));
        assert_eq!(N.equals(int(-1)), Ok(false));
        assert_eq!(N.equals(N), Ok(true));
        assert_eq!(N.mul(int(2)).unwrap().equals(int(3)), Ok(false));
        assert_eq!(N.is_at_least(int(1)), Ok(true));
        assert_eq!(int(1).is_at_least(N), Ok(false));
        assert_eq!(int(-1).is_at_least(int(2)), Ok(false));
    }

    #[test]
    fn extremes_overflow_into_errors() {
        let (min, max) = (int(i64::MIN), int(i64::MAX));
        assert!(max.add(int(1)).is_err());
        assert!(min.sub(int(1)).is_err());
        assert!(min.mul(int(-1)).is_err());
        assert!(min.div(int(-1)).is_err());
        assert!(int(1).div(int(0)).is_err());
        assert!(Sym { n: i64::MIN + 1, c: 0 }.sub(N).is_err());
        assert!(Sym { n: 1, c: i64::MAX }.is_at_least(int(0)).is_err());
        assert!(Sym { n: -1, c: i64::MIN }.equals(int(0)).is_ok());
    }
}
