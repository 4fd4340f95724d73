use proptest::prelude::*;
use relc_codegen::kernels::{Average, Axis, average_pool, max_pool, max_pool_winner};
use relc_program::layout::Image;

use crate::harness::{Dense, assert_close, blocked, check_disjoint, from_written, to_blocked, unwritten};
use crate::{dense, halo, vector};

/// Any window that every output pixel has a valid tap under.
fn axis() -> impl Strategy<Value = Axis> {
    let parts = (1u32..14, 1u32..6, 1u32..4, 1u32..3, 0u32..3, 0u32..3);
    parts.prop_filter_map("windows", |(size, kernel, stride, dilation, pad, pad_end)| {
        let span = (kernel - 1) * dilation + 1;
        let room = (size + pad + pad_end).checked_sub(span)?;
        let axis = Axis { size, windows: room / stride + 1, kernel, stride, pad, pad_end, dilation };
        let all_valid = (0..axis.windows).all(|window| !taps(&axis, window as usize).is_empty());
        all_valid.then_some(axis)
    })
}

/// The input pixels under a window, by definition.
fn taps(axis: &Axis, window: usize) -> Vec<usize> {
    let position = |tap| axis.position(window as i64, tap);
    let inside = |at: &i64| (0..i64::from(axis.size)).contains(at);
    (0..i64::from(axis.kernel)).map(position).filter(inside).map(|at| at as usize).collect()
}

/// The same in the padded input.
fn padded(axis: &Axis, window: usize) -> usize {
    let range = -i64::from(axis.pad)..i64::from(axis.size + axis.pad_end);
    (0..i64::from(axis.kernel)).filter(|&tap| range.contains(&axis.position(window as i64, tap))).count()
}

/// The input points under the window of an output point, row by row.
fn points(axes: &[Axis; 3], [c, z, y, x]: Image) -> Vec<Image> {
    let [slices, rows, columns] = [taps(&axes[0], z), taps(&axes[1], y), taps(&axes[2], x)];
    let pixel = |i: usize| {
        [
            c,
            slices[i / columns.len() / rows.len()],
            rows[i / columns.len() % rows.len()],
            columns[i % columns.len()],
        ]
    };
    (0..slices.len() * rows.len() * columns.len()).map(pixel).collect()
}

fn winner(x: &Dense, axes: &[Axis; 3], at: Image) -> Image {
    let better = |best, point| if x.at(point) > x.at(best) { point } else { best };
    points(axes, at).into_iter().reduce(better).unwrap()
}

fn sizes(channels: usize, axes: &[Axis; 3]) -> [Image; 2] {
    let image = |of: fn(&Axis) -> u32| {
        let [d, h, w] = axes.each_ref().map(|axis| of(axis) as usize);
        [channels, d, h, w]
    };
    [image(|axis| axis.size), image(|axis| axis.windows)]
}

