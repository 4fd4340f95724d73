//! Graphs, node by node.

use relc_ir::op::Activation;
use relc_ir::{Graph, Op, TensorType, ValueId, Weight};

/// A graph with one input that grows; every name starts with the graph's.
pub struct Builder {
    graph: Graph,
    name: String,
    rng: fastrand::Rng,
    nodes: usize,
}

impl Builder {
    /// With an input `f32[N,C,H,W]`, which it gives besides; `seed` is that of the weights.
    pub fn new(name: &str, seed: u64, image: [usize; 3]) -> (Builder, ValueId) {
        Builder::of(name, seed, &image)
    }

    /// With an input of these dimensions behind the batch.
    ///
    /// # Panics
    /// Never: the graph has no other input.
    pub fn of(name: &str, seed: u64, input: &[usize]) -> (Builder, ValueId) {
        Builder::typed(name, seed, TensorType::batched(input))
    }

    /// With an input of this type.
    ///
    /// # Panics
    /// If no tensor has it.
    pub fn typed(name: &str, seed: u64, ty: TensorType) -> (Builder, ValueId) {
        let mut graph = Graph::new(name);
        let input = graph.add_input(&format!("{name}/x"), ty).expect("the first input");
        (Builder { graph, name: name.to_string(), rng: fastrand::Rng::with_seed(seed), nodes: 0 }, input)
    }

    /// The graph, with its one output.
    pub fn finish(mut self, output: ValueId) -> Graph {
        self.graph.add_output(&format!("{}/y", self.name), output);
        self.graph
    }

    /// A node.
    ///
    /// # Panics
    /// If its operands don't fit.
    pub fn node(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        self.nodes += 1;
        let name = format!("{}/{}_{}", self.name, op.onnx_name(), self.nodes);
        let node = self.graph.add_node(op, &name, operands).expect("well-formed nodes");
        ValueId { node, port: 0 }
    }

    /// The name of the node that makes a value.
    pub fn name(&self, value: ValueId) -> String {
        self.graph.node(value.node).name.clone()
    }

    /// A node, or its operand where the op does not take it.
    pub fn node_if_it_fits(&mut self, op: Op, operand: ValueId) -> ValueId {
        if op.infer(&[self.graph.ty(operand)]).is_ok() { self.node(op, &[operand]) } else { operand }
    }

    /// A weight whose values are uniform in `low..high`.
    pub fn weight(&mut self, dims: &[usize], low: f32, high: f32) -> ValueId {
        let values = self.values(dims.iter().product(), low, high);
        self.constant(dims, values)
    }

    /// Values that are uniform in `low..high`.
    pub fn values(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        (0..count).map(|_| low + (high - low) * self.rng.f32()).collect()
    }

    /// A weight of these values.
    ///
    /// # Panics
    /// If they don't fill the dimensions.
    pub fn constant(&mut self, dims: &[usize], values: Vec<f32>) -> ValueId {
        self.nodes += 1;
        let name = format!("{}.weight_{}", self.name, self.nodes);
        let weight = Weight::new(name, TensorType::new(dims.iter().copied()), values).expect("sizes fit");
        self.graph.add_weight(weight).expect("names are unique")
    }

    /// C, H and W of an image.
    ///
    /// # Panics
    /// If the value is none.
    pub fn dims(&self, value: ValueId) -> [usize; 3] {
        self.sizes(value).try_into().expect("f32[N,C,H,W]")
    }

    /// The dimensions behind the batch.
    pub fn sizes(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).dims().iter().filter_map(|d| d.fixed()).collect()
    }

    /// A Relu.
    pub fn relu(&mut self, x: ValueId) -> ValueId {
        self.node(Op::Activation(Activation::Relu), &[x])
    }
}
