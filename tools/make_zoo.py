# /// script
# requires-python = ">=3.10"
# dependencies = ["torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "numpy"]
# ///
"""Make the model zoo: networks with random, calibrated weights, exported to ONNX, and ONNX Runtime's outputs.

    python tools/make_zoo.py OUT                      # every architecture at both sizes, every exporter of ResNet-50
    python tools/make_zoo.py OUT --only 'resnet50*'   # some of it
    python tools/make_zoo.py tests/zoo --small        # the small models that the repository carries

For each model OUT gets `NAME.onnx`, `NAME.npz` (`x`: the input, `logits`: ONNX Runtime's output on it; the small models have
their logits in the entry, and an input that the tests compute) and an entry in
`zoo.json` (name, architecture, exporter, size, and the number of residual joins that the architecture has, counted in
the PyTorch module, not in the file). Files that are there already are kept. No pretrained weights are needed.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import io
import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch

import zoo_rewrites

SIZES = {"224": (224, 224), "odd": (161, 193)}

TORCHVISION = [
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "wide_resnet50_2", "wide_resnet101_2", "vgg11_bn", "densenet121", "mobilenet_v2", "mobilenet_v3_small",
]  # fmt: skip
TIMM = [
    "resnet50c", "resnet50d", "resnet50s", "resnet18d", "seresnet18", "seresnet50", "ecaresnet26t", "ecaresnet50d",
    "skresnet18", "skresnet50", "resnest14d", "resnest50d", "resnest50d_4s2x40d", "res2net50_26w_4s", "res2next50",
    "resnetv2_50", "resnetv2_50d_gn", "resnetv2_50x1_bit", "resnetaa50", "resnetblur18", "resnetblur50",
    "regnetx_002", "regnety_002", "regnetz_b16", "resnetrs50", "cspresnet50", "densenetblur121d", "resnet33ts",
    "seresnext50_32x4d", "mobilenetv2_100", "mobilenetv3_large_100", "efficientnet_b0",
    "tf_efficientnet_b0", "vgg13", "convnext_atto",
]  # fmt: skip

# Modules that end in a residual sum, unless an attribute says that they have no skip.
RESIDUAL = {
    "BasicBlock", "Bottleneck", "BottleneckBlock", "SelectiveKernelBasic", "SelectiveKernelBottleneck",
    "ResNestBottleneck", "Bottle2neck", "PreActBottleneck", "PreActBasic", "InvertedResidual",
    "DepthwiseSeparableConv", "ConvNeXtBlock", "UpAndDown",
}  # fmt: skip


def joins(model: torch.nn.Module) -> int:
    """The residual sums of an architecture, from its modules."""
    total = 0
    for module in model.modules():
        if type(module).__name__ not in RESIDUAL:
            continue
        skip = [getattr(module, name) for name in ("has_skip", "use_res_connect") if hasattr(module, name)]
        # byobnet's blocks have a shortcut of None where there is no skip.
        without = hasattr(module, "shortcut") and module.shortcut is None
        total += getattr(module, "sums", 1) * int(all(skip) and not without)
        # Res2Net adds the output of each inner convolution to the next part of its input.
        if type(module).__name__ == "Bottle2neck" and not module.is_first:
            total += len(module.convs) - 1
    return total


def build(name: str) -> torch.nn.Module:
    import timm
    import torchvision

    if name in TORCHVISION or name.startswith("tv_"):
        return getattr(torchvision.models, name.removeprefix("tv_"))(weights=None)
    return timm.create_model(name, pretrained=False)


NORMS = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.GroupNorm, torch.nn.LayerNorm)


def calibrate(model: torch.nn.Module, size: int = 96) -> torch.nn.Module:
    """Plausible statistics and affine parameters: activations stay finite and vary, no branch is silent, and rounding
    does not grow from block to block."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
        if isinstance(module, NORMS):
            torch.nn.init.uniform_(module.weight, 0.5, 1.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and not module.weight.any():
            torch.nn.init.normal_(module.weight, 0, module.weight[0].numel() ** -0.5)
    for module in model.modules():
        last = getattr(module, "bn3", getattr(module, "bn2", None))
        if type(module).__name__ in RESIDUAL and isinstance(last, NORMS):
            torch.nn.init.uniform_(last.weight, 0.2, 0.6)
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            torch.nn.init.uniform_(parameter, 0.2, 0.8)

    def of_pixels(module, inputs):
        # Four samples of one pixel give no variance to divide by.
        if inputs[0].shape[2:].numel() == 1:
            module.eval()
            module.running_mean.zero_()
            module.running_var.fill_(1.0)

    hooks = [m.register_forward_pre_hook(of_pixels) for m in model.modules() if isinstance(m, NORMS[0])]
    with torch.no_grad():
        model(torch.randn(4, 3, size, size))
    for hook in hooks:
        hook.remove()
    return model.eval()


def export_torchscript(model, x, path, opset=17, folded=True, **options):
    names = {"input_names": ["input"], "output_names": ["logits"]}
    axes = options.pop("dynamic_axes", {"input": {0: "N"}, "logits": {0: "N"}})
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(model, (x,), path, opset_version=opset, dynamo=False, training=mode,
                      do_constant_folding=folded, dynamic_axes=axes, **names, **options)  # fmt: skip


def export_dynamo(model, x, path, opset=18, **options):
    batch = torch.export.Dim("N", min=1, max=1024)
    program = torch.onnx.export(model, (torch.cat([x, x]),), dynamo=True, opset_version=opset, input_names=["input"],
                                output_names=["logits"], dynamic_shapes=({0: batch},), optimize=True,
                                verbose=False, **options)  # fmt: skip
    program.save(path, external_data=False)
    written = onnx.load(path)
    for node in written.graph.node:
        del node.metadata_props[:]  # stack traces, with the paths of the machine that wrote them
    onnx.save(written, path)


def exporters():
    """Name -> what writes a network that way (`f(model, x, path)`), whether it stays the same, options for relc."""
    every_axis = {"input": {0: "N", 2: "H", 3: "W"}, "logits": {0: "N"}}
    ways = {
        "ts-fixed-batch": lambda m, x, p: export_torchscript(m, x, p, dynamic_axes={}),
        "ts-unfolded": lambda m, x, p: export_torchscript(m, x, p, folded=False),
        "ts-dynamic": lambda m, x, p: export_torchscript(m, x, p, dynamic_axes=every_axis),
        "dynamo-18": export_dynamo,
        "dynamo-20": lambda m, x, p: export_dynamo(m, x, p, opset=20),
    }
    for opset in (9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20):
        ways[f"ts-{opset}"] = lambda m, x, p, opset=opset: export_torchscript(m, x, p, opset=opset)
    ways = {name: (write, True, {}) for name, write in ways.items()}
    for name, rewrite in zoo_rewrites.REWRITES.items():
        write = lambda m, x, p, rewrite=rewrite: rewritten(m, x, p, rewrite)  # noqa: E731
        ways[name] = (write, rewrite.exact, rewrite.options)
    return ways


def rewritten(model, x, path, rewrite):
    buffer = io.BytesIO()
    export_torchscript(model, x, buffer, folded=rewrite.folded)
    rewrite(onnx.load_from_string(buffer.getvalue()), pathlib.Path(path))


def outputs(path: pathlib.Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ONNX Runtime's logits for `x`, and `x` as the model takes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    if given.shape[-1] == 3:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    feed = {given.name: x}
    for other in session.get_inputs()[1:]:
        feed[other.name] = np.zeros([d if isinstance(d, int) else 1 for d in other.shape], np.float32)
    return session.run(["logits"], feed)[0], x


class Zoo:
    def __init__(self, out: pathlib.Path, only: str, small: bool):
        self.out, self.only, self.small = out, only, small
        out.mkdir(parents=True, exist_ok=True)
        self.index = out / "zoo.json"
        self.entries = json.loads(self.index.read_text()) if self.index.exists() else {}

    def wanted(self, name: str) -> bool:
        path = self.out / f"{name}.onnx"
        return fnmatch.fnmatch(name, self.only) and not (path.exists() and name in self.entries)

    def input(self, size) -> np.ndarray:
        if not self.small:
            return np.random.default_rng(7).standard_normal((1, 3, *size), dtype=np.float32)
        # The tests compute the same numbers, exactly, so that no arrays lie beside the models.
        index = np.arange(3 * size[0] * size[1])
        return (index * 7919 % 509 / 128 - 2).astype(np.float32).reshape(1, 3, *size)

    def add(self, name, arch, exporter, size, model, write, **extra):
        if not self.wanted(name):
            return
        path = self.out / f"{name}.onnx"
        x = self.input(size)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write(copy.deepcopy(model), torch.from_numpy(x), str(path))
            logits, fed = outputs(path, x)
        except Exception as error:  # noqa: BLE001 - a model that an exporter can't write is reported, not fatal
            path.unlink(missing_ok=True)
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr, flush=True)
            return
        entry = {"architecture": arch, "exporter": exporter, "size": list(size), "joins": joins(model), **extra}
        if self.small:
            entry["logits"] = [float(v) for v in logits.ravel()]
        else:
            np.savez_compressed(self.out / f"{name}.npz", x=fed, logits=logits)
        self.entries[name] = entry
        self.index.write_text(json.dumps(self.entries, indent=1) + "\n")
        print(name, entry, flush=True)


def seeded(name: str, make) -> torch.nn.Module:
    torch.manual_seed(0)
    return calibrate(make(name))


def by_every_exporter(zoo: Zoo, base: str, arch: str, size, make, leave=()) -> None:
    ways = {way: rest for way, rest in exporters().items() if way not in leave}
    if not any(zoo.wanted(f"{base}.{way}") for way in ways):
        return
    model = make()
    for way, (write, exact, options) in ways.items():
        extra = dict(options)
        if way == "ts-dynamic":
            extra["input_shape"] = [1, 3, *size]
        if exact:
            extra["same_as"] = base
        zoo.add(f"{base}.{way}", arch, way, size, model, write, **extra)


def full(zoo: Zoo) -> None:
    for arch in TORCHVISION + TIMM:
        names = {f"{arch}.{label}": size for label, size in SIZES.items()}
        if arch.startswith("vgg"):
            # The exporter writes VGG's adaptive pool only where it pools evenly.
            names[f"{arch}.odd"] = (231, 235)
        if not any(map(zoo.wanted, names)):
            continue
        model = seeded(arch, build)
        for name, size in names.items():
            zoo.add(name, arch, "ts-17", size, model, export_torchscript)
    by_every_exporter(zoo, "resnet50.224", "resnet50", SIZES["224"], lambda: seeded("resnet50", build))
    for arch in ("seresnet50", "resnetv2_50d_gn", "efficientnet_b0", "resnest14d", "resnetblur18", "densenet121"):
        name = f"{arch}.224.dynamo"
        if zoo.wanted(name):
            model = seeded(arch, build)
            zoo.add(name, arch, "dynamo", SIZES["224"], model, export_dynamo, same_as=f"{arch}.224")


# What the small zoo does not repeat: opsets between those that changed something, and two tools that fold as others do.
LEFT_OUT = ["ts-10", "ts-12", "ts-14", "ts-15", "ts-16", "ts-18", "ts-19", "dynamo-20", "ort-basic", "onnxsim"]


def small(zoo: Zoo) -> None:
    import zoo_small

    size = (32, 40)

    def make(name):
        torch.manual_seed(0)
        return calibrate(zoo_small.MODELS[name](), 32)

    for arch in zoo_small.MODELS:
        if zoo.wanted(arch):
            try:
                model = make(arch)
            except Exception as error:  # noqa: BLE001 - as for an export
                print(f"{arch}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            zoo.add(arch, arch, "ts-17", size, model, export_torchscript)
    by_every_exporter(zoo, "basic", "basic", size, lambda: make("basic"), LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="*", help="a glob on the models' names")
    parser.add_argument("--small", action="store_true", help="the small models of the repository's tests")
    args = parser.parse_args()
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(3)
    zoo = Zoo(args.out, args.only, args.small)
    (small if args.small else full)(zoo)


if __name__ == "__main__":
    main()
