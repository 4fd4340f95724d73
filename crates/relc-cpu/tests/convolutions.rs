//! Planned convolutions of any geometry against naive loops in f64.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use relc_cpu::bf16x6::Bf16x6Plan;
use relc_cpu::conv::{Arguments, ConvError, ConvPlan, Run};
use relc_cpu::epilogue::{Beside, Epilogue, Operand};
use relc_cpu::tile::Part;
use relc_cpu::{Isa, Machine, stats};
use relc_program::books::Stats;
use relc_program::conv::{ConvSpec, Direction};
use relc_program::layout::{Blocked, Halo};
use support::{CANARY, Case, between_guards, guarded, naive, values};

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Transposed];

/// As [`guarded`], by products of bf16; none where a machine or a convolution has no such plan.
fn guarded_bf16x6(
    spec: &ConvSpec,
    (direct, input, output): &(ConvPlan, Blocked, Blocked),
    direction: Direction,
    weights: &[f32],
    dense: &[f32],
    (part, epilogue): (Part, Epilogue<'_>),
    parallel: bool,
) -> Option<(Vec<f32>, bool)> {
    let plan = Bf16x6Plan::new(spec, direction, &Machine::generic(direct.isa()), input, output).unwrap()?;
    let packed = plan.pack(weights).unwrap();
    Some(between_guards([input, output], dense, |input, out| {
        let arguments = Arguments { weights: &packed, part, input, epilogue };
        plan.run_all([Run { arguments, out, beside: Beside::default() }], parallel).unwrap();
    }))
}

/// Checks one convolution in both directions on every instruction set of the machine, by every kind of plan but Winograd's.
#[track_caller]
fn check(case: &Case, part: Part) {
    for direction in DIRECTIONS {
        let (from, _) = case.sizes(direction);
        let dense = values(from.iter().product(), 2);
        let weights = case.weights();
        let expected = naive(case, direction, part, &weights, &dense);
        for isa in Isa::available() {
            for narrow in [false, true] {
                let plan = case.plan(direction, isa, narrow && case.spec.groups == 1);
                let what = format!("{case:?} {direction:?} {isa} narrow {narrow}");
                unpacks(&what, &plan.0, &weights);
                let plain = |parallel| guarded(&plan, &weights, &dense, part, Epilogue::None, parallel);
                agrees(&what, plain(false), &expected);
                assert_eq!(plain(true).0, plain(false).0, "{what}: depends on threads");
                let bf16x6 = |parallel| {
                    let how = (part, Epilogue::None);
                    guarded_bf16x6(&case.spec, &plan, direction, &weights, &dense, how, parallel)
                };
                if let Some(got) = bf16x6(false) {
                    assert_eq!(bf16x6(true).unwrap().0, got.0, "{what} by BF16x6: depends on threads");
                    agrees(&format!("{what} by BF16x6"), got, &expected);
                }
            }
        }
    }
}

/// Checks that what was packed gives the weights back, if the plan says so.
#[track_caller]
fn unpacks(what: &str, plan: &ConvPlan, weights: &[f32]) {
    let unpacked = plan.unpack(&plan.pack(weights).unwrap());
    assert_eq!(unpacked.is_some(), plan.keeps_weights(), "{what}");
    assert!(unpacked.is_none_or(|got| got == weights), "{what}: other weights are unpacked");
}

/// Checks that sums are right, and that nothing else was written.
#[track_caller]
fn agrees(what: &str, (got, intact): (Vec<f32>, bool), (expected, sizes): &(Vec<f64>, Vec<f64>)) {
    assert!(intact, "{what}: wrote outside of the interior");
    for (i, (&got, (&expected, &size))) in got.iter().zip(expected.iter().zip(sizes)).enumerate() {
        // An f32 sum is as exact as the magnitudes of its terms; 1e-5 holds for thousands of them.
        let error = (f64::from(got) - expected).abs();
        assert!(error <= 1e-5 * size, "{what} at {i}: {got}, expected {expected}");
    }
}

fn plain(
    channels_in: usize,
    channels_out: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    [height, width]: [usize; 2],
) -> Case {
    let spec = ConvSpec::square(channels_in, channels_out, kernel, stride, pad);
    Case { spec, image: [1, height, width], extra: 0 }
}

/// A kernel of so many slices.
fn deep(case: Case, [kernel, stride, pad, depth]: [usize; 4]) -> Case {
    let ConvSpec { kernel: [_, kh, kw], stride: [_, sh, sw], pads: [_, top, left, _, bottom, right], .. } =
        case.spec;
    let spec = ConvSpec {
        kernel: [kernel, kh, kw],
        stride: [stride, sh, sw],
        pads: [pad, top, left, pad, bottom, right],
        ..case.spec
    };
    Case { spec, image: [depth, case.image[1], case.image[2]], ..case }
}

#[test]
fn layers_of_resnets() {
    check(&plain(3, 64, 7, 2, 3, [30, 34]), Part::Raw);
    check(&plain(32, 48, 3, 1, 1, [14, 14]), Part::Positive);
    check(&plain(32, 48, 3, 2, 1, [15, 28]), Part::Positive);
    check(&plain(32, 64, 1, 2, 0, [14, 14]), Part::Negative);
    check(&plain(48, 80, 1, 1, 0, [7, 7]), Part::Raw);
    check(&plain(96, 100, 1, 1, 0, [1, 1]), Part::Raw);
}

#[test]
fn layers_of_networks_over_volumes() {
    check(&deep(plain(3, 64, 7, 2, 3, [18, 20]), [3, 1, 1, 4]), Part::Raw);
    check(&deep(plain(20, 40, 3, 1, 1, [7, 9]), [3, 1, 1, 3]), Part::Positive);
    check(&deep(plain(32, 16, 3, 2, 1, [9, 8]), [3, 2, 1, 5]), Part::Positive);
    check(&deep(plain(24, 20, 1, 2, 0, [6, 6]), [1, 2, 0, 4]), Part::Negative);
    // Over slices alone, one slice of a kernel of three, and a whole column of them.
    check(&deep(plain(45, 16, 1, 1, 0, [7, 7]), [3, 1, 1, 4]), Part::Raw);
    check(&deep(plain(16, 20, 3, 1, 1, [4, 4]), [3, 1, 1, 1]), Part::Raw);
    check(&deep(plain(8, 8, 2, 2, 0, [4, 4]), [5, 1, 0, 5]), Part::Raw);
}

#[test]
fn few_channels_on_either_side() {
    for channels in 1..=5 {
        check(&plain(channels, 20, 3, 1, 1, [6, 9]), Part::Raw);
        check(&plain(channels, channels, 5, 3, 2, [11, 8]), Part::Positive);
        check(&plain(20, channels, 1, 1, 0, [5, 5]), Part::Raw);
    }
}

#[test]
fn groups_of_any_size() {
    for (groups, group_in, group_out) in
        [(2, 3, 5), (32, 4, 4), (4, 16, 32), (3, 24, 8), (5, 7, 16), (2, 24, 24), (3, 1, 2)]
    {
        let base = ConvSpec::square(groups * group_in, groups * group_out, 3, 1, 1);
        let spec = ConvSpec { groups, ..base };
        check(&Case { spec, image: [1, 5, 7], extra: 0 }, Part::Raw);
        check(
            &Case { spec: ConvSpec { stride: [1, 2, 1], ..spec }, image: [2, 5, 7], extra: 1 },
            Part::Negative,
        );
    }
}

#[test]
fn depthwise() {
    for channels in [8, 16, 20, 33] {
        let spec = ConvSpec { groups: channels, ..ConvSpec::square(channels, channels, 3, 1, 1) };
        check(&Case { spec, image: [1, 9, 17], extra: 0 }, Part::Positive);
        let strided = Case { spec: ConvSpec { stride: [1, 2, 2], ..spec }, image: [1, 9, 17], extra: 2 };
        check(&strided, Part::Raw);
        check(&deep(strided, [3, 2, 1, 4]), Part::Raw);
    }
}

#[test]
fn strides_beyond_the_kernel_leave_zeros() {
    check(&plain(16, 16, 1, 3, 0, [7, 2]), Part::Raw);
    check(&plain(16, 16, 2, 5, 0, [13, 3]), Part::Raw);
}

#[test]
fn pads_of_pointwise_kernels_are_no_pixels() {
    let pads =
        [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 2, 0], [0, 1, 0, 0, 0, 0], [0, 0, 3, 0, 1, 1], [1, 0, 0, 2, 0, 0]];
    for pads in pads {
        let spec = ConvSpec { pads, ..ConvSpec::square(3, 20, 1, 1, 0) };
        for image in [[1, 1, 1], [1, 4, 4], [2, 3, 7]] {
            check(&Case { spec, image, extra: 0 }, Part::Raw);
        }
    }
}

