#!/usr/bin/env python3
"""Export thin relatives of many architectures to ONNX, each with an input and torch's logits for it.

    PYTHONPATH=tools python3 -m architectures OUT [--only NAME,...] [--keep-batchnorm]

Writes OUT/NAME.onnx and OUT/NAME.npz (x: f32, a batch of two; logits). The weights are random, from a fixed
seed; the running statistics of the BatchNormalizations are those of random inputs. By default torch folds
constants and BatchNormalizations; --keep-batchnorm folds neither.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import attention, channels, ensembles, products, signals, transformers, volumes  # noqa: F401 (they enter networks)
from .parts import NETWORKS, SEED


def randomise(model):
    """Weights that keep the variance, normalisations that differ between channels."""
    norms = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm
    for module in model.modules():
        if isinstance(module, norms):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


def calibrate(model, shape):
    """Gives the BatchNorms the mean statistics of four random batches; leaves the network in eval mode."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = None
    model.train()
    for _ in range(4):
        model(torch.randn(8, *shape))
    model.eval()


def build(name):
    """The network in eval mode, and an input for it."""
    torch.manual_seed(SEED)
    make, shape = NETWORKS[name]
    model = make()
    with torch.no_grad():
        randomise(model)
        calibrate(model, shape)
    return model, torch.randn(2, *shape)


def export(model, x, path, keep_batchnorm):
    """Writes the network with an open batch."""
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batchnorm else torch.onnx.TrainingMode.EVAL
    axes = {"input": {0: "N"}, "logits": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, x, str(path), opset_version=17, training=mode, do_constant_folding=not keep_batchnorm,
            input_names=["input"], output_names=["logits"], dynamic_axes=axes,
        )


def write(name, out, keep_batchnorm):
    """Writes one network with its input and logits, and says how large it is."""
    model, x = build(name)
    with torch.no_grad():
        logits = model(x)
    export(model, x, out / f"{name}.onnx", keep_batchnorm)
    np.savez(out / f"{name}.npz", x=x.numpy(), logits=logits.numpy())
    print(f"{name:20} {(out / f'{name}.onnx').stat().st_size / 1024:8.1f} KiB", flush=True)


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", help="names, with commas between them")
    parser.add_argument("--keep-batchnorm", action="store_true")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(NETWORKS)
    for name in names:
        if name not in NETWORKS:
            parser.error(f"no network {name}: there are {', '.join(NETWORKS)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in names:
        write(name, arguments.out, arguments.keep_batchnorm)


if __name__ == "__main__":
    main()
