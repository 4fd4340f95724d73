# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnx", "onnxruntime"]
# ///
"""Write random networks with an input and ONNX Runtime's outputs, to ask relc about.

    python tools/random_networks.py OUT --count 50 [--first 0]

OUT gets, for each seed, `SEED.onnx` and `SEED.npz`: the input `x`, the output `y`, and what a final Softmax or Sigmoid
reads as `logits` (`y` itself where there is none). A seed gives the same network each time.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ACTIVATIONS = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7},
    "Selu": {},
    "Tanh": {},
    "Softplus": {},
    "HardSwish": {},
    "ThresholdedRelu": {"alpha": 0.1},
    "Swish": {},  # Sigmoid and Mul, as exporters write it
    "Clip": {},  # its bounds are drawn
}


class Network:
    """A graph that grows; `shapes` has each value's sizes without the batch."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng([seed, 20])
        self.nodes, self.weights, self.shapes = [], [], {}
        self.opset = self.pick([11, 13, 17, 20])
        self.axes = self.pick([2, 2, 2, 1, 3])
        self.signed = self.chance(0.4)

    # Draws.
    def pick(self, items):
        return items[int(self.rng.integers(len(items)))]

    def chance(self, p):
        return bool(self.rng.random() < p)

    def between(self, low, high):
        return int(self.rng.integers(low, high + 1))

    # Building blocks of building blocks.
    def weight(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def floats(self, *shape, low=-0.3, high=0.3):
        return self.weight(self.rng.uniform(low, high, shape).astype(np.float32))

    def node(self, op, inputs, shape, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], f"{op}_{len(self.nodes)}", **attributes))
        self.shapes[out] = tuple(int(n) for n in shape)
        return out

    def like(self, op, x, *more, **attributes):
        return self.node(op, [x, *more], self.shapes[x], **attributes)

    def spatial(self, x):
        return self.shapes[x][1:]

    def window(self, x, kernels=(1, 2, 3, 3, 3, 5), strides=(1, 1, 1, 2), dilations=(1, 1, 1, 2)):
        """Kernel, strides, dilations and pads that fit, sometimes another for each axis and side."""
        sizes, axes = self.spatial(x), self.axes
        each = lambda items: [self.pick(items) for _ in range(axes)] if self.chance(0.2) else [self.pick(items)] * axes
        kernel, stride, dilation = each(kernels), each(strides), each(dilations)
        for i, size in enumerate(sizes):
            if (kernel[i] - 1) * dilation[i] + 1 > size:
                kernel[i], dilation[i] = min(kernel[i], size), 1
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
        begin = [e // 2 for e in extent]
        end = [(e - 1) // 2 for e in extent]
        how = self.rng.random()
        if how < 0.15:
            begin, end = [0] * axes, [0] * axes
        elif how < 0.3:
            begin = [self.between(0, k - 1) for k in kernel]
            end = [self.between(0, k - 1) for k in kernel]
        return kernel, stride, dilation, begin, end

    def sizes(self, x, window, ceil=False):
        out = []
        for size, kernel, stride, dilation, begin, end in zip(self.spatial(x), *window):
            span = size + begin + end - ((kernel - 1) * dilation + 1)
            count = span // stride + 1
            if ceil and span % stride and count * stride < size + begin:
                count += 1
            out.append(count)
        return out

    def attributes(self, window, dilated=True):
        kernel, stride, dilation, begin, end = window
        more = {"dilations": dilation} if dilated else {}
        return dict(kernel_shape=kernel, strides=stride, pads=[*begin, *end], **more)

    def same(self, x, kernel=3, stride=1):
        """A window that keeps the size, up to its stride."""
        axes = self.axes
        return [kernel] * axes, [stride] * axes, [1] * axes, [kernel // 2] * axes, [(kernel - 1) // 2] * axes

    def conv(self, x, outputs, window, group=1, normalised=None):
        channels = self.shapes[x][0]
        fan_in = channels // group * int(np.prod(window[0]))
        values = self.rng.normal(0, (2 / fan_in) ** 0.5, (outputs, channels // group, *window[0]))
        inputs = [x, self.weight(values.astype(np.float32))]
        normalised = self.chance(0.4) if normalised is None else normalised
        if not normalised and self.chance(0.8):
            inputs.append(self.floats(outputs))
        y = self.node("Conv", inputs, (outputs, *self.sizes(x, window)), group=group, **self.attributes(window))
        return self.normalise(y) if normalised else y

    def normalise(self, x):
        channels = self.shapes[x][0]
        scale = self.floats(channels, low=-0.8 if self.chance(0.2) else 0.5, high=1.5)
        shift, mean = self.floats(channels), self.floats(channels)
        var = self.floats(channels, low=0.5, high=1.5)
        return self.like("BatchNormalization", x, scale, shift, mean, var, epsilon=self.pick([1e-5, 1e-3]))

    def activate(self, x, kinds=None):
        op = self.pick(kinds or self.kinds)
        if op == "Swish":
            return self.node("Mul", [x, self.like("Sigmoid", x)], self.shapes[x])
        if op == "HardSwish" and self.opset < 14:
            gate = self.like("HardSigmoid", x, alpha=1 / 6, beta=0.5)
            return self.node("Mul", [x, gate], self.shapes[x])
        if op == "Clip":
            low, high = self.pick([(0, 6), (-1, 1), (-0.5, 2), (0.1, 1.5), (-3, -0.2)])
            return self.like("Clip", x, *(self.weight(np.float32(v)) for v in (low, high)))
        return self.like(op, x, **ACTIVATIONS[op])

    def add(self, *xs):
        xs = list(xs)
        self.rng.shuffle(xs)
        return self.node("Add" if len(xs) == 2 else "Sum", xs, self.shapes[xs[0]])

    def concat(self, xs):
        channels = sum(self.shapes[x][0] for x in xs)
        return self.node("Concat", xs, (channels, *self.spatial(xs[0])), axis=1)

    def slice(self, x, starts, ends, steps, axes):
        shape = list(self.shapes[x])
        for start, end, step, axis in zip(starts, ends, steps, axes):
            shape[axis - 1] = len(range(shape[axis - 1])[start:end:step])
        ints = lambda values: self.weight(np.array(values, np.int64))
        return self.node("Slice", [x, ints(starts), ints(ends), ints(axes), ints(steps)], shape)

    def pad(self, x, begin, end, value=None):
        """Pads the axes behind the batch."""
        shape = [b + n + e for b, n, e in zip(begin, self.shapes[x], end)]
        inputs = [x, self.weight(np.array([0, *begin, 0, *end], np.int64))]
        if value is not None:
            inputs.append(self.weight(np.float32(value)))
        return self.node("Pad", inputs, shape, mode="constant")

    # Parts of networks: a value to a value.
    def plain(self, x):
        channels = self.shapes[x][0]
        groups = [g for g in range(1, channels + 1) if channels % g == 0]
        group = self.pick(groups) if self.chance(0.3) else 1
        outputs = group * self.between(1, max(1, 9 // group))
        return self.activate(self.conv(x, outputs, self.window(x), group))

    def depthwise(self, x):
        channels = self.shapes[x][0]
        y = self.activate(self.conv(x, channels, self.window(x), channels))
        return self.conv(y, self.between(2, 9), self.same(y, 1))

    def transposed(self, x):
        channels = self.shapes[x][0]
        group = channels if self.chance(0.2) else 1
        per_group = 1 if group > 1 else self.between(2, 6)
        kernel, stride = self.between(2, 4), self.pick([1, 2])
        pad = self.between(0, min(1, kernel - 1))
        more = self.between(0, stride - 1)
        sizes = [(n - 1) * stride + kernel + more - 2 * pad for n in self.spatial(x)]
        if min(sizes) < 1 or max(sizes) > 24:
            return self.plain(x)
        values = self.rng.normal(0, (2 / channels / kernel) ** 0.5, (channels, per_group, *[kernel] * self.axes))
        inputs = [x, self.weight(values.astype(np.float32)), self.floats(group * per_group)]
        axes = self.axes
        y = self.node("ConvTranspose", inputs, (group * per_group, *sizes), group=group,
                      kernel_shape=[kernel] * axes, strides=[stride] * axes, pads=[pad] * (2 * axes),
                      output_padding=[more] * axes)
        return self.activate(y)

    def maximum(self, x):
        window, ceil = self.window(x, (2, 3), (1, 2, 2), (1, 1, 2)), self.chance(0.4)
        return self.node("MaxPool", [x], (self.shapes[x][0], *self.sizes(x, window, ceil)), ceil_mode=int(ceil),
                         **self.attributes(window))

    def average(self, x):
        dilated = self.opset >= 19
        window = self.window(x, (2, 3), (1, 2, 2), (1, 1, 2) if dilated else (1,))
        # ONNX Runtime counts the padding behind the end of a rounded-up window otherwise than ONNX says.
        ceil = self.chance(0.4)
        include = not ceil and self.chance(0.5)
        return self.node("AveragePool", [x], (self.shapes[x][0], *self.sizes(x, window, ceil)), ceil_mode=int(ceil),
                         count_include_pad=int(include), **self.attributes(window, dilated))

    def gate(self, x):
        """Squeeze and excitation, per channel or per pixel."""
        sigmoid = self.pick(["Sigmoid", "HardSigmoid"])
        if self.chance(0.3):
            gate = self.conv(x, 1, self.same(x, self.pick([1, 3])), normalised=False)
        else:
            channels = self.shapes[x][0]
            gate = self.node("GlobalAveragePool", [x], (channels, *[1] * self.axes))
            gate = self.conv(gate, max(1, channels // 2), self.same(gate, 1), normalised=False)
            gate = self.conv(self.activate(gate, ["Relu"]), channels, self.same(gate, 1), normalised=False)
        pair = [x, self.like(sigmoid, gate)]
        self.rng.shuffle(pair)
        return self.node("Mul", pair, self.shapes[x])

    def residual(self, x):
        channels, stride = self.shapes[x][0], self.pick([1, 1, 2])
        skip_kind = self.pick(["identity", "projection", "slice-pad", "zeros"])
        outputs = channels if skip_kind == "identity" else channels + self.between(1, 3)
        stride = 1 if skip_kind == "identity" else stride
        y = x
        if self.chance(0.3):  # pre-activation
            y = self.activate(self.normalise(y))
        if self.chance(0.3):
            y = self.activate(self.conv(y, max(1, channels // 2), self.same(y, 1)))
        y = self.activate(self.conv(y, outputs, self.same(y, 3, stride)))
        y = self.conv(y, outputs, self.same(y))
        if self.chance(0.3):
            y = self.gate(y)
        if skip_kind == "identity":
            skip = x
        elif skip_kind == "projection":
            skip = self.conv(x, outputs, self.same(x, 1, stride))
        else:
            skip, axes = x, self.axes
            if stride > 1:
                skip = self.slice(x, [0] * axes, [2**31 - 1] * axes, [stride] * axes, list(range(2, 2 + axes)))
            if skip_kind == "zeros":
                zeros = np.zeros((self.batch or 1, outputs - channels, *self.spatial(skip)), np.float32)
                if self.batch:
                    zeros = self.weight(zeros)
                    self.shapes[zeros] = (outputs - channels, *self.spatial(skip))
                    skip = self.concat([skip, zeros])
                else:
                    skip = self.pad(skip, [0] * (1 + axes), [outputs - channels] + [0] * axes)
            else:
                before = self.between(0, outputs - channels)
                skip = self.pad(skip, [before] + [0] * axes, [outputs - channels - before] + [0] * axes, 0.0)
        y = self.add(y, skip)
        return self.activate(y) if self.chance(0.8) else y

    def dense(self, x):
        for _ in range(self.between(1, 3)):
            y = self.activate(self.normalise(x)) if self.chance(0.5) else x
            y = self.conv(y, self.between(1, 4), self.same(y))
            x = self.concat([x, self.activate(y) if self.chance(0.5) else y])
        return x

    def branches(self, x):
        ways = [self.activate(self.conv(x, self.between(1, 4), self.same(x, k))) for k in (1, 3)]
        pool, attributes = self.same(x), self.attributes(self.same(x), False)
        op = self.pick(["MaxPool", "AveragePool"])
        pooled = self.node(op, [x], (self.shapes[x][0], *self.sizes(x, pool)), **attributes)
        ways.append(self.conv(pooled, self.between(1, 3), self.same(pooled, 1)))
        return self.concat(ways)

    def several_joins(self, x):
        channels = self.shapes[x][0]
        branch = lambda v: self.activate(self.conv(v, channels, self.same(v)))
        a = branch(x)
        if self.chance(0.5):
            return self.add(x, a, branch(x))
        b = self.add(x, branch(a))
        return self.add(x, a, b) if self.chance(0.5) else self.add(self.add(a, b), x)

    def framed(self, x):
        sides = lambda: [0] + [self.between(0, 2) for _ in range(self.axes)]
        return self.pad(x, sides(), sides(), self.pick([0.0, None, 0.5, -0.25]))

    def cropped(self, x):
        axes = [a for a in range(2, 2 + self.axes) if self.shapes[x][a - 1] > 4]
        if not axes:
            return self.plain(x)
        starts, ends = [self.between(0, 1) for _ in axes], [self.pick([-1, 2**31 - 1]) for _ in axes]
        return self.slice(x, starts, ends, [self.pick([1, 1, 2]) for _ in axes], axes)

    def scaled(self, x):
        channels = self.shapes[x][0]
        op = self.pick(["Mul", "Add", "Sub", "Div"])
        values = self.rng.uniform(0.5, 1.5, (channels, *[1] * self.axes)) * self.rng.choice([-1, 1], size=1)
        return self.node(op, [x, self.weight(values.astype(np.float32))], self.shapes[x])

    def stem(self, x):
        y = self.activate(self.conv(x, self.between(2, 8), self.window(x, (1, 3, 3, 5), (1, 1, 2))))
        return y

    def two_stems(self, x):
        outputs, stride = self.between(2, 6), self.pick([1, 2])
        a = self.conv(x, outputs, self.same(x, 3, stride))
        b = self.conv(x, outputs, self.same(x, 1, stride))
        if self.chance(0.5):
            return self.activate(self.add(a, b))
        return self.concat([self.activate(a), self.activate(b)])

    # Heads: a value to `K` numbers.
    def gemm(self, x, outputs):
        features = self.shapes[x][0]
        values = self.rng.normal(0, (1 / features) ** 0.5, (features, outputs)).astype(np.float32)
        how = self.pick(["gemm", "transposed", "matmul"])
        if how == "matmul":
            y = self.node("MatMul", [x, self.weight(values)], (outputs,))
            return self.node("Add", [y, self.floats(outputs)], (outputs,))
        if how == "transposed":
            values = values.T.copy()
        inputs = [x, self.weight(values)] + ([self.floats(outputs)] if self.chance(0.8) else [])
        return self.node("Gemm", inputs, (outputs,), transB=int(how == "transposed"))

    def flatten(self, x):
        shape = (int(np.prod(self.shapes[x])),)
        if self.chance(0.5):
            return self.node("Flatten", [x], shape, axis=1)
        return self.node("Reshape", [x, self.weight(np.array([0, -1], np.int64))], shape)

    def pooled(self, x):
        shape = (self.shapes[x][0], *[1] * self.axes)
        how = self.pick(["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"])
        if how != "ReduceMean":
            return self.flatten(self.node(how, [x], shape))
        axes, more = list(range(2, 2 + self.axes)), {}
        inputs = [x]
        if self.opset >= 18:
            inputs.append(self.weight(np.array(axes, np.int64)))
        else:
            more = {"axes": axes}
        return self.node("ReduceMean", inputs, (self.shapes[x][0],), keepdims=0, **more)

    def head(self, x, classes):
        how = self.pick(["pooled", "pooled", "flat", "conv", "layers"])
        if how == "conv":
            y = self.conv(x, classes, self.same(x, 1), normalised=False)
            return self.flatten(self.node("GlobalAveragePool", [y], (classes, *[1] * self.axes)))
        y = self.flatten(x) if how == "flat" else self.pooled(x)
        if how == "layers":
            y = self.activate(self.gemm(y, self.between(3, 8)))
        return self.gemm(y, classes)

    def build(self):
        """The model's input, output, and what its last Softmax or Sigmoid reads."""
        self.batch = self.pick([None, None, None, 1, 2])
        kinds = list(ACTIVATIONS) if self.chance(0.5) else ["Relu"]
        self.kinds = kinds if self.chance(0.3) else [self.pick(kinds)]
        low, high = {1: (9, 24), 2: (5, 12), 3: (4, 7)}[self.axes]
        sizes = [self.between(low, high) for _ in range(self.axes)]
        self.shapes["x"] = (self.pick([1, 2, 3, 3, 4]), *sizes)
        x = self.two_stems("x") if self.chance(0.25) else self.stem("x")
        parts = [self.plain, self.depthwise, self.transposed, self.maximum, self.average, self.gate, self.residual,
                 self.residual, self.residual, self.dense, self.branches, self.several_joins, self.framed, self.cropped,
                 self.scaled]
        for _ in range(self.between(2, 6)):
            x = self.pick(parts)(x)
        logits = self.head(x, self.between(2, 7))
        last = self.pick([None, None, "Softmax", "Sigmoid"])
        if last is None:
            return logits, logits
        return logits, self.like(last, logits, **({"axis": 1} if last == "Softmax" else {}))

    def model(self, output):
        """The nodes so far, as a model with this output."""
        batch = self.batch or "N"
        value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *self.shapes[name]])
        graph = helper.make_graph(self.nodes, "random", [value("x")], [value(output)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        return model


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def write(out: pathlib.Path, seed: int):
    network = Network(seed)
    logits, output = network.build()
    model = network.model(output)
    onnx.checker.check_model(model)
    shape = (network.batch or 2, *network.shapes["x"])
    low = -2 if network.signed else 0
    x = network.rng.uniform(low, 2, shape).astype(np.float32)
    y = run(model, x)
    before = y if logits == output else run(network.model(logits), x)
    onnx.save(model, out / f"{seed:05}.onnx")
    np.savez(out / f"{seed:05}.npz", x=x, y=y, logits=before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="the folder to fill")
    parser.add_argument("--count", type=int, default=50, help="how many networks")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in range(args.first, args.first + args.count):
        write(args.out, seed)


if __name__ == "__main__":
    main()
