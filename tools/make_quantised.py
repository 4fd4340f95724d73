#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnx", "onnxruntime"]
# ///
"""Writes tests/quantised/: one small residual network, quantised by ONNX Runtime in every style that it has.

Beside the models, zoo.json has what ONNX Runtime computes of each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

SIZE = (24, 20)
CLASSES = 7


def network(opset=17):
    """Two residual blocks, a gate, a concatenation, pools and a classifier, with random weights."""
    random = np.random.default_rng(7)
    nodes, tensors = [], []

    def tensor(name, values, dtype=np.float32):
        tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(x, name, inside, outside, kernel=3, **attributes):
        std = np.sqrt(2 / (inside * kernel * kernel))
        w = tensor(f"{name}.w", random.standard_normal((outside, inside, kernel, kernel)) * std)
        b = tensor(f"{name}.b", random.standard_normal(outside) * 0.1)
        return node("Conv", [x, w, b], name, pads=[kernel // 2] * 4, **attributes)

    def block(x, name, channels):
        y = node("Relu", [conv(x, f"{name}.conv1", channels, channels)], f"{name}.relu1")
        y = conv(y, f"{name}.conv2", channels, channels)
        return node("Relu", [node("Add", [y, x], f"{name}.join")], f"{name}.relu2")

    x = node("Relu", [conv("x", "stem", 3, 8, strides=[2, 2])], "stem.relu")
    x = node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = block(x, "block1", 8)
    gate = node("GlobalAveragePool", [x], "squeeze")
    gate = node("Sigmoid", [conv(gate, "excite", 8, 8, kernel=1)], "gate")
    x = block(node("Mul", [x, gate], "gated"), "block2", 8)
    side = node("LeakyRelu", [conv(x, "side", 8, 4, kernel=1)], "side.leaky", alpha=0.1)
    x = node("Concat", [x, side], "both", axis=1)
    x = node("AveragePool", [x], "mean", kernel_shape=[2, 2], strides=[1, 1])
    x = node("Flatten", [node("GlobalAveragePool", [x], "features")], "flat")
    w = tensor("fc.w", random.standard_normal((CLASSES, 12)) * 0.5)
    node("Gemm", [x, w, tensor("fc.b", random.standard_normal(CLASSES) * 0.1)], "logits", transB=1)
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", floats, ["N", 3, *SIZE])],
        [helper.make_tensor_value_info("logits", floats, ["N", CLASSES])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def of_bytes(model):
    """The network behind a conversion of bytes, which it does itself."""
    floats, graph = "x.floats", model.graph
    for node in graph.node:
        node.input[:] = [floats if name == "x" else name for name in node.input]
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    for name, value in {"half": 128, "step": 64}.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    graph.node.insert(0, helper.make_node("Cast", ["x"], ["x.cast"], to=TensorProto.FLOAT))
    graph.node.insert(1, helper.make_node("Sub", ["x.cast", "half"], ["x.centred"]))
    graph.node.insert(2, helper.make_node("Div", ["x.centred", "step"], [floats]))
    return model


def picture():
    """The numbers that the test computes too."""
    at = np.arange(3 * SIZE[0] * SIZE[1])
    return ((at * 7919 % 509) / 128 - 2).astype(np.float32).reshape(1, 3, *SIZE)


class Reader(CalibrationDataReader):
    def __init__(self):
        random = np.random.default_rng(3)
        noise = (random.uniform(-2, 2, (1, 3, *SIZE)).astype(np.float32) for _ in range(16))
        self.samples = iter([picture(), *noise])

    def get_next(self):
        sample = next(self.samples, None)
        return None if sample is None else {"x": sample}


STATIC = {
    "qdq": dict(quant_format=QuantFormat.QDQ),
    "qdq-channels": dict(quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8),
    "qdq-fake-weights": dict(quant_format=QuantFormat.QDQ, extra_options={"AddQDQPairToWeight": True}),
    "qdq-16-contrib": dict(
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt16,
        weight_type=QuantType.QInt8,
        extra_options={"UseQDQContribOps": True},
    ),
    "qdq-4-weights": dict(quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt16, weight_type=QuantType.QInt4),
    "qoperator": dict(quant_format=QuantFormat.QOperator),
    "qoperator-channels": dict(
        quant_format=QuantFormat.QOperator,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "tests/quantised")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    entries = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ["float", *STATIC, "dynamic"]:
            source, path = Path(folder) / "float.onnx", out / f"{name}.onnx"
            onnx.save(network(21 if name == "qdq-4-weights" else 17), source)
            if name == "float":
                onnx.save(network(), path)
            elif name == "dynamic":
                quantize_dynamic(source, path, weight_type=QuantType.QUInt8)
            else:
                quant_pre_process(source, Path(folder) / "prepared.onnx", skip_symbolic_shape=True)
                quantize_static(Path(folder) / "prepared.onnx", path, Reader(), **STATIC[name])
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            logits = onnxruntime.InferenceSession(path, options).run(["logits"], {"x": picture()})[0]
            entries[name] = {
                "architecture": "residual",
                "exporter": name,
                "size": list(SIZE),
                "joins": 2,
                "logits": logits[0].astype(float).tolist(),
            }
            model = onnx.load(path)
            print(name, path.stat().st_size, sorted({n.op_type for n in model.graph.node}), logits.round(3).tolist())
    # Its inputs are other numbers than those that zoo.json knows.
    onnx.save(of_bytes(network()), out / "bytes.onnx")
    (out / "zoo.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
