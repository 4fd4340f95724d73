//! Results are the same to the bit whatever the number of threads, and for a batch as for its samples.

mod common;

use common::*;
use ndarray::{ArrayD, Axis};
use relc_interp::{Backward, Element, Options, backward, forward};
use relc_ir::ledger::Ledger;
use relc_ir::op::*;
use relc_ir::{Graph, NodeId, Op, TensorType, ValueId};

/// A small ResNet: stem, pool, one block with a projection, head. Wide enough for several tiles.
struct Net {
    graph: Graph,
    weights: usize,
}

impl Net {
    fn weight(&mut self, shape: &[usize]) -> ValueId {
        self.weights += 1;
        let count: usize = shape.iter().product();
        let scale = 2.0 / (count as f64 / shape[0] as f64).sqrt();
        let values: Vec<f64> = noise(self.weights as u64, count).iter().map(|v| v * scale).collect();
        add_weight(&mut self.graph, &format!("w{}", self.weights), shape, &values)
    }

    fn conv(&mut self, name: &str, x: ValueId, shape: [usize; 4], window: Window) -> NodeId {
        let w = self.weight(&shape);
        self.graph.add_node(Op::Conv(conv(window, 1)), name, &[x, w]).unwrap()
    }

    /// The relevance of a layer's input by the conserving rule.
    fn layer(&mut self, of: NodeId, r: ValueId) -> ValueId {
        let op = Relevance::Linear { layer: layer(&self.graph.node(of).op), rule: conserving() };
        let forward = self.graph.operands(of);
        value(undo(&mut self.graph, op, of, r, &forward))
    }

    fn pass(&mut self, of: NodeId, r: ValueId) -> ValueId {
        value(undo(&mut self.graph, Relevance::Pass, of, r, &[]))
    }

    fn node(&mut self, op: Op, name: &str, operands: &[ValueId]) -> NodeId {
        self.graph.add_node(op, name, operands).unwrap()
    }
}

fn resnet() -> Graph {
    let mut net = Net { graph: Graph::new("small"), weights: 0 };
    let x = net.graph.add_input("x", TensorType::batched(&[3, 96, 96])).unwrap();
    let relu = || Op::Activation(Activation::Relu);
    let stem = net.conv("stem", x, [40, 3, 7, 7], window(7, 2, 3));
    let stem_relu = net.node(relu(), "stem.relu", &[value(stem)]);
    let pool = MaxPool { window: window(3, 2, 1) };
    let pooled = net.node(Op::MaxPool(pool), "pool", &[value(stem_relu)]);
    let a = net.conv("a", value(pooled), [48, 40, 3, 3], window(3, 2, 1));
    let a_relu = net.node(relu(), "a.relu", &[value(a)]);
    let b = net.conv("b", value(a_relu), [150, 48, 1, 1], window(1, 1, 0));
    let skip = net.conv("skip", value(pooled), [150, 40, 1, 1], window(1, 2, 0));
    let join = net.node(Op::Arithmetic(Arithmetic::Add), "join", &[value(b), value(skip)]);
    let join_relu = net.node(relu(), "join.relu", &[value(join)]);
    let gap = net.node(Op::GlobalAveragePool, "gap", &[value(join_relu)]);
    let flat = net.node(
        Op::Reshape(Reshape { shape: vec![relc_ir::Dim::Batch, 150.into()] }),
        "flat",
        &[value(gap)],
    );
    let w = net.weight(&[10, 150]);
    let fc = net.node(gemm(true), "fc", &[value(flat), w]);
    net.graph.add_output("logits", value(fc));

    let r = seed(&mut net.graph, fc);
    let r = net.layer(fc, r);
    let shape = net.graph.ty(value(gap)).dims().to_vec();
    let r = value(undo(&mut net.graph, Relevance::Reshape(Reshape { shape }), flat, r, &[]));
    let r = net.layer(gap, r);
    let r = net.pass(join_relu, r);
    let split = Op::Relevance(Relevance::Split { kind: SplitKind::Ratio, branches: 2, skip: 1 });
    let split = net.graph.add_relevance(split, join, &[value(b), value(skip), r]).unwrap();
    let main = net.layer(b, ValueId { node: split, port: 0 });
    let main = net.pass(a_relu, main);
    let main = net.layer(a, main);
    let side = net.layer(skip, ValueId { node: split, port: 1 });
    let fork = net.graph.add_relevance(Op::Relevance(Relevance::Sum), pooled, &[main, side]).unwrap();
    let r = value(undo(&mut net.graph, Relevance::Winner(pool), pooled, value(fork), &[value(stem_relu)]));
    let r = net.pass(stem_relu, r);
    let r = net.layer(stem, r);
    net.graph.relevance_outputs = vec![(x.node, r)];
    relc_ir::verify(&net.graph).unwrap_or_else(|e| panic!("{e}"));
    net.graph
}