/// Kernel, stride, dilation, padding in front and behind, and size of an axis.
type Axis = (usize, usize, usize, usize, usize, usize);

fn axis() -> impl Strategy<Value = Axis> {
    (1usize..=4, 1usize..=3, 1usize..=3, 0usize..=3, 0usize..=3, 1usize..=19)
}

fn cases() -> impl Strategy<Value = Case> {
    let slices = (1usize..=3, 1usize..=2, 1usize..=2, 0usize..=2, 0usize..=2, 1usize..=5);
    let slices = prop_oneof![Just((1, 1, 1, 0, 0, 1)), slices];
    let channels =
        prop_oneof![(1usize..=40, 1usize..=40, Just(1usize)), (1usize..=6, 1usize..=6, 2usize..=5)];
    (channels, slices, axis(), axis(), 0usize..=2).prop_map(|((c, m, groups), z, y, x, extra)| {
        // At least the kernel, so that there is an output.
        let image = |(kernel, _, dilation, before, after, size): Axis| {
            size.max(((kernel - 1) * dilation + 1).saturating_sub(before + after)).max(1)
        };
        let spec = ConvSpec {
            channels_in: c * groups,
            channels_out: m * groups,
            groups,
            kernel: [z.0, y.0, x.0],
            stride: [z.1, y.1, x.1],
            dilation: [z.2, y.2, x.2],
            pads: [z.3, y.3, x.3, z.4, y.4, x.4],
        };
        Case { spec, image: [image(z), image(y), image(x)], extra }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_convolution(case in cases(), part in prop::sample::select(&Part::ALL[..])) {
        check(&case, part);
    }
}

#[test]
fn epilogues_work_on_finished_rows() {
    let flat =
        [plain(24, 40, 3, 1, 1, [6, 11]), plain(24, 40, 1, 1, 0, [6, 7]), plain(3, 20, 3, 2, 1, [9, 8])];
    let cases = flat.into_iter().flat_map(|case| [case, deep(case, [3, 1, 1, 3])]);
    for case in cases {
        for direction in DIRECTIONS {
            for isa in Isa::available() {
                check_epilogues(&case, direction, isa);
            }
        }
    }
}

fn check_epilogues(case: &Case, direction: Direction, isa: Isa) {
    let plan = case.plan(direction, isa, true);
    let (from, to) = case.sizes(direction);
    let dense = values(from.iter().product(), 2);
    let run = |epilogue, parallel| guarded(&plan, &case.weights(), &dense, Part::Raw, epilogue, parallel);
    let (z, _) = run(Epilogue::None, false);

    let layout = Blocked::of(to, plan.2.block(), Halo::uniform(2)).unwrap();
    let other = values(z.len(), 5);
    let mut data = vec![0.0; layout.len()];
    layout.pack(&other, &mut data).unwrap();
    let operand = Operand { data: &data, layout };
    let bias = values(to[0], 6);
    let channel = |i: usize| bias[i / (to[1] * to[2] * to[3])];
    let expect = |epilogue, expected: &dyn Fn(usize) -> f32| {
        for parallel in [false, true] {
            let (got, intact) = run(epilogue, parallel);
            assert!(intact);
            for (i, got) in got.iter().enumerate() {
                let expected = expected(i);
                assert!(
                    (got - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
                    "{case:?} at {i}: {got}, {expected}"
                );
            }
        }
    };
    let activate = Epilogue::Activate { bias: Some(&bias), residual: Some(operand), relu: true };
    expect(activate, &|i| (z[i] + channel(i) + other[i]).max(0.0));
    let product = Epilogue::Product { factor: Some(operand), addends: [None; 2] };
    expect(product, &|i| z[i] * other[i]);
    let product = Epilogue::Product { factor: Some(operand), addends: [Some(operand), None] };
    expect(product, &|i| z[i] * other[i] + other[i]);
    let offset = vec![0.25; to[0]];
    let flags = [const { AtomicBool::new(false) }; 3];
    for ((floor, addend), vanished) in
        [(0.5, None), (0.0, None), (0.5, Some(operand))].into_iter().zip(&flags)
    {
        let quotient = Epilogue::Quotient {
            relevance: operand,
            offset: &offset,
            addend,
            floor,
            vanished: Some(vanished),
        };
        let divisor = |i: usize| z[i] + addend.map_or(0.0, |_| other[i]) + 0.25;
        expect(quotient, &|i| if divisor(i).abs() > floor { other[i] / divisor(i) } else { 0.0 });
        let loses = (0..z.len()).any(|i| divisor(i).abs() <= floor && other[i] != 0.0);
        assert_eq!(vanished.load(Ordering::Relaxed), loses, "{case:?}");
    }
}

/// A join leaves what the convolution sums and the joined value; a fork's sum leaves the sums of its own part: what the
/// steps would give one after the other, to the bit, on any number of threads.
#[test]
fn what_is_left_besides_is_what_steps_of_their_own_give() {
    let flat =
        [plain(24, 40, 3, 1, 1, [6, 11]), plain(24, 40, 1, 1, 0, [6, 7]), plain(3, 20, 3, 2, 1, [9, 8])];
    let cases = flat.into_iter().flat_map(|case| [case, deep(case, [3, 1, 1, 3])]);
    for case in cases {
        for direction in DIRECTIONS {
            for isa in Isa::available() {
                for parallel in [false, true] {
                    check_beside(&case, direction, isa, parallel);
                }
            }
        }
    }
}

fn check_beside(case: &Case, direction: Direction, isa: Isa, parallel: bool) {
    let (plan, input, output) = case.plan(direction, isa, true);
    let (from, to) = case.sizes(direction);
    let mut source = vec![0.0; input.len()];
    input.pack(&values(from.iter().product(), 2), &mut source).unwrap();
    let weights = plan.pack(&case.weights()).unwrap();
    let run = |epilogue, beside: Beside<'_>| {
        let mut out = vec![CANARY; output.len()];
        let arguments = Arguments { weights: &weights, part: Part::Raw, input: &source, epilogue };
        plan.run_all([Run { arguments, out: &mut out, beside }], parallel).unwrap();
        out
    };
    let dense = |layout: &Blocked, data: &[f32]| {
        let mut dense = vec![0.0; layout.dense_len()];
        layout.unpack(data, &mut dense).unwrap();
        dense
    };
    let layout = Blocked::of(to, output.block(), Halo::uniform(2)).unwrap();
    let other = values(layout.dense_len(), 5);
    let mut data = vec![0.0; layout.len()];
    layout.pack(&other, &mut data).unwrap();
    let operand = Operand { data: &data, layout };

    let own = run(Epilogue::None, Beside::default());
    let mut joined = vec![CANARY; layout.len()];
    let activate = Epilogue::Activate { bias: None, residual: Some(operand), relu: true };
    let got = run(activate, Beside { joined: Some((&mut joined, layout)), ..Beside::default() });
    assert_eq!(dense(&output, &got), dense(&output, &own), "{case:?}");
    let sum: Vec<f32> = dense(&output, &own).iter().zip(&other).map(|(a, b)| (a + b).max(0.0)).collect();
    assert_eq!(dense(&layout, &joined), sum, "{case:?}");
    let interior = layout.blocks() * layout.block() * layout.height() * layout.width();
    let canaries = joined.iter().filter(|value| **value == CANARY).count();
    assert_eq!(canaries, layout.len() - interior, "{case:?}: wrote into the halo");

    let product = run(Epilogue::Product { factor: Some(operand), addends: [None; 2] }, Beside::default());
    let mut rows = vec![Stats::NOTHING; output.blocks() * output.height()];
    let both = Epilogue::Product { factor: Some(operand), addends: [Some(operand), None] };
    let got = run(both, Beside { joined: None, sums: [Some(&mut rows), None, None], kept: None });
    assert_eq!(stats::of_rows(&output, &rows), stats::of(isa, &output, &product, false), "{case:?}");
    let twice_of = |operand| Epilogue::Product { factor: Some(operand), addends: [Some(operand); 2] };
    let twice =
        run(twice_of(operand), Beside { joined: None, sums: [None, Some(&mut rows), None], kept: None });
    assert_eq!(stats::of_rows(&output, &rows), stats::of(isa, &output, &got, false), "{case:?}");
    let again =
        run(twice_of(operand), Beside { joined: None, sums: [None, None, Some(&mut rows)], kept: None });
    assert_eq!(stats::of_rows(&output, &rows), stats::of(isa, &output, &again, false), "{case:?}");
    let sum: Vec<f32> = dense(&output, &product).iter().zip(&other).map(|(a, b)| a + b).collect();
    assert_eq!(dense(&output, &got), sum, "{case:?}");
    let sum_of_three: Vec<f32> = sum.iter().zip(&other).map(|(a, b)| a + b).collect();
    assert_eq!(dense(&output, &twice), sum_of_three, "{case:?}");
    assert_eq!(dense(&output, &run(both, Beside::default())), sum, "{case:?}: with and without sums");
}

#[test]
fn plans_and_calls_that_do_not_fit_are_refused() {
    let spec = ConvSpec::square(16, 16, 3, 1, 1);
    let isa = Isa::Portable;
    let layout = |channels, size, halo| Blocked::new(channels, 8, size, size, Halo::uniform(halo)).unwrap();
    let out = layout(16, 6, 0);
    let refused = |input: &Blocked, output: &Blocked| {
        ConvPlan::forward(&spec, &Machine::generic(isa), input, output).unwrap_err()
    };
    assert!(matches!(refused(&layout(16, 6, 0), &out), ConvError::Halo { .. }));
    assert!(matches!(refused(&layout(15, 6, 1), &out), ConvError::Image { what: "input", .. }));
    assert!(matches!(refused(&layout(16, 6, 1), &layout(16, 5, 0)), ConvError::Image { what: "output", .. }));
    let sixteens = Blocked::new(16, 16, 6, 6, Halo::uniform(1)).unwrap();
    assert!(matches!(refused(&sixteens, &out), ConvError::Block { .. }));

    let plan = ConvPlan::forward(&spec, &Machine::generic(isa), &layout(16, 6, 1), &out).unwrap();
    assert!(matches!(plan.pack(&[0.0; 5]), Err(ConvError::Length(_))));
    let weights = plan.pack(&values(16 * 16 * 9, 1)).unwrap();
    let input = vec![0.0; plan.input_len()];
    let arguments = Arguments { weights: &weights, part: Part::Raw, input: &input, epilogue: Epilogue::None };
    assert!(matches!(plan.run(&arguments, &mut [0.0; 7]), Err(ConvError::Length(_))));
}

/// Sums of six products of bf16 are as exact as those of f32: by the root of the mean square error, against f64.
#[test]
fn bf16x6_is_as_exact_as_f32() {
    for (case, part) in [
        (plain(64, 64, 3, 1, 1, [14, 14]), Part::Positive),
        (plain(256, 64, 1, 1, 0, [14, 14]), Part::Raw),
        (plain(512, 32, 3, 2, 1, [7, 7]), Part::Raw),
        (plain(2048, 32, 1, 1, 0, [4, 4]), Part::Positive),
    ] {
        for (direction, isa) in
            DIRECTIONS.into_iter().flat_map(|d| Isa::available().into_iter().map(move |isa| (d, isa)))
        {
            let (from, _) = case.sizes(direction);
            let dense: Vec<f32> =
                values(from.iter().product(), 2).iter().map(|value| value.abs() * 1e-3).collect();
            let weights = case.weights();
            let (expected, sizes) = naive(&case, direction, part, &weights, &dense);
            let error = |got: &[f32]| {
                let each = got.iter().zip(expected.iter().zip(&sizes));
                let squares = each.map(|(got, (expected, size))| {
                    ((f64::from(*got) - expected) / size.max(f64::MIN_POSITIVE)).powi(2)
                });
                (squares.sum::<f64>() / got.len() as f64).sqrt()
            };
            let plan = case.plan(direction, isa, false);
            let how = (part, Epilogue::None);
            let Some((got, _)) = guarded_bf16x6(&case.spec, &plan, direction, &weights, &dense, how, false)
            else {
                continue;
            };
            let (plain, _) = guarded(&plan, &weights, &dense, part, Epilogue::None, false);
            let (error, limit) = (error(&got), error(&plain));
            assert!(error <= 1.5 * limit, "{case:?} {direction:?} {part:?}: {error:e}, of f32 {limit:e}");
        }
    }
}

#[test]
fn weights_are_unpacked_where_all_are_packed() {
    let keeps = |case: Case, direction| case.plan(direction, Isa::Portable, false).0.keeps_weights();
    for direction in DIRECTIONS {
        assert!(keeps(plain(32, 48, 3, 1, 1, [14, 14]), direction));
        assert!(keeps(plain(32, 48, 3, 2, 1, [14, 14]), direction));
        assert!(keeps(plain(20, 100, 1, 1, 0, [1, 1]), direction));
        // Two of three slices of a kernel meet padding alone; and a group's weights lie beside zeros.
        assert!(!keeps(deep(plain(16, 20, 3, 1, 1, [4, 4]), [3, 1, 1, 1]), direction));
        let grouped = plain(32, 64, 3, 1, 1, [7, 7]);
        let spec = ConvSpec { groups: 2, ..grouped.spec };
        assert!(!keeps(Case { spec, ..grouped }, direction));
    }
}
