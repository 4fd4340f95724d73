//! How fast the convolutions of ResNet-18 and ResNet-50 run at 224x224, against the machine's own FMA peak.
//!
//! ```sh cargo run --release -p relc-cpu --example tile_bench -- [repetitions] [hot|cold|both]
//! [resnet18|resnet50]
//! ```
//! `RELC_ISA` selects the kernels. Figures are GFLOP/s, the best of many repetitions; `%` is of the peak.
//! "hot" repeats one layer; "cold" runs each layer once per round, so that weights come from memory as they
//! do in a network. "F(2)" and "F(4)" are forward by Winograd's algorithm, in FLOPs of the direct one: more
//! than 100 % is possible.

use std::hint::black_box;
use std::time::Instant;

use relc_cpu::bf16x6::{Bf16x6Plan, Bf16x6Weights};
use relc_cpu::conv::{Arguments, ConvPlan, PackedWeights, Run};
use relc_cpu::epilogue::{Beside, Epilogue};
use relc_cpu::tile::Part;
use relc_cpu::winograd::{Form, WinogradArguments, WinogradPlan, WinogradRun, WinogradWeights};
use relc_cpu::{AlignedBuffer, Isa, Machine, flops_per_second};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo};

/// Channels in, channels out, kernel, stride, size of the square input, and how often the network has it.
type Layer = (usize, usize, usize, usize, usize, usize);

const RESNET18: &[Layer] = &[
    (3, 64, 7, 2, 224, 1),
    (64, 64, 3, 1, 56, 4),
    (64, 128, 3, 2, 56, 1),
    (64, 128, 1, 2, 56, 1),
    (128, 128, 3, 1, 28, 3),
    (128, 256, 3, 2, 28, 1),
    (128, 256, 1, 2, 28, 1),
    (256, 256, 3, 1, 14, 3),
    (256, 512, 3, 2, 14, 1),
    (256, 512, 1, 2, 14, 1),
    (512, 512, 3, 1, 7, 3),
    (512, 1000, 1, 1, 1, 1),
];

const RESNET50: &[Layer] = &[
    (3, 64, 7, 2, 224, 1),
    (64, 64, 1, 1, 56, 1),
    (64, 64, 3, 1, 56, 3),
    (64, 256, 1, 1, 56, 4),
    (256, 64, 1, 1, 56, 2),
    (256, 128, 1, 1, 56, 1),
    (128, 128, 3, 2, 56, 1),
    (256, 512, 1, 2, 56, 1),
    (128, 512, 1, 1, 28, 4),
    (512, 128, 1, 1, 28, 3),
    (128, 128, 3, 1, 28, 3),
    (512, 256, 1, 1, 28, 1),
    (256, 256, 3, 2, 28, 1),
    (512, 1024, 1, 2, 28, 1),
    (256, 1024, 1, 1, 14, 6),
    (1024, 256, 1, 1, 14, 5),
    (256, 256, 3, 1, 14, 5),
    (1024, 512, 1, 1, 14, 1),
    (512, 512, 3, 2, 14, 1),
    (1024, 2048, 1, 2, 14, 1),
    (512, 2048, 1, 1, 7, 3),
    (2048, 512, 1, 1, 7, 2),
    (512, 512, 3, 1, 7, 2),
    (2048, 1000, 1, 1, 1, 1),
];

/// The columns of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Forward,
    Positive,
    Backward,
    Winograd(Form),
    Bf16x6(Direction, Part),
}

const COLUMNS: [(&str, Column); 8] = [
    ("forward", Column::Forward),
    ("w+", Column::Positive),
    ("backward", Column::Backward),
    ("F(2)", Column::Winograd(Form::Two)),
    ("F(4)", Column::Winograd(Form::Four)),
    ("bf16x6", Column::Bf16x6(Direction::Forward, Part::Raw)),
    ("bf16x6 w+", Column::Bf16x6(Direction::Forward, Part::Positive)),
    ("bf16x6 backward", Column::Bf16x6(Direction::Transposed, Part::Positive)),
];

type AnyError = Box<dyn std::error::Error>;

