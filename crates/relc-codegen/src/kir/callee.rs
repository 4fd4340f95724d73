//! Micro-kernels that kernels call.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Arg, Elem, Kernel};

/// Whether a callee writes through a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It only reads.
    Read,
    /// It reads and writes.
    Write,
}

/// A field of the struct of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// A pointer into a buffer of this element type.
    Pointer(Access, Elem),
    /// A pointer to the first u32 of a table.
    Table,
    /// A u32.
    U32,
    /// A u64.
    U64,
}

impl FieldKind {
    /// Bytes of the field, which is also its alignment. Pointers have 8.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            FieldKind::U32 => 4,
            FieldKind::Pointer(..) | FieldKind::Table | FieldKind::U64 => 8,
        }
    }
}

/// A named field; the fields of a callee lie in memory as those of a `#[repr(C)]` struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name in the text of a call.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldKind,
}

/// The byte offset of each field of a `#[repr(C)]` struct, and its size.
pub(crate) fn offsets(fields: &[Field]) -> (Vec<u32>, u32) {
    let mut end: u32 = 0;
    let mut starts = Vec::with_capacity(fields.len());
    for field in fields {
        let start = end.next_multiple_of(field.kind.bytes());
        starts.push(start);
        end = start + field.kind.bytes();
    }
    (starts, end.next_multiple_of(8))
}

/// The arguments of one call that are known before it runs.
#[derive(Clone, Copy, Debug)]
pub struct CallArgs<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) args: &'a [(String, Arg)],
}

impl<'a> CallArgs<'a> {
    fn find(&self, name: &str) -> Result<&'a Arg, String> {
        let found = self.args.iter().find(|(field, _)| field == name);
        found.map(|(_, arg)| arg).ok_or_else(|| format!("got no argument `{name}`"))
    }

    /// An integer argument.
    ///
    /// # Errors
    /// A sentence, if there is no such argument or it is a pointer.
    pub fn imm(&self, name: &str) -> Result<u64, String> {
        match self.find(name)? {
            Arg::Imm(value) => Ok(*value),
            Arg::Place(_) | Arg::Table(_) => {
                Err(format!("argument `{name}`: got a pointer, expected an integer"))
            }
        }
    }

    /// The content of a table argument.
    ///
    /// # Errors
    /// A sentence, if there is no such argument or it is no table of the kernel.
    pub fn table(&self, name: &str) -> Result<&'a [u32], String> {
        match self.find(name)? {
            Arg::Table(table) => {
                let table = self.kernel.tables.get(table.0 as usize);
                table.map(|table| table.values.as_slice()).ok_or_else(|| format!("`{name}`: no such table"))
            }
            Arg::Place(_) | Arg::Imm(_) => Err(format!("argument `{name}`: expected a table")),
        }
    }
}

/// The elements of a buffer, or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32.
    F32(Vec<f32>),
    /// f64.
    F64(Vec<f64>),
}

impl Data {
    /// The f32 elements; empty for others.
    pub fn f32s(&mut self) -> &mut [f32] {
        match self {
            Data::F32(data) => data,
            Data::F64(_) => &mut [],
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(data) => data.len(),
            Data::F64(data) => data.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn elem(&self) -> Elem {
        match self {
            Data::F32(_) => Elem::F32,
            Data::F64(_) => Elem::F64,
        }
    }
}

/// A micro-kernel: `extern "C" fn(*const Args)`, `Args` a `#[repr(C)]` struct of [`Callee::fields`].
pub trait Callee: Send + Sync {
    /// What calls name: letters, digits, `_`, `.`, `/`, `-`.
    fn name(&self) -> &str;

    /// The fields of the struct of arguments, in order.
    fn fields(&self) -> &[Field];

    /// For each field, how many elements from the pointer on a call may touch; 0 for integers. The verifier proves
    /// that they lie in the buffer or table.
    ///
    /// # Errors
    /// A sentence, "got X, expected Y", if the callee does not support the arguments.
    fn extents(&self, args: &CallArgs<'_>) -> Result<Vec<u64>, String>;

    /// Does what a call does. `operands` holds, for each pointer field in order, the elements that it may touch.
    ///
    /// # Errors
    /// A sentence.
    fn interpret(&self, args: &CallArgs<'_>, operands: &mut [Data]) -> Result<(), String>;
}

/// A callee and where its code is.
#[derive(Clone)]
pub(crate) struct Symbol {
    pub callee: Arc<dyn Callee>,
    /// The address of the function; none for callees that are only interpreted.
    pub address: Option<usize>,
    /// What keeps the code alive.
    pub owner: Option<Arc<dyn Any + Send + Sync>>,
}

/// The micro-kernels that kernels may call, by name.
#[derive(Clone, Default)]
pub struct Symbols {
    symbols: BTreeMap<String, Symbol>,
}

impl Symbols {
    /// No symbols.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a callee without code: kernels that call it can be verified and interpreted, not compiled.
    pub fn declare(&mut self, callee: Arc<dyn Callee>) {
        self.insert(Symbol { callee, address: None, owner: None });
    }

    /// Registers a callee and the address of its function, which stays valid for the life of the process.
    ///
    /// # Safety
    /// `address` is that of an `extern "C" fn(*const Args)` that never unwinds, where `Args` is the `#[repr(C)]`
    /// struct of [`Callee::fields`]. Called with arguments that [`Callee::extents`] accepts, it touches no memory
    /// but its arguments and those extents, writes only through pointers of [`Access::Write`], and requires no more
    /// of them than the alignment of their elements.
    pub unsafe fn define(&mut self, callee: Arc<dyn Callee>, address: *const u8) {
        self.insert(Symbol { callee, address: Some(address as usize), owner: None });
    }

    /// Adds the symbols of another registry, which replace those of the same name.
    pub fn extend(&mut self, other: Symbols) {
        self.symbols.extend(other.symbols);
    }

    /// The callee of a name.
    pub fn callee(&self, name: &str) -> Option<&dyn Callee> {
        self.symbols.get(name).map(|symbol| &*symbol.callee)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.symbols.keys().map(String::as_str)
    }

    pub(crate) fn insert(&mut self, symbol: Symbol) {
        self.symbols.insert(symbol.callee.name().to_owned(), symbol);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.symbols.iter().map(|(name, symbol)| (name.as_str(), symbol))
    }
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.symbols.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Args {
        input: *const f32,
        count: u32,
        stride: u64,
        flag: u32,
    }

    #[test]
    fn fields_lie_as_in_a_repr_c_struct() {
        let field = |name, kind| Field { name, kind };
        let fields = [
            field("input", FieldKind::Pointer(Access::Read, Elem::F32)),
            field("count", FieldKind::U32),
            field("stride", FieldKind::U64),
            field("flag", FieldKind::U32),
        ];
        let expected = [
            std::mem::offset_of!(Args, input),
            std::mem::offset_of!(Args, count),
            std::mem::offset_of!(Args, stride),
            std::mem::offset_of!(Args, flag),
        ];
        let (starts, size) = offsets(&fields);
        assert_eq!(starts.iter().map(|&start| start as usize).collect::<Vec<_>>(), expected);
        assert_eq!(size as usize, size_of::<Args>());
    }
}
