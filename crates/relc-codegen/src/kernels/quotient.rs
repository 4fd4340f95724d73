//! `s = R / den` for each part of a rule, with what the denominators lose.

use relc_program::layout::Blocked;

use super::layout::{Addressed, for_vectors};
use crate::kir::{Body, Buf, BufferKind, Compare, Elem, Idx, Kernel, KernelBuilder, Unary, Val};

/// What is added to a denominator `z`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stabiliser {
    /// Nothing.
    None,
    /// `eps`.
    Plain(f32),
    /// `eps` where `z >= 0`, `-eps` elsewhere.
    Signed(f32),
    /// As `Signed`, with an eps that is known when the kernel runs: the one element of a buffer `eps`.
    Given,
}

/// What becomes of relevance that no denominator can divide; `s` is 0 there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vanishing {
    /// It is lost where the denominator is 0.
    Clipped,
    /// Someone else spreads it, where the denominator's magnitude is below this.
    Spread(f32),
}

/// For which outputs a part counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All.
    Always,
    /// Those where the layer's output is positive.
    Positive,
    /// Those where it is negative.
    Negative,
}

/// A part of a rule: `s = scale R / (den + stabiliser)` where its condition holds, else 0.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotientPart {
    /// What R is multiplied by.
    pub scale: f32,
    /// For which outputs it counts.
    pub on: Condition,
    /// What it is divided by; none for a derivative, whose `s` is `scale R`.
    pub denominator: Option<Denominator>,
}

/// What a part divides by, before the stabiliser.
#[derive(Clone, Debug, PartialEq)]
pub enum Denominator {
    /// The layer's output, in which biases are.
    Output {
        /// Whether there is a bias.
        biased: bool,
    },
    /// A sum.
    Sum {
        /// The layouts of the tensors that are added.
        tensors: Vec<Blocked>,
        /// Whether a constant that lies like `s` is added.
        constant: bool,
        /// Whether a bias per channel is added.
        biased: bool,
    },
}

/// The sums that a task of [`quotients`] writes, in order: what biases took, what stabilisers took, and what went nowhere
/// because a denominator is 0 or no part's condition holds; with [`Vanishing::Spread`], the magnitude of what is to be
/// spread.
pub const LEDGER: [&str; 3] = ["bias", "stabiliser", "clipped"];

/// A sum over f32x4 values: in f32 along the row of a task, in f64 from there on.
struct Sum(Val);

impl Sum {
    fn new(b: &mut Body) -> Self {
        let zero = b.const4(0.0);
        Sum(b.var(zero))
    }

    fn add(&self, b: &mut Body, value: Val) {
        let next = b.add(self.0, value);
        b.set(self.0, next);
    }

    fn add_product(&self, b: &mut Body, x: Val, y: Val) {
        let next = b.fma(x, y, self.0);
        b.set(self.0, next);
    }

    fn store(self, b: &mut Body, buffer: Buf, at: Idx) {
        let (low, high) = (b.unary(Unary::PromoteLow, self.0), b.unary(Unary::PromoteHigh, self.0));
        let pairs = b.add(low, high);
        let sum = b.unary(Unary::ReduceAdd, pairs);
        b.store(sum, buffer, at);
    }
}

/// The buffers of a part.
struct Operands {
    tensors: Vec<(Buf, Blocked)>,
    constant: Option<Buf>,
    bias: Option<Buf>,
}

impl QuotientPart {
    fn declare(&self, k: &mut KernelBuilder, index: usize, s: &Blocked) -> Operands {
        let (tensors, constant, biased) = match &self.denominator {
            None => (&[][..], false, false),
            Some(Denominator::Output { biased }) => (&[][..], false, *biased),
            Some(Denominator::Sum { tensors, constant, biased }) => (&tensors[..], *constant, *biased),
        };
        let tensors = tensors
            .iter()
            .enumerate()
            .map(|(i, layout)| (k.input(&format!("den{index}_{i}"), layout.len()), *layout));
        let tensors = tensors.collect();
        let constant = constant.then(|| k.constant(&format!("constant{index}"), s.len()));
        let channels = usize::try_from(s.block_count().saturating_mul(s.pixel())).unwrap_or(usize::MAX);
        let bias = biased.then(|| k.constant(&format!("bias{index}"), channels));
        Operands { tensors, constant, bias }
    }
}

