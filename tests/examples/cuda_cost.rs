//! What an explanation costs a GPU, counted from its program: `cargo run --release -p relc-tests --example cuda_cost MODEL
//! [PRESET] [BATCH] [PRECISION]`. A model of a device, and no measurement: each step takes what its operations or the bytes of
//! its operands, each read or written once, take at the peak of an H200, whichever is more.

use relc::unstable::program::{Backend, BackendError, Step};
use relc::{Compiler, Engine, Preset};
use relc_cuda::{Action, Cost, Cuda, Peaks, Planned, Purpose, What, plan};

fn main() -> Result<(), BackendError> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected MODEL [PRESET] [BATCH]")?;
    let preset = Preset::named(&arguments.next().unwrap_or_else(|| "conserve".into()))?;
    let batch: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let explainer = Compiler::new(preset).engine(Engine::InterpF32).compile(&*model)?;
    let precision = arguments.next().map_or(Ok(Default::default()), |text| text.parse())?;
    let backend = Cuda::new(std::sync::Arc::new(Planned::HOPPER)).precision(precision)?;
    let (program, _) = backend.program(explainer.graph(), &[], &mut |_, _| {})?;
    let plan = plan(explainer.graph(), &program)?;
    let steps: Vec<&Step> = program.steps().collect();
    for (what, actions) in [("forward", &plan.forward), ("backward", &plan.backward)] {
        let launches = |action: &&Action| matches!(action.what, What::Launch { .. } | What::Zero(_));
        let count = actions.iter().filter(launches).count();
        let of_ledger =
            actions.iter().filter(launches).filter(|action| action.purpose == Purpose::Ledger).count();
        let mut numbers: Vec<usize> = actions.iter().map(|action| action.step).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let (mut flops, mut bytes, mut seconds) = (0.0, 0.0, 0.0);
        for step in numbers.into_iter().filter_map(|number| steps.get(number)) {
            let cost = Cost::of(&program, step, batch)?;
            flops += cost.flops;
            bytes += cost.bytes;
            seconds += cost.bound(&Peaks::H200).0;
        }
        println!(
            "{what}: {count} launches, of which {of_ledger} for the ledger; {:.2} GFLOP, {:.0} MB; {:.2} ms at peak",
            flops / 1e9,
            bytes / 1e6,
            seconds * 1e3
        );
    }
    println!(
        "{} kernels, {:.1} MB of constants",
        plan.code.kernels.len(),
        plan.constants.len() as f64 * 4e-6
    );
    Ok(())
}
