//! An explanation that nobody looks at: whether a model can be explained, before there is an input.

use ndarray::ArrayD;
use relc_interp::InterpError;
use relc_rules::SeedKind;

use crate::error::ExplainError;
use crate::explainer::Explainer;
use crate::request::{Seed, Targets};

/// Models of which one explanation takes more memory than this, in bytes, are not run: 2 GiB.
const MOST: usize = 2 << 30;

impl Explainer {
    /// Explains an input that stands for any: what fails for a reason that lies in the model fails here. Values that
    /// are not finite don't count, since another input may have none. Models that take much memory are believed.
    ///
    /// # Errors
    /// What [`explain`](Self::explain) would say.
    pub fn rehearse(&self) -> Result<(), ExplainError> {
        self.check_memory(1)?;
        if self.memory_estimate(1) > MOST {
            return Ok(());
        }
        let mut number = 0u32;
        let input = ArrayD::from_shape_simple_fn(self.input()?.1.bind(1), || {
            // Weyl's sequence: noise enough, and the same each time.
            number = number.wrapping_add(2_654_435_769);
            number as f32 / u32::MAX as f32
        });
        match self.explain(input.view(), &Seed::Named(SeedKind::OneHot), &Targets::Argmax) {
            Err(ExplainError::Run(error)) if error.is_non_finite() => Ok(()),
            Err(ExplainError::Execute(InterpError::NonFinite { .. })) => Ok(()),
            result => result.map(|_| ()),
        }
    }
}
