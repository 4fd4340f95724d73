//! Every rule on every op that it applies to, on every engine, against dense matrices.
//!
//! The oracle runs the layer on unit inputs in f64 to get its matrix, and restates the rule in matrix algebra, as
//! zennit's own tests do.

use ndarray::{Array1, Array2, ArrayD, IxDyn};
use proptest::prelude::*;
use relc::{Compiler, Engine, Preset, Seed, Targets};
use relc_ir::op::{AveragePool, Conv, Gemm, Window};
use relc_ir::{Graph, Op, TensorType, ValueId, Weight};

/// The engines, and how far each may be off, as a fraction of the largest product that it adds up.
const ENGINES: [(Engine, f64); 3] =
    [(Engine::InterpF64, 2e-7), (Engine::InterpF32, 2e-5), (Engine::Jit, 2e-5)];

/// A stabiliser that can be seen, so that no denominator is so small that rounding is blown up.
const EPS: f64 = 0.25;

/// A layer on one sample as a matrix.
struct Dense {
    /// `[J,I]`.
    w: Array2<f64>,
    /// Where the layer has a weight at all: the receptive fields.
    mask: Array2<f64>,
    b: Array1<f64>,
    a: Array1<f64>,
    r: Array1<f64>,
}

type Matrix = Array2<f64>;
type Vector = Array1<f64>;

fn pos<D: ndarray::Dimension>(x: &ndarray::Array<f64, D>) -> ndarray::Array<f64, D> {
    x.mapv(|v| v.max(0.0))
}

fn neg<D: ndarray::Dimension>(x: &ndarray::Array<f64, D>) -> ndarray::Array<f64, D> {
    x.mapv(|v| v.min(0.0))
}

fn stab(z: Vector) -> Vector {
    z.mapv(|z| z + if z >= 0.0 { EPS } else { -EPS })
}

impl Dense {
    fn ones(&self) -> Vector {
        Array1::ones(self.a.len())
    }

    /// `sum_p x_p * (w_p^T s)` for products `(x_p, w_p)`.
    fn back(&self, s: &Vector, products: &[(&Vector, &Matrix)]) -> Vector {
        products.iter().map(|(x, w)| *x * &w.t().dot(s)).fold(Array1::zeros(self.a.len()), |sum, c| sum + c)
    }

    fn forward(&self, products: &[(&Vector, &Matrix)]) -> Vector {
        products.iter().map(|(x, w)| w.dot(*x)).fold(Array1::zeros(self.r.len()), |sum, z| sum + z)
    }

    /// What the epsilon rule passes on with these denominators, and what it does not.
    fn epsilon(&self, den: &Vector) -> (Vector, Vector) {
        let s = &self.r / den;
        let passed = &s * &self.w.dot(&self.a);
        (&self.a * &self.w.t().dot(&s), &self.r - &passed)
    }

    /// Evenly over each output's receptive field.
    fn flat(&self, r: &Vector) -> Vector {
        self.mask.t().dot(&(r / &self.mask.dot(&self.ones()).mapv(|n| n.max(1.0))))
    }

    /// The two-sided z+ rule, flat where nothing contributes.
    fn zplus(&self, r: &Vector) -> Vector {
        let p: [(&Vector, &Matrix); 2] = [(&pos(&self.a), &pos(&self.w)), (&neg(&self.a), &neg(&self.w))];
        let den = self.forward(&p);
        let some = den.mapv(|d| if d > 1e-12 { 1.0 } else { 0.0 });
        let s = r * &some / &den.mapv(|d| if d > 1e-12 { d } else { 1.0 });
        self.back(&s, &p) + self.flat(&(r * &(1.0 - &some)))
    }
}

/// With a quarter of the root of the mean square, with the sign of each.
fn relative(z: Vector) -> Vector {
    let rms = (z.mapv(|z| z * z).sum() / z.len() as f64).sqrt();
    z.mapv(|z| z + if z >= 0.0 { 0.25 * rms } else { -0.25 * rms })
}

struct Rule {
    /// The rule line without its op.
    line: &'static str,
    /// Whether it is only for layers without weights.
    pools_only: bool,
    oracle: fn(&Dense) -> Vector,
}

