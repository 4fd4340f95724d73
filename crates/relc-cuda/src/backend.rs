//! The back end, and what it compiles.

use std::sync::{Arc, Mutex};

use relc_ir::Graph;
use relc_program::books::Bookkeeper;
use relc_program::op::Precision;
use relc_program::passes::{PlanMemory, ProgramPass};
use relc_program::{Backend, BackendError, Module, Program, Session};

use crate::code::{Plan, What};
use crate::device::Device;
use crate::driver::Loaded;
use crate::emit::plan;
use crate::error::CudaError;
use crate::memory::Memory;
use crate::passes::{ChooseTiles, DenseLayouts, SplitTallies};
use crate::session::{CudaSession, Ready, len};

/// A GPU.
#[derive(Clone, Debug)]
pub struct Cuda {
    device: Arc<dyn Device>,
    precision: Precision,
}

impl Cuda {
    /// The back end of a device, in fp32.
    pub fn new(device: Arc<dyn Device>) -> Cuda {
        Cuda { device, precision: Precision::F32 }
    }

    /// With convolutions on tensor cores, where their factors may be rounded so.
    ///
    /// # Errors
    /// If the device has none that multiply TF32.
    pub fn precision(self, precision: Precision) -> Result<Cuda, CudaError> {
        if precision != Precision::F32 && !self.device.has_tf32() {
            return Err(CudaError::Missing(format!(
                "{} has no tensor cores for {precision}, which take compute capability 8.0 (Ampere) or later: take fp32",
                self.device.name()
            )));
        }
        Ok(Cuda { precision, ..self })
    }
}

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "cuda",
            Precision::Tf32 => "cuda-tf32",
            Precision::Tf32x3 => "cuda-tf32x3",
        }
    }

    fn passes(&self) -> Vec<Box<dyn ProgramPass>> {
        vec![
            Box::new(SplitTallies),
            Box::new(ChooseTiles {
                multiprocessors: self.device.multiprocessors(),
                precision: self.precision,
            }),
            Box::new(DenseLayouts),
            Box::new(PlanMemory),
        ]
    }

    fn compile(&self, graph: &Graph, program: Program) -> Result<Box<dyn Module>, BackendError> {
        Ok(Box::new(CudaModule::new(self.device.clone(), graph, program)?))
    }
}

/// A program on a device.
#[derive(Debug)]
pub struct CudaModule {
    pub(crate) device: Arc<dyn Device>,
    pub(crate) graph: Graph,
    pub(crate) program: Program,
    pub(crate) plan: Plan,
    pub(crate) books: Bookkeeper,
    pub(crate) loaded: Arc<Loaded>,
    /// Memory and commands that no session uses at the moment.
    pub(crate) free: Mutex<Vec<Ready>>,
}

impl CudaModule {
    fn new(device: Arc<dyn Device>, graph: &Graph, program: Program) -> Result<CudaModule, CudaError> {
        let books = Bookkeeper::new(graph, &program).ok_or(CudaError::NoRelevance)?;
        let mut plan = plan(graph, &program)?;
        let constants = std::mem::take(&mut plan.constants);
        let loaded = device.load(&plan.code, &constants)?;
        let (graph, free) = (graph.clone(), Mutex::default());
        Ok(CudaModule { device, graph, program, plan, books, loaded, free })
    }

    /// Memory for so many samples, whose inputs and relevance may stay on the GPU.
    pub fn cuda_session(&self, samples: usize) -> CudaSession<'_> {
        CudaSession::new(self, samples)
    }

    /// The number of the GPU that it runs on.
    pub fn gpu(&self) -> usize {
        self.loaded.gpu()
    }

    /// What it runs on.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }
}

impl Module for CudaModule {
    /// As many as nine tenths of what is free on the device have room for.
    fn samples_at_a_time(&self) -> Option<usize> {
        let each = Memory::new(&self.program, &self.plan, 1).ok()?.bytes();
        let room = self.loaded.free()? / 10 * 9;
        let mut samples = (room / each.max(1)).max(1);
        // A launch has only so many blocks.
        let launches = || self.plan.forward.iter().chain(&self.plan.backward);
        let fits = |samples: usize| {
            launches().all(|action| match action.what {
                What::Launch { grid, .. } => grid.blocks(samples).is_some(),
                _ => true,
            })
        };
        while samples > 1 && !fits(samples) {
            samples /= 2;
        }
        Some(samples)
    }

    fn bytes(&self, samples: usize) -> usize {
        let results = len(self, self.program.ends.input);
        let memory =
            Memory::new(&self.program, &self.plan, samples).map_or(usize::MAX, |memory| memory.bytes());
        memory.saturating_add(results.saturating_mul(2 * size_of::<f32>()).saturating_mul(samples))
    }

    fn program(&self) -> Option<&Program> {
        Some(&self.program)
    }

    fn session(&self, samples: usize) -> Box<dyn Session + '_> {
        Box::new(self.cuda_session(samples))
    }
}
