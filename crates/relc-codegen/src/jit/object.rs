//! Kernels and data as an object file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use cranelift_module::{DataDescription, DataId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::linked::{LinkedModel, halves, key};
use super::session::{Session, backend};
use super::{CompileError, Target};
use crate::kir::Kernel;

/// Bytes that data is aligned to: pages.
const ALIGN: u64 = 4096;

/// An object file for this machine's linker with the code of kernels, some data, and one symbol of this name: a
/// [`LinkedModel`] that has both. Code may lie anywhere (PIC, PIE), and calls nothing.
///
/// # Errors
/// If a kernel is not valid, Cranelift fails, or the name is none for a symbol.
pub fn object(
    kernels: &[Kernel],
    target: &Target,
    name: &str,
    data: Vec<u8>,
) -> Result<Vec<u8>, CompileError> {
    let failed = || backend(name);
    let builder = ObjectBuilder::new(target.position_independent()?, name, default_libcall_names());
    let module = ObjectModule::new(builder.map_err(failed())?);
    let mut session = Session::of(module, target);
    let (description, mut functions) = (target.description(), BTreeMap::new());
    for kernel in kernels {
        if let Entry::Vacant(new) = functions.entry(key(kernel, &description)) {
            new.insert(session.kernel(kernel)?);
        }
    }
    let mut module = session.module;
    let define = |module: &mut ObjectModule, part: &str, linkage, description: &DataDescription| {
        let id = module.declare_data(&format!("{name}{part}"), linkage, false, false).map_err(failed())?;
        module.define_data(id, description).map_err(failed())?;
        Ok::<DataId, CompileError>(id)
    };

    // `[LinkedKernel]`: three words each.
    let mut table = DataDescription::new();
    let mut words = Vec::new();
    for (at, (key, function)) in (0u32..).zip(&functions) {
        words.extend(halves(*key).map(u64::to_ne_bytes));
        words.push([0; 8]);
        let function = module.declare_func_in_data(*function, &mut table);
        table.write_function_addr(at * 24 + 16, function);
    }
    table.define(words.concat().into());
    table.set_align(8);
    let table = define(&mut module, "_kernels", Linkage::Local, &table)?;

    let bytes = data.len() as u64;
    let mut contents = DataDescription::new();
    contents.define(data.into());
    contents.set_align(ALIGN);
    let contents = define(&mut module, "_data", Linkage::Local, &contents)?;

    // `LinkedModel`: five words.
    let mut model = DataDescription::new();
    let words = [LinkedModel::LAYOUT, 0, functions.len() as u64, 0, bytes].map(u64::to_ne_bytes);
    model.define(words.concat().into());
    model.set_align(8);
    for (offset, data) in [(8, table), (24, contents)] {
        let data = module.declare_data_in_data(data, &mut model);
        model.write_data_addr(offset, data, 0);
    }
    define(&mut module, "", Linkage::Export, &model)?;
    let written = module.finish().emit();
    written.map_err(|error| CompileError::Object { name: name.to_owned(), reason: error.to_string() })
}
