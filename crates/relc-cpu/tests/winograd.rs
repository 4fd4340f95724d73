//! Winograd's algorithm against naive loops in f64, with its errors measured.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use relc_cpu::epilogue::{Beside, Epilogue, Operand};
use relc_cpu::tile::Part;
use relc_cpu::winograd::{ERROR, Form, Repair, WinogradArguments, WinogradPlan, WinogradRun};
use relc_cpu::{AlignedBuffer, Isa, Machine};
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo};
use support::{CANARY, Case, guard, naive, values};

/// Runs a plan between guards, with a repair of small sums or without; the dense output.
fn run_with(
    repaired: bool,
    case: &Case,
    direction: Direction,
    (isa, form): (Isa, Form),
    dense: &[f32],
    epilogue: Epilogue<'_>,
    parallel: bool,
) -> Vec<f32> {
    let (direct, input, output) = case.plan(direction, isa, false);
    let plan = WinogradPlan::new(&case.spec, direction, &Machine::generic(isa), form, &input, &output)
        .unwrap()
        .expect("supported");
    let weights = plan.pack(&case.weights(), Part::Positive).unwrap();
    let repair = repaired.then(|| {
        let packed = Arc::new(direct.pack(&case.weights()).unwrap());
        Repair::new(&plan, Arc::new(direct), packed, &case.weights(), Part::Positive).unwrap()
    });
    let mut source = vec![f32::NAN; input.len() + 2 * guard()];
    let source = &mut source[guard()..][..input.len()];
    input.pack(dense, source).unwrap();
    let mut scratch = AlignedBuffer::zeroed(plan.scratch_len());
    scratch.fill(f32::NAN);
    let mut memory = vec![CANARY; output.len() + 2 * guard()];
    let out = &mut memory[guard()..][..output.len()];
    let arguments = WinogradArguments { weights: &weights, input: source, epilogue, repair: repair.as_ref() };
    let run = WinogradRun { arguments, scratch: &mut scratch, out, beside: Beside::default() };
    plan.run_all([run], parallel).unwrap();
    let mut result = vec![0.0; output.dense_len()];
    output.unpack(out, &mut result).unwrap();
    let vectors = output.blocks() * output.block() * output.height() * output.width();
    let canaries = memory.iter().filter(|&&value| value == CANARY).count();
    assert_eq!(canaries, memory.len() - vectors, "{case:?} {direction:?} {isa} {form:?}: wrote outside");
    result
}

/// [`run_with`] no repair.
fn run(
    case: &Case,
    direction: Direction,
    isa: Isa,
    form: Form,
    dense: &[f32],
    epilogue: Epilogue<'_>,
    parallel: bool,
) -> Vec<f32> {
    run_with(false, case, direction, (isa, form), dense, epilogue, parallel)
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
    deep([channels_in, channels_out], [1, 1, 0, 1], pads, image, extra)
}

/// A kernel of so many slices with stride and padding from slice to slice, over an image of so many.
fn deep(
    [channels_in, channels_out]: [usize; 2],
    [kernel, stride, pad, depth]: [usize; 4],
    [top, left, bottom, right]: [usize; 4],
    [height, width]: [usize; 2],
    extra: usize,
) -> Case {
    let spec = ConvSpec {
        kernel: [kernel, 3, 3],
        stride: [stride, 1, 1],
        pads: [pad, top, left, pad, bottom, right],
        ..ConvSpec::square(channels_in, channels_out, 3, 1, 1)
    };
    Case { spec, image: [depth, height, width], extra }
}

#[test]
fn layers_of_resnets() {
    check(&case(64, 64, [1; 4], [56, 56], 0));
    check(&case(32, 48, [1; 4], [28, 28], 0));
    check(&case(128, 64, [1; 4], [14, 14], 1));
    check(&case(256, 32, [1; 4], [7, 7], 0));
}

