//! Average drop and increase in confidence (Chattopadhay et al., Grad-CAM++, WACV 2018).

use super::Score;
use crate::error::EvalError;
use crate::picture::Picture;

/// What is left of the confidence where only the map's pixels are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AverageDrop {
    /// `max(0, Y - O) / Y`: the share of the score `Y` that is lost; `None` if there was none.
    pub drop: Option<f64>,
    /// Whether the score rose: `O > Y`.
    pub increase: bool,
}

/// Shows each pixel as much as the map says: `m x + (1 - m) base`, `m` the map's positive part divided by its
/// maximum (all 0 if nothing is positive).
///
/// # Errors
/// Those of `score`.
pub fn average_drop(
    picture: &Picture,
    map: &[f32],
    clean: f64,
    score: &Score<'_>,
) -> Result<AverageDrop, EvalError> {
    let max = map.iter().copied().fold(0.0f32, f32::max);
    let share = |pixel: usize| if max > 0.0 { map[pixel].max(0.0) / max } else { 0.0 };
    let shown = score(1, &|_, values| {
        for pixel in 0..picture.geometry.pixels() {
            for channel in 0..picture.geometry.channels {
                let at = picture.geometry.index(pixel, channel);
                let (x, base) = (picture.values[at], picture.base[at]);
                values[at] = base + share(pixel) * (x - base);
            }
        }
    })?;
    let shown = shown.first().copied().unwrap_or(0.0);
    let drop = (clean > 0.0).then(|| (clean - shown).max(0.0) / clean);
    Ok(AverageDrop { drop, increase: shown > clean })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Base, Geometry};

    #[test]
    fn pixels_are_shown_by_their_share_of_the_positive_maximum() {
        let geometry = Geometry { depth: 1, height: 1, width: 3, channels: 1, interleaved: true };
        let picture = Picture::new(geometry, vec![2.0, 4.0, 8.0], Base::Black, &[1.0; 3]);
        let seen = |count: usize, fill: &super::super::Fill<'_>| {
            let mut values = vec![0.0; 3];
            fill(count - 1, &mut values);
            assert_eq!(values, [2.0, 2.5, 1.0]);
            Ok(vec![0.2])
        };
        let result = average_drop(&picture, &[4.0, 2.0, -9.0], 0.8, &seen).unwrap();
        assert!((result.drop.unwrap() - 0.75).abs() < 1e-12 && !result.increase);
        let rises = average_drop(&picture, &[0.5, 0.25, 0.0], 0.1, &seen).unwrap();
        assert_eq!(rises, AverageDrop { drop: Some(0.0), increase: true });
        assert_eq!(average_drop(&picture, &[0.5, 0.25, 0.0], 0.0, &seen).unwrap().drop, None);
    }
}
