//! The same tensor in blocks of another size: what pictures of a few channels need where whole vectors are read.

use relc_program::layout::Blocked;

/// Copies the interior of `input` to `output`, which has the same image. Halos and the channels
/// beyond the last stay what they are.
pub fn relayout(from: &Blocked, input: &[f32], to: &Blocked, output: &mut [f32]) {
    let (f, t) = (from.block(), to.block());
    for plane in 0..to.channels() * to.depth() {
        for y in 0..to.height() {
            let (read, write) = (from.plane_offset(plane, y), to.plane_offset(plane, y));
            let (Some(source), Some(target)) = (input.get(read..), output.get_mut(write..)) else { return };
            let pixels = target.iter_mut().step_by(t).zip(source.iter().step_by(f));
            pixels.take(to.width()).for_each(|(target, source)| *target = *source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relc_program::layout::Halo;

    #[test]
    fn any_block_goes_to_any_other() {
        let image = [5, 2, 3, 4];
        let dense: Vec<f32> = (0..5 * 2 * 3 * 4).map(|i| i as f32 + 1.0).collect();
        for (f, t) in [(5, 8), (8, 5), (4, 8), (2, 16)] {
            let from = Blocked::of(image, f, Halo::uniform(1)).unwrap();
            let to = Blocked::of(image, t, Halo { left: 2, ..Halo::NONE }).unwrap();
            let mut input = vec![0.0; from.len()];
            from.pack(&dense, &mut input).unwrap();
            let mut output = vec![0.0; to.len()];
            relayout(&from, &input, &to, &mut output);
            let mut expected = vec![0.0; to.len()];
            to.pack(&dense, &mut expected).unwrap();
            assert_eq!(output, expected, "blocks of {f} to blocks of {t}");
        }
    }
}
