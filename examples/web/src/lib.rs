//! relc for a page: compiles a model and explains pictures, by the interpreter, in the page's own process.
//!
//! What a page calls takes and gives memory of the module: [`hand_in`] makes room for bytes, [`compile`] takes the model that lies
//! there, [`explain`] an input `f32[C,H,W]`. What they leave, a message or numbers, is at [`result`].
#![warn(missing_docs)]

use std::cell::RefCell;

use ndarray::{Array1, ArrayD, Axis, IxDyn};
use relc_interp::{Options, backward, forward};
use relc_ir::{Dim, Graph};
use relc_passes::{PassManager, pipeline};
use relc_rules::Preset;

type AnyError = Box<dyn std::error::Error>;

/// All of the module's state; a page has one thread.
#[derive(Default)]
struct State {
    /// What the page hands in.
    handed_in: Vec<u8>,
    graph: Option<Graph>,
    /// What the last call left.
    result: Vec<u8>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Makes room for `len` bytes to be handed in, and says where.
#[unsafe(no_mangle)]
pub extern "C" fn hand_in(len: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.handed_in = vec![0; len];
        state.handed_in.as_mut_ptr()
    })
}

/// Where the last call left its result.
#[unsafe(no_mangle)]
pub extern "C" fn result() -> *const u8 {
    STATE.with_borrow(|state| state.result.as_ptr())
}

/// How many bytes that are.
#[unsafe(no_mangle)]
pub extern "C" fn result_len() -> usize {
    STATE.with_borrow(|state| state.result.len())
}

/// Compiles the ONNX model that was handed in. 1, and the sizes of its input as `N,C,H,W` are the result; or 0, and what went
/// wrong.
#[unsafe(no_mangle)]
pub extern "C" fn compile() -> u32 {
    answered(|state| {
        let (graph, shape) = compiled(std::mem::take(&mut state.handed_in))?;
        state.graph = Some(graph);
        Ok(shape.into_bytes())
    })
}

/// Explains the output `target` (or the largest, where it is negative) for the input that was handed in. 1, and the result is
/// f32: the target, its logit, the sum of the map, K, the K logits, and the map `[H,W]`; or 0, and what went wrong.
#[unsafe(no_mangle)]
pub extern "C" fn explain(target: i32) -> u32 {
    answered(|state| {
        let graph = state.graph.as_ref().ok_or("no model has been compiled")?;
        let numbers = explained(graph, &state.handed_in, usize::try_from(target).ok())?;
        Ok(numbers.into_iter().flat_map(f32::to_le_bytes).collect())
    })
}

fn answered(call: impl FnOnce(&mut State) -> Result<Vec<u8>, AnyError>) -> u32 {
    STATE.with_borrow_mut(|state| {
        let (result, fine) = match call(state) {
            Ok(result) => (result, 1),
            Err(error) => (error.to_string().into_bytes(), 0),
        };
        state.result = result;
        fine
    })
}

fn compiled(model: Vec<u8>) -> Result<(Graph, String), AnyError> {
    let mut graph = relc_onnx::import_bytes(model, None)?.graph;
    let preset = Preset::named("conserve")?;
    PassManager::new(pipeline(&preset, preset.batchnorm)).run(&mut graph, |_, _| {})?;
    let sizes = shape(&graph)?;
    let text = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    Ok((graph, text))
}

/// The sizes of the input, `[1,C,H,W]`.
fn shape(graph: &Graph) -> Result<Vec<usize>, AnyError> {
    let [input] = graph.inputs() else { return Err("expected a model of one input".into()) };
    let ty = &graph.node(*input).types()[0];
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
    let sizes: Vec<usize> = ty.dims().iter().map(size).collect();
    if sizes.len() == 4 {
        Ok(sizes)
    } else {
        Err(format!("the input is {ty}; expected pictures [N,C,H,W]").into())
    }
}

fn explained(graph: &Graph, bytes: &[u8], target: Option<usize>) -> Result<Vec<f32>, AnyError> {
    let sizes = shape(graph)?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let input = ArrayD::from_shape_vec(IxDyn(&sizes), values)?;
    let activations = forward(graph, &[input])?;
    let logits: Array1<f32> = {
        let (_, output) = activations.outputs().next().ok_or("the model has no output")?;
        output.iter().copied().collect()
    };
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at);
    let target = target.or(best).ok_or("the model has no outputs")?;
    let logit =
        *logits.get(target).ok_or_else(|| format!("no output {target}: the model has {}", logits.len()))?;
    let mut seed = ArrayD::zeros(IxDyn(&[1, logits.len()]));
    seed[[0, target]] = logit;
    let relevance = backward(graph, &activations, &seed, &Options::default())?;
    let (_, map) = relevance.inputs.first().ok_or("the model's input has no relevance")?;
    let map = map.index_axis(Axis(0), 0).sum_axis(Axis(0));
    let head = [target as f32, logit, map.sum(), logits.len() as f32];
    Ok(head.into_iter().chain(logits).chain(map).collect())
}
