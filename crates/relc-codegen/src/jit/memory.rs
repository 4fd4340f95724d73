//! Compiled code and the ways to call it.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use cranelift_jit::JITModule;
use rayon::prelude::*;

use crate::kir::{Buffer, Elem, Kernel};

/// Owns the memory of compiled code and all that the code refers to.
pub(crate) struct CodeMemory {
    /// Behind a lock only because the module is not [`Sync`]; nobody takes it before the end. Empty only in `drop`.
    module: Mutex<Option<JITModule>>,
}

impl CodeMemory {
    /// Takes a finalized module.
    pub fn new(module: JITModule) -> Arc<Self> {
        Arc::new(CodeMemory { module: Mutex::new(Some(module)) })
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        let module = match self.module.get_mut() {
            Ok(module) => module.take(),
            Err(poisoned) => poisoned.into_inner().take(),
        };
        if let Some(module) = module {
            // SAFETY: every `CompiledFn` with an address in this memory holds an `Arc` of `self`, and
            // code runs only through them, so no code of the module runs now or later.
            unsafe { module.free_memory() }
        }
    }
}

/// The signature of compiled kernels: base addresses of the buffers, first task, end of tasks.
pub type Entry = unsafe extern "C" fn(*const *mut u8, u64, u64);

/// A compiled kernel. Cheap to clone; keeps its code alive; may run on many threads at once.
#[derive(Clone)]
pub struct CompiledFn {
    entry: Entry,
    name: Arc<str>,
    buffers: Arc<[Buffer]>,
    tasks: usize,
    /// Whether no task touches what another one writes, by proof.
    independent: bool,
    /// None for code that is part of the program.
    memory: Option<Arc<CodeMemory>>,
}

/// The addresses that a call passes, for the threads that share it.
struct Addresses(Vec<*mut u8>);

// SAFETY: the addresses are of slices that the call borrows, and tasks on different threads touch disjoint elements of
// those that are written.
unsafe impl Sync for Addresses {}

impl fmt::Debug for CompiledFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompiledFn(@{}, {} tasks)", self.name, self.tasks)
    }
}

