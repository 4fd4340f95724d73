//! The relevance compiler: from an ONNX ResNet to a conserved explanation.