const RULES: [Rule; 16] = [
    Rule {
        line: "rule = 'epsilon'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| &d.a * &d.w.t().dot(&(&d.r / &stab(d.w.dot(&d.a) + &d.b))),
    },
    Rule {
        line: "rule = 'norm'\nsigned_eps = 0.25",
        pools_only: true,
        oracle: |d| &d.a * &d.w.t().dot(&(&d.r / &stab(d.w.dot(&d.a)))),
    },
    Rule {
        line: "rule = 'zplus'\ninput = 'signed'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| {
            let p: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &pos(&d.w)), (&neg(&d.a), &neg(&d.w))];
            d.back(&(&d.r / &stab(d.forward(&p) + pos(&d.b))), &p)
        },
    },
    Rule {
        line: "rule = 'zplus'\ninput = 'raw'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| &d.a * &pos(&d.w).t().dot(&(&d.r / &stab(pos(&d.w).dot(&d.a) + &d.b))),
    },
    Rule {
        line: "rule = 'zplus'\ninput = 'ones'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| pos(&d.w).t().dot(&(&d.r / &stab(pos(&d.w).dot(&d.ones()) + &d.b))),
    },
    Rule {
        line: "rule = 'alpha_beta'\nalpha = 2.0\nbeta = 1.0\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| {
            let p: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &pos(&d.w)), (&neg(&d.a), &neg(&d.w))];
            let n: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &neg(&d.w)), (&neg(&d.a), &pos(&d.w))];
            d.back(&(&d.r / &stab(d.forward(&p) + pos(&d.b))), &p) * 2.0
                - d.back(&(&d.r / &stab(d.forward(&n) + neg(&d.b))), &n)
        },
    },
    Rule {
        line: "rule = 'gamma'\ngamma = 0.5\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| {
            let z = d.w.dot(&d.a) + &d.b;
            let (up, down) = (&d.w + &(pos(&d.w) * 0.5), &d.w + &(neg(&d.w) * 0.5));
            let p: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &up), (&neg(&d.a), &down)];
            let n: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &down), (&neg(&d.a), &up)];
            let on = |sign: f64| z.mapv(|z| if z * sign > 0.0 { 1.0 } else { 0.0 });
            d.back(&(on(1.0) * &d.r / &stab(d.forward(&p) + &d.b + pos(&d.b) * 0.5)), &p)
                + d.back(&(on(-1.0) * &d.r / &stab(d.forward(&n) + &d.b + neg(&d.b) * 0.5)), &n)
        },
    },
    Rule {
        line: "rule = 'zbox'\nlow = -1.5\nhigh = 2.0\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| {
            let (low, high) = (d.ones() * 1.5, d.ones() * -2.0);
            let p: [(&Vector, &Matrix); 3] = [(&d.a, &d.w), (&low, &pos(&d.w)), (&high, &neg(&d.w))];
            d.back(&(&d.r / &stab(d.forward(&p))), &p)
        },
    },
    Rule {
        line: "rule = 'wsquare'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| {
            let square = &d.w * &d.w;
            square.t().dot(&(&d.r / &stab(square.dot(&d.ones()))))
        },
    },
    Rule {
        line: "rule = 'flat'\nsigned_eps = 0.25",
        pools_only: false,
        oracle: |d| d.mask.t().dot(&(&d.r / &stab(d.mask.dot(&d.ones())))),
    },
    Rule { line: "rule = 'gradient'", pools_only: false, oracle: |d| d.w.t().dot(&d.r) },
    Rule {
        line: "rule = 'epsilon'\nrelative_eps = 0.25",
        pools_only: false,
        oracle: |d| d.epsilon(&relative(d.w.dot(&d.a) + &d.b)).0,
    },
    Rule {
        line: "rule = 'epsilon'\nrelative_eps = 0.25\nleak = 'zplus'",
        pools_only: false,
        oracle: |d| {
            let (passed, lost) = d.epsilon(&relative(d.w.dot(&d.a) + &d.b));
            passed + d.zplus(&lost)
        },
    },
    Rule {
        line: "rule = 'epsilon'\nbias = 'exclude'\nrelative_eps = 0.25\nleak = 'zplus'",
        pools_only: false,
        oracle: |d| {
            let (passed, lost) = d.epsilon(&relative(d.w.dot(&d.a)));
            passed + d.zplus(&lost)
        },
    },
    Rule {
        line: "rule = 'epsilon'\nsigned_eps = 0.25\nleak = 'flat'",
        pools_only: false,
        oracle: |d| {
            let (passed, lost) = d.epsilon(&stab(d.w.dot(&d.a) + &d.b));
            passed + d.flat(&lost)
        },
    },
    Rule {
        line: "rule = 'alpha_beta'\nalpha = 2.0\nbeta = 1.0\nsigned_eps = 0.25\nleak = 'proportional'",
        pools_only: false,
        oracle: |d| {
            let p: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &pos(&d.w)), (&neg(&d.a), &neg(&d.w))];
            let n: [(&Vector, &Matrix); 2] = [(&pos(&d.a), &neg(&d.w)), (&neg(&d.a), &pos(&d.w))];
            let (up, down) = (d.forward(&p), d.forward(&n));
            let (s, t) = (&d.r / &stab(&up + &pos(&d.b)) * 2.0, &d.r / &stab(&down + &neg(&d.b)));
            let passed = d.back(&s, &p) - d.back(&t, &n);
            let lost = (&d.r - &(&s * &up - &t * &down)).sum();
            let share = passed.mapv(f64::abs);
            let even = Array1::from_elem(share.len(), 1.0 / share.len() as f64);
            let share = if share.sum() > 0.0 { &share / share.sum() } else { even };
            passed + share * lost
        },
    },
];

