//! What a row of the table of machines says (`src/machine.rs`), measured on one thread of this machine.
//!
//! ```sh
//! cargo run --release -p relc-cpu --example machine_bench -- [GHZ]
//! ```
//! With the clock under load in GHz, figures are per cycle too.

use relc_cpu::{Isa, Level, Machine, bytes_per_second, flops_per_second};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock: Option<f64> = std::env::args().nth(1).map(|text| text.parse()).transpose()?;
    let isa = Isa::detect()?;
    let machine = Machine::host(isa);
    println!("{machine}");
    let per_cycle =
        |rate: f64| clock.map_or(String::new(), |ghz| format!(", {:.1} a cycle", rate / ghz / 1e9));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for isa in Isa::available() {
        let rate = pool.install(|| flops_per_second(isa)) / 2.0;
        println!("{isa}: {:.1} G multiply-adds/s{}", rate / 1e9, per_cycle(rate));
    }
    let [l1, l2, l3] = machine.caches;
    // Each buffer well within its level, and well beyond the one before.
    let sizes = [l1 / 2, l2 / 2, (4 * l2).min(l3 / 2), 8 * l3];
    for (level, bytes) in Level::ALL.into_iter().zip(sizes) {
        let rate = bytes_per_second(isa, bytes);
        println!("{}: {} KiB, {:.1} GB/s{}", level.name(), bytes >> 10, rate / 1e9, per_cycle(rate));
    }
    Ok(())
}
