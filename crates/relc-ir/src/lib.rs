//! relc's intermediate representation.
//!
//! A [`Graph`] holds a network as ops over tensors and, once the passes have derived it, the relevance graph
//! beside it: each relevance node names the forward values that it uses. Every graph can be printed
//! ([`Graph`] implements `Display`), parsed back ([`parse`]), verified ([`verify`]), and written as Graphviz
//! ([`dot`]) or JSON ([`json`]).
//!
//! ```
//! let text = r#"graph @tiny (%x: f32[N,4]) -> (%2 "logits") {
//!   weights {
//!     @w: f32[3,4] #0000000000000000
//!   }
//!   %2 = gemm %x, @w, trans_b=yes : f32[N,3] ; "fc"
//! }
//! "#;
//! let graph = relc_ir::parse(text)?;
//! assert_eq!(graph.to_string(), text);
//! assert!(relc_ir::verify(&graph).is_ok());
//! # Ok::<(), relc_ir::IrError>(())
//! ```
//!
//! **Invariant:** no ONNX, no IO, no kernels here; a graph says what is computed, never how.
#![forbid(unsafe_code)]

pub mod analysis;
mod arriving;
mod attr;
mod error;
mod export;
mod graph;
mod head;
pub mod ledger;
pub mod names;
pub mod op;
mod parse;
mod print;
pub mod remark;
pub mod residual;
pub mod rule;
pub mod spelling;
pub mod text;
mod types;
mod verify;
mod weight;

pub use attr::{Attr, AttrMap, Attrs, Item};
pub use error::IrError;
pub use export::{attr_json, dot, json};
pub use graph::{Claim, Graph, Node, NodeId, ValueId};
pub use head::{Groups, Head};
pub use op::Op;
pub use parse::parse;
pub use types::{Dim, MAX_ELEMENTS, TensorType};
pub use verify::{VerifyError, VerifyErrors, verify};
pub use weight::{Values, Weight, content_hash};