#[test]
fn layers_of_networks_over_volumes() {
    check(&deep([64, 32], [3, 1, 1, 4], [1; 4], [14, 15], 0));
    check(&deep([40, 32], [3, 2, 1, 5], [1; 4], [8, 9], 1));
    check(&deep([32, 48], [3, 1, 1, 1], [1; 4], [7, 7], 0));
    // No output slice meets the second slice of the input, nor the other way round.
    check(&deep([32, 32], [1, 2, 0, 3], [1; 4], [6, 6], 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_size(
        (c, m) in (1usize..=40, 1usize..=40),
        pads in prop::array::uniform4(0usize..=3),
        image in prop::array::uniform2(3usize..=21),
        (kernel, stride, pad) in (1usize..=3, 1usize..=2, 0usize..=1),
        depth in 1usize..=3,
        extra in 0usize..=2,
    ) {
        let depth = depth.max(kernel.saturating_sub(2 * pad));
        check(&deep([c, m], [kernel, stride, pad, depth], pads, image, extra));
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

/// Sums that are divided by, of products of one sign: pictures that are mostly dark, with values of very different sizes
/// and sharp borders.
#[test]
fn repaired_sums_are_exact_to_a_fraction_of_themselves() {
    let slices = [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 1], [3, 1, 1, 3]];
    for ((channels, image), slices) in
        [(32, [28, 28]), (64, [14, 17]), (40, [7, 7]), (32, [12, 13])].into_iter().zip(slices)
    {
        let case = deep([channels, 48], slices, [1; 4], image, 0);
        let (plane, pixels) = (image[0] * image[1], slices[3] * image[0] * image[1]);
        for (seed, decades, sign) in [(3, 0, 1.0), (4, 3, 1.0), (5, 7, 1.0), (5, 7, -1.0)] {
            let noise = values(channels * pixels, seed);
            let lit = |i: usize| (i % plane / image[1]).is_multiple_of(5) || i % plane % image[1] > 8;
            let size = |i: usize| 10f32.powi(-(((i % pixels) * 7 + i / pixels) as i32 % (decades + 1)));
            let dense: Vec<f32> = (0..noise.len())
                .map(|i| if lit(i) { sign * noise[i].max(0.0) * size(i) } else { 0.0 })
                .collect();
            let (expected, _) = naive(&case, Direction::Forward, Part::Positive, &case.weights(), &dense);
            for isa in Isa::available() {
                for form in [Form::Two, Form::Four] {
                    let run = |repaired, parallel| {
                        let (direction, epilogue) = (Direction::Forward, Epilogue::None);
                        run_with(repaired, &case, direction, (isa, form), &dense, epilogue, parallel)
                    };
                    let got = run(true, false);
                    let worst = |got: &[f32]| -> f64 {
                        let own = got.iter().zip(&expected).map(|(got, expected)| {
                            let error = (f64::from(*got) - expected).abs();
                            if error == 0.0 { 0.0 } else { error / expected.abs() }
                        });
                        own.fold(0.0, f64::max)
                    };
                    let error = worst(&got);
                    assert!(error <= ERROR, "{case:?} {isa} {form:?} 1e-{decades}: error {error:e}");
                    let plain = worst(&run(false, false));
                    println!("{channels} {isa} {form:?} 1e-{decades}: {error:.1e}, not repaired {plain:.1e}");
                    assert!(
                        form == Form::Two || plain > 10.0 * ERROR,
                        "the repair has nothing to do: {plain:e}"
                    );
                    assert_eq!(run(true, true), got, "depends on threads");
                }
            }
        }
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
        let epilogue =
            Epilogue::Product { factor: Some(Operand { data: &data, layout }), addends: [None; 2] };
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
    let plan = WinogradPlan::new(
        &spec,
        Direction::Forward,
        &Machine::generic(Isa::Portable),
        Form::Two,
        &input,
        &output,
    )
    .unwrap();
    assert!(plan.is_none() && !WinogradPlan::supports(&spec));
}
