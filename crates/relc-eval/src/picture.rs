//! A picture in the model's input, and what stands in for removed pixels. A signal is a picture of one row, a volume has
//! pictures one behind the other; what is said of pixels is true of their positions and voxels.

use relc::unstable::ir::names;

use rayon::prelude::*;

/// How a picture's values lie in one sample of the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Pictures of a volume, one behind the other; 1 of a picture or signal.
    pub depth: usize,
    /// Pixels down; 1 of a signal.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
    /// Whether a pixel's values lie side by side: `f32[D,H,W,C]`, else `f32[C,D,H,W]`.
    pub interleaved: bool,
}

impl Geometry {
    /// The number of pixels.
    pub fn pixels(&self) -> usize {
        self.depth * self.height * self.width
    }

    /// Its sizes: depth, height, width.
    pub fn sizes(&self) -> [usize; 3] {
        [self.depth, self.height, self.width]
    }

    /// Where a pixel lies: how far behind, down and across.
    pub fn place(&self, pixel: usize) -> [usize; 3] {
        let (row, across) = (pixel / self.width, pixel % self.width);
        [row / self.height, row % self.height, across]
    }

    /// The least of the sizes along axes that are more than one pixel long; 1 if none is.
    pub fn shortest(&self) -> usize {
        self.sizes().into_iter().filter(|size| *size > 1).min().unwrap_or(1)
    }

    /// The number of values.
    pub fn values(&self) -> usize {
        self.pixels() * self.channels
    }

    /// Where the value of a channel of a pixel lies; pixels count row by row.
    pub fn index(&self, pixel: usize, channel: usize) -> usize {
        if self.interleaved { pixel * self.channels + channel } else { channel * self.pixels() + pixel }
    }
}

/// What a removed pixel becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// 0 in `[0,1]` image space, then normalised.
    Black,
    /// The picture's own mean colour.
    Mean,
    /// The picture under a Gaussian of sigma 10 at a width of 224, in proportion at other widths, along every axis.
    Blur,
}

names!(Base, "base", ["black" => Black, "mean" => Mean, "blur" => Blur]);

/// One sample of the model's input, and the same sample with every pixel removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// How the values lie.
    pub geometry: Geometry,
    /// The values.
    pub values: Vec<f32>,
    /// What each value becomes when its pixel is removed.
    pub base: Vec<f32>,
}

impl Picture {
    /// A picture; `black` is the input of a black picture.
    pub fn new(geometry: Geometry, values: Vec<f32>, base: Base, black: &[f32]) -> Picture {
        let base = match base {
            Base::Black => black.to_vec(),
            Base::Mean => mean_colour(geometry, &values),
            Base::Blur => blurred(geometry, &values, 10.0 * geometry.width as f64 / 224.0),
        };
        Picture { geometry, values, base }
    }

    /// Writes the picture without the pixels that `removed` names.
    pub fn without(&self, into: &mut [f32], removed: impl Fn(usize) -> bool) {
        into.copy_from_slice(&self.values);
        for pixel in (0..self.geometry.pixels()).filter(|p| removed(*p)) {
            for channel in 0..self.geometry.channels {
                let at = self.geometry.index(pixel, channel);
                into[at] = self.base[at];
            }
        }
    }
}

fn mean_colour(geometry: Geometry, values: &[f32]) -> Vec<f32> {
    let mut means = vec![0.0; values.len()];
    for channel in 0..geometry.channels {
        let all = (0..geometry.pixels()).map(|p| f64::from(values[geometry.index(p, channel)]));
        let mean = (all.sum::<f64>() / geometry.pixels().max(1) as f64) as f32;
        (0..geometry.pixels()).for_each(|p| means[geometry.index(p, channel)] = mean);
    }
    means
}

