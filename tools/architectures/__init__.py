"""Thin relatives of many architectures as ONNX files."""
