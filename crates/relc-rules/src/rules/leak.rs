//! `leak`: who gets what a rule does not pass on.
//!
//! ```text
//! lost_j = R_j - sum_p s_pj sum_q sum_i x_q,i w_q,ij      what bias, stabiliser and clipping would take of output j
//! zplus:         R_i += two-sided z+ of lost, on the same layer, without bias
//! flat:          R_i += lost_j / (inputs of j's receptive field), for each j
//! proportional:  R_i += |R_i| / sum |R| * sum_j lost_j      over the sample; evenly where R is 0
//! ```
//!
//! With any of them the rule conserves: `zplus` and `flat` per output, `proportional` per sample. `zplus` is what a rule
//! of signed contributions wants, since it sends what no contribution accounts for where the layer is active.
//!
//! At 0/0: z+ falls back to flat.

use relc_ir::rule::{BiasPolicy, Fallback, Leak, LinearRule};

use super::{InputForm, flat, zplus};

/// The rule that takes what another one of the same layer does not pass on, for [`Leak::Zplus`] and [`Leak::Flat`].
pub fn leak_rule(leak: Leak) -> LinearRule {
    let rule = match leak {
        Leak::Zplus => LinearRule::new("zplus", zplus::parts(InputForm::Signed, BiasPolicy::Exclude)),
        Leak::Lost | Leak::Proportional | Leak::Flat => LinearRule::new("flat", flat::parts()),
    };
    LinearRule { fallback: Fallback::Flat, ..rule }
}
