"""What other exporters and tools make of a network, from torch's export of it.

Each rewrite takes a model and the path to write to. `folded` says whether it starts from the export whose
BatchNormalizations were folded; `exact` whether the network stays the same, so that its map has to.
"""

from __future__ import annotations

import dataclasses
import pathlib
import typing

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


@dataclasses.dataclass
class Rewrite:
    run: typing.Callable[[onnx.ModelProto, pathlib.Path], None]
    folded: bool
    exact: bool
    options: dict

    def __call__(self, model: onnx.ModelProto, path: pathlib.Path) -> None:
        self.run(model, path)


REWRITES: dict[str, Rewrite] = {}


def rewrite(name: str, folded: bool = True, exact: bool = True, **options):
    def register(run):
        REWRITES[name] = Rewrite(run, folded, exact, options)
        return run

    return register


def save(model: onnx.ModelProto, path: pathlib.Path) -> None:
    onnx.checker.check_model(model)
    onnx.save(model, path)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def replace_nodes(model: onnx.ModelProto, nodes: list, added: dict[str, np.ndarray]) -> None:
    """Puts `nodes` in the graph's place, with more initialisers, and drops those that nobody uses."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in added.items())
    used = {i for n in nodes for i in n.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]


def optimised(model: onnx.ModelProto, path: pathlib.Path, level) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@rewrite("ort-basic", folded=False)
def ort_basic(model, path):
    optimised(model, path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)


@rewrite("ort-extended", folded=False)
def ort_extended(model, path):
    optimised(model, path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)


@rewrite("onnxsim", folded=False)
def onnxsim(model, path):
    import onnxsim as simplifier

    simplified, good = simplifier.simplify(model)
    assert good
    onnx.save(simplified, path)


@rewrite("external-data")
def external_data(model, path):
    onnx.save(model, path, save_as_external_data=True, location=path.stem + ".bin", size_threshold=1024)


@rewrite("float16", exact=False)
def float16(model, path):
    """Weights of 16 bits, each with a Cast: what a tool that halves a file writes."""
    casts, tensors = [], []
    for name, value in weights(model).items():
        if value.dtype == np.float32 and value.ndim > 1:
            tensors.append(numpy_helper.from_array(value.astype(np.float16), name + "_half"))
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
        else:
            tensors.append(numpy_helper.from_array(value, name))
    nodes = casts + list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(nodes)
    save(model, path)


@rewrite("qdq", exact=False)
def qdq(model, path):
    """Weights of 8 bits, a scale per output channel."""
    nodes, added = [], {}
    values = weights(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            name = node.input[1]
            w = values[name]
            scale = (np.abs(w).reshape(len(w), -1).max(1) / 127).astype(np.float32)
            shape = (-1,) + (1,) * (w.ndim - 1)
            added[name + "_q"] = np.clip(np.round(w / scale.reshape(shape)), -127, 127).astype(np.int8)
            added[name + "_s"], added[name + "_z"] = scale, np.zeros(len(w), np.int8)
            inputs = [name + "_q", name + "_s", name + "_z"]
            nodes.append(helper.make_node("DequantizeLinear", inputs, [name + "_dq"], axis=0))
            node.input[1] = name + "_dq"
        nodes.append(node)
    replace_nodes(model, nodes, added)
    save(model, path)


@rewrite("two-outputs", output="logits")
def two_outputs(model, path):
    """Features beside the logits, and an input that only they depend on."""
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    model.graph.input.append(helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Add", [conv.output[0], "offset"], ["features"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", "c", "h", "w"]))
    save(model, path)


@rewrite("mxnet", folded=False)
def mxnet(model, path):
    """Initialisers are inputs too, Dropout before the classifier, MatMul and Add instead of Gemm stay Gemm."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Gemm":
            nodes.append(helper.make_node("Dropout", [node.input[0]], ["dropped"]))
            node.input[0] = "dropped"
        node.name = ""
        nodes.append(node)
    replace_nodes(model, nodes, {})
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    save(model, path)


