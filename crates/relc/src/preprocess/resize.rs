//! Pictures in another size.
//!
//! What is computed is what `image::imageops::resize` computes, to the bit, but row by row: sums of one row of the result
//! at a time, over all its bytes side by side.

use image::{ImageBuffer, Pixel};

use super::Filter;

/// What one output sample takes of the input: `weights[i]` of sample `first + i`. They add up to 1.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

/// The picture in another size, neither side of which, nor of the picture's, is 0.
pub(super) fn resize<P>(
    picture: &ImageBuffer<P, Vec<u8>>,
    width: u32,
    height: u32,
    filter: Filter,
) -> ImageBuffer<P, Vec<u8>>
where
    P: Pixel<Subpixel = u8> + 'static,
{
    let mut resized = ImageBuffer::new(width, height);
    let down = taps(picture.height(), height, filter);
    let across = taps(picture.width(), width, filter);
    let row = picture.width() as usize * usize::from(P::CHANNEL_COUNT);
    let rows = |from: &[u8], to: &mut [u8]| match P::CHANNEL_COUNT {
        1 => resample::<1>(from, row, to, &down, &across),
        2 => resample::<2>(from, row, to, &down, &across),
        3 => resample::<3>(from, row, to, &down, &across),
        _ => resample::<4>(from, row, to, &down, &across),
    };
    rows(picture, &mut resized);
    resized
}

/// Resamples rows of so many bytes, pixels of `C` channels.
fn resample<const C: usize>(from: &[u8], row: usize, to: &mut [u8], down: &[Tap], across: &[Tap]) {
    let mut sums = vec![0.0f32; row];
    for (into, tap) in to.chunks_exact_mut(across.len() * C).zip(down) {
        sums.fill(0.0);
        for (bytes, weight) in from.chunks_exact(row).skip(tap.first).zip(&tap.weights) {
            for (sum, byte) in sums.iter_mut().zip(bytes) {
                *sum += f32::from(*byte) * weight;
            }
        }
        let sums = sums.as_chunks::<C>().0;
        for (pixel, tap) in into.as_chunks_mut::<C>().0.iter_mut().zip(across) {
            let mut value = [0.0f32; C];
            for (sum, weight) in sums.iter().skip(tap.first).zip(&tap.weights) {
                for (value, sum) in value.iter_mut().zip(sum) {
                    *value += sum * weight;
                }
            }
            *pixel = value.map(nearest);
        }
    }
}

/// The nearest byte; halves go up.
fn nearest(value: f32) -> u8 {
    let whole = value as u8; // which is what is nearest of those beyond the ends
    let above = value - f32::from(whole) >= 0.5;
    whole.saturating_add(u8::from(above))
}

/// The taps of a filter. One that shrinks is as wide as an output sample, so that no input sample is passed over.
fn taps(from: u32, to: u32, filter: Filter) -> Vec<Tap> {
    let (kernel, support): (fn(f32) -> f32, f32) = match filter {
        Filter::Nearest => (|_| 1.0, 0.0),
        Filter::Bilinear => (|x| (1.0 - x.abs()).max(0.0), 1.0),
        Filter::Bicubic => (catmull_rom, 2.0),
        Filter::Lanczos3 => (lanczos3, 3.0),
    };
    let ratio = from as f32 / to as f32;
    let scale = ratio.max(1.0);
    let reach = support * scale;
    let tap = |out: u32| {
        let centre = (out as f32 + 0.5) * ratio;
        let first = ((centre - reach).floor() as i64).clamp(0, i64::from(from) - 1);
        let end = ((centre + reach).ceil() as i64).clamp(first + 1, i64::from(from));
        let centre = centre - 0.5;
        let mut weights: Vec<f32> = (first..end).map(|i| kernel((i as f32 - centre) / scale)).collect();
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        weights.iter_mut().for_each(|weight| *weight /= sum);
        Tap { first: first as usize, weights }
    };
    (0..to).map(tap).collect()
}

/// The cubic spline of Catmull and Rom, in the form of Mitchell and Netravali with `B = 0`, `C = 1/2`.
fn catmull_rom(x: f32) -> f32 {
    let a = x.abs();
    let k = if a < 1.0 {
        9.0 * a.powi(3) + -15.0 * a.powi(2) + 6.0
    } else if a < 2.0 {
        -3.0 * a.powi(3) + 15.0 * a.powi(2) + -24.0 * a + 12.0
    } else {
        0.0
    };
    k / 6.0
}

/// A sinc under the window of a wider one.
fn lanczos3(x: f32) -> f32 {
    let sinc = |t: f32| {
        let a = t * std::f32::consts::PI;
        if t == 0.0 { 1.0 } else { a.sin() / a }
    };
    if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use image::imageops::{self, FilterType};
    use image::{Luma, LumaA, Rgb, Rgba};

    use super::*;

    fn check<P>(pixel: impl Fn([u8; 4]) -> P)
    where
        P: Pixel<Subpixel = u8> + std::fmt::Debug + PartialEq + 'static,
    {
        let sizes = [(1, 1), (7, 5), (32, 20), (50, 61), (131, 90)];
        let mut rng = fastrand::Rng::with_seed(3);
        for (width, height) in sizes {
            let noise = ImageBuffer::from_fn(width, height, |_, _| pixel(rng.u32(..).to_le_bytes()));
            for (to_width, to_height) in sizes.into_iter().filter(|size| *size != (width, height)) {
                for (filter, theirs) in [
                    (Filter::Nearest, FilterType::Nearest),
                    (Filter::Bilinear, FilterType::Triangle),
                    (Filter::Bicubic, FilterType::CatmullRom),
                    (Filter::Lanczos3, FilterType::Lanczos3),
                ] {
                    let ours = resize(&noise, to_width, to_height, filter);
                    let theirs = imageops::resize(&noise, to_width, to_height, theirs);
                    let sizes = [width, height, to_width, to_height];
                    assert!(ours.as_raw() == theirs.as_raw(), "{filter:?} {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn every_filter_gives_the_bytes_of_the_image_crate() {
        check(|[a, ..]| Luma([a]));
        check(|[a, b, ..]| LumaA([a, b]));
        check(|[a, b, c, _]| Rgb([a, b, c]));
        check(Rgba);
    }
}
