//! What the fuzz targets do with an input; the corpus test does it with every seed.

use std::io::Cursor;
use std::sync::OnceLock;

use image::{DynamicImage, ImageReader, RgbImage};
use ndarray::ArrayD;
use relc::preprocess::{Layout, Preprocess, load_picture};
use relc::unstable::passes::{PassManager, pipeline};
use relc::{BatchNormPolicy, Compiler, Isa, Preset, Seed, SeedKind, Targets};
use relc_codegen::interp::{Data, interpret};
use relc_codegen::jit::{Binding, CompileError, Target, compile};
use relc_codegen::kir::{self, Elem, Kernel, Stmt};
use relc_ir::op::{Conv, Window};
use relc_ir::{Op, verify};
use relc_rules::Place;

/// Imports bytes; what imports is well-formed, and the passes take it or refuse it.
///
/// # Panics
/// If relc does, or gives a malformed graph.
pub fn import(bytes: &[u8]) {
    // Little memory for constants, so that a run is short.
    let options = relc_onnx::ImportOptions { constant_limit: 1 << 26, ..Default::default() };
    let Ok(imported) = relc_onnx::import_bytes_with(bytes.to_vec(), None, &options) else { return };
    let mut graph = imported.graph;
    verify(&graph).expect("the importer gives well-formed graphs");
    let preset = Preset::named("conserve").expect("the preset is there");
    let _ = PassManager::new(pipeline(&preset, BatchNormPolicy::Fold)).run(&mut graph, |_, _| {});
}

/// Loads an artifact, whatever its hashes say; what loads explains an input or refuses it.
///
/// # Panics
/// If relc does.
pub fn artifact(bytes: &[u8]) {
    let compiler = Compiler::new(Preset::named("conserve").expect("the preset is there")).isa(Isa::Portable);
    let Ok(explainer) = compiler.compile(relc_artifact::sealed(bytes)) else { return };
    let explainer = explainer.with_memory_limit(1 << 28);
    let Ok((_, ty)) = explainer.input() else { return };
    let shape = ty.bind(1);
    if shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n < 1 << 20) {
        let x = ArrayD::from_elem(shape, 0.5);
        let _ = explainer.explain(x.view(), &Seed::Named(SeedKind::Logit), &Targets::Argmax);
    }
}

/// Parses the text form; what parses prints and parses back.
///
/// # Panics
/// If relc does, or what was printed reads otherwise.
pub fn parse_ir(text: &str) {
    let Ok(graph) = relc_ir::parse(text) else { return };
    let printed = graph.to_string();
    let again = relc_ir::parse(&printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed);
    let _ = verify(&graph);
}

/// Parses a preset; what parses answers for a node.
///
/// # Panics
/// If relc does, or an error does not name the file.
pub fn preset(text: &str) {
    match Preset::parse(text, "fuzzed.toml") {
        Ok(preset) => {
            let conv = Conv { window: Window::new([3, 3], [1, 1]), group: 1, folded_bias: false };
            for op in [Op::Conv(conv), Op::GlobalAveragePool] {
                let _ = preset.rule(&op, "layer1/conv", Place::default());
            }
        }
        Err(error) => assert!(error.to_string().contains("fuzzed.toml"), "{error}"),
    }
}

/// Reads an `.npy` array; its values are finite.
///
/// # Panics
/// If relc does, or gives another array.
pub fn npy(bytes: &[u8]) {
    if let Ok(array) = relc::files::parse_npy_f32(bytes) {
        assert!(array.iter().all(|v| v.is_finite()));
    }
}

/// Height and width of the inputs that pictures are made into.
const INPUT: [usize; 2] = [6, 8];
/// The most pixels of a picture, and the largest side on the way to the input, that fuzzers wait for. relc's own limits
/// are higher, and have their tests in `preprocess.rs`.
const PATIENCE: [u32; 2] = [1 << 20, 256];

/// Makes inputs of a picture in both layouts; what it makes is finite and has the model's shape.
fn make_inputs(preprocess: &Preprocess, picture: &DynamicImage) {
    let [h, w] = INPUT;
    for (layout, channels) in [(Layout::Nchw, 1), (Layout::Nchw, 3), (Layout::Nhwc, 3)] {
        let Ok(prepared) = preprocess.apply(picture, layout, INPUT, channels) else { continue };
        let shape = if layout == Layout::Nchw { (channels, h, w) } else { (h, w, channels) };
        assert_eq!(prepared.values.dim(), shape);
        assert_eq!(prepared.picture.dimensions(), (w as u32, h as u32));
        assert!(prepared.values.iter().all(|v| v.is_finite()), "{preprocess:?}");
    }
}

/// Parses a preprocessing, and makes inputs of a small picture by it. The picture's width and height are the first two
/// bytes, from `0` on.
///
/// # Panics
/// If relc does, an error does not name the file, or an input is not finite or of another shape.
pub fn preprocess(bytes: &[u8]) {
    let &[width, height, ref text @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(text);
    let preprocess = match Preprocess::from_toml(&text, "fuzzed.toml") {
        Ok(preprocess) => preprocess,
        Err(error) => return assert!(error.to_string().contains("fuzzed.toml"), "{error}"),
    };
    let table: toml::Table = toml::from_str(&text).expect("what relc parses is TOML");
    let side = table.get("resize_to").and_then(toml::Value::as_integer).unwrap_or(0);
    if side > i64::from(PATIENCE[1]) {
        return;
    }
    let [width, height] = [width, height].map(|n| u32::from(n.wrapping_sub(b'0')) % 64);
    let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 255]));
    make_inputs(&preprocess, &DynamicImage::ImageRgb8(picture));
}

