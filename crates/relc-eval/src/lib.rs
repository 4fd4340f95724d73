//! How good relevance maps are.
//!
//! A map is right if it says which pixels made the network decide, which nobody knows. What can be measured is what
//! happens to the decision when pixels are removed in the order of their relevance ([`metric::Curve`],
//! [`metric::road`], [`metric::pixel_flipping`]), whether sums of relevance are what removals cost
//! ([`metric::sensitivity_n`], [`metric::infidelity`]), whether the map lies on the object where that is known, and
//! whether it depends on the model and the class at all. Metrics are functions of a picture, a map and closures that
//! score inputs; they know nothing of models.
//!
//! [`Dataset`] reads pictures, [`Attribution`] explains them by any preset or method, [`Bench::run`] measures, and
//! [`Table`] sums up. What is measured goes to [`Results`], a file that is only appended to, so that a run that was
//! killed goes on where it was and ends in the same table to the bit.
//!
//! Every table has rows of maps that know nothing ([`Control`]): a metric by which they do well measures something
//! else than maps.
#![forbid(unsafe_code)]

mod ahead;
mod attribution;
mod dataset;
mod error;
mod grid;
pub mod metric;
mod picture;
mod randomise;
mod ranking;
mod results;
mod run;
mod scorer;
mod table;
pub mod tune;

pub use ahead::Ahead;
pub use attribution::{Attribution, CompilerOptions, Control, Explained, Named};
pub use dataset::{Content, Dataset, DatasetOptions, Item};
pub use error::EvalError;
pub use grid::{GridRow, grid};
pub use picture::{Base, Geometry, Picture};
pub use randomise::cascade;
pub use ranking::{Ranking, Ties};
pub use results::{CURVE, Record, Results};
pub use run::{Bench, Class, Maps, Outcome, Prepared, Progress, Settings, black, geometry};
pub use scorer::Scorer;
pub use table::{Cell, Column, Mean, Row, Table};
