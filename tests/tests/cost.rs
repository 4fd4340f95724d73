//! The model of a machine's cost against that machine, where its figures were measured: predictions of the steps that count
//! are near what they take.
//!
//! Others use the machine meanwhile, so that a time is the least of many runs, and runs go on until the least times agree with
//! the model or there were enough of them. What must hold is the median of measured over predicted time, and, apart from that
//! median (a clock that is not the table's), all but a quarter of the steps: a model that has one kind of step wrong fails.

use relc::unstable::engine::{Class, Executable};
use relc::{Compiler, Isa, Preset};
use relc_tests::resnet::ResNet;

/// By what a prediction may be wrong.
const NEAR: f64 = 1.5;
/// The share of the time from which on a step counts.
const COUNTED: f64 = 0.01;
/// The share of the counted steps that may be further off.
const OUTLIERS: f64 = 0.25;
/// Times that all runs are repeated at most, and runs of each.
const ROUNDS: usize = 8;
const RUNS: usize = 5;
/// Classes whose figures were measured.
const MEASURED: [Class; 2] = [Class::Zen3, Class::EmeraldRapids];

/// Measured over predicted times of the steps that count, ascending.
fn ratios(times: &[f64], executable: &Executable) -> Vec<f64> {
    let total: f64 = times.iter().sum();
    let predicted = executable.costs().into_iter().map(|cost| cost.seconds(executable.machine(), 1));
    let counted = times.iter().zip(predicted).filter(|(time, _)| **time >= COUNTED * total);
    let mut ratios: Vec<f64> = counted.map(|(time, predicted)| time / predicted).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn near(ratio: f64) -> bool {
    (1.0 / NEAR..=NEAR).contains(&ratio)
}

/// Whether the ratios are what the model promises, and a line that says them.
fn holds(ratios: &[f64]) -> (bool, String) {
    let median = ratios[ratios.len() / 2];
    let outliers = ratios.iter().filter(|ratio| !near(**ratio / median)).count();
    let few = outliers as f64 <= OUTLIERS * ratios.len() as f64;
    let text = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(" ");
    (near(median) && few, format!("median {median:.2}, {outliers} outliers of {}: {text}", ratios.len()))
}

#[test]
#[cfg_attr(debug_assertions, ignore = "times code that is not optimised")]
fn predictions_are_near_what_steps_take() {
    let compiler = Compiler::new(Preset::named("conserve").unwrap()).isa(Isa::best());
    let explainer = compiler.compile(ResNet::resnet18(224).graph()).unwrap();
    let executable = explainer.executable().unwrap();
    if !MEASURED.contains(&executable.machine().class) {
        return;
    }
    let input: Vec<f32> = (0..3 * 224 * 224).map(|i| (i * 53 % 97) as f32 / 97.0 - 0.5).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut times: Vec<f64> = Vec::new();
    let mut said = String::new();
    for _ in 0..ROUNDS {
        let steps = pool.install(|| executable.profile(&input, RUNS)).unwrap();
        times.resize(steps.len(), f64::INFINITY);
        times.iter_mut().zip(&steps).for_each(|(time, step)| *time = time.min(step.time.as_secs_f64()));
        let (held, text) = holds(&ratios(&times, executable));
        if held {
            return;
        }
        said = text;
    }
    panic!("measured over predicted times: {said}");
}

#[test]
fn a_wrong_model_is_found_out() {
    let good: Vec<f64> = (0..40).map(|i| 0.9 + 0.01 * f64::from(i)).collect();
    assert!(holds(&good).0);
    // One kind of step of three takes twice as long as predicted; all do.
    let mut kind: Vec<f64> =
        good.iter().enumerate().map(|(i, r)| if i % 3 == 0 { 2.0 * r } else { *r }).collect();
    kind.sort_by(f64::total_cmp);
    assert!(!holds(&kind).0);
    assert!(!holds(&good.iter().map(|ratio| 2.0 * ratio).collect::<Vec<_>>()).0);
}
