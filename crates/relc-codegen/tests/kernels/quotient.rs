use proptest::prelude::*;
use relc_codegen::kernels::{LEDGER, Quotient, Stabiliser, quotient};
use relc_codegen::kir::Data;

use crate::harness::{Dense, assert_close, blocked, check_disjoint, from_written, to_blocked, unwritten};
use crate::{dense, halo, shape, vector};

fn eps(stabiliser: Stabiliser, z: f32) -> f32 {
    match stabiliser {
        Stabiliser::None => 0.0,
        Stabiliser::Plain(eps) => eps,
        Stabiliser::Signed(eps) if z >= 0.0 => eps,
        Stabiliser::Signed(eps) => -eps,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// `R / den` by its definition, and a ledger that balances with what `s` and `flat` carry.
    #[test]
    fn division(
        (r, den) in shape().prop_flat_map(|shape| (dense(shape), dense(shape))),
        halos in [halo(), halo(), halo(), halo()],
        vector in vector(),
        stabiliser in prop_oneof![
            Just(Stabiliser::None), Just(Stabiliser::Plain(0.25)), Just(Stabiliser::Signed(0.125)),
        ],
        fallback in prop_oneof![Just(None), Just(Some(0.3f32))],
    ) {
        let rule = Quotient { stabiliser, fallback };
        let layouts = halos.map(|halo| blocked(r.shape, vector, halo));
        let [lr, lden, ls, lflat] = layouts;
        let kernel = quotient("quotient", layouts, rule);
        let pixels = r.shape[1] * r.shape[2];
        // Pixel 0 has no valid input.
        let fan_in: Vec<f32> = (0..pixels).map(|pixel| (pixel % 10) as f32).collect();
        let ledger = Data::F64(vec![f64::NAN; kernel.task_count() * LEDGER.len()]);
        let mut buffers = vec![to_blocked(&r, &lr, f32::NAN), to_blocked(&den, &lden, f32::NAN)];
        buffers.extend(fallback.map(|_| Data::F32(fan_in.clone())));
        buffers.push(unwritten(&ls));
        buffers.extend(fallback.map(|_| unwritten(&lflat)));
        buffers.push(ledger);
        let results = check_disjoint(&kernel, &buffers);

        let d = den.map(|z| z + eps(stabiliser, z));
        let vanishes = |d: f32| fallback.map_or(d == 0.0, |threshold| d.abs() < threshold);
        let s = Dense::from_fn(r.shape, |at| if vanishes(d.at(at)) { 0.0 } else { r.at(at) / d.at(at) });
        let got = from_written(&results[if fallback.is_some() { 3 } else { 2 }], &ls);
        assert_close(&got, &s, 1e-6);

        let mut expected = [0.0f64; LEDGER.len()];
        let flat = Dense::from_fn(r.shape, |at| {
            let relevance = f64::from(r.at(at));
            expected[0] += relevance;
            expected[1] += f64::from(s.at(at) * eps(stabiliser, den.at(at)));
            if !vanishes(d.at(at)) {
                return 0.0;
            }
            let inputs = fan_in[at[1] * r.shape[2] + at[2]];
            let slot = if fallback.is_none() { 3 } else if inputs == 0.0 { 4 } else { 2 };
            expected[slot] += relevance;
            if slot == 2 { r.at(at) / inputs } else { 0.0 }
        });
        if fallback.is_some() {
            assert_close(&from_written(&results[4], &lflat), &flat, 1e-6);
        }
        let Some(Data::F64(ledger)) = results.last() else { panic!("no ledger") };
        for (k, expected) in expected.iter().enumerate() {
            let sum: f64 = ledger.iter().skip(k).step_by(LEDGER.len()).sum();
            prop_assert!((sum - expected).abs() < 1e-4, "{}: got {}, expected {}", LEDGER[k], sum, expected);
        }
    }
}
