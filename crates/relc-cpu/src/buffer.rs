//! f32 memory on cache lines, and on huge pages where it is large.

use memmap2::MmapMut;
use rayon::prelude::*;
use relc_ir::Values;

/// Elements of a cache line.
const LINE: usize = 16;

/// From how many bytes on a buffer is memory of the system's own: the size of a huge page of x86-64, and of aarch64
/// with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A buffer of f32 that starts at a multiple of 64 bytes, so that no vector load of packed weights or of a
/// layout whose strides are multiples of V crosses a cache line.
///
/// A large one asks the system for huge pages: weights that are read once per row of pixels would otherwise miss the
/// TLB every 4 KiB, and be given page by page when they are packed. Its zeros are the system's, which are not written
/// before they are needed.
pub struct AlignedBuffer {
    memory: Memory,
    len: usize,
}

enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> AlignedBuffer {
        let pages = pages(len.saturating_mul(size_of::<f32>()));
        let lines = || Memory::Lines(vec![Line([0.0; LINE]); len.div_ceil(LINE)]);
        AlignedBuffer { memory: pages.map_or_else(lines, Memory::Pages), len }
    }

    /// Has so many elements from now on, at most as many as it was made with: what is beyond them stays as it is.
    pub(crate) fn resize(&mut self, len: usize) {
        let most = match &self.memory {
            Memory::Lines(lines) => lines.len() * LINE,
            Memory::Pages(pages) => pages.len() / size_of::<f32>(),
        };
        self.len = len.min(most);
    }
}

/// `len` elements, of which consecutive parts are filled each by itself, in parallel; what no part has is zeros.
pub(crate) fn filled<T: Send>(
    len: usize,
    parts: impl Iterator<Item = (usize, T)>,
    fill: impl Fn(T, &mut [f32]) + Sync,
) -> Values {
    let mut data = AlignedBuffer::zeroed(len);
    let mut rest: &mut [f32] = &mut data;
    let mut cut = Vec::new();
    for (len, what) in parts {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(len);
        cut.push((what, part));
        rest = after;
    }
    cut.into_par_iter().for_each(|(what, part)| fill(what, part));
    Values::from_owner(data)
}

/// Pages of the system for so many bytes, huge where it has them; none if there are too few bytes for that, or the
/// system has no such pages to give.
fn pages(bytes: usize) -> Option<MmapMut> {
    if bytes < HUGE_PAGE {
        return None;
    }
    let pages = MmapMut::map_anon(bytes).ok()?;
    // Without huge pages the buffer is as good, only slower.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

impl Default for AlignedBuffer {
    fn default() -> AlignedBuffer {
        AlignedBuffer::zeroed(0)
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> AlignedBuffer {
        let mut copy = AlignedBuffer::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let start = match &self.memory {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Pages(pages) => pages.as_ptr().cast(),
        };
        // SAFETY: `Line` is `repr(C)` of LINE f32 without padding, and `len <= lines.len() * LINE`; pages start at a
        // multiple of 4096, hold `4 * len` bytes, zero or written as f32, and live as long as `self`.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = match &mut self.memory {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as of `deref`; the borrow of `self` is unique.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }
}

impl AsRef<[f32]> for AlignedBuffer {
    fn as_ref(&self) -> &[f32] {
        self
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} f32)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zero_and_of_their_length() {
        // The last two are pages of the system.
        for len in [0, 1, 16, 17, 1000, HUGE_PAGE / 4 - 1, HUGE_PAGE / 4, HUGE_PAGE] {
            let mut buffer = AlignedBuffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&value| value == 0.0));
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            buffer.fill(1.0);
            assert_eq!(buffer.clone().iter().sum::<f32>(), len as f32);
        }
    }
}
