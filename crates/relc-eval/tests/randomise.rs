//! The cascade of models whose weights were drawn again, on the demo model.

use std::collections::HashSet;
use std::path::Path;

use relc::Method;
use relc::unstable::ir::Graph;
use relc_eval::cascade;

fn demo() -> Graph {
    let model = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo/model.onnx"));
    let mut read = None;
    let keep = |pass: &'static str, graph: &Graph| {
        if pass == "import" {
            read = Some(graph.clone());
        }
    };
    Method::compiler().unwrap().passes(model, keep).unwrap();
    read.unwrap()
}

/// The weights of two axes and more that layers use, as numbers.
fn kernels(graph: &Graph) -> Vec<(usize, u64)> {
    let order = graph.forward_order().unwrap();
    let used = order.iter().flat_map(|n| graph.operands(*n)).filter_map(|v| graph.weight(v));
    used.filter(|w| w.ty().rank() >= 2).map(|w| (w.data().unwrap().len(), w.hash())).collect()
}

#[test]
fn layers_are_drawn_again_from_the_last_one_down() {
    let graph = demo();
    let before = kernels(&graph);
    let models = cascade(&graph, 1).unwrap();
    assert_eq!(models.len(), 6);
    let mut fewest = 0;
    for model in &models {
        // New nodes may come in another order where the graph allows for several.
        let after: HashSet<u64> = kernels(model).into_iter().map(|(_, hash)| hash).collect();
        let changed: Vec<bool> = before.iter().map(|(_, hash)| !after.contains(hash)).collect();
        let first = changed.iter().position(|c| *c).unwrap();
        assert!(changed[first..].iter().all(|c| *c), "the upper layers stay drawn: {changed:?}");
        assert!(changed.len() - first > fewest, "each stage reaches further down");
        fewest = changed.len() - first;
        assert_eq!(kernels(model).len(), before.len());
    }
    assert_eq!(fewest, before.len(), "the last stage reaches the first layer");
    let again = cascade(&graph, 1).unwrap();
    assert!(models.iter().zip(&again).all(|(a, b)| kernels(a) == kernels(b)));
    assert_ne!(kernels(&cascade(&graph, 2).unwrap()[5]), kernels(&models[5]));
}

#[test]
fn drawn_weights_keep_their_scale_and_the_model_runs() {
    let graph = demo();
    let last = &cascade(&graph, 0).unwrap()[5];
    let rms = |graph: &Graph| -> Vec<f32> {
        let order = graph.forward_order().unwrap();
        let used = order.iter().flat_map(|n| graph.operands(*n)).filter_map(|v| graph.weight(v));
        let data = used.filter(|w| w.ty().rank() >= 2).map(|w| w.data().unwrap().clone());
        data.map(|d| (d.iter().map(|v| v * v).sum::<f32>() / d.len() as f32).sqrt()).collect()
    };
    for (old, new) in rms(&graph).into_iter().zip(rms(last)) {
        assert!((0.8..1.25).contains(&(new / old)), "{old} {new}");
    }
    let model = Method::compiler().unwrap().compile(last.clone()).unwrap();
    let input = ndarray::ArrayD::<f32>::from_elem(vec![1, 3, 64, 64], 0.3);
    assert!(model.predict(input.view()).unwrap().iter().all(|v| v.is_finite()));
}
