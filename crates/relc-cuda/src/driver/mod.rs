//! NVIDIA's driver and its compiler NVRTC, through cudarc. Both are libraries that are loaded when they are first asked for.

mod queue;
mod tensor;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaModule, DevicePtr, DriverError};
use cudarc::nvrtc::sys::nvrtcResult;
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};
use xxhash_rust::xxh3::xxh3_128;

use crate::code::Code;
use crate::device::{Device, Load, Peaks};
use crate::error::CudaError;
pub(crate) use queue::{Loaded, Queue};
pub use tensor::Tensor;

/// Where compiled kernels are kept, in place of the user's cache.
pub const CACHE_VARIABLE: &str = "RELC_CUDA_CACHE";

fn refused(what: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| CudaError::Driver { what, reason: error.to_string() }
}

/// Looks for NVRTC.
fn find_nvrtc() -> Result<(), CudaError> {
    // SAFETY: looks for a library, which is NVIDIA's, and loads it.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    Err(CudaError::Missing(
        "NVRTC, CUDA's compiler, is not found: install CUDA, or the package nvidia-cuda-nvrtc, and name its folder in \
         LD_LIBRARY_PATH"
            .into(),
    ))
}

/// Compiles kernels to PTX for an architecture such as `compute_90`.
///
/// # Errors
/// If NVRTC is not found, or refuses them.
pub fn ptx(code: &Code, architecture: &str) -> Result<String, CudaError> {
    find_nvrtc()?;
    let options = CompileOptions {
        // Products and sums are rounded apart, but where a kernel asks for both in one.
        fmad: Some(false),
        options: vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into()],
        ..CompileOptions::default()
    };
    match compile_ptx_with_opts(&code.source, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { nvrtc, .. })
            if nvrtc.0 == nvrtcResult::NVRTC_ERROR_INVALID_OPTION =>
        {
            Err(CudaError::Missing(format!("NVRTC is too old for {architecture}: install a newer CUDA")))
        }
        Err(CompileError::CompileError { log, .. }) => Err(CudaError::Compile(log.to_string_lossy().into())),
        Err(other) => Err(CudaError::Compile(format!("{other:?}"))),
    }
}

/// Where PTX of some kernels is kept.
fn cache(code: &Code, architecture: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os(CACHE_VARIABLE) {
        Some(folder) => PathBuf::from(folder),
        None => (std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from))
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?
            .join("relc"),
    };
    Some(folder.join(format!("{:032x}.{architecture}.ptx", xxh3_128(code.source.as_bytes()))))
}

/// Keeps PTX. A cache that can't be written is none.
fn keep(file: &Path, text: &str) {
    static PARTS: AtomicU64 = AtomicU64::new(0);
    let part = format!("part{}-{}", std::process::id(), PARTS.fetch_add(1, Ordering::Relaxed));
    let part = file.with_extension(part);
    let written = (file.parent().map_or(Ok(()), std::fs::create_dir_all))
        .and_then(|()| std::fs::write(&part, text))
        .and_then(|()| std::fs::rename(&part, file));
    if let Err(error) = written {
        tracing::debug!("kernels are not kept: {error}");
    }
}

/// A GPU of NVIDIA's.
#[derive(Debug)]
pub struct Gpu {
    context: Arc<CudaContext>,
    name: String,
    architecture: String,
    multiprocessors: usize,
    capability: (i32, i32),
}

impl Gpu {
    /// The GPU of this number.
    ///
    /// # Errors
    /// If there is no driver, or no such GPU.
    pub fn new(number: usize) -> Result<Gpu, CudaError> {
        find_nvrtc()?;
        // SAFETY: looks for a library, which is NVIDIA's, and loads it.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(CudaError::Missing(
                "the CUDA driver (libcuda) is not found: no NVIDIA driver is installed".into(),
            ));
        }
        let count = CudaContext::device_count().map_err(refused("count the GPUs"))?;
        if usize::try_from(count).is_ok_and(|count| number >= count) {
            return Err(CudaError::Missing(format!(
                "there is no GPU {number}: the CUDA driver has found {count}"
            )));
        }
        let context = CudaContext::new(number).map_err(refused("open the GPU"))?;
        // SAFETY: each queue has a stream and memory of its own; constants are written before any queue is made; what tensors are
        // read and written for waits for the stream that made them, and is waited for before they go.
        unsafe { context.disable_event_tracking() };
        let capability = context.compute_capability().map_err(refused("say what the GPU can do"))?;
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = context.attribute(attribute).map_err(refused("count its multiprocessors"))?;
        Ok(Gpu {
            name: context.name().map_err(refused("name the GPU"))?,
            architecture: format!("compute_{}{}", capability.0, capability.1),
            multiprocessors: usize::try_from(multiprocessors).unwrap_or(1),
            capability,
            context,
        })
    }
}