@rewrite("paddle", folded=False)
def paddle(model, path):
    """Constants as nodes, the head as computed Reshape, MatMul and Add."""
    values = weights(model)
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(v)) for name, v in values.items()
    ]
    constants = {"start": np.array([0]), "end": np.array([1]), "rest": np.array([-1])}
    for name, value in constants.items():
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
    for node in model.graph.node:
        if node.op_type == "Flatten":
            x = node.input[0]
            nodes.append(helper.make_node("Shape", [x], ["shape"]))
            nodes.append(helper.make_node("Slice", ["shape", "start", "end", "start"], ["batch"]))
            nodes.append(helper.make_node("Concat", ["batch", "rest"], ["flat_shape"], axis=0))
            nodes.append(helper.make_node("Reshape", [x, "flat_shape"], list(node.output)))
        elif node.op_type == "Gemm":
            x, w, b = node.input
            nodes.append(helper.make_node("Transpose", [w], ["w_t"], perm=[1, 0]))
            nodes.append(helper.make_node("MatMul", [x, "w_t"], ["product"]))
            nodes.append(helper.make_node("Add", ["product", b], list(node.output)))
        else:
            nodes.append(node)
    del model.graph.initializer[:]
    replace_nodes(model, nodes, {})
    save(model, path)


TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


@rewrite("keras", folded=False)
def keras(model, path):
    """f32[N,H,W,C] as tf2onnx writes it: Transposes around convolutions and pools, Pad apart, BatchNormalization as Mul
    and Add, the mean over [1, 2], MatMul and Add."""
    values, nodes, added = weights(model), [], {}

    def attribute(node, name, default):
        return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)

    def transposed(x, perm):
        name = f"{x}_t{perm[1]}_{len(nodes)}"
        nodes.append(helper.make_node("Transpose", [x], [name], perm=perm))
        return name

    def apart(node, value):
        """The padding before the window, in f32[N,H,W,C]."""
        x, pads = node.input[0], attribute(node, "pads", [0] * 4)
        if any(pads):
            name = f"{x}_padded_{len(nodes)}"
            top, left, bottom, right = pads
            added[name + "_pads"] = np.array([0, top, left, 0, 0, bottom, right, 0])
            added[name + "_value"] = np.array(value, np.float32)
            nodes.append(helper.make_node("Pad", [x, name + "_pads", name + "_value"], [name]))
            x = name
        kept = [a for a in node.attribute if a.name not in ("pads", "ceil_mode")]
        return x, kept

    for node in model.graph.node:
        kind, (y, *_) = node.op_type, node.output
        if kind in ("Conv", "MaxPool"):
            x, kept = apart(node, 0.0 if kind == "Conv" else np.finfo(np.float32).min)
            new = helper.make_node(kind, [transposed(x, TO_NCHW), *node.input[1:]], [y + "_nchw"], node.name)
            new.attribute.extend(kept)
            nodes.append(new)
            nodes.append(helper.make_node("Transpose", [y + "_nchw"], [y], perm=TO_NHWC))
        elif kind == "BatchNormalization":
            x, *parameters = node.input
            scale, bias, mean, var = (values[p].astype(np.float64) for p in parameters)
            factor = scale / np.sqrt(var + attribute(node, "epsilon", 1e-5))
            added[y + "_scale"] = factor.astype(np.float32)
            added[y + "_shift"] = (bias - mean * factor).astype(np.float32)
            nodes.append(helper.make_node("Mul", [x, y + "_scale"], [y + "_scaled"], node.name))
            nodes.append(helper.make_node("Add", [y + "_scaled", y + "_shift"], [y]))
        elif kind == "GlobalAveragePool":
            nodes.append(helper.make_node("ReduceMean", [node.input[0]], [y], axes=[1, 2], keepdims=0))
        elif kind == "Flatten":
            nodes.append(helper.make_node("Identity", list(node.input), [y]))
        elif kind == "Gemm":
            x, w, b = node.input
            added[w + "_t"] = np.ascontiguousarray(values[w].T)
            nodes.append(helper.make_node("MatMul", [x, w + "_t"], [y + "_product"]))
            nodes.append(helper.make_node("Add", [y + "_product", b], [y]))
        else:
            nodes.append(node)
    replace_nodes(model, nodes, added)
    shape = model.graph.input[0].type.tensor_type.shape
    n, c, h, w = ((d.dim_param or d.dim_value) for d in shape.dim)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, [n, h, w, c]))
    save(model, path)
