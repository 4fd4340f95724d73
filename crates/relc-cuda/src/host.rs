//! The kernels on a host, for tests on machines without a GPU: the same text, compiled as C++, block by block.
//!
//! It is slow, and shows what kernels compute: not that their threads do it at the same time.

use std::fmt;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libloading::{Library, Symbol};

use crate::code::Code;
use crate::device::{Address, Command, Device, Load, Loaded, Peaks, Queue};
use crate::error::CudaError;

/// The C++ compiler, if it is not `c++`.
pub const COMPILER_VARIABLE: &str = "CXX";

/// A CPU that runs kernels.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The multiprocessors that it says it has: what tiles are chosen for.
    pub multiprocessors: usize,
}

impl Device for Host {
    fn name(&self) -> String {
        "host".into()
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn has_tf32(&self) -> bool {
        true
    }

    /// So that tests have both.
    fn overlapping_samples(&self) -> usize {
        2
    }

    fn peaks(&self) -> Option<Peaks> {
        None
    }
}

impl Load for Host {
    fn load(&self, code: &Code, constants: &[f32]) -> Result<Arc<dyn Loaded>, CudaError> {
        let failed =
            |error: std::io::Error| CudaError::Missing(format!("a C++ compiler can't be run: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let [source, library] = ["kernels.cpp", "kernels.so"].map(|name| folder.path().join(name));
        std::fs::write(&source, &code.source).map_err(failed)?;
        let compiler = std::env::var_os(COMPILER_VARIABLE).unwrap_or_else(|| "c++".into());
        let mut process = Process::new(compiler);
        process.args([
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-ffp-contract=off",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]);
        // What is unused by one shape is used by another.
        process.args(["-Wno-unused-function", "-Wno-unused-parameter", "-Wno-type-limits", "-DRELC_HOST"]);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") {
            process.arg("-mfma");
        }
        let output = process.arg("-o").arg(&library).arg(&source).output().map_err(failed)?;
        if !output.status.success() {
            return Err(CudaError::Compile(String::from_utf8_lossy(&output.stderr).into()));
        }
        // SAFETY: the library was compiled from relc's own text; loading it runs nothing.
        let library = unsafe { Library::new(&library) };
        let library =
            library.map_err(|error| CudaError::Missing(format!("the kernels can't be loaded: {error}")))?;
        Ok(Arc::new(HostKernels { library, names: code.kernels.clone(), constants: constants.to_vec() }))
    }
}

/// Compiled kernels.
struct HostKernels {
    library: Library,
    names: Vec<String>,
    constants: Vec<f32>,
}

impl fmt::Debug for HostKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kernels on a host", self.names.len())
    }
}

impl Loaded for HostKernels {
    fn free(&self) -> Option<usize> {
        None
    }

    fn queue(self: Arc<Self>, bytes: usize, _: usize) -> Result<Box<dyn Queue>, CudaError> {
        Ok(Box::new(HostQueue { kernels: self, memory: vec![0; bytes.div_ceil(size_of::<f64>())] }))
    }
}

/// Memory, in f64s for their alignment.
struct HostQueue {
    kernels: Arc<HostKernels>,
    memory: Vec<u64>,
}

impl fmt::Debug for HostQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes on a host", self.memory.len() * size_of::<u64>())
    }
}

impl HostQueue {
    fn bytes(&mut self, at: usize, len: usize) -> Result<&mut [u8], CudaError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
        bytes.get_mut(at..at + len).ok_or_else(|| CudaError::Plan("a copy leaves the memory".into()))
    }

    fn command(&mut self, command: &Command) -> Result<(), CudaError> {
        match command {
            Command::Zero { at, bytes } => self.bytes(*at, *bytes)?.fill(0),
            Command::Launch { kernel, blocks: [x, y, z], addresses, samples } => {
                let name = self.kernels.names.get(*kernel).map(|name| format!("launch_{name}"));
                let name = name.ok_or_else(|| CudaError::Plan(format!("there is no kernel {kernel}")))?;
                let memory: *mut u8 = self.memory.as_mut_ptr().cast();
                let constants: *const u8 = self.kernels.constants.as_ptr().cast();
                let pointers: Vec<*mut u8> = addresses
                    .iter()
                    .map(|address| match address {
                        Address::Memory(at) => memory.wrapping_add(*at),
                        // No kernel writes to one.
                        Address::Constant(at) => constants.wrapping_add(*at).cast_mut(),
                    })
                    .collect();
                // SAFETY: the library has a launcher of this type for every kernel, printed with its parameters in this
                // order; the addresses are the plan's, whose values have room for so many samples.
                unsafe {
                    let launch: Symbol<'_, Launch> = (self.kernels.library.get(name.as_bytes()))
                        .map_err(|error| CudaError::Plan(error.to_string()))?;
                    launch(pointers.as_ptr(), *samples, *x, *y, *z);
                }
            }
        }
        Ok(())
    }
}

type Launch = unsafe extern "C" fn(*const *mut u8, i32, u32, u32, u32);

impl Queue for HostQueue {
    fn write(&mut self, at: usize, data: &[u8]) -> Result<(), CudaError> {
        self.bytes(at, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn read(&mut self, at: usize, data: &mut [u8]) -> Result<(), CudaError> {
        data.copy_from_slice(self.bytes(at, data.len())?);
        Ok(())
    }

    fn run(&mut self, _: usize, commands: &[Command]) -> Result<(), CudaError> {
        commands.iter().try_for_each(|command| self.command(command))
    }

    fn time(&mut self, commands: &[Command]) -> Result<Vec<Duration>, CudaError> {
        let timed = |command| {
            let start = Instant::now();
            self.command(command)?;
            Ok(start.elapsed())
        };
        commands.iter().map(timed).collect()
    }
}
