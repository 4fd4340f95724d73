//! relc for C: load an artifact or a model, explain arrays.
//!
//! `include/relc.h` is what cbindgen makes of this file; `docs/c.md` shows its use. Each function is
//! safe to call from several threads at once; a panic inside becomes an error.
//!
//! **Invariant:** pointers are the only thing that is believed. Sizes are checked against each other before memory is read,
//! NULL is an error, and no panic leaves a function.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use relc::ndarray::ArrayViewD;
use relc::unstable::ir::Dim;
use relc::{Compiler, Explainer, Explanations, Preset, Seed, Source, Targets, artifact, messages};
use relc_codegen::jit::{LinkedKernel, LinkedModel, link};

/// The largest rank of an input.
const MAX_RANK: usize = 16;

/// A compiled explainer.
pub struct relc_explainer {
    inner: Explainer,
    input: CString,
}

/// The explanation of a batch: one target of each sample.
pub struct relc_explanation {
    inner: Explanations,
    /// The largest output of each sample, or that which was asked for.
    warnings: Vec<CString>,
}

/// What went wrong, as a caller reads it.
type Failure = String;

fn text(error: &dyn std::error::Error) -> Failure {
    messages(error).join("\nbecause: ")
}

/// Text for C: a zero inside, which no text of relc's has, ends it.
fn c_string(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().take_while(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// Runs `work`; gives NULL and leaves a message if it fails or panics.
///
/// # Safety
/// `error` is NULL or may be written to.
unsafe fn guarded<T>(error: *mut *mut c_char, work: impl FnOnce() -> Result<T, Failure>) -> *mut T {
    let result = catch_unwind(AssertUnwindSafe(work));
    let message = match result {
        Ok(Ok(value)) => return Box::into_raw(Box::new(value)),
        Ok(Err(message)) => message,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            format!("relc panicked, please report it: {said}")
        }
    };
    if !error.is_null() {
        // SAFETY: the contract of this function.
        unsafe { error.write(c_string(&message).into_raw()) };
    }
    std::ptr::null_mut()
}

/// The text behind a pointer.
///
/// # Safety
/// `text` is NULL or a string that ends with a zero and lives as long as what is given.
unsafe fn str_of<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(format!("{what}: got NULL, expected a string"));
    }
    // SAFETY: the contract of this function.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| format!("{what}: got a string that is not UTF-8"))
}

/// The version of relc, such as "0.1.0". Not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn relc_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Loads an artifact (`relc compile MODEL -o FILE`) or compiles an ONNX model.
///
/// `preset` is the name of a preset; NULL: that which the artifact was compiled with, for a model the default.
///
/// # Safety
/// `path` and `preset` are NULL or strings that end with a zero; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_load(
    path: *const c_char,
    preset: *const c_char,
    error: *mut *mut c_char,
) -> *mut relc_explainer {
    let load = || {
        // SAFETY: the contract of this function.
        let path = Path::new(unsafe { str_of(path, "path") }?);
        let preset = if preset.is_null() {
            None
        } else {
            // SAFETY: the contract of this function.
            Some(Preset::named(unsafe { str_of(preset, "preset") }?).map_err(|e| text(&e))?)
        };
        loaded(path.into(), preset)
    };
    // SAFETY: the contract of this function.
    unsafe { guarded(error, load) }
}

/// The explainer of a model, by default with the preset that an artifact was compiled with.
fn loaded(model: Source, preset: Option<Preset>) -> Result<relc_explainer, Failure> {
    let preset = match preset {
        Some(preset) => preset,
        None => match artifact::summary(model.clone()).map_err(|e| text(&e))? {
            Some(artifact) => artifact.preset,
            None => Preset::named(Preset::DEFAULT).map_err(|e| text(&e))?,
        },
    };
    let inner = Compiler::new(preset).compile(model).map_err(|e| text(&e))?;
    let (name, _) = inner.input().map_err(|e| text(&e))?;
    let input = c_string(name);
    Ok(relc_explainer { inner, input })
}

/// A kernel that was compiled ahead of time.
#[repr(C)]
pub struct relc_kernel {
    key: [u64; 2],
    code: *const c_void,
}

/// A model in an object file or a library of `relc compile --emit obj | staticlib`: what its header declares.
#[repr(C)]
pub struct relc_model {
    layout: u64,
    kernels: *const relc_kernel,
    kernel_count: u64,
    artifact: *const u8,
    artifact_bytes: u64,
}

// What C sees is what the object has.
const _: () = assert!(size_of::<relc_model>() == size_of::<LinkedModel>());
const _: () = assert!(size_of::<relc_kernel>() == size_of::<LinkedKernel>());

