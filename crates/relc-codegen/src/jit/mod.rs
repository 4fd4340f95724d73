//! Compiling kernels with Cranelift, into memory of this process.

mod address;
mod lower;
mod memory;
mod session;
mod simd;

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_module::ModuleError;

pub use memory::{Binding, CallError, CompiledFn};

use session::Session;

use crate::kir::{Kernel, VerifyErrors, unproven_disjoint};

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
}

/// The instruction set that kernels are compiled to.
#[derive(Clone)]
pub struct Target {
    isa: OwnedTargetIsa,
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
        let isa = isa(native)?;
        // x86-64 has the instruction as an extension, the others always.
        let has_fma =
            isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true));
        let fuses = isa.name() != "x64" || has_fma;
        Ok(Target { isa, fuses })
    }

    /// Whether `fma` rounds once.
    pub fn fuses(&self) -> bool {
        self.fuses
    }
}

fn isa(native: bool) -> Result<OwnedTargetIsa, CompileError> {
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    let choices = [
        ("opt_level", "speed"),
        ("enable_verifier", verifier),
        ("use_colocated_libcalls", "false"),
        ("is_pic", "false"),
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

/// Verifies kernels and compiles them into one piece of memory, which lives as long as any [`CompiledFn`] of it.
///
/// # Errors
/// If a kernel is not valid, or Cranelift fails.
pub fn compile(kernels: &[Kernel], target: &Target) -> Result<CompiledKernels, CompileError> {
    let mut session = Session::new(target);
    let ids = kernels.iter().map(|kernel| session.kernel(kernel)).collect::<Result<Vec<_>, _>>()?;
    let (code, memory) = session.finish(&ids)?;
    let functions = kernels.iter().zip(code).map(|(kernel, code)| {
        let independent = unproven_disjoint(kernel).is_empty();
        // SAFETY: `session.kernel` verified this kernel and compiled it to this code, which lies in `memory`.
        unsafe { CompiledFn::new(code, kernel, independent, memory.clone()) }
    });
    Ok(CompiledKernels { functions: functions.collect() })
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
