//! The program IR: what an explanation computes for each sample, step by step, for whatever machine.
//!
//! A [`Program`] is data. Its steps are symbolic ([`StepOp`]): convolutions with their geometry, the form of their weights
//! and what is fused into them, pools, splits, quotients, moves, sums for the ledger. Weights are named. Values have the
//! image of a sample, and, once passes have chosen them, a layout with its halo and a slot of memory. Nothing in it
//! belongs to a machine: a back end compiles it.
//!
//! [`lower`] makes a program from a graph whose relevance was derived, one step or a few for each node; [passes] make it
//! fast, the portable ones for every machine, others for one. [`verify`] says what a program has to be. Every program can
//! be printed (`Display`), parsed back ([`parse`]), and written as Graphviz ([`dot`]) or JSON ([`json`]).
#![forbid(unsafe_code)]

mod backend;
pub mod books;
mod check;
pub mod conv;
mod error;
mod export;
pub mod layout;
mod lower;
pub mod op;
pub mod passes;
mod program;
mod reruns;
mod text;
mod uses;
mod verify;

pub use backend::{Backend, BackendError, Explained, LOWER, Module, Session, through};
pub use error::{LowerError, ProgramError, ProgramErrors, RunError};
pub use export::{dot, json};
pub use lower::lower;
pub use op::StepOp;
pub use program::{Constant, Derived, Ends, Origin, Program, Step, Value, ValueId};
pub use reruns::Rerun;
pub use text::parse;
pub use uses::{Uses, lifetimes};
pub use verify::verify;