/// Loads a model that is linked into the program. On a machine with the instructions that it was compiled for nothing is
/// compiled any more, on others it is compiled again from the model inside.
///
/// # Safety
/// `model` is NULL or what the header of an object file or a library declares, which stays where it is as long as the program
/// runs; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_load_model(
    model: *const relc_model,
    error: *mut *mut c_char,
) -> *mut relc_explainer {
    let load = || {
        // SAFETY: the contract of this function; the object was written as a `LinkedModel`.
        let model = unsafe { model.cast::<LinkedModel>().as_ref() }.ok_or("model: got NULL")?;
        if model.layout != LinkedModel::LAYOUT {
            return Err(format!(
                "model: it was compiled by another version of relc (layout {}, expected {}); compile it again",
                model.layout,
                LinkedModel::LAYOUT
            ));
        }
        // SAFETY: the contract of this function: both are parts of the program, of these lengths.
        let artifact = unsafe {
            link(std::slice::from_raw_parts(model.kernels, model.count as usize));
            std::slice::from_raw_parts(model.data, model.bytes as usize)
        };
        loaded(Bytes::from_static(artifact).into(), None)
    };
    // SAFETY: the contract of this function.
    unsafe { guarded(error, load) }
}

/// How many kernels were compiled when the explainer was loaded: 0 of a model that is linked into the program, on a machine
/// that it was compiled for.
///
/// # Safety
/// As of `relc_input_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_kernels_compiled(explainer: *const relc_explainer) -> usize {
    // SAFETY: the contract of this function.
    let executable = unsafe { explainer.as_ref() }.and_then(|explainer| explainer.inner.executable());
    executable.map_or(0, |executable| executable.jitted())
}

/// Frees an explainer; NULL does nothing.
///
/// # Safety
/// `explainer` is NULL or what `relc_load` gave, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_explainer_free(explainer: *mut relc_explainer) {
    if !explainer.is_null() {
        // SAFETY: the contract of this function.
        drop(unsafe { Box::from_raw(explainer) });
    }
}

/// The name of the model's input. Lives as long as the explainer.
///
/// # Safety
/// `explainer` is NULL or what `relc_load` gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_input_name(explainer: *const relc_explainer) -> *const c_char {
    // SAFETY: the contract of this function.
    unsafe { explainer.as_ref() }.map_or(std::ptr::null(), |explainer| explainer.input.as_ptr())
}

/// The rank of the model's input, the batch included; 0 for NULL.
///
/// # Safety
/// As of `relc_input_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_input_rank(explainer: *const relc_explainer) -> usize {
    // SAFETY: the contract of this function.
    unsafe { explainer.as_ref() }.and_then(|e| Some(e.inner.input().ok()?.1.rank())).unwrap_or(0)
}

/// The size of an axis of the model's input; 0 where the batch is, which may have any size, and where there is no axis.
///
/// # Safety
/// As of `relc_input_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_input_size(explainer: *const relc_explainer, axis: usize) -> usize {
    // SAFETY: the contract of this function.
    let dim = unsafe { explainer.as_ref() }.and_then(|e| e.inner.input().ok()?.1.dims().get(axis).copied());
    match dim {
        Some(Dim::Fixed(size)) => size,
        _ => 0,
    }
}

/// How many outputs the model has; 0 for NULL.
///
/// # Safety
/// As of `relc_input_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_outputs(explainer: *const relc_explainer) -> usize {
    // SAFETY: the contract of this function.
    unsafe { explainer.as_ref() }.map_or(0, |explainer| explainer.inner.outputs())
}

/// Explains a batch `f32[N,..]`, row-major and preprocessed as the model wants it.
///
/// `shape` has `rank` sizes, the batch N first. `targets` has the output to explain of each of the N samples; NULL: the largest.
/// The relevance starts from the seed of the preset.
///
/// # Safety
/// `explainer` is NULL or what `relc_load` gave; `shape` is NULL or has `rank` sizes; `input` is NULL or has as many values as
/// they say, and `targets` N; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_explain(
    explainer: *const relc_explainer,
    input: *const f32,
    shape: *const usize,
    rank: usize,
    targets: *const usize,
    error: *mut *mut c_char,
) -> *mut relc_explanation {
    let explain = || {
        // SAFETY: the contract of this function.
        let explainer = unsafe { explainer.as_ref() }.ok_or("explainer: got NULL")?;
        if input.is_null() || shape.is_null() || rank == 0 || rank > MAX_RANK {
            return Err(format!(
                "input: got NULL or {rank} sizes, expected values and 1 to {MAX_RANK} sizes"
            ));
        }
        // SAFETY: the contract of this function.
        let shape = unsafe { std::slice::from_raw_parts(shape, rank) };
        let ty = explainer.inner.input().map_err(|e| text(&e))?.1;
        // Before memory is read: another shape than the model's is a mistake in what the caller counts.
        if shape.len() != ty.rank() || ty.bind(shape[0]) != shape {
            return Err(format!("input: got the shape {shape:?}, expected {ty}"));
        }
        let count = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
        let count = count
            .filter(|count| count.checked_mul(size_of::<f32>()).is_some_and(|b| b <= isize::MAX as usize));
        let count = count.ok_or_else(|| format!("input: the shape {shape:?} has more values than memory"))?;
        // SAFETY: the contract of this function, with as many values as the shape has.
        let values = unsafe { std::slice::from_raw_parts(input, count) };
        let values = ArrayViewD::from_shape(shape, values).map_err(|e| text(&e))?;
        let targets = if targets.is_null() {
            Targets::Argmax
        } else {
            // SAFETY: the contract of this function.
            Targets::Each(unsafe { std::slice::from_raw_parts(targets, shape[0]) }.to_vec())
        };
        let seed = Seed::Named(explainer.inner.preset().seed);
        let inner = explainer.inner.explain(values, &seed, &targets).map_err(|e| text(&e))?;
        let explanation = inner.explanations.first().ok_or("there is no explanation")?;
        let said = |warnings: &Vec<relc::Warning>| {
            let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            c_string(&lines.join("\n"))
        };
        let warnings = explanation.warnings.iter().map(said).collect();
        Ok(relc_explanation { inner, warnings })
    };
    // SAFETY: the contract of this function.
    unsafe { guarded(error, explain) }
}

