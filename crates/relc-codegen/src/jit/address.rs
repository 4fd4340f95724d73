//! Addresses by strength reduction.
//!
//! An access `@b[sum_k c_k v_k + constant]` needs no multiplication inside loops: for each loop over `v_k`, and each
//! distinct combination of a buffer and the coefficients of the variables bound so far with `c_k != 0` (a *stream*),
//! a pointer is carried around the loop and grows by `c_k * step` elements. The constant goes into the instruction.

use std::collections::{HashMap, HashSet};

use cranelift_codegen::ir::Value;

use crate::kir::{Buf, Idx, Stmt, Var, places, walk};

/// A buffer, and variables with their coefficients in elements, sorted by variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub buffer: Buf,
    terms: Vec<(Var, i64)>,
}

impl Stream {
    /// The coefficient of a variable, and the stream without it.
    pub fn split(&self, var: Var) -> (i64, Stream) {
        let coefficient = self.terms.iter().find(|term| term.0 == var).map_or(0, |term| term.1);
        let terms = self.terms.iter().copied().filter(|term| term.0 != var).collect();
        (coefficient, Stream { buffer: self.buffer, terms })
    }
}

/// How a variable's value is known where code is generated.
#[derive(Clone, Copy, Debug)]
enum Binding {
    /// A constant: an unrolled loop.
    Fixed(i64),
    /// By the pointers of the scope of this number.
    Runtime(usize),
}

/// The variables that are bound at the point where code is generated.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    bindings: HashMap<Var, Binding>,
    /// The pointers of each runtime loop, outermost first.
    pointers: Vec<HashMap<Stream, Value>>,
}

impl Scopes {
    /// Gives an unrolled loop's variable its next value.
    pub fn fix(&mut self, var: Var, value: i64) {
        self.bindings.insert(var, Binding::Fixed(value));
    }

    /// Enters a loop that carries these pointers.
    pub fn open(&mut self, var: Var, pointers: HashMap<Stream, Value>) {
        self.bindings.insert(var, Binding::Runtime(self.pointers.len()));
        self.pointers.push(pointers);
    }

    /// Leaves the innermost loop, that of `var`.
    pub fn close(&mut self, var: Var) {
        self.bindings.remove(&var);
        self.pointers.pop();
    }

    /// The stream of an index over the bound runtime variables, and what the fixed ones and the constant add.
    /// Variables that are not bound yet, those of inner loops, count nothing.
    pub fn stream(&self, buffer: Buf, index: &Idx) -> (Stream, i64) {
        self.stream_within(buffer, index, None)
    }

    fn stream_within(&self, buffer: Buf, index: &Idx, also: Option<Var>) -> (Stream, i64) {
        let mut terms = Vec::new();
        let mut constant = index.constant();
        for &(var, coefficient) in index.terms() {
            match self.bindings.get(&var) {
                // The verified sum is in bounds; its parts may wrap.
                Some(Binding::Fixed(value)) => {
                    constant = constant.wrapping_add(coefficient.wrapping_mul(*value));
                }
                Some(Binding::Runtime(_)) => terms.push((var, coefficient)),
                None if also == Some(var) => terms.push((var, coefficient)),
                None => {}
            }
        }
        (Stream { buffer, terms }, constant)
    }

    /// The streams that depend on `var`, which the loop with this body is about to bind, each once, in the order of
    /// the text.
    pub fn streams_of(&self, var: Var, body: &[Stmt]) -> Vec<Stream> {
        let mut seen = HashSet::new();
        let mut streams = Vec::new();
        walk(body, &mut |stmt| {
            for place in places(stmt) {
                if place.index.coefficient(var) != 0 {
                    let (stream, _) = self.stream_within(place.buffer, &place.index, Some(var));
                    if seen.insert(stream.clone()) {
                        streams.push(stream);
                    }
                }
            }
        });
        streams
    }

    /// The pointer of a stream: that of the innermost loop that it depends on. None if it depends on no loop.
    pub fn pointer(&self, stream: &Stream) -> Option<Value> {
        let depth = |&(var, _): &(Var, i64)| match self.bindings.get(&var) {
            Some(Binding::Runtime(depth)) => Some(*depth),
            _ => None,
        };
        let innermost = stream.terms.iter().filter_map(depth).max()?;
        self.pointers.get(innermost)?.get(stream).copied()
    }
}
