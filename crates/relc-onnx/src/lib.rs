//! ONNX files to relc's graph.
