//! Several samples at a time: each gets what it gets alone, to the bit, whether they share a reading of the weights or not.

#[expect(dead_code, reason = "naive sums and guard zones are for the other suites")]
mod support;

use relc_cpu::bf16x6::Bf16x6Plan;
use relc_cpu::conv::{Arguments, ConvPlan, Run};
use relc_cpu::epilogue::{Beside, Epilogue, Operand, finish};
use relc_cpu::tile::Part;
use relc_cpu::winograd::{Form, WinogradArguments, WinogradPlan, WinogradRun};
use relc_cpu::{AlignedBuffer, Isa, Machine};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::Blocked;

use support::{CANARY, Case, values};

const SAMPLES: usize = 5;

fn case(channels: [usize; 2], kernel: usize, stride: usize, image: [usize; 2]) -> Case {
    let spec = ConvSpec::square(channels[0], channels[1], kernel, stride, kernel / 2);
    Case { spec, image: [1, image[0], image[1]], extra: 1 }
}

/// The inputs of some samples.
fn inputs(layout: &Blocked) -> Vec<Vec<f32>> {
    let input = |seed: usize| {
        let mut data = vec![0.0; layout.len()];
        layout.pack(&values(layout.dense_len(), seed), &mut data).unwrap();
        data
    };
    (0..SAMPLES).map(input).collect()
}

/// The input of a sample, and its output.
type Pair<'a> = (&'a [f32], &'a mut [f32]);

