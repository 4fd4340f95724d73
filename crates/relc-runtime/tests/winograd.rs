//! Winograd's algorithm against naive loops in f64, with its errors measured.

mod support;

use proptest::prelude::*;
use relc_runtime::conv::{ConvSpec, Direction};
use relc_runtime::epilogue::{Epilogue, Operand};
use relc_runtime::layout::{Blocked, Halo};
use relc_runtime::tile::Part;
use relc_runtime::winograd::{Form, WinogradPass, WinogradPlan};
use relc_runtime::{AlignedBuffer, Isa};
use support::{CANARY, Case, GUARD, naive, values};

/// Runs a plan between guards; the dense output.
fn run(
    case: &Case,
    direction: Direction,
    isa: Isa,
    form: Form,
    dense: &[f32],
    epilogue: Epilogue<'_>,
    parallel: bool,
) -> Vec<f32> {
    let (_, input, output) = case.plan(direction, isa, false);
    let plan =
        WinogradPlan::new(&case.spec, direction, isa, form, &input, &output).unwrap().expect("supported");
    let weights = plan.pack(&case.weights(), Part::Positive).unwrap();
    let mut source = vec![f32::NAN; input.len() + 2 * GUARD];
    let source = &mut source[GUARD..][..input.len()];
    input.pack(dense, source).unwrap();
    let mut scratch = AlignedBuffer::zeroed(plan.scratch_len());
    scratch.fill(f32::NAN);
    let mut memory = vec![CANARY; output.len() + 2 * GUARD];
    let out = &mut memory[GUARD..][..output.len()];
    let pass = WinogradPass { weights: &weights, input: source, epilogue };
    let run = if parallel { WinogradPlan::run_parallel } else { WinogradPlan::run };
    run(&plan, &pass, &mut scratch, out).unwrap();
    let mut result = vec![0.0; output.dense_len()];
    output.unpack(out, &mut result).unwrap();
    let vectors = output.blocks() * output.block() * output.height() * output.width();
    let canaries = memory.iter().filter(|&&value| value == CANARY).count();
    assert_eq!(canaries, memory.len() - vectors, "{case:?} {direction:?} {isa} {form:?}: wrote outside");
    result
}

/// The greatest error of any element, relative to the greatest sum of magnitudes.
fn error(got: &[f32], expected: &[f64], sizes: &[f64]) -> f64 {
    let scale = sizes.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    got.iter()
        .zip(expected)
        .map(|(&got, expected)| (f64::from(got) - expected).abs() / scale)
        .fold(0.0, f64::max)
}

#[track_caller]
fn check(case: &Case) {
    for direction in [Direction::Forward, Direction::Transposed] {
        let (from, _) = case.sizes(direction);
        let dense = values(from.iter().product(), 3);
        let (expected, sizes) = naive(case, direction, Part::Positive, &case.weights(), &dense);
        for isa in Isa::available() {
            for form in [Form::Two, Form::Four] {
                let got = run(case, direction, isa, form, &dense, Epilogue::None, false);
                // The norms of the transforms bound the growth of rounding errors: about 2 and 20.
                let limit = if form == Form::Two { 2e-6 } else { 1e-5 };
                let error = error(&got, &expected, &sizes);
                assert!(error < limit, "{case:?} {direction:?} {isa} {form:?}: error {error:e}");
                let parallel = run(case, direction, isa, form, &dense, Epilogue::None, true);
                assert_eq!(parallel, got, "{case:?} {direction:?} {isa} {form:?}: depends on threads");
            }
        }
    }
}

fn case(channels_in: usize, channels_out: usize, pads: [usize; 4], image: [usize; 2], extra: usize) -> Case {
    Case { spec: ConvSpec { pads, ..ConvSpec::square(channels_in, channels_out, 3, 1, 1) }, image, extra }
}

#[test]
fn layers_of_resnets() {
    check(&case(64, 64, [1; 4], [56, 56], 0));
    check(&case(32, 48, [1; 4], [28, 28], 0));
    check(&case(128, 64, [1; 4], [14, 14], 1));
    check(&case(256, 32, [1; 4], [7, 7], 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_size(
        (c, m) in (1usize..=40, 1usize..=40),
        pads in prop::array::uniform4(0usize..=3),
        image in prop::array::uniform2(3usize..=21),
        extra in 0usize..=2,
    ) {
        check(&case(c, m, pads, image, extra));
    }
}

#[test]
fn errors_over_many_channels_are_those_of_a_plain_sum() {
    let case = case(512, 16, [1; 4], [14, 14], 0);
    let dense: Vec<f32> = values(512 * 14 * 14, 4).iter().map(|value| value.max(0.0)).collect();
    let (expected, sizes) = naive(&case, Direction::Forward, Part::Positive, &case.weights(), &dense);
    let plan = case.plan(Direction::Forward, Isa::best(), false);
    let (direct, _) = support::guarded(&plan, &case.weights(), &dense, Part::Positive, Epilogue::None, false);
    let plain = error(&direct, &expected, &sizes);
    for form in [Form::Two, Form::Four] {
        let got = run(&case, Direction::Forward, Isa::best(), form, &dense, Epilogue::None, false);
        let error = error(&got, &expected, &sizes);
        assert!(error < 2.0 * plain, "{form:?}: {error:e}, directly {plain:e}");
    }
}

#[test]
fn epilogues_work_on_finished_rows() {
    let case = case(20, 24, [1; 4], [9, 13], 0);
    let dense = values(20 * 9 * 13, 2);
    for isa in Isa::available() {
        let z = run(&case, Direction::Forward, isa, Form::Four, &dense, Epilogue::None, false);
        let layout = Blocked::new(24, isa.width(), 9, 13, Halo::uniform(1)).unwrap();
        let other = values(z.len(), 5);
        let mut data = vec![0.0; layout.len()];
        layout.pack(&other, &mut data).unwrap();
        let epilogue = Epilogue::Product { factor: Operand { data: &data, layout }, addend: None };
        let got = run(&case, Direction::Forward, isa, Form::Four, &dense, epilogue, true);
        let expected: Vec<f32> = z.iter().zip(&other).map(|(z, other)| z * other).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn other_convolutions_have_no_plan() {
    let spec = ConvSpec::square(16, 16, 3, 2, 1);
    let layout = |size, halo| Blocked::new(16, 8, size, size, Halo::uniform(halo)).unwrap();
    let (input, output) = (layout(8, 1), layout(4, 0));
    let plan =
        WinogradPlan::new(&spec, Direction::Forward, Isa::Portable, Form::Two, &input, &output).unwrap();
    assert!(plan.is_none() && !WinogradPlan::supports(&spec));
}
