//! NVIDIA's driver and its compiler NVRTC, through cudarc. Both are libraries that are loaded when they are first asked for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cudarc::driver::sys::{
    CUdevice_attribute, CUevent_flags, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode,
    CUstreamCaptureStatus,
};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaModule, CudaSlice, CudaStream, DevicePtr,
    DriverError, LaunchConfig, PinnedHostSlice, PushKernelArg,
};
use cudarc::nvrtc::sys::nvrtcResult;
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};
use xxhash_rust::xxh3::xxh3_128;

use crate::code::{Code, THREADS};
use crate::device::{Address, Command, Device, Load, Loaded, Peaks, Queue};
use crate::error::CudaError;

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
        // SAFETY: each queue has a stream and memory of its own, and constants are written before any queue is made.
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
    fn load(&self, code: &Code, constants: &[f32]) -> Result<Arc<dyn Loaded>, CudaError> {
        let module = self.module(code)?;
        let kernels = code.kernels.iter().map(|name| module.load_function(name));
        let kernels = kernels.collect::<Result<_, _>>().map_err(refused("find a kernel"))?;
        let stream = self.context.default_stream();
        // An allocation of nothing is refused.
        let data = if constants.is_empty() { &[0.0][..] } else { constants };
        let constants =
            stream.clone_htod(data).map_err(|error| no_memory(&self.context, error, size_of_val(data), 0))?;
        stream.synchronize().map_err(refused("copy the weights"))?;
        let (address, _) = constants.device_ptr(&stream);
        Ok(Arc::new(LoadedKernels { context: self.context.clone(), kernels, address, constants }))
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

/// Why there is no memory for so many samples.
fn no_memory(context: &CudaContext, error: DriverError, needed: usize, samples: usize) -> CudaError {
    if error.0 != CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return refused("give memory")(error);
    }
    let free = context.mem_get_info().map_or(0, |(free, _)| free);
    CudaError::Memory { needed, samples, free }
}

/// Kernels on a GPU.
struct LoadedKernels {
    context: Arc<CudaContext>,
    kernels: Vec<CudaFunction>,
    /// Of the constants.
    address: u64,
    constants: CudaSlice<f32>,
}

impl fmt::Debug for LoadedKernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kernels, {} constants", self.kernels.len(), self.constants.len())
    }
}

impl Loaded for LoadedKernels {
    fn free(&self) -> Option<usize> {
        self.context.mem_get_info().ok().map(|(free, _)| free)
    }

    fn queue(self: Arc<Self>, bytes: usize, samples: usize) -> Result<Box<dyn Queue>, CudaError> {
        let stream = self.context.new_stream().map_err(refused("make a stream"))?;
        let memory = stream
            .alloc_zeros::<u8>(bytes.max(1))
            .map_err(|error| no_memory(&self.context, error, bytes, samples))?;
        let (address, _) = memory.device_ptr(&stream);
        Ok(Box::new(Stream {
            loaded: self,
            stream,
            memory,
            address,
            graphs: HashMap::new(),
            written: HashMap::new(),
            fetched: HashMap::new(),
            pageable: Vec::new(),
        }))
    }
}

/// A stream with memory; lists of commands become graphs.
struct Stream {
    loaded: Arc<LoadedKernels>,
    stream: Arc<CudaStream>,
    memory: CudaSlice<u8>,
    address: u64,
    graphs: HashMap<usize, Graph>,
    /// What is written, by the byte that it is written at: copies from here go on while the host does other things.
    written: HashMap<usize, Pinned>,
    /// What is fetched, as `written`, and whether it is still what the device has, and unread.
    fetched: HashMap<usize, (Pinned, bool)>,
    /// What is read without having been fetched.
    pageable: Vec<u8>,
}

/// A recorded list of commands.
struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, but by one at a time: only its stream's owner reaches it, who has it alone.
unsafe impl Send for Graph {}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stream with {} bytes and {} graphs", self.memory.len(), self.graphs.len())
    }
}

impl Drop for Stream {
    /// Memory and constants are given back when nothing uses them any more.
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
    }
}

fn beyond() -> CudaError {
    CudaError::Plan("a copy leaves the memory".into())
}

impl Stream {
    /// What was fetched is not what the device will have.
    fn outdate(&mut self) {
        self.fetched.values_mut().for_each(|(_, current)| *current = false);
    }

