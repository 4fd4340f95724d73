use proptest::prelude::*;
use relc_codegen::interp::Data;
use relc_codegen::kernels::{Condition, Denominator, LEDGER, QuotientPart, Stabiliser, Vanishing, quotients};

use crate::harness::{
    Dense, assert_close, blocked, check_disjoint, from_written, per_channel, to_blocked, unwritten,
};
use crate::{dense, halo, shape, vector};

/// The stabiliser that the kernel reads when it runs.
const GIVEN: f32 = 0.375;

fn eps(stabiliser: Stabiliser, z: f32) -> f32 {
    match stabiliser {
        Stabiliser::None => 0.0,
        Stabiliser::Plain(eps) => eps,
        Stabiliser::Signed(eps) if z >= 0.0 => eps,
        Stabiliser::Signed(eps) => -eps,
        Stabiliser::Given => {
            if z >= 0.0 {
                GIVEN
            } else {
                -GIVEN
            }
        }
    }
}

fn holds(on: Condition, z: f32) -> bool {
    match on {
        Condition::Always => true,
        Condition::Positive => z > 0.0,
        Condition::Negative => z < 0.0,
    }
}

/// What a part divides by.
#[derive(Clone, Copy, Debug)]
enum By {
    Nothing,
    Output,
    Sum { tensors: usize, constant: bool },
}

fn by() -> impl Strategy<Value = By> {
    let sum = (1..3usize, any::<bool>()).prop_map(|(tensors, constant)| By::Sum { tensors, constant });
    prop_oneof![Just(By::Nothing), Just(By::Output), sum]
}

fn part() -> impl Strategy<Value = (f32, Condition, By)> {
    let on = prop_oneof![Just(Condition::Always), Just(Condition::Positive), Just(Condition::Negative)];
    (prop_oneof![Just(1.0f32), Just(-1.5)], on, by())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each part by its definition, and a ledger of what is lost.
    #[test]
    fn division(
        (r, z, den, bias) in shape().prop_flat_map(|s| (dense(s), dense(s), dense(s), dense([s[0], 1, 1, 1]))),
        halos in [halo(), halo(), halo()],
        vector in vector(),
        stabiliser in prop_oneof![
            Just(Stabiliser::None), Just(Stabiliser::Plain(0.25)), Just(Stabiliser::Signed(0.125)),
            Just(Stabiliser::Given),
        ],
        vanishing in prop_oneof![Just(Vanishing::Clipped), Just(Vanishing::Spread(0.3))],
        parts in prop::collection::vec(part(), 1..3),
        (biased, hands_on) in any::<(bool, bool)>(),
    ) {
        // A derivative divides nothing: there is nothing that it does not pass on.
        let hands_on = hands_on && parts.iter().all(|(_, _, by)| !matches!(by, By::Nothing));
        let vanishing = if hands_on { Vanishing::Clipped } else { vanishing };
        let [lr, lz, ls] = halos.map(|halo| blocked(r.shape, vector, halo));
        let described: Vec<QuotientPart> = parts.iter().map(|&(scale, on, by)| {
            let denominator = match by {
                By::Nothing => None,
                By::Output => Some(Denominator::Output { biased }),
                By::Sum { tensors, constant } => {
                    Some(Denominator::Sum { tensors: vec![lz; tensors], constant, biased })
                }
            };
            QuotientPart { scale, on, denominator }
        }).collect();
        let kernel = quotients(
            "quotients", [lr, ls], Some(lz), &described, (stabiliser, vanishing), hands_on.then_some(lz),
        );
        let biases = per_channel(&ls, |c| bias.data[c]);
        let mut buffers = vec![to_blocked(&r, &lr, f32::NAN), to_blocked(&z, &lz, f32::NAN)];
        if stabiliser == Stabiliser::Given {
            buffers.push(Data::F32(vec![GIVEN]));
        }
        for (_, _, by) in &parts {
            if let By::Sum { tensors, constant } = by {
                buffers.extend((0..*tensors).map(|_| to_blocked(&den, &lz, f32::NAN)));
                buffers.extend(constant.then(|| to_blocked(&den, &ls, f32::NAN)));
            }
            if biased && !matches!(by, By::Nothing) {
                buffers.push(biases.clone());
            }
        }
        let first = buffers.len();
        buffers.extend(parts.iter().map(|_| unwritten(&ls)));
        buffers.extend(hands_on.then(|| unwritten(&lz)));
        buffers.push(Data::F64(vec![f64::NAN; kernel.task_count() * LEDGER.len()]));
        let results = check_disjoint(&kernel, &buffers);

        let mut lost = [0.0f64; LEDGER.len()];
        let mut rest = r.clone();
        for (index, &(scale, on, by)) in parts.iter().enumerate() {
            let expected = Dense::from_fn(r.shape, |at| {
                if !holds(on, z.at(at)) {
                    return 0.0;
                }
                let share = scale * r.at(at);
                let b = if biased { bias.data[at[0]] } else { 0.0 };
                let sum = match by {
                    By::Nothing => return share,
                    By::Output => z.at(at),
                    By::Sum { tensors, constant } => den.at(at) * (tensors + usize::from(constant)) as f32 + b,
                };
                let e = eps(stabiliser, sum);
                match vanishing {
                    Vanishing::Clipped if sum + e == 0.0 => {
                        lost[2] += f64::from(share);
                        return 0.0;
                    }
                    Vanishing::Spread(threshold) if (sum + e).abs() < threshold => {
                        lost[2] += f64::from(share.abs());
                        return 0.0;
                    }
                    _ => {}
                }
                let s = share / (sum + e);
                lost[0] += f64::from(s * b);
                lost[1] += f64::from(s * e);
                *rest.at_mut(at) -= s * (sum - b);
                s
            });
            assert_close(&from_written(&results[first + index], &ls), &expected, 1e-5);
        }
        if parts.iter().all(|(_, on, _)| *on != Condition::Always) {
            Dense::from_fn(r.shape, |at| {
                if parts.iter().all(|(_, on, _)| !holds(*on, z.at(at))) {
                    lost[2] += f64::from(r.at(at));
                }
                0.0
            });
        }
        if hands_on {
            assert_close(&from_written(&results[first + parts.len()], &lz), &rest, 1e-5);
            lost = [0.0; LEDGER.len()];
        }
        let Some(Data::F64(ledger)) = results.last() else { panic!("no ledger") };
        for (slot, (name, expected)) in LEDGER.iter().zip(lost).enumerate() {
            let got: f64 = ledger.iter().skip(slot).step_by(LEDGER.len()).sum();
            let scale = lost.iter().fold(1.0, |m: f64, v| m.max(v.abs())) * 10.0;
            prop_assert!((got - expected).abs() <= 1e-4 * scale, "{name}: {got}, expected {expected}");
        }
    }
}