/// `s` of every part of a rule, from R, the layer's output `z` and the sums of the parts' products.
///
/// Buffers: `r`; `z` if it is given; `eps: f32[1]` of [`Stabiliser::Given`]; for each part its tensors, its constant (lies
/// like s) and its bias (`f32[D * ceil(C/V) * V]`), as far as it has them; `s` of each part; `lost` if its layout is given;
/// then `ledger: out f64[tasks][3]`, see [`LEDGER`]. All tensors share the image of `r`; halos may differ. One task per
/// block and row.
///
/// Where `lost` is given, it is what is not passed on, `R - sum_p s_p (den_p - bias_p)`, and the ledger stays 0.
pub fn quotients(
    name: &str,
    [r, s]: [Blocked; 2],
    z: Option<Blocked>,
    parts: &[QuotientPart],
    (stabiliser, vanishing): (Stabiliser, Vanishing),
    lost: Option<Blocked>,
) -> Kernel {
    let mut k = KernelBuilder::new(name);
    let relevance = k.input("r", r.len());
    let output = z.map(|z| (k.input("z", z.len()), z));
    let eps = (stabiliser == Stabiliser::Given).then(|| k.input("eps", 1));
    let operands: Vec<Operands> =
        parts.iter().enumerate().map(|(index, part)| part.declare(&mut k, index, &s)).collect();
    let outs: Vec<Buf> = (0..parts.len()).map(|index| k.output(&format!("s{index}"), s.len())).collect();
    let lost = lost.map(|layout| (k.output("lost", layout.len()), layout));
    let slots = LEDGER.len() as i64;
    let rows = r.block_count().saturating_mul(r.plane()[0]);
    let len = usize::try_from(rows.saturating_mul(slots)).unwrap_or(usize::MAX);
    let ledger = k.buffer("ledger", BufferKind::Out, Elem::F64, len);
    k.tasks(r.rows(), |b, [block, y]| {
        let sums = LEDGER.map(|_| Sum::new(b));
        let [bias_loss, eps_loss, clipped] = &sums;
        for_vectors(b, &r, [block, y], |b, at| {
            let zero = b.const4(0.0);
            let rel = b.load4(relevance, at.of(&r));
            let z = output.map(|(buffer, layout)| b.load4(buffer, at.of(&layout)));
            // Where no part's condition holds, R goes nowhere.
            let mut nowhere = rel;
            // What no part passes on.
            let mut rest = rel;
            let given = eps.map(|eps| b.load_splat(eps, 0));
            for ((part, operands), out) in parts.iter().zip(&operands).zip(&outs) {
                let scaled = if part.scale == 1.0 {
                    rel
                } else {
                    let scale = b.const4(part.scale);
                    b.mul(rel, scale)
                };
                // What the condition lets through of a value.
                let holds = |b: &mut Body, value: Val, other: Val| match (part.on, z) {
                    (Condition::Positive, Some(z)) => {
                        let mask = b.compare(Compare::Gt, z, zero);
                        b.select(mask, value, other)
                    }
                    (Condition::Negative, Some(z)) => {
                        let mask = b.compare(Compare::Gt, zero, z);
                        b.select(mask, value, other)
                    }
                    _ => value,
                };
                nowhere = holds(b, zero, nowhere);
                let share = holds(b, scaled, zero);
                let Some(denominator) = &part.denominator else {
                    b.store(share, *out, at.of(&s));
                    continue;
                };
                let bias = operands.bias.map(|bias| b.load4(bias, &at.block * s.pixel() + &at.v));
                let den = match denominator {
                    Denominator::Output { .. } => z.unwrap_or(zero),
                    Denominator::Sum { .. } => {
                        let tensors =
                            operands.tensors.iter().map(|(buffer, layout)| (*buffer, at.of(layout)));
                        let constant = operands.constant.map(|buffer| (buffer, at.of(&s)));
                        let loads: Vec<Val> =
                            tensors.chain(constant).map(|(buffer, index)| b.load4(buffer, index)).collect();
                        let all = loads.into_iter().chain(bias);
                        all.reduce(|sum, value| b.add(sum, value)).unwrap_or(zero)
                    }
                };
                let eps = stabiliser.emit(b, den, given);
                let d = eps.map_or(den, |eps| b.add(den, eps));
                let mut quotient = b.div(share, d);
                if let Some(vanishes) = vanishing.emit(b, d, stabiliser) {
                    quotient = b.select(vanishes, zero, quotient);
                    if lost.is_none() {
                        let clip = b.select(vanishes, share, zero);
                        let clip = if vanishing == Vanishing::Clipped { clip } else { b.abs(clip) };
                        clipped.add(b, clip);
                    }
                }
                b.store(quotient, *out, at.of(&s));
                if lost.is_some() {
                    let sum = bias.map_or(den, |bias| b.sub(den, bias));
                    let passed = b.mul(quotient, sum);
                    rest = b.sub(rest, passed);
                    continue;
                }
                if let Some(bias) = bias {
                    bias_loss.add_product(b, quotient, bias);
                }
                if let Some(eps) = eps {
                    eps_loss.add_product(b, quotient, eps);
                }
            }
            if let Some((lost, layout)) = &lost {
                b.store(rest, *lost, at.of(layout));
            } else if parts.iter().all(|part| part.on != Condition::Always) {
                clipped.add(b, nowhere);
            }
        });
        let slot = (block * r.plane()[0] + y) * slots;
        for (sum, k) in sums.into_iter().zip(0i64..) {
            sum.store(b, ledger, &slot + k);
        }
    })
}

impl Vanishing {
    /// Where the stabilised denominator divides nothing; `None` if nowhere.
    fn emit(self, b: &mut Body, d: Val, stabiliser: Stabiliser) -> Option<Val> {
        match self {
            // A signed stabiliser leaves no denominator at 0.
            Vanishing::Clipped if matches!(stabiliser, Stabiliser::Signed(_)) => None,
            Vanishing::Clipped => {
                let zero = b.const4(0.0);
                Some(b.compare(Compare::Eq, d, zero))
            }
            Vanishing::Spread(threshold) => {
                let (size, threshold) = (b.abs(d), b.const4(threshold));
                Some(b.compare(Compare::Gt, threshold, size))
            }
        }
    }
}

impl Stabiliser {
    /// What is added to the denominator; nothing if there is no stabiliser. `given` is the eps that is known when the
    /// kernel runs.
    fn emit(self, b: &mut Body, z: Val, given: Option<Val>) -> Option<Val> {
        let zero = b.const4(0.0);
        let (plus, minus) = match (self, given) {
            (Stabiliser::None, _) | (Stabiliser::Given, None) => return None,
            (Stabiliser::Plain(eps), _) => return Some(b.const4(eps)),
            (Stabiliser::Signed(eps), _) => (b.const4(eps), b.const4(-eps)),
            (Stabiliser::Given, Some(eps)) => (eps, b.sub(zero, eps)),
        };
        let positive = b.compare(Compare::Ge, z, zero);
        Some(b.select(positive, plus, minus))
    }
}