/// Reads a picture, and makes inputs of it.
///
/// # Panics
/// If relc does, an error does not name the file, an input is not finite or of another shape, or the folder for
/// temporary files takes no file.
pub fn picture(bytes: &[u8]) {
    let size = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map(ImageReader::into_dimensions);
    if let Ok(Ok((width, height))) = size
        && u64::from(width) * u64::from(height) > u64::from(PATIENCE[0])
    {
        return;
    }
    let file = tempfile::Builder::new().prefix("fuzzed").tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file can be written");
    match load_picture(file.path()) {
        Ok(picture) => {
            for name in ["imagenet", "cifar10", "none"] {
                make_inputs(&Preprocess::named(name).expect("relc's own"), &picture);
            }
        }
        Err(error) => assert!(error.to_string().contains("fuzzed"), "{error}"),
    }
}

/// Elements before and behind each buffer that no kernel may touch.
const GUARD: usize = 64;

/// Kernels whose buffers hold more elements than this, or that would take more than [`WORK`] statements, are not run.
const ELEMENTS: usize = 1 << 16;

/// See [`ELEMENTS`].
const WORK: u64 = 1 << 16;

/// Parses the text of a kernel. What parses prints and parses back; what verifies
/// does the same compiled as interpreted, to the bit, and touches nothing beside its buffers.
///
/// # Panics
/// If relc does, or any of this does not hold.
pub fn kernel(text: &str) {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| Target::host().expect("Cranelift knows this machine"));
    let Ok(kernel) = kir::parse(text) else { return };
    let printed = kernel.to_string();
    // Constants that are not a number print alike and compare unlike, so that texts are compared.
    let again = kir::parse(&printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed);
    let elements = kernel.buffers.iter().fold(0, |sum: usize, buffer| sum.saturating_add(buffer.len));
    // A task takes its time even if it has no statements.
    let work = rounds(&kernel.body).saturating_add(1).saturating_mul(kernel.task_count() as u64);
    let Ok(()) = kir::verify(&kernel) else { return };
    if elements > ELEMENTS || work > WORK {
        return;
    }
    run(&kernel, target);
}

/// Statements that one task runs.
fn rounds(body: &[Stmt]) -> u64 {
    body.iter().fold(0, |sum: u64, stmt| {
        sum.saturating_add(match stmt {
            Stmt::For(inner) => rounds(&inner.body).saturating_add(1).saturating_mul(inner.trips()),
            _ => 1,
        })
    })
}

fn run(kernel: &Kernel, target: &Target) {
    let number = |i: usize| (i * 37 % 101) as f32 / 8.0 - 6.0;
    let buffers = kernel.buffers.iter().map(|buffer| match buffer.elem {
        Elem::F32 => Data::F32((0..buffer.len).map(number).collect()),
        Elem::F64 => Data::F64((0..buffer.len).map(|i| number(i).into()).collect()),
    });
    let given: Vec<Data> = buffers.collect();
    let mut expected = given.clone();
    let tasks = 0..kernel.task_count();
    interpret(kernel, &mut expected, tasks.clone(), target.fuses()).expect("the buffers are the kernel's");
    let compiled = match compile(std::slice::from_ref(kernel), target) {
        // Cranelift has limits of its own.
        Err(CompileError::Backend { .. }) => return,
        compiled => compiled.expect("a verified kernel compiles"),
    };
    let mut guarded: Vec<Data> = given.iter().map(with_guards).collect();
    let mut bound: Vec<Binding<'_>> = guarded
        .iter_mut()
        .map(|data| match data {
            Data::F32(data) => {
                let end = data.len() - GUARD;
                Binding::Write(&mut data[GUARD..end])
            }
            Data::F64(data) => {
                let end = data.len() - GUARD;
                Binding::Write64(&mut data[GUARD..end])
            }
        })
        .collect();
    compiled.get(0).expect("one kernel").call(&mut bound, tasks).expect("the buffers are the kernel's");
    for (got, expected) in guarded.iter().zip(&expected) {
        assert_eq!(bits(got), bits(&with_guards(expected)), "{kernel}");
    }
}

fn with_guards(data: &Data) -> Data {
    const CANARY: f32 = 12345.0;
    match data {
        Data::F32(data) => Data::F32([&[CANARY; GUARD], &data[..], &[CANARY; GUARD]].concat()),
        Data::F64(data) => {
            let guard = [f64::from(CANARY); GUARD];
            Data::F64([&guard, &data[..], &guard].concat())
        }
    }
}

/// The bits of all values; one for all that are not a number.
fn bits(data: &Data) -> Vec<u64> {
    let canonical = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    match data {
        Data::F32(data) => data.iter().map(|&value| canonical(value.into())).collect(),
        Data::F64(data) => data.iter().map(|&value| canonical(value)).collect(),
    }
}
