//! Explainers as ONNX files.

use relc_export::{ExportError, ExportOptions, ExportTarget};
use relc_rules::SeedKind;

use crate::explainer::Explainer;

impl Explainer {
    /// The bytes of an ONNX file (opset 17, standard operators) that explains as this explainer does: from the model's
    /// input to `logits` `f32[N,K]`, `relevance` of the input's shape and, for signals, pictures and volumes, `map` `f32[N,..]`. The batch
    /// stays open if it is in the model; other sizes that the model leaves open are those that were assumed. The file's
    /// metadata has the preset, the seed and whether relevance is conserved; there is no ledger.
    ///
    /// ```no_run
    /// # use relc::{Compiler, ExportTarget, Preset, SeedKind};
    /// let explainer = Compiler::new(Preset::named("two_level")?).compile("model.onnx")?;
    /// std::fs::write("explainer.onnx", explainer.to_onnx(ExportTarget::Argmax, SeedKind::Logit)?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the model has several inputs, the target is none of its outputs, or a node can't be written.
    pub fn to_onnx(&self, target: ExportTarget, seed: SeedKind) -> Result<Vec<u8>, ExportError> {
        let channels = self.spatial_input().map(|(axis, _)| axis);
        let explains = match target {
            ExportTarget::Argmax => "argmax".to_string(),
            ExportTarget::Output(output) => format!("output {output}"),
            ExportTarget::Input => "the input target".to_string(),
        };
        let metadata = [
            ("relc.preset", self.preset().name.clone()),
            ("relc.batchnorm", self.batchnorm().name().to_string()),
            ("relc.target", explains),
            ("relc.seed", seed.to_string()),
            ("relc.conserving", self.is_conserving().to_string()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        relc_export::export(self.graph(), &ExportOptions { target, seed, channels, metadata })
    }
}
