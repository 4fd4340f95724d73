//! What lies in a GPU's memory beside relc's own: inputs that others keep there, and relevance that stays there.

use std::sync::{Arc, PoisonError};

use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};

use super::{RECORDING, no_memory, refused};
use crate::backend::CudaModule;
use crate::error::CudaError;

/// Numbers in a GPU's memory, f32, one after the other.
#[derive(Debug)]
pub struct Tensor {
    context: Arc<CudaContext>,
    address: u64,
    len: usize,
    /// What is given back in the end; none if it is somebody else's.
    own: Option<CudaSlice<f32>>,
}

impl Tensor {
    /// Somebody else's, on the GPU that a module runs on.
    ///
    /// # Safety
    /// The address is that of so many f32 in the memory of this GPU. They stay there, and nobody writes to them, as long as
    /// this lives; whatever writes them is done before what is asked of the GPU's legacy default stream from now on.
    pub unsafe fn borrowed(module: &CudaModule, address: u64, len: usize) -> Tensor {
        Tensor { context: module.loaded.context.clone(), address, len, own: None }
    }

    /// Numbers, copied to the GPU that a module runs on.
    ///
    /// # Errors
    /// If there is no memory, or the driver fails.
    pub fn new(module: &CudaModule, data: &[f32]) -> Result<Tensor, CudaError> {
        let mut tensor = Tensor::zeros(module, data.len())?;
        if let Some(own) = &mut tensor.own {
            let stream = tensor.context.default_stream();
            stream.memcpy_htod(data, own).map_err(refused("copy to the device"))?;
            stream.synchronize().map_err(refused("finish"))?;
        }
        Ok(tensor)
    }

    /// So many zeros.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn zeros(module: &CudaModule, len: usize) -> Result<Tensor, CudaError> {
        let context = module.loaded.context.clone();
        let stream = context.default_stream();
        // An allocation of nothing is refused.
        let own = stream
            .alloc_zeros::<f32>(len.max(1))
            .map_err(|error| no_memory(&context, error, len * size_of::<f32>(), "a tensor", true))?;
        let (address, _) = own.device_ptr(&stream);
        Ok(Tensor { context, address, len, own: Some(own) })
    }

    /// The address of the first.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of its GPU.
    pub fn gpu(&self) -> usize {
        self.context.ordinal()
    }

    /// Its numbers, on the host.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn to_host(&self) -> Result<Vec<f32>, CudaError> {
        let mut data = vec![0.0f32; self.len];
        let stream = self.context.default_stream();
        self.context.bind_to_thread().map_err(refused("open the GPU"))?;
        // SAFETY: there are so many numbers at the address, which stay there as long as this; the copy is waited for.
        unsafe { cudarc::driver::result::memcpy_dtoh_async(&mut data, self.address, stream.cu_stream()) }
            .map_err(refused("copy from the device"))?;
        stream.synchronize().map_err(refused("finish"))?;
        Ok(data)
    }

    /// The context of its GPU, and the address of a part.
    ///
    /// # Errors
    /// If it has no such part.
    pub(super) fn part(&self, first: usize, len: usize) -> Result<(&Arc<CudaContext>, u64), CudaError> {
        let end = first.checked_add(len).filter(|end| *end <= self.len);
        end.ok_or_else(|| CudaError::Plan(format!("a tensor of {} has no {len} from {first} on", self.len)))?;
        Ok((&self.context, self.address + (first * size_of::<f32>()) as u64))
    }
}

impl Drop for Tensor {
    /// Others may still have the GPU read what was handed to them, on streams that this knows nothing of.
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        let _recording = RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.context.synchronize() {
            tracing::debug!("a tensor is not given back: {error}");
            own.leak();
        }
    }
}
