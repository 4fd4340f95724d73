//! Where relevance goes that a rule does not pass on.

use crate::names;

/// Where relevance goes that a rule does not pass on: per output `lost_j = R_j - sum_p s_pj sum_q sum_i x_q,i w_q,ij`,
/// what bias, stabiliser and clipping took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Leak {
    /// It leaves, and is booked.
    #[default]
    Lost,
    /// The sum of what the sample lost goes to the inputs in proportion to `|R_i|`; evenly where all are 0.
    Proportional,
    /// By the two-sided z+ rule of the same layer, without bias; flat where its denominators vanish.
    Zplus,
    /// Evenly over the valid inputs of each output's receptive field.
    Flat,
}

names!(Leak, "leak", ["lost" => Lost, "proportional" => Proportional, "zplus" => Zplus, "flat" => Flat]);

/// What happens to relevance that arrives where the denominator is too small to divide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Nothing: the quotient is taken as it comes.
    None,
    /// It is distributed evenly over the valid inputs of the receptive field (the flat rule), and counted.
    Flat,
}

/// Denominators of smaller magnitude take the fallback: `2^-126 / 2^-46`, about `8.3e-25`.
///
/// `2^-126` is the smallest normal f32 and `2^-23` its relative precision. A denominator above the threshold is at
/// least `2^46` times any product that was lost to underflow, so it has all its digits, and a relevance below
/// `2^48` divided by it does not overflow. The f64 interpreter uses the same number, so that every executor takes
/// the same branch.
pub const FALLBACK_THRESHOLD: f64 = f32::MIN_POSITIVE as f64 / (f32::EPSILON as f64 * f32::EPSILON as f64);
