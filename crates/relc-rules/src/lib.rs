//! LRP rules, split policies, seeds and presets, as data.
//!
//! A rule's file holds its formula, citation, domain and behaviour at 0/0, and builds the normal form
//! ([`relc_ir::rule`]) that the graph carries and every executor computes. A [`Preset`] says which node gets which.
//!
//! **Invariant:** no kernels and no graphs here.
#![forbid(unsafe_code)]

mod contract;
mod glob;
mod preset;
pub mod rules;
mod seed;

pub use contract::{InputFacts, contract};
pub use glob::NameGlob;
pub use preset::{BatchNormPolicy, Given, Mask, Place, Preset, PresetError, ReadoutLine, ReadoutPlace};
pub use rules::leak::leak_rule;
pub use rules::{Description, RULES};
pub use seed::SeedKind;
