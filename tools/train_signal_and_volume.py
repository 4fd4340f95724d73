#!/usr/bin/env python3
"""Make the examples of a signal and of a volume: generate data, train small ResNets over one and three axes, export
them to ONNX with a sample of each class.

A signal is three leads of a beating rhythm with noise; one beat of the class "wide" is wide, one of the class "pause" is
missing, of the class "regular" none is. A volume is noise with a ball, a hollow ball, or neither. What decides lies at a
random place that is written beside the samples, so one can see whether the relevance finds it.

Weights repeat on one machine; rounding makes them differ between CPUs and versions of torch.
"""

import argparse
import gzip
import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import nn

LEADS, LENGTH = ["I", "II", "V5"], 360
SIZE = (16, 24, 28)
SIGNALS = ["regular", "wide", "pause"]
VOLUMES = ["nothing", "ball", "hollow"]


def signal(rng, label):
    """f32[3,360] and the positions [first, last] that decide, or none."""
    x = 0.08 * rng.standard_normal((len(LEADS), LENGTH)).cumsum(1) * 0.2
    x = x - x.mean(1, keepdims=True) + 0.05 * rng.standard_normal(x.shape)
    period, start = rng.uniform(48, 60), rng.uniform(5, 30)
    beats = np.arange(start, LENGTH - 20, period)
    odd = rng.integers(1, len(beats) - 1) if label else -1
    gains, t, where = rng.uniform(0.7, 1.2, len(LEADS)), np.arange(LENGTH), None
    for index, beat in enumerate(beats + rng.uniform(-1, 1, len(beats))):
        if index == odd:
            where = [int(beat - 22), int(beat + 22)]
            if label == 2:
                continue
        width = 9.0 if index == odd else 2.2
        x += gains[:, None] * np.exp(-(((t - beat) / width) ** 2))
        x += 0.25 * gains[:, None] * np.exp(-(((t - beat - 16) / 5.0) ** 2))
    return x.astype(np.float32), where


def volume(rng, label):
    """f32[1,D,H,W] and the centre [d,h,w] that decides, or none."""
    x = 0.35 * rng.standard_normal(SIZE)
    if label == 0:
        return x[None].astype(np.float32), None
    radius = rng.uniform(3.5, 5)
    centre = [rng.uniform(radius, size - 1 - radius) for size in SIZE]
    grid = np.meshgrid(*[np.arange(size) for size in SIZE], indexing="ij")
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre)))
    inside = distance < radius if label == 1 else (distance < radius) & (distance > radius - 1.6)
    x += rng.uniform(0.9, 1.3) * inside
    return x[None].astype(np.float32), [round(c, 1) for c in centre]


class Block(nn.Module):
    """Two convolutions and a skip, over the axes of `conv`."""

    def __init__(self, conv, norm, inputs, outputs, stride):
        super().__init__()
        self.main = nn.Sequential(
            conv(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), nn.ReLU(),
            conv(outputs, outputs, 3, 1, 1, bias=False), norm(outputs),
        )
        down = stride > 1 or inputs != outputs
        self.skip = nn.Sequential(conv(inputs, outputs, 1, stride, bias=False), norm(outputs)) if down else nn.Identity()

    def forward(self, x):
        return torch.relu(self.main(x) + self.skip(x))


def network(axes, inputs, classes):
    """A small ResNet over one or three axes."""
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if axes == 1 else (nn.Conv3d, nn.BatchNorm3d)
    pool = nn.MaxPool1d(3, 2, 1) if axes == 1 else nn.Identity()
    mean = nn.AdaptiveAvgPool1d(1) if axes == 1 else nn.AdaptiveAvgPool3d(1)
    stem = 7 if axes == 1 else 3
    return nn.Sequential(
        conv(inputs, 8, stem, 2 if axes == 1 else (1, 2, 2), stem // 2, bias=False), norm(8), nn.ReLU(), pool,
        Block(conv, norm, 8, 8, 1), Block(conv, norm, 8, 16, 2), mean, nn.Flatten(), nn.Linear(16, classes),
    )


def train(make, axes, inputs, steps, rng):
    """The trained network and its accuracy on examples that it has not seen."""
    model = network(axes, inputs, 3)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, steps)

    def batch(count):
        labels = rng.integers(0, 3, count)
        return torch.from_numpy(np.stack([make(rng, label)[0] for label in labels])), torch.from_numpy(labels)

    for _ in range(steps):
        x, labels = batch(32)
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        x, labels = batch(300)
        return model, (model(x).argmax(1) == labels).float().mean().item()


def export(model, x, path):
    """Writes the network with an open batch, its BatchNormalizations kept."""
    names = {"input": {0: "N"}, "logits": {0: "N"}}
    torch.onnx.export(
        model, torch.from_numpy(x[None]), path, input_names=["input"], output_names=["logits"], opset_version=17,
        dynamic_axes=names, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
    )


def nifti(values, path):
    """Writes f32[i,j,k] as NIfTI-1 with voxels of 2 x 1.5 x 1.5 mm."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *values.shape, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 16, 32)  # float32
    struct.pack_into("<8f", header, 76, 1, 2, 1.5, 1.5, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)  # first voxel, slope, intercept
    struct.pack_into("<B", header, 123, 2)  # millimetres
    struct.pack_into("<hh", header, 252, 0, 1)  # the affine below counts
    for row, affine in enumerate([[2, 0, 0, -16], [0, 1.5, 0, -18], [0, 0, 1.5, -21]]):
        struct.pack_into("<4f", header, 280 + 16 * row, *affine)
    header[344:348] = b"n+1\0"
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(bytes(header) + values.astype("<f4").tobytes("F"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "examples")
    args = parser.parse_args()
    torch.manual_seed(0)
    folder = args.out / "signal"
    model, accuracy = train(signal, 1, len(LEADS), 500, np.random.default_rng(0))
    print(f"signal: {accuracy:.3f}")
    rng, places = np.random.default_rng(100), {}
    for label, name in enumerate(SIGNALS):
        x, places[name] = signal(rng, label)
        np.savetxt(folder / f"{name}.csv", x.T, "%.4f", ",", header=",".join(LEADS), comments="")
    export(model, x, folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(SIGNALS) + "\n")
    (folder / "places.json").write_text(json.dumps({"accuracy": round(accuracy, 3), "places": places}) + "\n")

    folder = args.out / "volume"
    model, accuracy = train(volume, 3, 1, 260, np.random.default_rng(1))
    print(f"volume: {accuracy:.3f}")
    rng, places = np.random.default_rng(101), {}
    for label, name in enumerate(VOLUMES):
        x, places[name] = volume(rng, label)
        nifti(x[0], folder / f"{name}.nii.gz")
    export(model, x, folder / "model.onnx")
    (folder / "labels.txt").write_text("\n".join(VOLUMES) + "\n")
    (folder / "places.json").write_text(json.dumps({"accuracy": round(accuracy, 3), "places": places}) + "\n")


if __name__ == "__main__":
    main()
