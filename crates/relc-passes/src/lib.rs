//! The compiler's passes, from import clean-up to the conservation check.
//!
//! A pipeline is data: [`pipeline`] lists the passes in order, and [`PassManager`] runs them, verifies the graph
//! after each, times them, and keeps what each says it did, or why it did not ([`Remark`]).
#![forbid(unsafe_code)]

mod assign_rules;
mod channels;
mod check_conservation;
mod cleanup;
mod derive_relevance;
mod dominance;
mod error;
mod find_residuals;
mod gates;
mod infer_shapes;
mod insert_masks;
mod insert_readouts;
mod insert_splits;
mod manager;
mod normalise_batchnorm;
mod ranges;

pub use assign_rules::AssignRules;
pub use check_conservation::CheckConservation;
pub use cleanup::ImportCleanup;
pub use derive_relevance::DeriveRelevance;
pub use error::{PassError, UnsupportedNode};
pub use find_residuals::FindResiduals;
pub use infer_shapes::InferShapes;
pub use insert_masks::InsertMasks;
pub use insert_readouts::InsertReadouts;
pub use insert_splits::InsertSplits;
pub use manager::{Pass, PassManager};
pub use normalise_batchnorm::{NormaliseBatchnorm, unfolded};
pub use relc_ir::remark::{PassRecord, Remark, RemarkKind, Remarks};

use relc_rules::{BatchNormPolicy, Preset};

/// The passes from an imported model to a checked relevance program, in order.
///
/// The first four only look at the model; the rest follow the preset.
pub fn pipeline(preset: &Preset, batchnorm: BatchNormPolicy) -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(ImportCleanup),
        Box::new(InferShapes),
        Box::new(NormaliseBatchnorm { policy: batchnorm }),
        Box::new(FindResiduals),
        Box::new(AssignRules { preset: preset.clone() }),
        Box::new(InsertSplits),
        Box::new(DeriveRelevance),
        Box::new(InsertReadouts { readouts: preset.readouts().to_vec(), masked: !preset.masks().is_empty() }),
        Box::new(InsertMasks { masks: preset.masks().to_vec() }),
        Box::new(CheckConservation),
    ]
}

/// The names and descriptions of the passes, in order.
pub fn pass_list() -> Vec<(&'static str, &'static str)> {
    // The names don't depend on the preset; the shipped default always parses, which a test asserts.
    let passes =
        Preset::named(Preset::DEFAULT).map(|p| pipeline(&p, BatchNormPolicy::Keep)).unwrap_or_default();
    passes.iter().map(|p| (p.name(), p.description())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_pass_has_a_name_and_a_description() {
        let passes = super::pass_list();
        assert_eq!(passes.len(), 10);
        assert!(passes.iter().all(|(name, description)| !name.is_empty() && !description.is_empty()));
    }
}
