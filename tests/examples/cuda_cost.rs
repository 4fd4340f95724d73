//! What an explanation costs a GPU, counted from its program: `cargo run --release -p relc-tests --example cuda_cost MODEL
//! [PRESET] [BATCH]`. A model of a device, and no measurement: each step takes what its operations or the bytes of its
//! operands, each read or written once, take at the device's peak, whichever is more.

use relc::unstable::program::conv::Direction;
use relc::unstable::program::{Backend, BackendError, Step, StepOp};
use relc::{Compiler, Engine, Preset};
use relc_cuda::{Action, Cuda, Planned, Purpose, What, plan};

/// NVIDIA's data sheet of the H200 (SXM): f32 operations per second without tensor cores, and bytes per second.
const PEAK: f64 = 67e12;
const BANDWIDTH: f64 = 4.8e12;

fn main() -> Result<(), BackendError> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected MODEL [PRESET] [BATCH]")?;
    let preset = Preset::named(&arguments.next().unwrap_or_else(|| "conserve".into()))?;
    let batch: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let explainer = Compiler::new(preset).engine(Engine::InterpF32).compile(&*model)?;
    let backend = Cuda::new(std::sync::Arc::new(Planned::HOPPER));
    let (program, _) = backend.program(explainer.graph(), &[], &mut |_, _| {})?;
    let plan = plan(explainer.graph(), &program)?;
    let steps: Vec<&Step> = program.steps().collect();
    let len = |id| program.image(id).unwrap_or([1; 4]).iter().product::<usize>() as f64;
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
            let operations = match &step.op {
                StepOp::Conv(conv) => {
                    let of_input = match conv.direction {
                        Direction::Forward => step.reads[0],
                        Direction::Transposed => step.writes[0],
                    };
                    let [_, depth, height, width] = program.image(of_input).unwrap_or([1; 4]);
                    conv.spec.flops([depth, height, width])? * batch as f64
                }
                _ => 0.0,
            };
            let values: f64 = step.values().map(len).sum::<f64>() * batch as f64;
            let constants: usize =
                step.constants.iter().filter_map(|name| program.constants.get(name)?.len()).sum();
            let moved = 4.0 * (values + constants as f64);
            flops += operations;
            bytes += moved;
            seconds += (operations / PEAK).max(moved / BANDWIDTH);
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
