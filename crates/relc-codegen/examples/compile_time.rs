//! How long compiling takes, and how fast the portable tile is: `cargo run --release --example compile_time`.
//!
//! With an argument, prints the text and the listing of the kernel of that name instead.

use std::time::{Duration, Instant};

use relc_codegen::jit::{Binding, CompileError, CompiledFn, Target, compile, listing};
use relc_codegen::kernels::{
    Average, Axis, Blocked, Condition, Denominator, Halo, QuotientPart, Stabiliser, Vanishing, average_pool,
    max_pool, max_pool_winner, multiply, quotients, ratio_split, scale_shift, sum_relu,
};
use relc_codegen::kir::{Arg, Kernel, KernelBuilder, Symbols, verify};
use relc_codegen::tile::{PORTABLE, PORTABLE_PIXELS, PORTABLE_VECTOR, Part, Tile, compile_tiles, portable};

const KERNELS: usize = 300;

fn layout(channels: u32, size: u32) -> Blocked {
    Blocked { channels, height: size, width: size, vector: PORTABLE_VECTOR, halo: Halo::uniform(1) }
}

fn axis(size: u32, kernel: u32, stride: u32, pad: u32) -> Axis {
    let windows = (size + 2 * pad - kernel) / stride + 1;
    Axis { size, windows, kernel, stride, pad, pad_end: pad, dilation: 1 }
}

/// A 3x3 convolution by tiles: rows of tasks, full tiles and a remainder.
fn convolution(name: &str, x: Blocked, y: Blocked) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let (taps, vector) = (x.blocks() * 9, y.pixel());
    let weights_per_block = taps * vector * vector;
    let weights_len = usize::try_from(y.blocks() * weights_per_block).unwrap_or(0);
    let (input, weights) = (k.input("x", x.len()), k.constant("w", weights_len));
    let output = k.output("y", y.len());
    let tap = |block: i64, ky: i64, kx: i64| (block * x.block() + ky * x.row() + kx * vector) as u32;
    let offsets = (0..x.blocks()).flat_map(|b| (0..9).map(move |k| (b, k / 3, k % 3)));
    let table = k.table("taps", offsets.map(|(b, ky, kx)| tap(b, ky, kx)).collect());
    k.tasks(y.rows(), |b, [block, row]| {
        let mut tile = |start: i64, end: i64, pixels: u32| {
            b.for_range("x", start, end, i64::from(pixels), |b, column| {
                // The halo of the input is one pixel, so that tap 0 is up and left of the pixel itself.
                let args = [
                    ("input", input.at(row * x.row() + column * vector)),
                    ("weights", weights.at(block * weights_per_block)),
                    ("out", output.at(y.at(block, row, column))),
                    ("taps", Arg::Table(table)),
                    ("tap_count", Arg::Imm(taps as u64)),
                    ("lanes", Arg::Imm(vector as u64)),
                    ("in_pixel_stride", Arg::Imm(vector as u64)),
                    ("out_pixel_stride", Arg::Imm(vector as u64)),
                    ("out_block_stride", Arg::Imm(0)),
                    ("accumulate", Arg::Imm(0)),
                ];
                let tile = Tile { vector: PORTABLE_VECTOR, pixels, blocks: 1, part: Part::Raw };
                b.call(tile.name(PORTABLE), args);
            });
        };
        let width = i64::from(y.width);
        let rest = width % i64::from(PORTABLE_PIXELS);
        tile(0, width - rest, PORTABLE_PIXELS);
        if rest > 0 {
            tile(width - rest, width, rest as u32);
        }
    })
}

/// One of each kernel at sizes of a ResNet.
fn samples() -> Vec<Kernel> {
    let (wide, deep) = (layout(64, 56), layout(256, 14));
    let denominator = Denominator::Sum { tensors: vec![wide], constant: false, biased: true };
    let part = QuotientPart { scale: 1.0, on: Condition::Always, denominator: Some(denominator) };
    let (stem, pool) = (layout(64, 112), [axis(112, 3, 2, 1), axis(112, 3, 2, 1)]);
    let (last, head) = (layout(512, 7), layout(512, 1));
    let global = Average { axes: [axis(7, 7, 1, 0), axis(7, 7, 1, 0)], count_include_pad: false };
    vec![
        convolution("convolution", deep, deep),
        sum_relu("sum_relu", &[wide; 2], wide, true),
        scale_shift("scale_shift", [wide; 2], true),
        ratio_split("ratio_split", [wide; 5]),
        multiply("multiply", [wide; 3]),
        quotients(
            "quotients",
            [wide; 2],
            None,
            &[part],
            (Stabiliser::Signed(1e-6), Vanishing::Clipped),
            None,
        ),
        max_pool("max_pool", stem, wide, pool),
        max_pool_winner("max_pool_winner", stem, wide, stem, pool),
        average_pool("average_pool", last, head, global),
    ]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs all tasks of a kernel of inputs, constants and outputs, in this order by declaration.
fn run(function: &CompiledFn) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut data: Vec<Vec<f32>> = function.buffers().iter().map(|buffer| vec![1.0; buffer.len]).collect();
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let mut bound: Vec<Binding<'_>> = data.iter_mut().map(|data| Binding::Write(data)).collect();
        let start = Instant::now();
        function.call(&mut bound, 0..function.tasks())?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

fn compile_times(kernels: &[Kernel], symbols: &Symbols, target: &Target) -> Result<(), CompileError> {
    for kernel in kernels {
        let start = Instant::now();
        verify(kernel, symbols)?;
        let verified = start.elapsed();
        compile(std::slice::from_ref(kernel), symbols, target)?;
        let (all, verified) = (milliseconds(start.elapsed()), milliseconds(verified));
        println!(
            "{:24} {all:7.3} ms, verifier {verified:.3} ms, {} values",
            kernel.name,
            kernel.values.len()
        );
    }
    let many: Vec<Kernel> = kernels.iter().cycle().take(KERNELS).cloned().collect();
    let start = Instant::now();
    compile(&many, symbols, target)?;
    println!("{KERNELS} kernels in one module: {:.1} ms", milliseconds(start.elapsed()));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::host()?;
    let start = Instant::now();
    let symbols = compile_tiles(portable(), &target)?;
    let tiles = start.elapsed();
    let kernels = samples();
    if let Some(name) = std::env::args().nth(1) {
        let kernel = kernels.iter().find(|kernel| kernel.name == name).ok_or("no kernel of this name")?;
        print!("{kernel}\n{}", listing(kernel, &symbols, &target)?);
        return Ok(());
    }
    println!("{target:?}; portable tiles: {:.1} ms", milliseconds(tiles));
    compile_times(&kernels, &symbols, &target)?;
    for function in compile(&kernels[..5], &symbols, &target)?.iter() {
        let (time, bytes) = (run(function)?, function.buffers().iter().map(|b| b.len * 4).sum::<usize>());
        print!(
            "{:24} {:7.3} ms, {:.1} GB/s",
            function.name(),
            milliseconds(time),
            bytes as f64 / time.as_secs_f64() / 1e9
        );
        match function.name() {
            "convolution" => {
                let flops = 2.0 * 256.0 * 256.0 * 9.0 * 14.0 * 14.0;
                println!(", {:.1} GFLOP/s on one core", flops / time.as_secs_f64() / 1e9);
            }
            _ => println!(),
        }
    }
    Ok(())
}
