"""Writes tests/reference: a small residual network and maps of it, computed in f64 by dense matrices.

    python tools/make_reference.py tests/reference

Needs numpy and onnx, and nothing of relc: every layer is written as a matrix and every rule as algebra on it, so that
the repository holds results of its own to compare with. `net.onnx` has two residual joins (an identity skip and a
projection with stride 2), BatchNormalizations of which some scales are negative, and a MaxPool. `net.npz` has `x`
f32[2,3,10,12], `logits` f32[2,5], `target` i64[2], and of the targets, f32[2,3,10,12]:

- `paper` (seed prob), `conserve` (seed logit), with BatchNormalization kept: semantics as in docs/theory.md;
- `epsilon_plus` (seed onehot), folded, biases in all denominators, and `epsilon_plus.include`: those that folding made
  are left out.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
SHAPE, CLASSES, EPS = (3, 10, 12), 5, 1e-5


def conv_matrix(w, shape, stride, pad):
    """The matrix of a convolution without bias, and the shape of what it gives."""
    (o, c, kh, kw), (_, h, wd) = w.shape, shape
    oh, ow = (h + 2 * pad - kh) // stride + 1, (wd + 2 * pad - kw) // stride + 1
    m = np.zeros((o, oh, ow, c, h, wd))
    for y in range(oh):
        for x in range(ow):
            for i in range(kh):
                for j in range(kw):
                    yy, xx = y * stride + i - pad, x * stride + j - pad
                    if 0 <= yy < h and 0 <= xx < wd:
                        m[:, y, x, :, yy, xx] += w[:, :, i, j]
    return m.reshape(o * oh * ow, -1), (o, oh, ow)


class Layer:
    """A convolution or fully connected layer: its matrix, its bias and what a BatchNormalization behind it does."""

    def __init__(self, matrix, bias, scale=None, shift=None):
        self.matrix, self.bias, self.scale, self.shift = matrix, bias, scale, shift

    def raw(self, a):
        return self.matrix @ a + self.bias

    def __call__(self, a):
        z = self.raw(a)
        return z if self.scale is None else self.scale * z + self.shift

    def folded(self):
        """Matrix, the bias of its own, and the bias with what folding made."""
        if self.scale is None:
            return self.matrix, self.bias, self.bias
        return self.matrix * self.scale[:, None], None, self.scale * self.bias + self.shift


def sign(z):
    return np.where(z >= 0, 1.0, -1.0)


def over(r, z):
    """r / z; 0 where z is 0."""
    return np.divide(r, z, out=np.zeros_like(r), where=z != 0)


def positive(m):
    return np.maximum(m, 0)


def zplus_raw(m, a, r, eps):
    """a sum_j w+ R_j / (sum a w+ + eps)"""
    z = positive(m) @ a + eps
    return a * (positive(m).T @ (r / z))


def zplus_signed(m, a, r, bias=0.0, eps=0.0, flat=False):
    """(a+ w+ + a- w-) R / z, z = sum (a+ w+ + a- w-) + b+ + eps sign(z); evenly over the valid inputs where z is 0."""
    p, n = positive(m), np.minimum(m, 0)
    z = p @ positive(a) + n @ np.minimum(a, 0) + positive(bias)
    z = z + eps * sign(z)
    out = positive(a) * (p.T @ over(r, z)) + np.minimum(a, 0) * (n.T @ over(r, z))
    if flat:
        reached = (m != 0).astype(float)
        out += reached.T @ np.where(z == 0, r / reached.sum(1), 0.0)
    return out


def zplus_ones(m, r, eps=0.0):
    z = positive(m).sum(1) + eps
    return positive(m).T @ (r / z)


def epsilon(m, a, r, bias, eps):
    z = m @ a + bias
    return a * (m.T @ (r / (z + eps * sign(z))))


def ratio(r, parts):
    total = sum(np.abs(p) for p in parts)
    return [over(r * np.abs(p), total) for p in parts]


def signed(r, parts, eps):
    total = sum(parts)
    total = total + eps * sign(total)
    return [r * p / total for p in parts]


class Net:
    def __init__(self):
        self.nodes, self.weights, count = [], [], 0

        def tensor(name, value):
            self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
            return value.astype(np.float32).astype(np.float64)

        def conv(name, x, out, w, stride, pad, shape):
            w = tensor(f"{name}.w", w)
            bias = tensor(f"{name}.b", RNG.normal(0, 0.2, w.shape[0]))
            self.nodes.append(helper.make_node(
                "Conv", [x, f"{name}.w", f"{name}.b"], [f"{name}.z"], name, strides=[stride] * 2, pads=[pad] * 4,
                kernel_shape=list(w.shape[2:])))
            values = [RNG.uniform(0.6, 1.4, w.shape[0]), RNG.normal(0, 0.3, w.shape[0]),
                      RNG.normal(0, 0.2, w.shape[0]), RNG.uniform(0.5, 1.5, w.shape[0])]
            values[0][1] *= -1
            gamma, beta, mean, var = [tensor(f"{name}.{p}", v) for p, v in zip(["gamma", "beta", "mean", "var"], values)]
            parts = [f"{name}.{p}" for p in ["gamma", "beta", "mean", "var"]]
            self.nodes.append(helper.make_node("BatchNormalization", [f"{name}.z", *parts], [out], f"{name}.bn", epsilon=EPS))
            matrix, shape = conv_matrix(w, shape, stride, pad)
            each = shape[1] * shape[2]
            scale = gamma / np.sqrt(var + np.float64(np.float32(EPS)))
            spread = lambda v: np.repeat(v, each)
            return Layer(matrix, spread(bias), spread(scale), spread(beta - scale * mean)), shape

        def weight(*dims):
            return RNG.normal(0, np.sqrt(2 / np.prod(dims[1:])), dims)

        relu = lambda x, out: self.nodes.append(helper.make_node("Relu", [x], [out], out))
        add = lambda a, b, out: self.nodes.append(helper.make_node("Add", [a, b], [out], out))
        self.stem, shape = conv("stem", "x", "s", weight(6, 3, 3, 3), 1, 1, SHAPE)
        relu("s", "s.r")
        self.nodes.append(helper.make_node("MaxPool", ["s.r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]))
        self.pool_in, shape = shape, (6, 5, 6)
        self.a1, _ = conv("a1", "p", "a1.y", weight(6, 6, 3, 3), 1, 1, shape)
        relu("a1.y", "a1.r")
        self.a2, _ = conv("a2", "a1.r", "a2.y", weight(6, 6, 3, 3), 1, 1, shape)
        add("a2.y", "p", "join1")
        relu("join1", "j1")
        self.b1, half = conv("b1", "j1", "b1.y", weight(8, 6, 3, 3), 2, 1, shape)
        relu("b1.y", "b1.r")
        self.b2, half = conv("b2", "b1.r", "b2.y", weight(8, 8, 3, 3), 1, 1, half)
        self.down, _ = conv("down", "j1", "d.y", weight(8, 6, 1, 1), 2, 0, shape)
        add("b2.y", "d.y", "join2")
        relu("join2", "j2")
        each = half[1] * half[2]
        self.gap = np.kron(np.eye(8), np.full((1, each), 1 / each))
        self.nodes += [helper.make_node("GlobalAveragePool", ["j2"], ["g"], "gap"),
                       helper.make_node("Flatten", ["g"], ["f"], "flatten"),
                       helper.make_node("Gemm", ["f", "fc.w", "fc.b"], ["logits"], "fc", transB=1)]
        w, b = tensor("fc.w", RNG.normal(0, 0.6, (CLASSES, 8))), tensor("fc.b", RNG.normal(0, 0.2, CLASSES))
        self.fc = Layer(w, b)

    def save(self, path):
        value = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        graph = helper.make_graph(self.nodes, "net", [value("x", ["N", *SHAPE])], [value("logits", ["N", CLASSES])], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)

    def windows(self):
        """For each output of the pool, its four inputs."""
        at = np.arange(np.prod(self.pool_in)).reshape(self.pool_in)
        return np.stack([at[:, i::2, j::2].ravel() for i in (0, 1) for j in (0, 1)], 1)

    def forward(self, x):
        v = {"x": x}
        relu = positive
        v["s"] = relu(self.stem(x))
        v["p"] = v["s"][self.windows()].max(1)
        v["a1"] = relu(self.a1(v["p"]))
        v["a2"] = self.a2(v["a1"])
        v["j1"] = relu(v["a2"] + v["p"])
        v["b1"] = relu(self.b1(v["j1"]))
        v["b2"], v["d"] = self.b2(v["b1"]), self.down(v["j1"])
        v["j2"] = relu(v["b2"] + v["d"])
        v["g"] = self.gap @ v["j2"]
        return v, self.fc(v["g"])

    def backward(self, v, r, layer, first, pool, split):
        """`layer(l, a, R)` for the layers, `first` for the stem, `pool` for the MaxPool, `split(R, parts)` for joins."""
        r = layer(self.fc, v["g"], r)
        r = layer(Layer(self.gap, np.zeros(8)), v["j2"], r, mean=True)
        main, skip = split(r, [v["b2"], v["d"]])
        r = layer(self.b1, v["j1"], layer(self.b2, v["b1"], main)) + layer(self.down, v["j1"], skip)
        main, skip = split(r, [v["a2"], v["p"]])
        r = layer(self.a1, v["p"], layer(self.a2, v["a1"], main)) + skip
        return first(self.stem, v["x"], pool(v["s"], r))

    def average(self, a, r, eps, flat):
        w = self.windows()
        z = a[w].sum(1) / 4 + eps
        out = np.zeros_like(a)
        share = np.where((z == 0)[:, None], 0.25, over(a[w] / 4, z[:, None] * np.ones((1, 4)))) if flat else a[w] / 4 / z[:, None]
        np.add.at(out, w.ravel(), (share * r[:, None]).ravel())
        return out

    def winner(self, a, r):
        w = self.windows()
        out = np.zeros_like(a)
        np.add.at(out, w[np.arange(len(w)), a[w].argmax(1)], r)
        return out

    def paper(self, v, logits, target):
        prob = np.exp(logits - logits.max())
        r = np.eye(CLASSES)[target] * (prob / prob.sum())
        layer = lambda l, a, r, mean=False: zplus_raw(l.matrix, a, r, 1e-5)
        first = lambda l, a, r: zplus_ones(l.matrix, r, 1e-5)
        return self.backward(v, r, layer, first, lambda a, r: self.average(a, r, 1e-5, False), ratio)

    def conserve(self, v, logits, target):
        r = np.eye(CLASSES)[target] * logits
        layer = lambda l, a, r, mean=False: zplus_signed(l.matrix, a, r, flat=True)
        first = lambda l, a, r: zplus_ones(l.matrix, r)
        return self.backward(v, r, layer, first, lambda a, r: self.average(a, r, 0.0, True), ratio)

    def epsilon_plus(self, v, target, made):
        """`made`: whether biases that folding made are in the denominators."""
        r = np.eye(CLASSES)[target]

        def layer(l, a, r, mean=False):
            matrix, own, bias = l.folded()
            if l is self.fc or mean:
                return epsilon(matrix, a, r, bias, 1e-6)
            return zplus_signed(matrix, a, r, bias if made or own is not None else 0.0, 1e-6)

        return self.backward(v, r, layer, layer, self.winner, lambda r, parts: signed(r, parts, 1e-6))


def main():
    folder = Path(sys.argv[1])
    net = Net()
    net.save(folder / "net.onnx")
    x = RNG.normal(0, 1, (2, *SHAPE)).astype(np.float32)
    arrays = {name: [] for name in ["logits", "target", "paper", "conserve", "epsilon_plus", "epsilon_plus.include"]}
    for sample in x.astype(np.float64):
        v, logits = net.forward(sample.ravel())
        target = int(logits.argmax())
        arrays["logits"].append(logits)
        arrays["target"].append(target)
        arrays["paper"].append(net.paper(v, logits, target))
        arrays["conserve"].append(net.conserve(v, logits, target))
        arrays["epsilon_plus"].append(net.epsilon_plus(v, target, True))
        arrays["epsilon_plus.include"].append(net.epsilon_plus(v, target, False))
    shaped = lambda name, a: np.array(a).reshape(2, *SHAPE) if name not in ("logits", "target") else np.array(a)
    stored = {n: shaped(n, a).astype(np.int64 if n == "target" else np.float32) for n, a in arrays.items()}
    np.savez(folder / "net.npz", x=x, **stored)


main()
