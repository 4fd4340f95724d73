//! The files that reports are written to, and their schema.

#[cfg(feature = "schema")]
use schemars::{Schema, generate::SchemaSettings, json_schema};
use serde::Serialize;

use super::{ModelReport, RuleReport, RunReport, SampleReport};

/// The report of all inputs of a run: what `relc explain --json` writes.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WholeReport<'a> {
    /// The version of relc.
    pub relc: &'static str,
    /// The model's file, as it was given.
    pub model: String,
    /// What the compiler made of the model.
    pub compiled: &'a ModelReport,
    /// What the run was made of.
    pub run: &'a RunReport,
    /// Which rule each node got, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<&'a [RuleReport]>,
    /// The inputs that were explained.
    pub results: &'a [InputReport],
    /// The inputs that could not be explained.
    pub failures: &'a [FailureReport],
}

/// What a [`WholeReport`] says of an input.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InputReport {
    /// Its explanations.
    #[serde(flatten)]
    pub report: SampleReport,
    /// Its folder, if folders were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// An input that could not be explained.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailureReport {
    /// The input.
    pub input: String,
    /// Why.
    pub error: String,
}

/// The report of one input: what `relc explain --out` writes as `report.json` in its folder.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FolderReport<'a> {
    /// The version of relc.
    pub relc: &'static str,
    /// The model's file, as it was given.
    pub model: String,
    /// What the compiler made of the model.
    pub compiled: &'a ModelReport,
    /// What the run was made of.
    pub run: &'a RunReport,
    /// The input and its explanations.
    #[serde(flatten)]
    pub result: &'a SampleReport,
}

/// The JSON Schema (2020-12) of a [`FolderReport`] or a [`WholeReport`]; serialises as JSON. Later versions of relc may
/// add keys, so the schema does not forbid others. With the feature `schema`.
#[cfg(feature = "schema")]
pub fn schema() -> impl Serialize {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let folder = generator.subschema_for::<FolderReport<'_>>();
    let whole = generator.subschema_for::<WholeReport<'_>>();
    let schema: Schema = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A report of relc explain",
        "description": "FolderReport: report.json in a folder of --out. WholeReport: what --json writes. docs/report.md \
                        says more of each key.",
        "anyOf": [folder, whole],
        "$defs": generator.take_definitions(true),
    });
    schema
}
