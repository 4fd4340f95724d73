//! Explanations, evaluations and compilations as HTML pages: one file each, which opens without a network, without a server
//! and without relc.
//!
//! A page is a template of `askama` with its data as JSON in it, its styles, and its scripts as ES modules: the browser's
//! import map names them, so nothing has to bundle them. Graphs are laid out by `rust-sugiyama`, charts drawn by `plotters`.
//! Its content security policy lets it load nothing, and run only what was written into it. What comes from a model or from
//! a file (names, labels, texts) is text: templates escape it, and scripts set `textContent` alone.
#![forbid(unsafe_code)]

mod array;
mod chart;
mod colours;
mod compilation;
mod diff;
mod error;
pub mod evaluation;
mod explanation;
mod layout;
mod memory;
mod network;
mod page;
mod roofline;
mod stage;
mod words;

pub use array::Picture;
pub use compilation::{Compilation, compilation_page};
pub use error::PageError;
pub use explanation::{ExplainedInput, ShownInput, explanation_page, explanation_schema};
pub use roofline::{Profile, ProfileStep};
pub use stage::Stage;