/// The axes, the input and the relevance of the output.
fn case() -> impl Strategy<Value = ([Axis; 3], Dense, Dense)> {
    let slices = prop_oneof![Just(Axis::ONE), axis().prop_filter("few slices", |axis| axis.size < 6)];
    (1usize..20, (slices, axis(), axis()))
        .prop_map(|(channels, (z, y, x))| (channels, [z, y, x]))
        .prop_flat_map(|(channels, axes)| {
            let [input, output] = sizes(channels, &axes);
            (Just(axes), dense(input), dense(output))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn maximum((axes, x, r) in case(), halos in [halo(), halo()], vector in vector()) {
        let (lx, ly) = (blocked(x.shape, vector, halos[0]), blocked(r.shape, vector, halos[1]));
        // A halo that would win if it were read.
        let buffers = [to_blocked(&x, &lx, f32::INFINITY), unwritten(&ly)];
        let y = from_written(&check_disjoint(&max_pool("max", lx, ly, axes), &buffers)[1], &ly);
        prop_assert_eq!(y, Dense::from_fn(r.shape, |at| x.at(winner(&x, &axes, at))));
    }

    #[test]
    fn winner_takes_all((axes, x, r) in case(), halos in [halo(), halo(), halo()], vector in vector()) {
        let (lx, lr) = (blocked(x.shape, vector, halos[0]), blocked(r.shape, vector, halos[1]));
        let lout = blocked(x.shape, vector, halos[2]);
        let buffers = [to_blocked(&x, &lx, f32::INFINITY), to_blocked(&r, &lr, f32::NAN), unwritten(&lout)];
        let kernel = max_pool_winner("winner", lx, lr, lout, axes);
        let got = from_written(&check_disjoint(&kernel, &buffers)[2], &lout);
        let mut expected = x.map(|_| 0.0);
        Dense::from_fn(r.shape, |at| {
            *expected.at_mut(winner(&x, &axes, at)) += r.at(at);
            0.0
        });
        assert_close(&got, &expected, 1e-6);
    }

    #[test]
    fn mean((axes, x, r) in case(), halos in [halo(), halo()], vector in vector(), include in any::<bool>()) {
        let (lx, ly) = (blocked(x.shape, vector, halos[0]), blocked(r.shape, vector, halos[1]));
        let pool = Average { axes, count_include_pad: include };
        let buffers = [to_blocked(&x, &lx, f32::NAN), unwritten(&ly)];
        let y = from_written(&check_disjoint(&average_pool("mean", lx, ly, pool), &buffers)[1], &ly);
        assert_close(&y, &Dense::from_fn(r.shape, |at| average(&x, &pool, at)), 1e-6);
    }
}

fn divisor(pool: &Average, at: Image) -> f32 {
    if pool.count_include_pad {
        pool.axes.iter().zip(&at[1..]).map(|(axis, at)| padded(axis, *at)).product::<usize>() as f32
    } else {
        points(&pool.axes, at).len() as f32
    }
}

fn average(x: &Dense, pool: &Average, at: Image) -> f32 {
    points(&pool.axes, at).into_iter().map(|point| x.at(point)).sum::<f32>() / divisor(pool, at)
}

/// More taps than are unrolled: loops over taps.
#[test]
fn global_windows() {
    let axis = |size: u32| Axis { size, kernel: size, ..Axis::ONE };
    let axes = [axis(3), axis(9), axis(7)];
    let x = Dense::random([5, 3, 9, 7], 3);
    let r = Dense::random([5, 1, 1, 1], 4);
    let (lx, lr) = (blocked(x.shape, 8, Default::default()), blocked(r.shape, 8, Default::default()));
    let buffers = [to_blocked(&x, &lx, 0.0), to_blocked(&r, &lr, 0.0), unwritten(&lx)];
    let got = from_written(&check_disjoint(&max_pool_winner("global", lx, lr, lx, axes), &buffers)[2], &lx);
    let won: Vec<f32> = (0..5).map(|c| got.at(winner(&x, &axes, [c, 0, 0, 0]))).collect();
    assert_eq!(won, r.data);
}

/// Sums of many terms keep their digits: added one by one in f32, these would be off by a thousandth.
#[test]
fn averages_of_large_windows_are_exact() {
    for shape in [[3, 1, 300, 301], [1, 1, 1, 70_001], [2, 1, 4097, 3], [2, 80, 5, 30]] {
        let axis = |size: usize| Axis { size: size as u32, kernel: size as u32, ..Axis::ONE };
        let axes = [axis(shape[1]), axis(shape[2]), axis(shape[3])];
        let pool = Average { axes, count_include_pad: false };
        let x = Dense::from_fn(shape, |[c, z, y, x]| 0.1 + c as f32 + ((z + y + x) % 3) as f32 * 0.01);
        let pixels = x.data.len() / shape[0];
        let mean = |c: usize| {
            let of_channel = x.data.chunks(pixels).nth(c).unwrap();
            (of_channel.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels as f64) as f32
        };
        let expected = Dense::from_fn([shape[0], 1, 1, 1], |[c, ..]| mean(c));
        let (lx, ly) =
            (blocked(x.shape, 8, Default::default()), blocked(expected.shape, 8, Default::default()));
        let buffers = [to_blocked(&x, &lx, 0.0), unwritten(&ly)];
        let got = from_written(&check_disjoint(&average_pool("average", lx, ly, pool), &buffers)[1], &ly);
        assert_close(&got, &expected, 1e-6);
    }
}
