use proptest::prelude::*;
use relc_codegen::kernels::{Operand, elementwise, multiply, ratio_split, scale_shift, sum_relu};
use relc_program::layout::Image;

use crate::harness::{
    Dense, assert_close, blocked, check_disjoint, from_written, per_channel, to_blocked, unwritten,
};
use crate::{dense, halo, shape, vector};

fn zip(a: &Dense, b: &Dense, f: impl Fn(f32, f32) -> f32) -> Dense {
    Dense::from_fn(a.shape, |at| f(a.at(at), b.at(at)))
}

/// Three tensors of one shape, five halos and a vector.
macro_rules! tensors {
    ($body:expr) => {
        proptest!(
            ProptestConfig::with_cases(24),
            |((tensors, halos, vector) in shape().prop_flat_map(|shape| {
                ([dense(shape), dense(shape), dense(shape)], [halo(), halo(), halo(), halo(), halo()], vector())
            }))| {
                let [a, b, c] = tensors;
                let layouts = halos.map(|halo| blocked(a.shape, vector, halo));
                $body([a, b, c], layouts);
            }
        )
    };
}

#[test]
fn add_and_relu() {
    tensors!(|[a, b, _]: [Dense; 3], [la, lb, ly, ..]: [_; 5]| {
        for relu in [false, true] {
            let kernel = sum_relu("add", &[la, lb], ly, relu);
            let buffers = [to_blocked(&a, &la, 1.0), to_blocked(&b, &lb, 1.0), unwritten(&ly)];
            let y = from_written(&check_disjoint(&kernel, &buffers)[2], &ly);
            let expected = zip(&a, &b, |a, b| if relu { (a + b).max(0.0) } else { a + b });
            assert_eq!(y, expected);
        }
    });
}

#[test]
fn multiplication() {
    tensors!(|[a, c, _]: [Dense; 3], [la, lc, lr, ..]: [_; 5]| {
        let buffers = [to_blocked(&a, &la, 1.0), to_blocked(&c, &lc, 1.0), unwritten(&lr)];
        let r = from_written(&check_disjoint(&multiply("mul", [la, lc, lr]), &buffers)[2], &lr);
        assert_eq!(r, zip(&a, &c, |a, c| a * c));
    });
}

/// A gate: one pixel that all others of its slice are multiplied by.
#[test]
fn multiplication_by_a_pixel() {
    tensors!(|[a, c, _]: [Dense; 3], [la, lc, lr, ..]: [relc_program::layout::Blocked; 5]| {
        let gate = |[channel, slice, ..]: Image| c.at([channel, slice, 0, 0]);
        let pixels = Dense::from_fn([c.shape[0], c.shape[1], 1, 1], gate);
        let lc = blocked(pixels.shape, lc.block() as u32, lc.halo());
        let reads = [Operand::Tensor("a", la), Operand::Pixel("gate", lc)];
        let kernel = elementwise("gated", reads, [("r", lr)], |b, [a, gate]| [b.mul(a, gate)]);
        let buffers = [to_blocked(&a, &la, 1.0), to_blocked(&pixels, &lc, 1.0), unwritten(&lr)];
        let r = from_written(&check_disjoint(&kernel, &buffers)[2], &lr);
        assert_eq!(r, Dense::from_fn(a.shape, |at| a.at(at) * gate(at)));
    });
}

#[test]
fn batch_normalisation() {
    tensors!(|[x, constants, _]: [Dense; 3], [lx, ly, ..]: [relc_program::layout::Blocked; 5]| {
        let scale = |c: usize| constants.at([c, 0, 0, 0]);
        let [_, d, h, w] = constants.shape;
        let shift = |c: usize| constants.at([c, d - 1, h - 1, w - 1]);
        for relu in [false, true] {
            let buffers =
                [to_blocked(&x, &lx, 1.0), per_channel(&lx, scale), per_channel(&lx, shift), unwritten(&ly)];
            let y = from_written(&check_disjoint(&scale_shift("bn", [lx, ly], relu), &buffers)[3], &ly);
            let expected = Dense::from_fn(x.shape, |at| {
                let c = at[0];
                let y = x.at(at) * scale(c) + shift(c);
                if relu { y.max(0.0) } else { y }
            });
            assert_close(&y, &expected, 1e-6);
        }
    });
}

#[test]
fn split_by_ratio() {
    tensors!(|[main, skip, r]: [Dense; 3], layouts: [_; 5]| {
        let [lmain, lskip, lr, lr_main, lr_skip] = layouts;
        let buffers = [
            to_blocked(&main, &lmain, 1.0),
            to_blocked(&skip, &lskip, 1.0),
            to_blocked(&r, &lr, 1.0),
            unwritten(&lr_main),
            unwritten(&lr_skip),
        ];
        let results = check_disjoint(&ratio_split("split", layouts), &buffers);
        let (to_main, to_skip) = (from_written(&results[3], &lr_main), from_written(&results[4], &lr_skip));
        let ratio = zip(&main, &skip, |main, skip| match main.abs() + skip.abs() {
            0.0 => 0.5,
            sum => main.abs() / sum,
        });
        assert_eq!(to_main, zip(&ratio, &r, |ratio, r| ratio * r));
        assert_eq!(to_skip, zip(&r, &to_main, |r, to_main| r - to_main));
    });
}