/// `samples` runs all samples, from their numbers, inputs and outputs; on the pool or not.
#[track_caller]
fn check(what: &str, (input, output): (&Blocked, &Blocked), samples: &mut dyn FnMut(Vec<Pair<'_>>, bool)) {
    let inputs = inputs(input);
    let alone: Vec<Vec<f32>> = inputs
        .iter()
        .map(|input| {
            let mut out = vec![CANARY; output.len()];
            samples(vec![(input, &mut out)], false);
            out
        })
        .collect();
    for parallel in [false, true] {
        let mut outs = vec![vec![CANARY; output.len()]; SAMPLES];
        samples(
            inputs.iter().map(Vec::as_slice).zip(outs.iter_mut().map(Vec::as_mut_slice)).collect(),
            parallel,
        );
        assert!(outs == alone, "{what}, parallel: {parallel}");
    }
}

fn check_direct(case: &Case, streamed: bool) {
    let directions = [Direction::Forward, Direction::Transposed];
    for (direction, isa) in
        directions.into_iter().flat_map(|d| Isa::available().into_iter().map(move |isa| (d, isa)))
    {
        let (plan, input, output) = case.plan(direction, isa, false);
        assert_eq!(plan.is_streamed(), streamed, "{case:?} {direction:?} {isa}");
        let weights = plan.pack(&case.weights()).unwrap();
        check(&format!("{case:?} {direction:?} {isa}"), (&input, &output), &mut |samples, parallel| {
            let run = |(input, out)| Run {
                arguments: Arguments { weights: &weights, part: Part::Raw, input, epilogue: Epilogue::None },
                out,
                beside: Beside::default(),
            };
            plan.run_all(samples.into_iter().map(run), parallel).unwrap();
        });
    }
}

#[test]
fn sums_of_samples() {
    check_direct(&case([24, 40], 3, 1, [6, 11]), false);
    check_direct(&case([256, 256], 3, 1, [5, 7]), true);
    check_direct(&case([512, 640], 1, 2, [7, 7]), true);
}

fn check_winograd(case: &Case, form: Form, streamed: bool) {
    for isa in Isa::available() {
        let (_, input, output) = case.plan(Direction::Forward, isa, false);
        let plan =
            WinogradPlan::new(&case.spec, Direction::Forward, &Machine::generic(isa), form, &input, &output);
        let plan = plan.unwrap().expect("supported");
        assert_eq!(plan.is_streamed(), streamed, "{case:?} {isa}");
        let weights = plan.pack(&case.weights(), Part::Positive).unwrap();
        check(&format!("{case:?} {isa} {form:?}"), (&input, &output), &mut |samples, parallel| {
            let mut memory: Vec<AlignedBuffer> =
                samples.iter().map(|_| AlignedBuffer::zeroed(plan.scratch_len())).collect();
            let epilogue = Epilogue::None;
            let runs = samples.into_iter().zip(&mut memory).map(|((input, out), scratch)| WinogradRun {
                arguments: WinogradArguments { weights: &weights, input, epilogue, repair: None },
                scratch: &mut scratch[..],
                out,
                beside: Beside::default(),
            });
            plan.run_all(runs, parallel).unwrap();
        });
    }
}

#[test]
fn winograd_of_samples() {
    for form in [Form::Two, Form::Four] {
        check_winograd(&case([24, 20], 3, 1, [9, 11]), form, false);
        check_winograd(&case([128, 160], 3, 1, [7, 7]), form, true);
    }
}

/// Checks samples by products of bf16, where there are such: with `shared` weights, where these exceed L2.
fn check_bf16x6(case: &Case, shared: bool) {
    let directions = [Direction::Forward, Direction::Transposed];
    for (direction, isa) in
        directions.into_iter().flat_map(|d| Isa::available().into_iter().map(move |isa| (d, isa)))
    {
        let (_, input, output) = case.plan(direction, isa, false);
        let plan = Bf16x6Plan::new(&case.spec, direction, &Machine::generic(isa), &input, &output).unwrap();
        let Some(plan) = plan else { continue };
        assert_eq!(plan.is_streamed(), shared, "{case:?} {direction:?}");
        let weights = plan.pack(&case.weights()).unwrap();
        check(&format!("{case:?} {direction:?} BF16x6"), (&input, &output), &mut |samples, parallel| {
            let part = Part::Negative;
            let run = |(input, out)| Run {
                arguments: Arguments { weights: &weights, part, input, epilogue: Epilogue::None },
                out,
                beside: Beside::default(),
            };
            plan.run_all(samples.into_iter().map(run), parallel).unwrap();
        });
    }
}

#[test]
fn bf16x6_of_samples() {
    let padded = |case: Case, pads| Case { spec: ConvSpec { pads, ..case.spec }, ..case };
    check_bf16x6(&case([24, 40], 3, 1, [6, 11]), false);
    check_bf16x6(&case([64, 64], 3, 1, [56, 56]), false);
    check_bf16x6(&case([256, 256], 3, 1, [5, 7]), true);
    check_bf16x6(&case([512, 640], 1, 2, [7, 7]), true);
    // Rows that are padding of one side alone, or of neither.
    check_bf16x6(&padded(case([256, 272], 3, 1, [7, 5]), [0, 1, 0, 0, 0, 1]), true);
    check_bf16x6(&padded(case([256, 272], 3, 2, [8, 7]), [0, 0, 2, 0, 2, 0]), true);
    check_bf16x6(&padded(case([272, 256], 3, 1, [7, 7]), [0; 6]), true);
    check_bf16x6(&padded(case([256, 256], 3, 2, [6, 6]), [0, 0, 0, 0, 1, 1]), true);
}

/// A quotient from sums that an earlier one kept is the quotient from sums of its own, whatever is divided.
#[test]
fn kept_sums_are_finished_as_new_ones_are() {
    let case = case([24, 40], 3, 1, [6, 11]);
    for isa in Isa::available() {
        let (plan, input, output) = case.plan(Direction::Forward, isa, false);
        let weights = plan.pack(&case.weights()).unwrap();
        let (source, relevances) = (&inputs(&input)[0], inputs(&output));
        let offset = vec![0.25; output.channels()];
        let run = |plan: &ConvPlan, epilogue, beside: Beside<'_>| {
            let mut out = vec![0.0; output.len()];
            let arguments = Arguments { weights: &weights, part: Part::Raw, input: source, epilogue };
            plan.run_all([Run { arguments, out: &mut out, beside }], true).unwrap();
            out
        };
        let quotient = |number: usize| {
            let operand = |data| Operand { data, layout: output };
            let (relevance, addend) = (operand(&relevances[number]), Some(operand(&relevances[2])));
            Epilogue::Quotient { relevance, offset: &offset, addend, floor: 0.01, vanished: None }
        };
        let mut kept = vec![0.0; output.len()];
        run(&plan, quotient(0), Beside { kept: Some(&mut kept), ..Beside::default() });
        for (number, parallel) in [(0, false), (1, false), (2, true)] {
            let mut again = vec![0.0; output.len()];
            finish(isa, &output, &kept, &quotient(number), &mut again, parallel).unwrap();
            assert!(again == run(&plan, quotient(number), Beside::default()), "{isa}, {number}");
        }
        assert!(finish(isa, &output, &kept[1..], &quotient(0), &mut [], false).is_err());
    }
}
