//! What a program runs on: its kernels, and queues with memory of their own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cudarc::driver::result::memcpy_dtod_async;
use cudarc::driver::sys::{
    CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DriverError,
    LaunchConfig, PinnedHostSlice, PushKernelArg,
};

use super::{RECORDING, Tensor, no_memory, refused};
use crate::code::THREADS;
use crate::device::{Address, Command};
use crate::error::CudaError;

/// Kernels and constants on a GPU. Threads may share them.
pub struct Loaded {
    pub(super) context: Arc<CudaContext>,
    pub(super) kernels: Vec<CudaFunction>,
    /// Of the constants.
    pub(super) address: u64,
    pub(super) constants: CudaSlice<f32>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kernels, {} constants", self.kernels.len(), self.constants.len())
    }
}

impl Loaded {
    /// Bytes that are free on the GPU at the moment.
    pub fn free(&self) -> Option<usize> {
        self.context.mem_get_info().ok().map(|(free, _)| free)
    }

    /// The GPU's number.
    pub fn gpu(&self) -> usize {
        self.context.ordinal()
    }

    /// A queue with so many bytes of memory, all 0, for so many samples.
    ///
    /// # Errors
    /// If there is not so much.
    pub fn queue(self: Arc<Self>, bytes: usize, samples: usize) -> Result<Queue, CudaError> {
        let stream = self.context.new_stream().map_err(refused("make a stream"))?;
        let memory = stream.alloc_zeros::<u8>(bytes.max(1)).map_err(|error| {
            let what = if samples == 1 { "one sample".into() } else { format!("{samples} samples") };
            no_memory(&self.context, error, bytes, what, samples > 1)
        })?;
        let (address, _) = memory.device_ptr(&stream);
        Ok(Queue {
            loaded: self,
            stream,
            memory,
            address,
            graphs: HashMap::new(),
            written: HashMap::new(),
            fetched: HashMap::new(),
            pageable: Vec::new(),
        })
    }
}

/// Memory, and commands that run on it one after the other: a stream. Lists of commands become graphs.
pub struct Queue {
    loaded: Arc<Loaded>,
    stream: Arc<CudaStream>,
    memory: CudaSlice<u8>,
    address: u64,
    graphs: HashMap<usize, Graph>,
    /// What is written, by the byte that it is written at: copies from here go on while the host does other things.
    written: HashMap<usize, Pinned>,
    /// What is fetched, as `written`.
    fetched: HashMap<usize, Pinned>,
    /// What is read without having been fetched.
    pageable: Vec<u8>,
}

/// A recorded list of commands.
struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, but by one at a time: only its stream's owner reaches it, who has it alone.
unsafe impl Send for Graph {}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stream with {} bytes and {} graphs", self.memory.len(), self.graphs.len())
    }
}

impl Drop for Queue {
    /// Memory and constants are given back when nothing uses them any more.
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
    }
}

fn beyond() -> CudaError {
    CudaError::Plan("a copy leaves the memory".into())
}

impl Queue {
    /// What was fetched is not what the device will have.
    fn outdate(&mut self) {
        self.fetched.values_mut().for_each(|pinned| pinned.current = false);
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
    /// Whether this is what was fetched and nobody has read, and still what the device has.
    current: bool,
}

impl Pinned {
    /// So many bytes; none if there are not so many, and copies are from and to what is pageable.
    fn new(context: &Arc<CudaContext>, bytes: usize) -> Option<Pinned> {
        let make = || {
            let copied = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
            // SAFETY: bytes may be anything, and all of them are written before any is read: by `write`, or by the copy that
            // `fetch` asks for and `read` waits for.
            let memory = unsafe { context.alloc_pinned_with_flags(bytes, 0) }?;
            Ok::<_, DriverError>(Pinned { memory, copied, current: false })
        };
        make().inspect_err(|error| tracing::debug!("{bytes} bytes are not pinned: {error}")).ok()
    }

    /// That of a place among those that are kept, made anew where it has other than so many bytes; none as of `new`.
    fn kept<'p>(
        all: &'p mut HashMap<usize, Pinned>,
        context: &Arc<CudaContext>,
        at: usize,
        bytes: usize,
    ) -> Option<&'p mut Pinned> {
        if all.get(&at).is_none_or(|known| known.memory.len() != bytes) {
            all.remove(&at);
            all.extend(Pinned::new(context, bytes).map(|pinned| (at, pinned)));
        }
        all.get_mut(&at)
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

impl Queue {
    /// Writes at a byte, behind all that was asked before.
    ///
    /// # Errors
    /// If it is beyond the memory, or the device fails.
    pub fn write(&mut self, at: usize, data: &[u8]) -> Result<(), CudaError> {
        self.outdate();
        let failed = || refused("copy to the device");
        let mut part = self.memory.try_slice_mut(at..at + data.len()).ok_or_else(beyond)?;
        match Pinned::kept(&mut self.written, &self.loaded.context, at, data.len()) {
            Some(pinned) => {
                let memory = pinned.wait().map_err(failed())?;
                memory.as_mut_slice().map_err(failed())?.copy_from_slice(data);
                self.stream.memcpy_htod(memory, &mut part).map_err(failed())?;
                pinned.copied.record(&self.stream).map_err(failed())
            }
            None => self.stream.memcpy_htod(data, &mut part).map_err(failed()),
        }
    }

