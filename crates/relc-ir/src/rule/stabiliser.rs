//! What keeps denominators away from 0.

/// What is added to a denominator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stabiliser {
    /// Nothing.
    None,
    /// `z + eps`, whatever the sign of `z`.
    Plus(f64),
    /// `z + eps * (z >= 0 ? 1 : -1)`.
    Signed(f64),
    /// `z + k rms(z) * (z >= 0 ? 1 : -1)`, with `rms(z) = sqrt(mean_j z_j^2)` over all of the layer's denominators of
    /// one sample: the same in every layer and at every scale of the network (zennit's stabiliser with `norm_scale` is
    /// the precedent). Where all denominators are 0 it adds nothing.
    Relative(f64),
}

impl Stabiliser {
    /// The one of three attributes that is given.
    ///
    /// # Errors
    /// If several are, or one is not a positive number.
    pub fn of(plus: Option<f64>, signed: Option<f64>, relative: Option<f64>) -> Result<Self, String> {
        let stabiliser = match (plus, signed, relative) {
            (None, None, None) => return Ok(Stabiliser::None),
            (Some(eps), None, None) => Stabiliser::Plus(eps),
            (None, Some(eps), None) => Stabiliser::Signed(eps),
            (None, None, Some(k)) => Stabiliser::Relative(k),
            _ => return Err("got several of plus_eps, signed_eps and relative_eps, expected one".into()),
        };
        let (Stabiliser::Plus(size) | Stabiliser::Signed(size) | Stabiliser::Relative(size)) = stabiliser
        else {
            return Ok(stabiliser);
        };
        if size > 0.0 && size.is_finite() {
            Ok(stabiliser)
        } else {
            Err(format!("got a stabiliser of {size}, expected a positive number"))
        }
    }

    /// What is added to the denominator `z`, where `rms` is that of all denominators of the sample; only
    /// [`Stabiliser::Relative`] reads it.
    pub fn term(self, z: f64, rms: f64) -> f64 {
        let signed = |eps: f64| eps.copysign(if z >= 0.0 { 1.0 } else { -1.0 });
        match self {
            Stabiliser::None => 0.0,
            Stabiliser::Plus(eps) => eps,
            Stabiliser::Signed(eps) => signed(eps),
            Stabiliser::Relative(k) => signed(k * rms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_stabilisers_move_away_from_zero() {
        assert_eq!(Stabiliser::Signed(0.5).term(-1.0, 9.0), -0.5);
        assert_eq!(Stabiliser::Signed(0.5).term(0.0, 9.0), 0.5);
        assert_eq!(Stabiliser::Plus(0.5).term(-1.0, 9.0), 0.5);
        assert_eq!(Stabiliser::Relative(0.25).term(-1.0, 2.0), -0.5);
        assert_eq!(Stabiliser::Relative(0.25).term(0.0, 2.0), 0.5);
    }

    #[test]
    fn one_stabiliser_is_positive() {
        assert_eq!(Stabiliser::of(None, None, Some(0.25)), Ok(Stabiliser::Relative(0.25)));
        assert!(Stabiliser::of(Some(1.0), None, Some(0.25)).unwrap_err().contains("expected one"));
        assert!(Stabiliser::of(None, Some(0.0), None).unwrap_err().contains("positive"));
    }
}