/// The logits, and the explanation of the first class of each sample by its logit.
fn run<T: Element>(graph: &Graph, x: &ArrayD<T>) -> (ArrayD<T>, Backward<T>) {
    let pass = forward(graph, std::slice::from_ref(x)).unwrap();
    let logits = pass.outputs().next().unwrap().1.clone();
    let mut seed = ArrayD::zeros(logits.raw_dim());
    seed.index_axis_mut(Axis(1), 0).assign(&logits.index_axis(Axis(1), 0));
    let back = backward(graph, &pass, &seed, &Options::default()).unwrap();
    (logits, back)
}

/// All books but the node ids, bit by bit.
fn books(ledger: &Ledger) -> String {
    serde_json::to_string(ledger).unwrap()
}

fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn threads_do_not_matter<T: Element>() {
    let graph = resnet();
    let x = noise_array::<T>(99, &[3, 3, 96, 96]);
    let (logits, one) = with_threads(1, || run(&graph, &x));
    for threads in [2, 5] {
        let (other_logits, other) = with_threads(threads, || run(&graph, &x));
        assert_eq!(bits(&logits), bits(&other_logits));
        assert_eq!(bits(&one.inputs[0].1), bits(&other.inputs[0].1));
        assert_eq!(books(&one.ledger), books(&other.ledger));
    }
}

fn batches_do_not_matter<T: Element>() {
    let graph = resnet();
    let x = noise_array::<T>(98, &[3, 3, 96, 96]);
    let (logits, batch) = run(&graph, &x);
    for i in 0..3 {
        let (one_logits, one) = run(&graph, &x.slice_axis(Axis(0), (i..i + 1).into()).to_owned());
        let part = |a: &ArrayD<T>| bits(&a.index_axis(Axis(0), i).to_owned());
        assert_eq!(part(&logits), bits(&one_logits));
        assert_eq!(part(&batch.inputs[0].1), bits(&one.inputs[0].1));
        for (all, own) in batch.ledger.entries.iter().zip(&one.ledger.entries) {
            assert_eq!(all.samples[i], own.samples[0], "{}", all.label);
        }
        assert_eq!(batch.ledger.joins[0].share[i], one.ledger.joins[0].share[0]);
    }
}

#[test]
fn threads_do_not_matter_in_f32() {
    threads_do_not_matter::<f32>();
}

#[test]
fn threads_do_not_matter_in_f64() {
    threads_do_not_matter::<f64>();
}

#[test]
fn batches_do_not_matter_in_f32() {
    batches_do_not_matter::<f32>();
}

#[test]
fn batches_do_not_matter_in_f64() {
    batches_do_not_matter::<f64>();
}

#[test]
fn both_precisions_conserve_and_agree() {
    let graph = resnet();
    let (_, wide) = run(&graph, &noise_array::<f64>(97, &[2, 3, 96, 96]));
    let (_, narrow) = run(&graph, &noise_array::<f32>(97, &[2, 3, 96, 96]));
    for (wide, narrow) in wide.ledger.totals.iter().zip(&narrow.ledger.totals) {
        assert!(wide.conservation_error() < 1e-12, "{wide:?}");
        assert!(narrow.conservation_error() < 1e-5, "{narrow:?}");
    }
    wide.ledger.check(1e-12).unwrap();
    narrow.ledger.check(1e-5).unwrap();
    let scale = wide.inputs[0].1.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let pairs = wide.inputs[0].1.iter().zip(&narrow.inputs[0].1);
    let off = pairs.fold(0.0, |m: f64, (a, b)| m.max((a - f64::from(*b)).abs()));
    assert!(off < 1e-4 * scale, "off by {off} of {scale}");
}
