//! The command line of `relc eval`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::args::{EngineArgs, ImportArgs, json_file, page_file};

/// A model and the pictures that it is judged on.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The ONNX model.
    pub model: PathBuf,
    /// The pictures (of a model of signals or volumes: CSV, NIfTI, .npy or GIF files): a folder of class folders, a folder
    /// of pictures, a CSV of path,label[,mask], or an .npz with images and labels.
    pub dataset: PathBuf,
    #[command(flatten)]
    pub import: ImportArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How pictures become inputs: imagenet, cifar10, none, or a .toml file.
    #[arg(long, value_name = "NAME", default_value = "imagenet")]
    pub preprocess: String,
    /// A text file with the name of an output on each line: what class folders and labels may be called.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// A folder of masks, called as the pictures are, white on the object.
    #[arg(long, value_name = "DIR")]
    pub masks: Option<PathBuf>,
    /// As many pictures, chosen at random by the seed [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// What all random numbers depend on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The class that is explained.
    #[arg(long, value_name = "CLASS", default_value = "predicted", value_parser = ["predicted", "label"])]
    pub class: String,
    /// What a removed pixel becomes: 0 before normalisation (black), the picture's mean colour, or the blurred picture.
    #[arg(long, value_name = "BASE", default_value = "black", value_parser = ["black", "mean", "blur"])]
    pub base: String,
    /// Where pixels are equally relevant: strict orders them at random; together lets them in at once, as the authors'
    /// code does (a constant map wins then).
    #[arg(long, value_name = "TIES", default_value = "strict", value_parser = ["strict", "together"])]
    pub ties: String,
    /// Random orders that strict ranking averages over, where there are ties.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub orders: u16,
    /// Whether the curves of insertion and deletion start after the first step (authors) or before it (rise).
    #[arg(long, value_name = "ENDS", default_value = "authors", value_parser = ["authors", "rise"])]
    pub ends: String,
    /// Pixels of a step of insertion and deletion [default: 500 at 224x224, in proportion to the area].
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub step: Option<u32>,
    /// Floor every map to a number of heat levels first (8 unless given), as the authors' code may.
    #[arg(long, value_name = "LEVELS", num_args = 0..=1, default_missing_value = "8", value_parser = clap::value_parser!(u16).range(2..))]
    pub heat_quantization: Option<u16>,
    /// Run the controls on the first N pictures only.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub controls: u32,
    /// Write the results as they come, a line for each picture and method; what it holds already is not run again.
    #[arg(long, value_name = "FILE", default_value = "relc-eval.jsonl")]
    pub results: PathBuf,
    /// Write the table as JSON; to standard output (and nothing else there) if FILE is left out or -. Write --json=-
    /// where the model follows.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", value_parser = json_file)]
    pub json: Option<PathBuf>,
    /// Write the table as CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
}

/// `relc eval`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relc eval resnet18.onnx imagenet/labels.csv --methods two_level,grad_cam,rise:400 --baseline grad_cam
  relc eval resnet20.onnx cifar10 --preprocess cifar10 --methods two_level,paper:half,mine.toml --base blur
  relc eval examples/demo/model.onnx examples/demo/images --preprocess examples/demo/preprocess.toml \\
      --masks examples/demo/masks --metrics id,pointing_game,relevance_mass --grid grid.png
  relc eval resnet18.onnx imagenet/labels.csv --limit 200 --baseline grad_cam --report evaluation.html
  relc eval examples/signal/model.onnx signals.csv --metrics id,relevance_mass --base mean
A run that was stopped goes on where it was when the same command is given again.")]
#[command(group(ArgGroup::new("drawn").args(["grid", "report"]).multiple(true)))]
pub struct EvalArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// What is compared: presets and .toml files of them (NAME:SPLIT with another split policy), methods (rise:400,
    /// integrated_gradients:20 with a number of samples, grad_cam:NODE with a layer). The controls random, constant
    /// and centre are always there.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "two_level,conserve,paper,grad_cam"
    )]
    pub methods: Vec<String>,
    /// What is measured: id (insertion, deletion and their difference), insertion, deletion, road, average_drop,
    /// pixel_flipping, sensitivity_n, infidelity, max_sensitivity, pointing_game, relevance_mass, relevance_rank,
    /// sparseness, complexity, randomisation, class_contrast, conservation; or all.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "id")]
    pub metrics: Vec<String>,
    /// The method that the others are compared with, picture by picture.
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Draw the first pictures and the maps of all methods on one sheet.
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// Write the table, the curves, the best and worst pictures and maps side by side as one HTML page.
    #[arg(long, value_name = "FILE.html", value_parser = page_file)]
    pub report: Option<PathBuf>,
    /// How many pictures the sheet and the page's table of maps show.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..), requires = "drawn")]
    pub grid_pictures: u16,
    /// Colour map of the sheet: seismic, bwr, hot, inferno, viridis, ...
    #[arg(long, value_name = "NAME", default_value = "seismic", requires = "grid")]
    pub colormap: String,
    /// Put the time of an explanation into the table, which is the same whenever it is run but for that.
    #[arg(long)]
    pub time: bool,
}