/// The picture, signal or volume under a Gaussian cut off at four sigma, edges mirrored (`d c b a | a b c d | d c b a`): what SciPy's
/// `gaussian_filter` computes by default. The kernel sums to one, so that it does not matter whether it is applied
/// before or after normalisation.
fn blurred(geometry: Geometry, values: &[f32], sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as isize;
    let bell: Vec<f64> = (-radius..=radius).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = bell.iter().sum();
    let kernel: Vec<f64> = bell.iter().map(|b| b / sum).collect();
    let mirror = |i: isize, n: usize| -> usize {
        let n = n as isize;
        let i = i.rem_euclid(2 * n);
        (if i < n { i } else { 2 * n - 1 - i }) as usize
    };
    let [d, h, w] = geometry.sizes();
    // Along the last axis, which comes to lie first: once for each axis is along all, and upright.
    let pass = |plane: &[f64], rows: usize, w: usize| -> Vec<f64> {
        let mut out = vec![0.0; rows * w];
        for (y, row) in plane.chunks_exact(w).enumerate() {
            for x in 0..w {
                let at = |i: usize| row[mirror(x as isize + i as isize - radius, w)];
                out[x * rows + y] = kernel.iter().enumerate().map(|(i, k)| k * at(i)).sum();
            }
        }
        out
    };
    let planes = (0..geometry.channels).into_par_iter().map(|channel| {
        let plane = (0..geometry.pixels()).map(|p| f64::from(values[geometry.index(p, channel)]));
        let plane: Vec<f64> = plane.collect();
        let across = pass(&pass(&plane, d * h, w), w * d, h);
        if d > 1 { pass(&across, h * w, d) } else { across }
    });
    let mut out = vec![0.0; values.len()];
    for (channel, plane) in planes.collect::<Vec<_>>().into_iter().enumerate() {
        plane.into_iter().enumerate().for_each(|(p, v)| out[geometry.index(p, channel)] = v as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NCHW: Geometry = Geometry { depth: 1, height: 3, width: 4, channels: 2, interleaved: false };
    const NHWC: Geometry = Geometry { interleaved: true, ..NCHW };

    fn values(geometry: Geometry) -> Vec<f32> {
        let mut values = vec![0.0; geometry.values()];
        for p in 0..geometry.pixels() {
            (0..2).for_each(|c| values[geometry.index(p, c)] = ((7 * p * p + 5 * c) % 11) as f32);
        }
        values
    }

    #[test]
    fn removed_pixels_lose_every_channel_in_either_layout() {
        for geometry in [NCHW, NHWC] {
            let picture = Picture::new(geometry, values(geometry), Base::Black, &[-2.0; 24]);
            let mut out = vec![0.0; 24];
            picture.without(&mut out, |p| p == 5);
            for p in 0..12 {
                for c in 0..2 {
                    let at = geometry.index(p, c);
                    assert_eq!(out[at], if p == 5 { -2.0 } else { picture.values[at] });
                }
            }
        }
    }

    #[test]
    fn the_mean_is_each_channels_own() {
        let picture = Picture::new(NHWC, values(NHWC), Base::Mean, &[]);
        for c in 0..2 {
            let mean = (0..12).map(|p| picture.values[NHWC.index(p, c)]).sum::<f32>() / 12.0;
            assert!((0..12).all(|p| (picture.base[NHWC.index(p, c)] - mean).abs() < 1e-6));
        }
    }

    #[test]
    fn the_blur_is_scipys() {
        // scipy.ndimage.gaussian_filter(x, 0.8) and (x, 3) of x[p] = (7 p^2) % 11, float64, shape (3, 4).
        let plane = Geometry { channels: 1, ..NCHW };
        let x: Vec<f32> = (0..12).map(|p| ((7 * p * p) % 11) as f32).collect();
        for (sigma, expected) in [
            (0.8, BLURRED_BY_0_8),
            // The kernel is far wider than the picture, which is mirrored several times.
            (3.0, BLURRED_BY_3),
        ] {
            let got = blurred(plane, &x, sigma);
            let close = got.iter().zip(expected).all(|(g, e)| (f64::from(*g) - e).abs() < 1e-6);
            assert!(close, "{sigma}: {got:?}");
        }
    }

    #[test]
    fn signals_and_volumes_are_blurred_along_their_own_axes() {
        // scipy.ndimage.gaussian_filter(x, 0.8) of x[p] = (7 p^2) % 11, float64: shape (12,), and (3, 2, 2).
        let line = Geometry { depth: 1, height: 1, width: 12, channels: 1, interleaved: false };
        let cube = Geometry { depth: 3, height: 2, width: 2, ..line };
        let x: Vec<f32> = (0..12).map(|p| ((7 * p * p) % 11) as f32).collect();
        for (geometry, expected) in [(line, LINE_BY_0_8), (cube, CUBE_BY_0_8)] {
            let got = blurred(geometry, &x, 0.8);
            let close = got.iter().zip(expected).all(|(g, e)| (f64::from(*g) - e).abs() < 1e-6);
            assert!(close, "{geometry:?}: {got:?}");
        }
    }

    const LINE_BY_0_8: [f64; 12] = [
        1.88917951, 5.03984867, 6.46494752, 6.19278012, 5.46147752, 7.95176667, 7.95176667, 5.46147752,
        6.19278012, 6.46494752, 5.03984867, 1.88917951,
    ];
    const CUBE_BY_0_8: [f64; 12] = [
        3.75545378, 5.99880199, 5.67849463, 6.31791269, 5.08182369, 6.16751322, 6.16751322, 5.08182369,
        6.31791269, 5.67849463, 5.99880199, 3.75545378,
    ];
    const BLURRED_BY_0_8: [f64; 12] = [
        2.58981612, 5.77271582, 6.86573499, 6.52239616, 4.43122487, 6.81811204, 6.81811204, 4.43122487,
        6.52239616, 6.86573499, 5.77271582, 2.58981612,
    ];
    const BLURRED_BY_3: [f64; 12] = [
        5.49850449, 5.49943928, 5.5006404, 5.50140312, 5.49996334, 5.50004938, 5.50004938, 5.49996334,
        5.50140312, 5.5006404, 5.49943928, 5.49850449,
    ];
}