impl Device for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn has_tf32(&self) -> bool {
        self.capability >= (8, 0)
    }

    /// Halves that still fill the multiprocessors: 16 for the 132 of an H200.
    fn overlapping_samples(&self) -> usize {
        (self.multiprocessors / 8).max(2)
    }

    /// By its clocks, the bus of its memory, and what a multiprocessor of its kind does in a cycle (CUDA C++ Programming
    /// Guide, "Arithmetic Instructions"; of tensor cores NVIDIA's white papers).
    fn peaks(&self) -> Option<Peaks> {
        let kilo = |attribute| {
            let value = self.context.attribute(attribute).ok().filter(|value| *value > 0)?;
            Some(f64::from(value) * 1e3)
        };
        let [fp32, tf32] = match self.capability {
            (8, 0) => [64.0, 512.0],
            (9, 0) => [128.0, 1024.0],
            (10, _) => [128.0, 1024.0],
            _ => [128.0, 128.0],
        };
        let clock = kilo(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
        let memory = kilo(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?;
        let bits = kilo(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)? / 1e3;
        // A multiply-add is two operations; memory moves data at both edges of its clock.
        let per_cycle = 2.0 * clock * self.multiprocessors as f64;
        Some(Peaks { fp32: fp32 * per_cycle, tf32: tf32 * per_cycle, bandwidth: 2.0 * memory * bits / 8.0 })
    }
}

impl Load for Gpu {
    fn load(&self, code: &Code, constants: &[f32]) -> Result<Arc<Loaded>, CudaError> {
        let module = self.module(code)?;
        let kernels = code.kernels.iter().map(|name| module.load_function(name));
        let kernels = kernels.collect::<Result<_, _>>().map_err(refused("find a kernel"))?;
        let stream = self.context.default_stream();
        // An allocation of nothing is refused.
        let data = if constants.is_empty() { &[0.0][..] } else { constants };
        let constants = stream
            .clone_htod(data)
            .map_err(|error| no_memory(&self.context, error, size_of_val(data), "the weights", false))?;
        stream.synchronize().map_err(refused("copy the weights"))?;
        let (address, _) = constants.device_ptr(&stream);
        Ok(Arc::new(Loaded { context: self.context.clone(), kernels, address, constants }))
    }
}

impl Gpu {
    /// The kernels, compiled now or before.
    fn module(&self, code: &Code) -> Result<Arc<CudaModule>, CudaError> {
        let file = cache(code, &self.architecture);
        // PTX has no byte 0, and the driver takes none.
        let known = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        if let Some(known) = known.filter(|text| !text.contains('\0')) {
            // What is cut short, or of a newer NVRTC than the driver takes, is compiled again.
            if let Ok(module) = self.context.load_module(Ptx::from_src(known)) {
                return Ok(module);
            }
        }
        let text = ptx(code, &self.architecture)?;
        let module = self.context.load_module(Ptx::from_src(&text)).map_err(refused("load the kernels"))?;
        if let Some(file) = file {
            keep(&file, &text);
        }
        Ok(module)
    }
}

/// Held while a graph is recorded, and while all that a GPU does is waited for, which no recording outlives.
static RECORDING: Mutex<()> = Mutex::new(());

/// Why there is no memory for something.
fn no_memory(
    context: &CudaContext,
    error: DriverError,
    needed: usize,
    what: impl Into<String>,
    fewer: bool,
) -> CudaError {
    if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return refused("give memory")(error);
    }
    let free = context.mem_get_info().map_or(0, |(free, _)| free);
    CudaError::Memory { needed, what: what.into(), fewer, free }
}