/// Memory bound to a buffer of a kernel.
#[derive(Debug)]
pub enum Binding<'a> {
    /// For `in` and `const` buffers of f32.
    Read(&'a [f32]),
    /// For all buffers of f32.
    Write(&'a mut [f32]),
    /// For `in` and `const` buffers of f64.
    Read64(&'a [f64]),
    /// For all buffers of f64.
    Write64(&'a mut [f64]),
}

impl Binding<'_> {
    fn shape(&self) -> (Elem, usize, bool) {
        match self {
            Binding::Read(data) => (Elem::F32, data.len(), false),
            Binding::Write(data) => (Elem::F32, data.len(), true),
            Binding::Read64(data) => (Elem::F64, data.len(), false),
            Binding::Write64(data) => (Elem::F64, data.len(), true),
        }
    }

    /// The address. Nothing is written through that of a shared slice.
    fn address(&mut self) -> *mut u8 {
        match self {
            Binding::Read(data) => data.as_ptr().cast_mut().cast(),
            Binding::Write(data) => data.as_mut_ptr().cast(),
            Binding::Read64(data) => data.as_ptr().cast_mut().cast(),
            Binding::Write64(data) => data.as_mut_ptr().cast(),
        }
    }
}

/// Why a compiled kernel was not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The number of buffers is another.
    #[error("kernel @{kernel}: got {got} buffers, expected {expected}")]
    Count {
        /// The kernel's name.
        kernel: String,
        /// Bound buffers.
        got: usize,
        /// Declared buffers.
        expected: usize,
    },
    /// A buffer does not fit its declaration.
    #[error("kernel @{kernel}, buffer @{buffer}: got {got}, expected {expected}")]
    Buffer {
        /// The kernel's name.
        kernel: String,
        /// The buffer's name.
        buffer: String,
        /// What was bound.
        got: String,
        /// What is declared.
        expected: String,
    },
    /// Tasks that the kernel does not have.
    #[error("kernel @{kernel}: got tasks {got:?}, expected a range within 0..{tasks}")]
    Tasks {
        /// The kernel's name.
        kernel: String,
        /// The tasks asked for.
        got: Range<usize>,
        /// How many there are.
        tasks: usize,
    },
}

impl CompiledFn {
    /// # Safety
    /// `entry` is the compiled code of `kernel`, which is verified, and lies in `memory` or in the program itself;
    /// `independent` only if no task touches what another one writes.
    pub(super) unsafe fn new(
        entry: Entry,
        kernel: &Kernel,
        independent: bool,
        memory: Option<Arc<CodeMemory>>,
    ) -> Self {
        CompiledFn {
            entry,
            name: kernel.name.as_str().into(),
            buffers: kernel.buffers.clone().into(),
            tasks: kernel.task_count(),
            independent,
            memory,
        }
    }

    /// Whether it was compiled in this process, and not [ahead of time](super::object).
    pub fn is_jitted(&self) -> bool {
        self.memory.is_some()
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What to bind, in order.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The number of tasks.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Runs a range of tasks, in order, on the calling thread.
    ///
    /// # Errors
    /// If a buffer has other elements or another length than declared, a written one is bound to a shared slice, or
    /// the tasks are not the kernel's.
    pub fn call(&self, buffers: &mut [Binding<'_>], tasks: Range<usize>) -> Result<(), CallError> {
        if tasks.end > self.tasks {
            let kernel = self.name.to_string();
            return Err(CallError::Tasks { kernel, got: tasks, tasks: self.tasks });
        }
        let Addresses(addresses) = self.check(buffers)?;
        // SAFETY: each address starts a slice of the declared length and element type, which is borrowed for the
        // duration of the call, exclusively if the kernel writes it; the tasks are the kernel's.
        unsafe { self.call_raw(addresses.as_ptr(), tasks.start, tasks.end) };
        Ok(())
    }

    /// Runs all tasks on the current rayon pool, at least `grain` of them at a time; on the calling thread if it is not
    /// proved that they are independent.
    ///
    /// # Errors
    /// As [`CompiledFn::call`].
    pub fn call_parallel(&self, buffers: &mut [Binding<'_>], grain: usize) -> Result<(), CallError> {
        if !self.independent {
            return self.call(buffers, 0..self.tasks);
        }
        let addresses = self.check(buffers)?;
        let (addresses, grain) = (&addresses, grain.max(1));
        (0..self.tasks.div_ceil(grain)).into_par_iter().for_each(|chunk| {
            let (lo, hi) = (chunk * grain, self.tasks.min((chunk + 1) * grain));
            // SAFETY: as in `call`; each task runs once, and none touches what another one writes.
            unsafe { self.call_raw(addresses.0.as_ptr(), lo, hi) };
        });
        Ok(())
    }

    /// The addresses of the buffers, if each fits its declaration.
    fn check(&self, buffers: &mut [Binding<'_>]) -> Result<Addresses, CallError> {
        let kernel = || self.name.to_string();
        if buffers.len() != self.buffers.len() {
            let (got, expected) = (buffers.len(), self.buffers.len());
            return Err(CallError::Count { kernel: kernel(), got, expected });
        }
        for (binding, buffer) in buffers.iter().zip(self.buffers.iter()) {
            let (elem, len, is_exclusive) = binding.shape();
            if (elem, len) != (buffer.elem, buffer.len) || (buffer.kind.is_written() && !is_exclusive) {
                let access = if is_exclusive { "write" } else { "read" };
                return Err(CallError::Buffer {
                    kernel: kernel(),
                    buffer: buffer.name.clone(),
                    got: format!("{}[{len}] to {access}", elem.name()),
                    expected: format!("{}[{}] for {}", buffer.elem.name(), buffer.len, buffer.kind.name()),
                });
            }
        }
        Ok(Addresses(buffers.iter_mut().map(Binding::address).collect()))
    }

    /// Runs the tasks `lo..hi`, in order, on the calling thread, and checks nothing.
    ///
    /// # Safety
    /// - `buffers` points to one address per declared buffer, each of that many elements, aligned to the element,
    ///   initialised where the kernel reads it, and valid for the call.
    /// - `hi` is at most [`CompiledFn::tasks`].
    /// - Nothing else writes what the kernel reads, or touches what it writes, during the call, except other calls
    ///   of the same kernel with other tasks, if its tasks write disjoint elements and read none that others write.
    /// - Buffers overlap only where the kernel's author allows it, and never one that is written with a `const`.
    pub unsafe fn call_raw(&self, buffers: *const *mut u8, lo: usize, hi: usize) {
        // SAFETY: the kernel was verified: it touches only elements inside its buffers.
        unsafe { (self.entry)(buffers, lo as u64, hi as u64) }
    }
}