/// One layer and its weights.
#[derive(Clone, Debug)]
struct Case {
    op: Op,
    input: Vec<usize>,
    weight: Vec<usize>,
    outputs: usize,
    seed: u64,
}

/// Multiples of 2^-6, so that f32 holds them and their sums exactly.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| rng.i32(-64..=64) as f32 / 64.0).collect()
}

impl Case {
    fn graph(&self, ones: bool) -> Graph {
        let mut g = Graph::new("layer");
        let mut operands = vec![g.add_input("x", TensorType::batched(&self.input)).unwrap()];
        if !self.weight.is_empty() {
            let count = self.weight.iter().product();
            let w = if ones { vec![1.0; count] } else { noise(self.seed, count) };
            let b = if ones { vec![0.0; self.outputs] } else { noise(self.seed ^ 1, self.outputs) };
            let ty = TensorType::new(self.weight.iter().copied());
            operands.push(g.add_weight(Weight::new("w", ty, w).unwrap()).unwrap());
            let ty = TensorType::new([self.outputs]);
            operands.push(g.add_weight(Weight::new("b", ty, b).unwrap()).unwrap());
        }
        let node = g.add_node(self.op.clone(), "layer", &operands).unwrap();
        g.add_output("y", ValueId { node, port: 0 });
        g
    }

    /// The layer's outputs for a batch, one row each.
    fn run(&self, graph: &Graph, x: ArrayD<f64>) -> Array2<f64> {
        let samples = x.shape()[0];
        let forward = relc_interp::forward(graph, &[x]).unwrap();
        let y = forward.value(graph.outputs()[0].1).unwrap().clone();
        let columns = y.len() / samples;
        y.into_shape_with_order((samples, columns)).unwrap()
    }

    /// The matrix `[J,I]` and the bias.
    fn matrix(&self, graph: &Graph) -> (Array2<f64>, Array1<f64>) {
        let n: usize = self.input.iter().product();
        let shape = |samples| [&[samples], &self.input[..]].concat();
        let bias = self.run(graph, ArrayD::zeros(shape(1))).row(0).to_owned();
        let units = Array2::<f64>::eye(n).into_shape_with_order(shape(n)).unwrap();
        let columns = self.run(graph, units) - &bias;
        (columns.reversed_axes(), bias)
    }

    fn dense(&self, a: &[f32], r: &[f32]) -> Dense {
        let (w, b) = self.matrix(&self.graph(false));
        let mask = self.matrix(&self.graph(true)).0.mapv(|w| if w > 0.0 { 1.0 } else { 0.0 });
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect();
        Dense { w, mask, b, a: wide(a), r: wide(r) }
    }
}