    fn enqueue(&mut self, command: &Command) -> Result<(), CudaError> {
        match command {
            Command::Zero { at, bytes } => {
                let mut part = self.memory.try_slice_mut(*at..at + bytes).ok_or_else(beyond)?;
                self.stream.memset_zeros(&mut part).map_err(refused("clear memory"))
            }
            Command::Launch { kernel, blocks, addresses, samples } => {
                let function = self.loaded.kernels.get(*kernel);
                let function =
                    function.ok_or_else(|| CudaError::Plan(format!("there is no kernel {kernel}")))?;
                let pointers: Vec<u64> = addresses
                    .iter()
                    .map(|address| match address {
                        Address::Memory(at) => self.address + *at as u64,
                        Address::Constant(at) => self.loaded.address + *at as u64,
                    })
                    .collect();
                let mut launch = self.stream.launch_builder(function);
                pointers.iter().for_each(|pointer| {
                    launch.arg(pointer);
                });
                launch.arg(samples);
                let [x, y, z] = *blocks;
                let config =
                    LaunchConfig { grid_dim: (x, y, z), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
                // SAFETY: the kernel was printed with these parameters in this order. The addresses are of the plan's, whose
                // values have room for so many samples; constants are there as long as what was loaded, which this holds.
                unsafe { launch.launch(config) }.map(drop).map_err(refused("launch a kernel"))
            }
        }
    }
}

/// Pinned memory of the host, and what tells when the last copy from or to it is over. (cudarc's own event of it is recorded
/// only where it tracks all events.)
struct Pinned {
    memory: PinnedHostSlice<u8>,
    copied: CudaEvent,
}

impl Pinned {
    /// So many bytes; none if there are not so many, and copies are from and to what is pageable.
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Option<Pinned> {
        let make = || {
            let copied = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
            // SAFETY: bytes may be anything, and all of them are written before any is read: by `write`, or by the copy that
            // `fetch` asks for and `read` waits for.
            let memory = unsafe { context.alloc_pinned_with_flags(bytes, 0) }?;
            Ok::<_, DriverError>(Pinned { memory, copied })
        };
        make().inspect_err(|error| tracing::debug!("{bytes} bytes are not pinned: {error}")).ok()
    }

    /// The memory when the last copy is over.
    fn wait(&mut self) -> Result<&mut PinnedHostSlice<u8>, DriverError> {
        self.copied.synchronize()?;
        Ok(&mut self.memory)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.copied.synchronize();
    }
}

impl Queue for Stream {
    fn write(&mut self, at: usize, data: &[u8]) -> Result<(), CudaError> {
        self.outdate();
        let failed = || refused("copy to the device");
        let mut part = self.memory.try_slice_mut(at..at + data.len()).ok_or_else(beyond)?;
        if self.written.get(&at).is_none_or(|known| known.memory.len() != data.len()) {
            self.written.remove(&at);
            self.written.extend(Pinned::new(&self.loaded.context, data.len()).map(|memory| (at, memory)));
        }
        match self.written.get_mut(&at) {
            Some(pinned) => {
                let memory = pinned.wait().map_err(failed())?;
                memory.as_mut_slice().map_err(failed())?.copy_from_slice(data);
                self.stream.memcpy_htod(memory, &mut part).map_err(failed())?;
                pinned.copied.record(&self.stream).map_err(failed())
            }
            None => self.stream.memcpy_htod(data, &mut part).map_err(failed()),
        }
    }

    fn fetch(&mut self, at: usize, bytes: usize) -> Result<(), CudaError> {
        let part = self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        if self.fetched.get(&at).is_none_or(|(known, _)| known.memory.len() != bytes) {
            self.fetched.remove(&at);
            let pinned = Pinned::new(&self.loaded.context, bytes);
            self.fetched.extend(pinned.map(|pinned| (at, (pinned, false))));
        }
        let Some((pinned, current)) = self.fetched.get_mut(&at) else { return Ok(()) };
        *current = true;
        let copied = self.stream.memcpy_dtoh(&part, &mut pinned.memory);
        copied.and_then(|()| pinned.copied.record(&self.stream)).map_err(refused("copy from the device"))
    }

    fn read(&mut self, at: usize, bytes: usize) -> Result<&[u8], CudaError> {
        if let Some((pinned, current @ true)) = self.fetched.get_mut(&at)
            && pinned.memory.len() == bytes
        {
            *current = false;
            return pinned.wait().and_then(|memory| memory.as_slice()).map_err(refused("finish"));
        }
        let part = self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        self.pageable.resize(bytes, 0);
        self.stream.memcpy_dtoh(&part, &mut self.pageable).map_err(refused("copy from the device"))?;
        self.stream.synchronize().map_err(refused("finish"))?;
        Ok(&self.pageable)
    }

    fn run(&mut self, number: usize, commands: &[Command]) -> Result<(), CudaError> {
        self.outdate();
        if !self.graphs.contains_key(&number) {
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            self.stream.begin_capture(mode).map_err(refused("record a graph"))?;
            let recorded = commands.iter().try_for_each(|command| self.enqueue(command));
            let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            // Ended whatever came of it, or the stream is of no use any more.
            let mut graph = self.stream.end_capture(flags);
            // An error that another thread left on the context is reported before anything is ended.
            let status = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
            if graph.is_err() && self.stream.capture_status().is_ok_and(|now| now != status) {
                graph = self.stream.end_capture(flags);
            }
            recorded?;
            let graph = graph.map_err(refused("make a graph"))?;
            if let (Some(graph), Entry::Vacant(place)) = (graph, self.graphs.entry(number)) {
                place.insert(Graph(graph));
            }
        }
        match self.graphs.get(&number) {
            Some(Graph(graph)) => graph.launch().map_err(refused("launch a graph")),
            None => Ok(()),
        }
    }

    fn time(&mut self, commands: &[Command]) -> Result<Vec<Duration>, CudaError> {
        self.outdate();
        let flags = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let mark = |stream: &CudaStream| stream.record_event(flags).map_err(refused("record an event"));
        let mut marks = vec![mark(&self.stream)?];
        for command in commands {
            self.enqueue(command)?;
            marks.push(mark(&self.stream)?);
        }
        let between = |pair: &[CudaEvent]| match pair {
            [start, end] => start.elapsed_ms(end).map_err(refused("time a kernel")),
            _ => Ok(0.0),
        };
        marks.windows(2).map(|pair| Ok(Duration::from_secs_f32(between(pair)?.max(0.0) / 1e3))).collect()
    }
}
