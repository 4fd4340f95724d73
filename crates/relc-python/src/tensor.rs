//! Inputs and relevance on a GPU, given and taken through DLPack.

use std::ffi::c_void;
use std::sync::Arc;

use dlpark::ffi::{DLDevice, DLManagedTensor, DLManagedTensorVersioned};
use dlpark::metadata::Dynamic;
use dlpark::python::consumer::stream;
use dlpark::python::{
    DlpackExporter, DlpackStream, ExportRequest, ImportRequest, ImportedDlpack, StreamArg, export_dlpack,
};
use dlpark::tensor::compact_strides;
use dlpark::{DlpackElement, DlpackFlags, Managed, ManagedTensorBase};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use relc::GpuExplanations;
use relc::unstable::cuda::driver::Tensor as GpuTensor;

use crate::error::raise;

/// CUDA's legacy default stream, which sessions wait for.
struct DefaultStream;

// SAFETY: the legacy default stream is always there.
unsafe impl DlpackStream for DefaultStream {
    fn as_python_arg(&self, _: Python<'_>, _: DLDevice) -> PyResult<StreamArg> {
        Ok(stream::cuda(std::ptr::null_mut()))
    }
}

/// An input on the GPU of an explainer.
pub struct Input {
    pub tensor: GpuTensor,
    pub shape: Vec<usize>,
    /// What gives the memory back to whose it is, in the end.
    _given: ImportedDlpack,
}

impl Input {
    /// What Python has on the GPU that an explainer runs on.
    pub fn new(x: &Bound<'_, PyAny>, explainer: &relc::Explainer) -> PyResult<Input> {
        let module = explainer.on_gpu().ok_or_else(|| raise("the explainer runs on no GPU"))?;
        let request = ImportRequest::new(x.as_borrowed()).map_err(raise)?;
        let own = device(explainer.gpu().unwrap_or(0));
        if request.device().map_err(raise)? != own {
            return Err(raise("the tensor is on another device than the explainer"));
        }
        // Whoever writes it has done so before what is asked of the default stream from now on.
        let given = request.import(Some(&DefaultStream), None).map_err(raise)?;
        let view = given.validate().map_err(raise)?;
        if view.dtype() != f32::DTYPE || !is_row_major(view.shape(), view.strides()).map_err(raise)? {
            return Err(raise(format!(
                "got a tensor of {:?} with the strides {:?}, expected float32 that is C-contiguous",
                view.dtype(),
                view.strides()
            )));
        }
        let mut shape: Vec<usize> =
            view.shape().iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
        if shape.len() + 1 == explainer.input().map_err(raise)?.1.dims().len() {
            shape.insert(0, 1);
        }
        // SAFETY: only the address is taken. The producer says that there are so many numbers.
        let address = unsafe { view.offset_data_ptr::<f32>() }.map_err(raise)?.addr() as u64;
        // SAFETY: DLPack's protocol: the producer has so many f32 there, on this device, and keeps them until `given` goes; they
        // are ready on the default stream. That nobody writes to them meanwhile is said in the documentation, as of arrays.
        let tensor = unsafe { GpuTensor::borrowed(module, address, view.num_elements()) };
        Ok(Input { tensor, shape, _given: given })
    }
}

/// Whether elements lie one after the other: no stride of an axis of one element matters.
fn is_row_major(shape: &[i64], strides: Option<&[i64]>) -> Result<bool, dlpark::tensor::Error> {
    let expected = compact_strides(shape)?;
    let steps = strides.unwrap_or(&expected).iter().zip(&expected);
    Ok(steps.zip(shape).all(|((stride, expected), size)| *size < 2 || stride == expected))
}

/// The relevance of the input on the GPU: what speaks DLPack takes it without a copy.
#[pyclass(frozen, module = "relc._relc")]
pub struct Tensor {
    pub result: Arc<GpuExplanations>,
    /// Which target's it is.
    pub at: usize,
}

fn device(gpu: usize) -> DLDevice {
    DLDevice::cuda(i32::try_from(gpu).unwrap_or(0))
}

impl Tensor {
    fn relevance(&self) -> PyResult<&GpuTensor> {
        let explanation = self.result.explanations.get(self.at);
        explanation.map(|explanation| &explanation.relevance).ok_or_else(|| raise("there is no such target"))
    }

    fn export<M: ManagedTensorBase>(&self) -> PyResult<Managed<M>> {
        let failed = |error: &dyn std::fmt::Display| PyBufferError::new_err(error.to_string());
        let shape: Vec<i64> = self.result.shape.iter().map(|size| *size as i64).collect();
        let strides = compact_strides(&shape).map_err(|error| failed(&error))?;
        let relevance = self.relevance()?;
        let prepared =
            Dynamic::new(&shape[..], &strides[..]).prepare_as::<M>().map_err(|error| failed(&error))?;
        let mut tensor = prepared.initialize(Box::new(self.result.clone()));
        tensor.set_device(self.device()).set_dtype(f32::DTYPE);
        tensor.set_data(relevance.address() as usize as *mut c_void);
        // SAFETY: at the address are as many f32 as the shape says, row-major: the relevance has the input's shape. What holds
        // it is the tensor's context, which lives as long.
        Ok(unsafe { tensor.finish() })
    }
}

impl DlpackExporter for Tensor {
    fn device(&self) -> DLDevice {
        device(self.relevance().map_or(0, GpuTensor::gpu))
    }

    fn flags(&self) -> DlpackFlags {
        DlpackFlags::empty()
    }

    /// It was waited for when it was computed.
    fn prepare_export(&self, _: Python<'_>, _: &ExportRequest<'_>) -> PyResult<()> {
        Ok(())
    }

    fn export_legacy(&self, _: Python<'_>) -> PyResult<Managed<DLManagedTensor>> {
        self.export()
    }

    fn export_versioned(&self, _: Python<'_>) -> PyResult<Managed<DLManagedTensorVersioned>> {
        self.export()
    }
}

#[pymethods]
impl Tensor {
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.result.shape.clone()
    }

    fn __dlpack_device__(&self) -> (u32, i32) {
        self.device().into()
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(u32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        export_dlpack(self, py, ExportRequest::parse(stream.as_ref(), max_version, dl_device, copy)?)
    }
}
