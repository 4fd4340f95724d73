//! Compiling kernels with Cranelift, into memory of this process or ahead of time into an object file.

mod address;
mod linked;
mod lower;
mod memory;
mod object;
mod session;
mod simd;

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_module::ModuleError;

pub use linked::{LinkedKernel, LinkedModel, link};
pub use memory::{Binding, CallError, CompiledFn, Entry};
pub use object::object;

use linked::linked;
use session::Session;

use crate::kir::{Kernel, VerifyErrors, unproven_disjoint, verify};

/// Why kernels could not be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A kernel is not valid.
    #[error(transparent)]
    Verify(#[from] VerifyErrors),
    /// Cranelift does not support this machine.
    #[error("this machine cannot run compiled kernels: {0}; try --engine interp-f32, the interpreter")]
    Machine(String),
    /// Cranelift failed.
    #[error("{name}: {source}")]
    Backend {
        /// The kernel.
        name: String,
        /// Why.
        #[source]
        source: Box<ModuleError>,
    },
    /// An object file can't be written.
    #[error("the object file of {name}: {reason}")]
    Object {
        /// The symbol that it exports.
        name: String,
        /// Why.
        reason: String,
    },
}

/// The instruction set that kernels are compiled to.
#[derive(Clone)]
pub struct Target {
    isa: OwnedTargetIsa,
    native: bool,
    fuses: bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({}, fma: {})", self.isa.triple(), self.fuses)
    }
}

impl Target {
    /// All that this machine has.
    ///
    /// # Errors
    /// If Cranelift does not support the machine.
    pub fn host() -> Result<Self, CompileError> {
        Self::new(true)
    }

    /// What every machine of this architecture has.
    ///
    /// # Errors
    /// If Cranelift does not support the architecture.
    pub fn baseline() -> Result<Self, CompileError> {
        Self::new(false)
    }

    fn new(native: bool) -> Result<Self, CompileError> {
        let isa = isa(native, false)?;
        // x86-64 has the instruction as an extension, the others always.
        let has_fma =
            isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true));
        let fuses = isa.name() != "x64" || has_fma;
        Ok(Target { isa, native, fuses })
    }

    /// Whether `fma` rounds once.
    pub fn fuses(&self) -> bool {
        self.fuses
    }

    /// All that decides what code a kernel becomes, as text.
    fn description(&self) -> String {
        let flags: Vec<String> = self.isa.isa_flags().iter().map(ToString::to_string).collect();
        format!("relc {}\n{}\n{}\n", env!("CARGO_PKG_VERSION"), self.isa.triple(), flags.join("\n"))
    }

    /// The same, for code that may lie anywhere in a program.
    fn position_independent(&self) -> Result<OwnedTargetIsa, CompileError> {
        isa(self.native, true)
    }
}

fn isa(native: bool, position_independent: bool) -> Result<OwnedTargetIsa, CompileError> {
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    let choices = [
        ("opt_level", "speed"),
        ("enable_verifier", verifier),
        ("use_colocated_libcalls", "false"),
        ("is_pic", if position_independent { "true" } else { "false" }),
        // Nothing unwinds through kernels.
        ("unwind_info", "false"),
    ];
    for (name, value) in choices {
        flags.set(name, value).map_err(|error| CompileError::Machine(error.to_string()))?;
    }
    let builder = cranelift_native::builder_with_options(native);
    let builder = builder.map_err(|error| CompileError::Machine(error.to_owned()))?;
    builder.finish(settings::Flags::new(flags)).map_err(|error| CompileError::Machine(error.to_string()))
}

/// Compiled kernels, in the order in which they were given.
#[derive(Clone, Debug)]
pub struct CompiledKernels {
    functions: Vec<CompiledFn>,
}

impl CompiledKernels {
    /// The kernel at a position.
    pub fn get(&self, index: usize) -> Option<&CompiledFn> {
        self.functions.get(index)
    }

    /// All kernels.
    pub fn iter(&self) -> std::slice::Iter<'_, CompiledFn> {
        self.functions.iter()
    }
}

impl IntoIterator for CompiledKernels {
    type Item = CompiledFn;
    type IntoIter = std::vec::IntoIter<CompiledFn>;

    fn into_iter(self) -> Self::IntoIter {
        self.functions.into_iter()
    }
}

/// Verifies kernels and compiles them into one piece of memory, which lives as long as any [`CompiledFn`] of it. Those that
/// were compiled [ahead of time](object) for this target and [linked](link) into the program are not compiled again.
///
/// # Errors
/// If a kernel is not valid, or Cranelift fails.
pub fn compile(kernels: &[Kernel], target: &Target) -> Result<CompiledKernels, CompileError> {
    let (entries, mut missing) = (linked(kernels, target), Vec::new());
    if entries.contains(&None) {
        let mut session = Session::new(target);
        let absent = kernels.iter().zip(&entries).filter(|(_, entry)| entry.is_none());
        let ids = absent.map(|(kernel, _)| session.kernel(kernel)).collect::<Result<Vec<_>, _>>()?;
        let (code, memory) = session.finish(&ids)?;
        missing = code.into_iter().map(|code| (code, memory.clone())).collect();
    }
    let mut missing = missing.into_iter();
    let mut functions = Vec::with_capacity(kernels.len());
    for (kernel, entry) in kernels.iter().zip(entries) {
        let found = entry.map(|entry| (entry, None)).or_else(|| {
            // SAFETY: this is compiled code of this signature.
            let entry = |code| unsafe { std::mem::transmute::<*const u8, Entry>(code) };
            missing.next().map(|(code, memory)| (entry(code), Some(memory)))
        });
        let Some((entry, memory)) = found else { continue };
        // What is compiled here was verified before.
        if memory.is_none() {
            verify(kernel)?;
        }
        let independent = unproven_disjoint(kernel).is_empty();
        // SAFETY: this kernel is verified, and was compiled to this code, which lies in `memory` or was linked.
        functions.push(unsafe { CompiledFn::new(entry, kernel, independent, memory) });
    }
    Ok(CompiledKernels { functions })
}

/// The Cranelift IR of a kernel and the machine code that it becomes, as text.
///
/// # Errors
/// As [`compile`], which this does besides.
pub fn listing(kernel: &Kernel, target: &Target) -> Result<String, CompileError> {
    let mut session = Session::new(target);
    session.keep_text();
    let id = session.kernel(kernel)?;
    let text = session.take_text();
    session.finish(&[id])?;
    Ok(text)
}
