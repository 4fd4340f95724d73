//! One Cranelift module while functions are added to it.

use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AbiParam, UserFuncName};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Module, ModuleError, default_libcall_names};

use super::lower::Lowering;
use super::memory::CodeMemory;
use super::{CompileError, Target};
use crate::kir::{Kernel, verify};

/// Names the function that Cranelift failed on.
pub(super) fn backend<E: Into<Box<ModuleError>>>(name: &str) -> impl Fn(E) -> CompileError {
    move |source| CompileError::Backend { name: name.to_owned(), source: source.into() }
}

/// Compiles functions one by one, into a module of whatever kind.
pub(super) struct Session<M> {
    fuses: bool,
    pub(super) module: M,
    context: Context,
    builder: FunctionBuilderContext,
    text: Option<String>,
}

impl<M: Module> Session<M> {
    /// A session of an empty module for this target.
    pub fn of(module: M, target: &Target) -> Self {
        Session {
            fuses: target.fuses,
            context: module.make_context(),
            module,
            builder: FunctionBuilderContext::new(),
            text: None,
        }
    }

    /// Collects the text of what is compiled from now on.
    pub fn keep_text(&mut self) {
        self.text = Some(String::new());
    }

    /// The text collected so far.
    pub fn take_text(&mut self) -> String {
        self.text.take().unwrap_or_default()
    }

    /// Verifies and compiles a kernel.
    pub fn kernel(&mut self, kernel: &Kernel) -> Result<FuncId, CompileError> {
        verify(kernel)?;
        let mut signature = self.module.make_signature();
        signature.params.extend((0..3).map(|_| AbiParam::new(I64)));
        self.context.func.signature = signature;
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        Lowering::new(kernel, builder, self.fuses).finish(self.module.target_config());
        self.define().map_err(backend(&kernel.name))
    }

    fn define(&mut self) -> Result<FuncId, Box<ModuleError>> {
        let id = self.module.declare_anonymous_function(&self.context.func.signature)?;
        self.context.func.name = UserFuncName::user(0, id.as_u32());
        if let Some(text) = &mut self.text {
            text.push_str(&self.context.func.display().to_string());
            self.context.set_disasm(true);
        }
        self.module.define_function(id, &mut self.context)?;
        if let (Some(text), Some(code)) = (&mut self.text, self.context.compiled_code()) {
            text.push('\n');
            text.push_str(code.vcode.as_deref().unwrap_or_default());
        }
        self.module.clear_context(&mut self.context);
        Ok(id)
    }
}

impl Session<JITModule> {
    /// A session whose functions are linked into memory of this process.
    pub fn new(target: &Target) -> Self {
        Self::of(JITModule::new(JITBuilder::with_isa(target.isa.clone(), default_libcall_names())), target)
    }

    /// Links everything: the address of each function, valid as long as the memory lives.
    pub fn finish(mut self, ids: &[FuncId]) -> Result<(Vec<*const u8>, Arc<CodeMemory>), CompileError> {
        self.module.finalize_definitions().map_err(backend("linking"))?;
        let code = ids.iter().map(|id| self.module.get_finalized_function(*id)).collect();
        Ok((code, CodeMemory::new(self.module)))
    }
}