/// A convolution, ready to run.
enum Plan {
    Direct(ConvPlan, PackedWeights, Part),
    Winograd(WinogradPlan, WinogradWeights, AlignedBuffer),
    Bf16x6(Bf16x6Plan, Bf16x6Weights, Part),
}

/// One convolution with its buffers.
struct Bench {
    plan: Plan,
    input: AlignedBuffer,
    out: AlignedBuffer,
    flops: f64,
    best: f64,
}

impl Bench {
    /// None if the layer has no such column.
    fn new(isa: Isa, layer: Layer, column: Column) -> Result<Option<Bench>, AnyError> {
        let (channels_in, channels_out, kernel, stride, size, _) = layer;
        let machine = Machine::detect(isa)?;
        let spec = ConvSpec::square(channels_in, channels_out, kernel, stride, kernel / 2);
        let image = [1, size, size];
        let [_, height, width] = spec.output_size(image)?;
        let block = |channels: usize| if channels <= 4 { channels } else { isa.width() };
        let small = |halo| Blocked::new(channels_in, block(channels_in), size, size, halo);
        let deep = |halo| Blocked::new(channels_out, block(channels_out), height, width, halo);
        let (input, output) = match column {
            Column::Backward | Column::Bf16x6(Direction::Transposed, _) => {
                (deep(spec.transposed_halo(image)?)?, small(Halo::NONE)?)
            }
            _ => (small(spec.forward_halo(image)?)?, deep(Halo::NONE)?),
        };
        let count = spec.weights_len().ok_or("weights")?;
        let weights: Vec<f32> = (0..count).map(|i| (i * 53 % 97) as f32 / 97.0 - 0.5).collect();
        let direct = |plan: ConvPlan, part| -> Result<Plan, AnyError> {
            let weights = plan.pack(&weights)?;
            Ok(Plan::Direct(plan, weights, part))
        };
        let plan = match column {
            Column::Forward => direct(ConvPlan::forward(&spec, &machine, &input, &output)?, Part::Raw)?,
            Column::Positive => direct(ConvPlan::forward(&spec, &machine, &input, &output)?, Part::Positive)?,
            Column::Backward => {
                direct(ConvPlan::transposed(&spec, &machine, &input, &output)?, Part::Positive)?
            }
            Column::Bf16x6(direction, part) => {
                match Bf16x6Plan::new(&spec, direction, &machine, &input, &output)? {
                    None => return Ok(None),
                    Some(plan) => {
                        let weights = plan.pack(&weights)?;
                        Plan::Bf16x6(plan, weights, part)
                    }
                }
            }
            Column::Winograd(form) => {
                match WinogradPlan::new(&spec, Direction::Forward, &machine, form, &input, &output)? {
                    None => return Ok(None),
                    Some(plan) => {
                        let scratch = AlignedBuffer::zeroed(plan.scratch_len());
                        let weights = plan.pack(&weights, Part::Raw)?;
                        Plan::Winograd(plan, weights, scratch)
                    }
                }
            }
        };
        let dense: Vec<f32> = (0..input.dense_len()).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let mut packed = AlignedBuffer::zeroed(input.len());
        input.pack(&dense, &mut packed)?;
        let out = AlignedBuffer::zeroed(output.len());
        Ok(Some(Bench { plan, input: packed, out, flops: spec.flops(image)?, best: f64::MAX }))
    }

    fn run(&mut self, parallel: bool) -> Result<(), AnyError> {
        let (input, out, epilogue) = (&self.input, &mut self.out, Epilogue::None);
        let start = Instant::now();
        match &mut self.plan {
            Plan::Direct(plan, weights, part) => {
                let arguments = Arguments { weights, part: *part, input, epilogue };
                plan.run_all([Run { arguments, out, beside: Beside::default() }], parallel)?;
            }
            Plan::Bf16x6(plan, weights, part) => {
                let arguments = Arguments { weights, part: *part, input, epilogue };
                plan.run_all([Run { arguments, out, beside: Beside::default() }], parallel)?;
            }
            Plan::Winograd(plan, weights, scratch) => {
                let arguments = WinogradArguments { weights, input, epilogue, repair: None };
                plan.run_all([WinogradRun { arguments, scratch, out, beside: Beside::default() }], parallel)?;
            }
        }
        self.best = self.best.min(start.elapsed().as_secs_f64());
        black_box(&self.out);
        Ok(())
    }

