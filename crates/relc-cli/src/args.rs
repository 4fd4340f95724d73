//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use relc::{Device, Precision};

pub use crate::eval::args::EvalArgs;
pub use crate::eval::tune::TuneArgs;
pub use crate::export::ExportArgs;
pub use crate::save::SaveArgs;

/// Compile an ONNX ResNet into an explainer: which pixels made the network decide, with conserved relevance.
#[derive(Debug, Parser)]
#[command(name = "relc", version, about, long_about = None, arg_required_else_help = true)]
#[command(after_help = "Examples:
  relc check resnet50.onnx
  relc explain resnet50.onnx cat.jpg --labels imagenet.txt --out out
  relc explain ecg.onnx record.csv --out out
  relc explain ct.onnx scan.nii.gz --out out
  relc explain examples/demo/model.onnx examples/demo/images/*.png \\
      --preprocess examples/demo/preprocess.toml --labels examples/demo/labels.txt --out out
  relc help explain\n
Exit codes: 0 done, 1 failed, 2 wrong usage.\nRELC_LOG=debug prints what the passes do; RELC_ISA=portable|avx2|avx512|amx|neon forces an instruction set, RELC_MACHINE=zen4|.. what is known of the machine.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain a model's decisions on pictures.
    Explain(Box<ExplainArgs>),
    /// Measure how good maps are, over a data set, and compare methods.
    Eval(Box<EvalArgs>),
    /// Search for the preset that does best on your pictures.
    Tune(Box<TuneArgs>),
    /// Say whether a model is supported: its joins, what each skip is, and every node that is not.
    Check(CheckArgs),
    /// Compile an explainer into a file, which every command takes in place of the model.
    Compile(Box<SaveArgs>),
    /// Write the explainer as an ONNX file, which runs wherever ONNX runs.
    Export(Box<ExportArgs>),
    /// Print the graph or the program after a pass, or the machine code of a node.
    Dump(DumpArgs),
    /// List the presets that come with relc, or print one to start your own from.
    Preset(PresetArgs),
    /// Time explanations and forward passes.
    Bench(BenchArgs),
    /// Time every step of one explanation: operations per second, and the share of what the machine could do.
    Profile(ProfileArgs),
    /// Print the JSON Schema of the reports that `relc explain` writes.
    #[command(after_help = "Example:\n  relc schema > relc.schema.json")]
    Schema,
    /// Print a shell's completions for relc.
    Completions(CompletionsArgs),
    /// Print the manual page of relc or of one of its commands, for man.
    Man(ManArgs),
}

/// `relc completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc completions bash > ~/.local/share/bash-completion/completions/relc
  relc completions zsh > ~/.zfunc/_relc
  relc completions fish > ~/.config/fish/completions/relc.fish
  relc completions elvish > ~/.config/elvish/lib/relc.elv
  relc completions powershell >> $PROFILE\n
For zsh, ~/.zshrc needs fpath+=~/.zfunc before compinit; for elvish, rc.elv needs \"use relc\". The folder must be there; \
a new shell reads the file.")]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// `relc man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc man | man -l -
  relc man explain > ~/.local/share/man/man1/relc-explain.1
  relc man preset show | man -l -")]
pub struct ManArgs {
    /// The command; relc itself if left out.
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `relc preset`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc preset list
  relc preset show two_level > mine.toml
  relc explain model.onnx cat.jpg --preset mine.toml
  relc preset list --json")]
pub struct PresetArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PresetCommand,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with presets.
#[derive(Debug, Subcommand)]
pub enum PresetCommand {
    /// Their names and what they are for.
    #[command(after_help = "Example:\n  relc preset list")]
    List,
    /// The file of one.
    #[command(after_help = "Example:\n  relc preset show two_level > mine.toml")]
    Show {
        /// Its name.
        name: String,
    },
}

/// How a model is compiled.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// Preset of rules: two_level, conserve, paper, epsilon_plus, ... (relc preset list), or a .toml file [default:
    /// two_level; of an artifact its own].
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// How a residual join shares its relevance [default: the preset's].
    #[arg(long, value_name = "POLICY", value_parser = ["ratio", "half", "half-at-projection", "ratio-at-projection", "signed", "main-only", "skip-only", "gradient"])]
    pub split: Option<String>,
    /// What a gate takes of the relevance of its product with a signal: nothing (signal), or half [default: the preset's].
    #[arg(long, value_name = "POLICY", value_parser = ["signal", "half"])]
    pub gate: Option<String>,
    /// Whether convolution biases enter the denominators [default: the preset's].
    #[arg(long, value_name = "POLICY")]
    pub bias: Option<Bias>,
    /// Whether BatchNormalization stays a layer that relevance passes, or is folded first [default: the preset's].
    #[arg(long, value_name = "POLICY")]
    pub batchnorm: Option<BatchNorm>,
    /// This share of the relevance at a cut stops there and is spread from there over the input, in place of the
    /// preset's read-outs: last-feature-map=0.65, or a glob on a node's name; none: no read-out [default: the preset's].
    #[arg(long, value_name = "AT=SHARE")]
    pub readout: Vec<String>,
    /// Only these channels of the nodes whose name matches pass, and of what flows past them; several are taken
    /// together.
    #[arg(long, value_name = "GLOB=CHANNELS")]
    pub mask: Vec<String>,
    /// The lowest value of the input, for zbox: one for all channels or one per channel [default: the preprocessing's].
    #[arg(
        long,
        value_name = "LOW,..",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "high"
    )]
    pub low: Vec<f64>,
    /// The highest value of the input, for zbox.
    #[arg(
        long,
        value_name = "HIGH,..",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "low"
    )]
    pub high: Vec<f64>,
}

/// Another method than one backward pass.
#[derive(Debug, Args)]
pub struct MethodArgs {
    /// Explain by another method: input_x_gradient, integrated_gradients, smoothgrad, grad_cam, layer_cam,
    /// grad_cam_plus_plus, score_cam, rise, random.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["preset", "split", "gate", "bias", "mask", "readout"])]
    pub method: Option<String>,
    /// Quadrature nodes of integrated_gradients [50], noisy inputs of smoothgrad [25], masks of rise [1000].
    #[arg(long, value_name = "N", requires = "method")]
    pub samples: Option<usize>,
    /// smoothgrad's noise, as a fraction of the input's range [0.15].
    #[arg(long, value_name = "SIGMA", requires = "method")]
    pub sigma: Option<f64>,
    /// The node whose output the methods called cam weigh [default: the last picture before the head].
    #[arg(long, value_name = "NODE", requires = "method")]
    pub layer: Option<String>,
    /// The seed of random numbers [0].
    #[arg(long, value_name = "N", requires = "method")]
    pub rng_seed: Option<u64>,
}

/// What of intermediate relevance is kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReduceArg {
    /// Sums over pixels: f32[N,C].
    Channel,
    /// Sums over channels: f32[N,H,W].
    Spatial,
    /// Everything.
    None,
}

/// What a model leaves open.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The output to explain, where the model has several (or any value of its graph).
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// The input's shape, where the model does not fix it: N,3,224,224.
    #[arg(long, value_name = "SHAPE")]
    pub input_shape: Option<String>,
    /// Hold an input constant, where the model has several: a number, or a .npy file of its shape with 1 for the batch.
    #[arg(long, value_name = "NAME=VALUE")]
    pub hold: Vec<String>,
    /// The memory that constants may take beside what the model's files hold, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 1.0)]
    pub constant_limit: f64,
}

/// A bias policy.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Bias {
    /// They enter.
    Include,
    /// They don't.
    Exclude,
    /// They enter, also those that folding made.
    All,
}

/// A BatchNormalization policy.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BatchNorm {
    /// It is folded into the layer before it.
    Fold,
    /// It stays.
    Keep,
    /// Folded as zennit does, whose epsilon keeps acting: only for reproducing its numbers.
    FoldAsZennit,
}

/// Samples, or runs of a method, that are explained at a time.
pub const BATCH: u16 = 4;

/// `relc explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc explain resnet50.onnx cat.jpg --labels imagenet.txt --out out
  relc explain resnet50.onnx photos/*.jpg --target top3 --json report.json
  relc explain resnet50.onnx cat.jpg --compare tabby \"tiger cat\" --labels imagenet.txt --seed contrast
  relc explain resnet50.onnx cat.jpg --method integrated_gradients --out out
  relc explain resnet50.onnx cat.jpg --tap '/layer4/*' --reduce channel --tap-npz taps.npz
  relc explain examples/signal/model.onnx examples/signal/wide.csv --out out
  relc explain examples/volume/model.onnx examples/volume/ball.gif --preprocess examples/volume/frames.toml --out out
  relc explain resnet50.relc photos --jobs 2 --parquet rows.parquet
  relc explain resnet50.onnx cat.jpg --target top3 --report cat.html
  relc explain cifar10.onnx x.npy --preset paper --relevance-npy r.npy --engine interp-f64
  relc explain examples/demo/model.onnx examples/demo/images/*.png \\
      --preprocess examples/demo/preprocess.toml --labels examples/demo/labels.txt --out out")]
pub struct ExplainArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// Pictures (PNG, JPEG, ...), folders of them, or .npy files in the model's own input layout, with or without the
    /// batch; signals (.csv, .tsv: a column is a channel) and tables (a row is a sample); volumes (.nii, .nii.gz); videos
    /// for models of three spatial axes (an animated GIF, WebP or PNG, a folder of frames, a folder of such).
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// The relevance to start from: prob, logit, onehot, contrast, or a .npy f32[N,K] or f32[K] [default: the preset's].
    #[arg(long, value_name = "SEED", conflicts_with = "method")]
    pub seed: Option<String>,
    /// Don't measure how far rounding decides a map, which takes a second run where a rule's contract is unbounded.
    #[arg(long)]
    pub no_sensitivity: bool,
    /// What to explain: argmax, topK (top3), an output's index or label, or several with commas [default: argmax]. A
    /// number is an index; label:TEXT and index:N say which is meant.
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Explain two targets and say how alike their maps are.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "target")]
    pub compare: Option<Vec<String>>,
    #[command(flatten)]
    pub method: MethodArgs,
    /// Write the relevance of the nodes whose ONNX name matches, of the first target.
    #[arg(long, value_name = "GLOB", conflicts_with = "method")]
    pub tap: Option<String>,
    /// What of it is kept.
    #[arg(long, value_name = "WHAT", default_value = "none", requires = "tap")]
    pub reduce: ReduceArg,
    /// Where it is written, an array per node.
    #[arg(long, value_name = "FILE", default_value = "taps.npz", requires = "tap")]
    pub tap_npz: PathBuf,
    /// How pictures become inputs: imagenet, cifar10, none, or a .toml file [default: imagenet, with a warning where it
    /// can be seen not to fit].
    #[arg(long, value_name = "NAME")]
    pub preprocess: Option<String>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Explain without a ledger: only its totals.
    #[arg(long, conflicts_with = "ledger")]
    pub no_ledger: bool,
    /// Don't say how alike the map is to that of the second largest output, which takes as long as a second target.
    #[arg(long)]
    pub no_class_sensitivity: bool,
    /// Explain the other inputs if one fails, and exit with 1 at the end: the default.
    #[arg(long = "keep-going", overrides_with = "strict")]
    pub _keep_going: bool,
    /// Stop at the first input that fails.
    #[arg(long, overrides_with = "_keep_going")]
    pub strict: bool,
    /// A text file with the name of an output on each line.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Samples per batch; results don't depend on it.
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Write a folder per input: map as .npy, report.json and something to look at: heat map and overlay of a picture,
    /// the lines of a signal (PNG, SVG, CSV), the columns of a table, slices of a volume and its map as NIfTI, the frames of
    /// a video as overlay.gif and sheet.png.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Colour map of the pictures: seismic, bwr, hot, inferno, viridis, ...
    #[arg(long, value_name = "NAME", default_value = "seismic")]
    pub colormap: String,
    /// Write the relevance of all inputs, f32 in the input's shape (several targets: one more axis, first); NaN where
    /// an input fails.
    #[arg(long, value_name = "FILE")]
    pub relevance_npy: Option<PathBuf>,
    /// Write the maps of all inputs, f32[N,H,W] of pictures, f32[N,L] of signals, f32[N,D,H,W] of volumes (several targets:
    /// one more axis, first).
    #[arg(long, value_name = "FILE")]
    pub map_npy: Option<PathBuf>,
    /// Write a row for each input and target as Parquet: prediction, target, logit, sums, warnings and map, or the error; the
    /// rows that relc.ray writes on a cluster.
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
    /// Floor every map to a number of heat levels (8 unless given), as the authors' code does; write
    /// --heat-quantization=8 where an input follows.
    #[arg(long, value_name = "LEVELS", num_args = 0..=1, default_missing_value = "8", value_parser = clap::value_parser!(u16).range(2..))]
    pub heat_quantization: Option<u16>,
    /// Write the report as JSON; to standard output (and nothing else there) if FILE is left out or -. Write --json=-
    /// where an input follows.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", value_parser = json_file)]
    pub json: Option<PathBuf>,
    /// Write a page for a browser, which needs no network: maps, values under the pointer, the network with what its edges
    /// carry, the ledger. 12 inputs at most.
    #[arg(long, value_name = "FILE.html", value_parser = page_file)]
    pub report: Option<PathBuf>,
    /// Print the ledger: where the relevance went, node by node.
    #[arg(long, conflicts_with = "method")]
    pub ledger: bool,
    /// Print which rule each node got, and which line of the preset or option gave it.
    #[arg(long, conflicts_with = "method")]
    pub explain_rules: bool,
}

/// `relc check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc check resnet50.onnx
  relc check resnet50.onnx --preset paper --batchnorm keep
  relc check model.onnx --output logits --hold scale=1.0 --input-shape N,3,224,224 --json")]
pub struct CheckArgs {
    /// The ONNX model.
    pub model: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A form of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// relc's own text form, which can be read back.
    Text,
    /// Graphviz.
    Dot,
    /// JSON.
    Json,
    /// A page for a browser: every pass with its differences and remarks, the network, the memory plan, and how fast each
    /// step is.
    Html,
}

/// `relc dump`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc dump model.onnx --after find-residuals
  relc dump model.onnx --after derive-relevance --format dot | dot -Tsvg > graph.svg
  relc dump model.onnx --print-after-all --remarks
  relc dump model.onnx --after fuse-epilogues --remarks
  relc dump model.onnx --asm /layer1/layer1.0/Add
  relc dump model.onnx --after find-residuals --json
  relc dump model.onnx --format html > passes.html")]
pub struct DumpArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The pass; the last one over the graph unless given. `import` is the graph as it was read, `lower` the program that
    /// becomes of it, `plan-memory` the program that runs.
    #[arg(long, value_name = "PASS", conflicts_with = "print_after_all")]
    pub after: Option<String>,
    /// Print the kernels of a node, by its name or label: kernel IR, Cranelift's IR and machine code.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["print_after_all", "after"])]
    pub asm: Option<String>,
    /// Show the passes for an NVIDIA GPU of so many multiprocessors in place of the processor's, and behind the last, as
    /// the pass `cuda-c`, the kernels. No GPU is needed.
    #[cfg(feature = "cuda")]
    #[arg(long, value_name = "MULTIPROCESSORS", num_args = 0..=1, default_missing_value = "132", conflicts_with = "asm")]
    pub cuda: Option<usize>,
    /// Print the graph or the program after every pass.
    #[arg(long)]
    pub print_after_all: bool,
    /// The form.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Leave what is measured out of the page: the times of passes, and the steps, which run three times for it. It is the
    /// same at every run then.
    #[arg(long)]
    pub no_profile: bool,
    /// Print one JSON document: the graphs, programs or kernels (as text), and what each pass did, and did not and why.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Print what each pass did, and did not and why, on standard error.
    #[arg(long)]
    pub remarks: bool,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// `relc bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc bench resnet50.onnx --batch 8 --threads 2
  relc bench resnet50.onnx --preset paper --runs 20 --json
  relc bench resnet50.onnx --method integrated_gradients --runs 3")]
pub struct BenchArgs {
    /// The ONNX model.
    pub model: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub method: MethodArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Samples of a batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Timed runs, after two that warm up.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Targets that are explained in one run: the outputs with the largest logits.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub targets: u16,
    /// Explain without a ledger.
    #[arg(long)]
    pub no_ledger: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `relc profile`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc profile resnet50.onnx --threads 1
  relc profile resnet18.onnx --preset paper --runs 20
  relc profile resnet18.onnx --model --threads 1
  RELC_MACHINE=zen4 relc profile resnet18.onnx --model
  relc profile resnet50.onnx --device cuda --batch 64\n
Bytes are those that a step moves from beyond the first cache, by the model of the machine; the bound is the least
time by the machine's arithmetic or its traffic with a level of memory, and which of them it is. On a GPU each operand
counts once, and times are between events of its queue.")]
pub struct ProfileArgs {
    /// The ONNX model.
    pub model: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Timed runs; the least time of each step counts.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Samples of a batch, on a GPU.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Print what the model of the machine predicts for each step, beside what was measured.
    #[arg(long = "model")]
    pub model_times: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What executes a program, and on how many threads.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// What executes the program: jit (machine code for this machine), interp-f32 or interp-f64.
    #[arg(long, value_name = "ENGINE", default_value = "jit", value_parser = ["jit", "interp-f32", "interp-f64"])]
    pub engine: String,
    /// Where compiled programs run: cpu, cuda (the first GPU), cuda:N, or auto (a GPU if there is one). Needs a relc that was
    /// built with --features cuda, NVIDIA's driver and NVRTC.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
    /// What a GPU multiplies in convolutions: fp32; tf32 (tensor cores, of factors rounded to 11 bits: maps and conservation
    /// are exact to some 1e-3); or tf32x3 (three such products for one, nearly as exact as fp32).
    #[arg(long, value_name = "PRECISION", default_value = "fp32")]
    pub precision: Precision,
    /// Threads, at most one for each processor [default: one for each]; results don't depend on it.
    #[arg(long, visible_alias = "jobs", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// What is read and never written: a FILE of `--json` with such a name was meant as something else.
const READ: [&str; 12] =
    ["onnx", "npy", "npz", "csv", "png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// Where `--report` writes: a page is opened by its name.
pub fn page_file(text: &str) -> Result<PathBuf, String> {
    let ending = Path::new(text).extension().map(|e| e.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("html" | "htm") => Ok(text.into()),
        _ => Err("expected a file whose name ends in .html, as browsers want it".into()),
    }
}

/// Where `--json` writes.
pub fn json_file(text: &str) -> Result<PathBuf, String> {
    let ending = Path::new(text).extension().map(|e| e.to_string_lossy().to_lowercase());
    match ending.filter(|e| READ.contains(&e.as_str())) {
        Some(_) => {
            Err("expected a file to write JSON to; write --json=- where a model or an input follows".into())
        }
        None => Ok(text.into()),
    }
}