#[track_caller]
fn check(case: &Case, rule: &Rule) {
    let text = format!(
        "name = 'oracle'\nseed = 'onehot'\nbatchnorm = 'keep'\nbias = 'all'\nsplit = 'ratio'\n[[rule]]\nop = ['Conv', 'Gemm', 'AveragePool', \
         'GlobalAveragePool']\n{}",
        rule.line
    );
    let preset = Preset::parse(&text, "oracle").unwrap();
    let a = noise(case.seed ^ 2, case.input.iter().product());
    let rows = case.matrix(&case.graph(false)).1.len();
    let r = noise(case.seed ^ 3, rows);
    let dense = case.dense(&a, &r);
    let expected = (rule.oracle)(&dense);
    let scale = expected.fold(1.0, |m: f64, v| m.max(v.abs()));
    let input = ArrayD::from_shape_vec([&[1], &case.input[..]].concat(), a).unwrap();
    let seed = Seed::Tensor(ArrayD::from_shape_vec(IxDyn(&[1, rows]), r).unwrap());
    for (engine, tolerance) in ENGINES {
        let explainer = Compiler::new(preset.clone()).engine(engine).compile(case.graph(false)).unwrap();
        let result = explainer.explain(input.view(), &seed, &Targets::Argmax).unwrap();
        let explanation = &result.explanations[0];
        for (i, (got, expected)) in explanation.relevance.iter().zip(&expected).enumerate() {
            let off = (f64::from(*got) - expected).abs();
            assert!(
                off <= tolerance * scale,
                "{} {} on {}: input {i}: got {got}, expected {expected} (of {scale})",
                engine.name(),
                rule.line,
                case.op.mnemonic()
            );
        }
        explanation.ledger.check(1e-4).unwrap();
    }
}

/// Small layers of every linear op, whose windows all cover some input. Pools divide by powers of two: where a
/// denominator is exactly 0, its sign, which the stabiliser takes, must not hang on a rounding.
fn cases() -> impl Strategy<Value = Case> {
    let sizes = (2usize..5, 2usize..5, 1usize..3, 1usize..3, 1usize..3, 0usize..2, any::<u64>());
    (0usize..4, sizes).prop_map(|(kind, (h, w, c, m, stride, pad, seed))| {
        let (h, w) = if kind == 3 { (h / 2 * 2, w / 2 * 2) } else { (h, w) };
        let kernel = [if kind == 2 { 2 } else { h.min(2 + pad) }, 2];
        let window = Window::from_lists(&kernel, &[stride, 1], &[pad, 0, 0, pad], &[1; 2]).unwrap();
        let (op, input, weight) = match kind {
            0 => {
                let conv = Conv { window, group: c, folded_bias: seed % 2 == 0 };
                (Op::Conv(conv), vec![c, h, w], vec![m * c, 1, kernel[0], kernel[1]])
            }
            1 => {
                let gemm = Gemm { trans_b: true, folded_bias: false };
                (Op::Gemm(gemm), vec![h * w], vec![m * c, h * w])
            }
            2 => {
                let pool = AveragePool { window, count_include_pad: seed % 2 == 0 };
                (Op::AveragePool(pool), vec![c, h, w], vec![])
            }
            _ => (Op::GlobalAveragePool, vec![c, h, w], vec![]),
        };
        Case { op, input, weight, outputs: m * c, seed }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_is_dense_algebra(case in cases()) {
        let weighted = matches!(case.op, Op::Conv(_) | Op::Gemm(_));
        for rule in RULES.iter().filter(|r| !(weighted && r.pools_only)) {
            check(&case, rule);
        }
    }
}

/// A rule that hands on what it does not pass on conserves, whoever takes it, and the compiler says so.
#[test]
fn leaks_conserve_and_the_claim_says_so() {
    let window = Window::new([2, 2], [1, 1]);
    let op = Op::Conv(Conv { window, group: 1, folded_bias: false });
    let case = Case { op, input: vec![2, 4, 4], weight: vec![3, 2, 2, 2], outputs: 3, seed: 5 };
    for leak in ["proportional", "zplus", "flat"] {
        let text = format!(
            "name = 'leak'\nseed = 'onehot'\nbatchnorm = 'keep'\nbias = 'all'\nsplit = 'ratio'\n[[rule]]\nop = \
             'Conv'\nrule = 'epsilon'\nrelative_eps = 0.25\nleak = '{leak}'"
        );
        let explainer = Compiler::new(Preset::parse(&text, "leak").unwrap())
            .engine(Engine::InterpF64)
            .compile(case.graph(false))
            .unwrap();
        assert!(explainer.is_conserving(), "{:?}", explainer.leaks());
        for zeros in [false, true] {
            let mut a = noise(9, 32);
            if zeros {
                a.fill(0.0); // no contributions at all: the biases take everything, and hand it on
            }
            let input = ArrayD::from_shape_vec(vec![1, 2, 4, 4], a).unwrap();
            let seed = Seed::Tensor(ArrayD::from_shape_vec(vec![1, 27], noise(8, 27)).unwrap());
            let result = explainer.explain(input.view(), &seed, &Targets::Argmax).unwrap();
            assert!(result.explanations[0].conservation_error(0) < 1e-12, "{leak}");
            result.explanations[0].ledger.check(1e-12).unwrap();
        }
    }
}