    /// GFLOP/s and percent of the peak of some threads.
    fn rate(&self, peak: f64, threads: usize) -> (f64, f64) {
        let rate = self.flops / self.best / 1e9;
        (rate, rate / peak / threads as f64 * 100.0)
    }
}

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repetitions: usize = arguments.first().map_or(Ok(20), |text| text.parse())?;
    let mode = arguments.get(1).map_or("both", String::as_str);
    let network = arguments.get(2).map(String::as_str);
    let isa = Isa::detect()?;
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global()?;
    for (name, layers) in [("resnet18", RESNET18), ("resnet50", RESNET50)] {
        if network.is_some_and(|network| network != name) {
            continue;
        }
        for hot in [true, false] {
            if mode == "both" || (mode == "hot") == hot {
                table(name, layers, isa, hot, repetitions)?;
            }
        }
    }
    Ok(())
}

/// A layer's columns, on one thread and on two.
type Benches = [Vec<Option<Bench>>; 2];

fn benches(isa: Isa, layer: Layer) -> Result<Benches, AnyError> {
    let columns =
        || COLUMNS.iter().map(|&(_, column)| Bench::new(isa, layer, column)).collect::<Result<Vec<_>, _>>();
    Ok([columns()?, columns()?])
}

/// Measures and prints one network.
fn table(name: &str, layers: &[Layer], isa: Isa, hot: bool, repetitions: usize) -> Result<(), AnyError> {
    let peak = flops_per_second(isa) / 1e9;
    let mut all = layers.iter().map(|&layer| benches(isa, layer)).collect::<Result<Vec<_>, _>>()?;
    let (rounds, repeats) = if hot { (1, repetitions) } else { (repetitions, 1) };
    for _ in 0..rounds {
        for threads in 0..2 {
            for bench in all.iter_mut().flat_map(|layer| &mut layer[threads]).flatten() {
                for _ in 0..repeats {
                    bench.run(threads == 1)?;
                }
            }
        }
    }
    let (one, two) = rayon::join(|| flops_per_second(isa), || flops_per_second(isa));
    let kind = if hot { "hot" } else { "cold" };
    println!("\n{name}, {isa}, {kind}: peak {peak:.1} GFLOP/s on one core, {:.1} on two", (one + two) / 1e9);
    print!("{:<24}", "1 thread, 2 threads");
    COLUMNS.iter().for_each(|(title, _)| print!("{title:^24}"));
    println!();
    // Per column and number of threads: seconds, and FLOPs.
    let mut sums = [[(0.0, 0.0); 2]; COLUMNS.len()];
    for (&(channels_in, channels_out, kernel, stride, size, count), layer) in layers.iter().zip(&all) {
        print!("{:<24}", format!("{channels_in}-{channels_out} {kernel}x{kernel}/{stride} @{size} x{count}"));
        for (column, sums) in sums.iter_mut().enumerate() {
            let [Some(one), Some(two)] = [0, 1].map(|threads: usize| layer[threads][column].as_ref()) else {
                continue;
            };
            let [(a, p), (b, q)] = [one.rate(peak, 1), two.rate(peak, 2)];
            print!("{a:>7.1} {p:>3.0}% {b:>6.1} {q:>3.0}%");
            for (sum, bench) in sums.iter_mut().zip([one, two]) {
                *sum = (sum.0 + bench.best * count as f64, sum.1 + bench.flops * count as f64);
            }
        }
        println!();
    }
    for threads in 0..2 {
        print!("{:<24}", format!("all, {} thread(s), ms", threads + 1));
        for (seconds, flops) in sums.map(|column| column[threads]) {
            print!(
                "{:>9.2} {:>3.0}%{:>10}",
                seconds * 1e3,
                flops / seconds / 1e7 / peak / (threads + 1) as f64,
                ""
            );
        }
        println!();
    }
    Ok(())
}