    /// As [`write`](Self::write), so many elements of a tensor from one on.
    ///
    /// # Errors
    /// As of `write`, and if the tensor is on another GPU.
    pub fn load(&mut self, at: usize, tensor: &Tensor, first: usize, len: usize) -> Result<(), CudaError> {
        self.outdate();
        let from = self.part_of(tensor, first, len)?;
        let bytes = len * size_of::<f32>();
        self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        // SAFETY: both ends have so many bytes, which stay there: the tensor until its user has read what this queue computes
        // of it, the memory as long as the stream.
        unsafe { memcpy_dtod_async(self.address + at as u64, from, bytes, self.stream.cu_stream()) }
            .map_err(refused("copy on the device"))
    }

    /// Copies to so many elements of a tensor, behind all that was asked before.
    ///
    /// # Errors
    /// As of [`load`](Self::load).
    pub fn store(
        &mut self,
        at: usize,
        tensor: &mut Tensor,
        first: usize,
        len: usize,
    ) -> Result<(), CudaError> {
        let to = self.part_of(tensor, first, len)?;
        let bytes = len * size_of::<f32>();
        self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        // SAFETY: as of `load`.
        unsafe { memcpy_dtod_async(to, self.address + at as u64, bytes, self.stream.cu_stream()) }
            .map_err(refused("copy on the device"))
    }

    /// The address of a part of a tensor, behind what made it.
    fn part_of(&self, tensor: &Tensor, first: usize, len: usize) -> Result<u64, CudaError> {
        let (context, address) = tensor.part(first, len)?;
        if *context != self.loaded.context {
            return Err(CudaError::Plan("the tensor is on another GPU".into()));
        }
        let made = context.default_stream().record_event(None).map_err(refused("record an event"))?;
        self.stream.wait(&made).map_err(refused("wait for a tensor"))?;
        Ok(address)
    }

    /// Asks for so many bytes from one on, as they are behind all that was asked before: the next [`read`](Self::read) of them
    /// waits for this copy alone.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn fetch(&mut self, at: usize, bytes: usize) -> Result<(), CudaError> {
        let part = self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        let pinned = Pinned::kept(&mut self.fetched, &self.loaded.context, at, bytes);
        let Some(pinned) = pinned else { return Ok(()) };
        pinned.current = true;
        let copied = self.stream.memcpy_dtoh(&part, &mut pinned.memory);
        copied.and_then(|()| pinned.copied.record(&self.stream)).map_err(refused("copy from the device"))
    }

    /// So many bytes from one on, as they are behind all that was asked before.
    ///
    /// # Errors
    /// As of [`write`](Self::write).
    pub fn read(&mut self, at: usize, bytes: usize) -> Result<&[u8], CudaError> {
        if let Some(pinned) = self.fetched.get_mut(&at)
            && pinned.current
            && pinned.memory.len() == bytes
        {
            pinned.current = false;
            return pinned.wait().and_then(|memory| memory.as_slice()).map_err(refused("finish"));
        }
        let part = self.memory.try_slice(at..at + bytes).ok_or_else(beyond)?;
        self.pageable.resize(bytes, 0);
        self.stream.memcpy_dtoh(&part, &mut self.pageable).map_err(refused("copy from the device"))?;
        self.stream.synchronize().map_err(refused("finish"))?;
        Ok(&self.pageable)
    }

    /// Runs a list of commands. The same number means the same list: what was prepared for it is used again.
    ///
    /// # Errors
    /// If the device fails.
    pub fn run(&mut self, number: usize, commands: &[Command]) -> Result<(), CudaError> {
        self.outdate();
        if !self.graphs.contains_key(&number) {
            match self.record(commands) {
                Ok(graph) => drop(self.graphs.insert(number, graph)),
                // Whoever waits for all that the GPU does ends what other threads record. The next run tries again.
                Err(error) => {
                    tracing::debug!("commands run one by one: {error}");
                    return commands.iter().try_for_each(|command| self.enqueue(command));
                }
            }
        }
        match self.graphs.get(&number) {
            Some(Graph(graph)) => graph.launch().map_err(refused("launch a graph")),
            None => Ok(()),
        }
    }

    /// Commands as a graph.
    fn record(&mut self, commands: &[Command]) -> Result<Graph, CudaError> {
        let _recording = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
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
        graph.map(Graph).ok_or_else(|| CudaError::Plan("nothing was recorded".into()))
    }

    /// Runs commands, and says how long each took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn time(&mut self, commands: &[Command]) -> Result<Vec<Duration>, CudaError> {
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