/// Frees an explanation; NULL does nothing.
///
/// # Safety
/// `explanation` is NULL or what `relc_explain` gave, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_explanation_free(explanation: *mut relc_explanation) {
    if !explanation.is_null() {
        // SAFETY: the contract of this function.
        drop(unsafe { Box::from_raw(explanation) });
    }
}

/// What is in an explanation; none for NULL.
///
/// # Safety
/// `explanation` is NULL or what `relc_explain` gave.
unsafe fn contents<'a>(
    explanation: *const relc_explanation,
) -> Option<(&'a relc_explanation, &'a relc::Explanation)> {
    // SAFETY: the contract of this function.
    let explanation = unsafe { explanation.as_ref() }?;
    Some((explanation, explanation.inner.explanations.first()?))
}

/// The relevance of the input, `f32` in the input's shape. Lives as long as the explanation.
///
/// # Safety
/// `explanation` is NULL or what `relc_explain` gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_relevance(explanation: *const relc_explanation) -> *const f32 {
    // SAFETY: the contract of this function.
    let relevance = unsafe { contents(explanation) }.and_then(|(_, e)| e.relevance.as_slice());
    relevance.map_or(std::ptr::null(), <[f32]>::as_ptr)
}

/// The relevance of the input summed over its channels, `f32[N,..]` over the axes that are left; NULL if the input has no
/// such axes. Lives as long as the explanation.
///
/// # Safety
/// As of `relc_relevance`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_map(explanation: *const relc_explanation) -> *const f32 {
    // SAFETY: the contract of this function.
    let map = unsafe { contents(explanation) }.and_then(|(_, e)| e.map.as_ref()?.as_slice());
    map.map_or(std::ptr::null(), <[f32]>::as_ptr)
}

/// The explained output `f64[N,K]`: logits, if the model ends in an activation. Lives as long as the explanation.
///
/// # Safety
/// As of `relc_relevance`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_logits(explanation: *const relc_explanation) -> *const f64 {
    // SAFETY: the contract of this function.
    let logits = unsafe { contents(explanation) }.and_then(|(e, _)| e.inner.logits.as_slice());
    logits.map_or(std::ptr::null(), <[f64]>::as_ptr)
}

/// The output that was explained of each sample, N of them. Lives as long as the explanation.
///
/// # Safety
/// As of `relc_relevance`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_targets(explanation: *const relc_explanation) -> *const usize {
    // SAFETY: the contract of this function.
    unsafe { contents(explanation) }.map_or(std::ptr::null(), |(_, e)| e.targets.as_ptr())
}

/// `|sum R(input) - sum seed| / sum |seed|` of a sample; NaN for NULL and for samples that there are not.
///
/// # Safety
/// As of `relc_relevance`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_conservation_error(explanation: *const relc_explanation, sample: usize) -> f64 {
    // SAFETY: the contract of this function.
    let found = unsafe { contents(explanation) }.filter(|(_, e)| sample < e.targets.len());
    found.map_or(f64::NAN, |(_, e)| e.conservation_error(sample))
}

/// What keeps the map of a sample from being an explanation, a line for each; empty if nothing. NULL for samples that
/// there are not. Lives as long as the explanation.
///
/// # Safety
/// As of `relc_relevance`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_warnings(explanation: *const relc_explanation, sample: usize) -> *const c_char {
    // SAFETY: the contract of this function.
    let warnings = unsafe { contents(explanation) }.and_then(|(e, _)| e.warnings.get(sample));
    warnings.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// Frees a message; NULL does nothing.
///
/// # Safety
/// `text` is NULL or a message that a function left behind `error`, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn relc_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the contract of this function.
        drop(unsafe { CString::from_raw(text) });
    }
}
