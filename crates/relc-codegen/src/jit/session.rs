//! One Cranelift module while functions are added to it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{AbiParam, FuncRef, GlobalValue, Signature, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleError, default_libcall_names,
};

use super::lower::{Externals, Lowering};
use super::memory::CodeMemory;
use super::{CompileError, Target};
use crate::kir::{Kernel, Stmt, Symbols, verify, walk};

/// Names the function that Cranelift failed on.
fn backend<E: Into<Box<ModuleError>>>(name: &str) -> impl Fn(E) -> CompileError {
    move |source| CompileError::Backend { name: name.to_owned(), source: source.into() }
}

/// Compiles functions one by one, then links them all.
pub(crate) struct Session<'a> {
    symbols: &'a Symbols,
    fuses: bool,
    module: JITModule,
    context: Context,
    builder: FunctionBuilderContext,
    /// Tables by content: kernels of one shape share their taps.
    tables: HashMap<Vec<u32>, DataId>,
    text: Option<String>,
}

impl<'a> Session<'a> {
    /// A module for kernels that may call `symbols`.
    pub fn new(symbols: &'a Symbols, target: &Target) -> Self {
        Self::with_isa(symbols, target, target.isa.clone())
    }

    /// A module for functions whose instructions stay in the order in which they are written.
    pub fn in_order(symbols: &'a Symbols, target: &Target) -> Self {
        Self::with_isa(symbols, target, target.unoptimised.clone())
    }

    fn with_isa(symbols: &'a Symbols, target: &Target, isa: OwnedTargetIsa) -> Self {
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        for (name, symbol) in symbols.iter() {
            if let Some(address) = symbol.address {
                builder.symbol(name, address as *const u8);
            }
        }
        let module = JITModule::new(builder);
        Session {
            symbols,
            fuses: target.fuses,
            context: module.make_context(),
            module,
            builder: FunctionBuilderContext::new(),
            tables: HashMap::new(),
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

    fn signature(&self, params: usize) -> Signature {
        let mut signature = self.module.make_signature();
        signature.params.extend((0..params).map(|_| AbiParam::new(I64)));
        signature
    }

    /// Verifies and compiles a kernel.
    pub fn kernel(&mut self, kernel: &Kernel) -> Result<FuncId, CompileError> {
        verify(kernel, self.symbols)?;
        let externals = self.externals(kernel)?;
        self.context.func.signature = self.signature(3);
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let lowering = Lowering::new(kernel, self.symbols, externals, builder, self.fuses);
        lowering.finish(self.module.target_config());
        self.define().map_err(backend(&kernel.name))
    }

    /// Compiles a function of `params` 64-bit parameters without result; `build` terminates its blocks.
    pub fn function(
        &mut self,
        name: &str,
        params: usize,
        build: impl FnOnce(&mut FunctionBuilder<'_>, bool),
    ) -> Result<FuncId, CompileError> {
        self.context.func.signature = self.signature(params);
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        build(&mut builder, self.fuses);
        builder.seal_all_blocks();
        builder.finalize(self.module.target_config());
        self.define().map_err(backend(name))
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

    /// Declares what the kernel refers to in the function at hand.
    fn externals(&mut self, kernel: &Kernel) -> Result<Externals, CompileError> {
        let mut names: Vec<&str> = Vec::new();
        walk(&kernel.body, &mut |stmt| match stmt {
            Stmt::Call { callee, .. } if !names.contains(&callee.as_str()) => names.push(callee),
            _ => {}
        });
        let mut callees: HashMap<String, FuncRef> = HashMap::new();
        for name in names {
            if self.symbols.iter().all(|(known, symbol)| known != name || symbol.address.is_none()) {
                return Err(CompileError::Unlinked { kernel: kernel.name.clone(), callee: name.to_owned() });
            }
            let signature = self.signature(1);
            let id = self
                .module
                .declare_function(name, Linkage::Import, &signature)
                .map_err(backend(&kernel.name))?;
            callees.insert(name.to_owned(), self.module.declare_func_in_func(id, &mut self.context.func));
        }
        let mut tables: Vec<GlobalValue> = Vec::new();
        for table in &kernel.tables {
            let id = self.table(&table.values).map_err(backend(&kernel.name))?;
            tables.push(self.module.declare_data_in_func(id, &mut self.context.func));
        }
        Ok(Externals { callees, tables })
    }

    fn table(&mut self, values: &[u32]) -> Result<DataId, Box<ModuleError>> {
        if let Some(id) = self.tables.get(values) {
            return Ok(*id);
        }
        let id = self.module.declare_anonymous_data(false, false)?;
        let mut data = DataDescription::new();
        data.set_align(4);
        data.define(values.iter().flat_map(|value| value.to_ne_bytes()).collect());
        self.module.define_data(id, &data)?;
        self.tables.insert(values.to_vec(), id);
        Ok(id)
    }

    /// Links everything: the address of each function, valid as long as the memory lives.
    pub fn finish(mut self, ids: &[FuncId]) -> Result<(Vec<*const u8>, Arc<CodeMemory>), CompileError> {
        let linked = self.module.finalize_definitions();
        linked.map_err(|source| CompileError::Backend {
            name: "linking".to_owned(),
            source: Box::new(source),
        })?;
        let code = ids.iter().map(|id| self.module.get_finalized_function(*id)).collect();
        let owners: Vec<Arc<dyn Any + Send + Sync>> =
            self.symbols.iter().filter_map(|(_, symbol)| symbol.owner.clone()).collect();
        Ok((code, CodeMemory::new(self.module, owners)))
    }
}
