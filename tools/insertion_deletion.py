# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnxruntime", "pillow"]
# ///
"""Insertion and deletion on the demo model, written from the protocol's text with NumPy and ONNX Runtime alone.

Writes crates/relc-eval/tests/data/insertion_deletion.json, with which relc-eval's tests compare its curves.
The maps are formulas, so that the file holds nothing but scores.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIDE = 64
PIXELS = SIDE * SIDE
# Four times the protocol's, so that the test is quick.
STEP = 4 * round(500 * PIXELS / 224**2)
# As in examples/demo/preprocess.toml.
MEAN = np.array([0.4975, 0.4975, 0.5004]).reshape(3, 1, 1)
STD = np.array([0.2848, 0.2854, 0.285]).reshape(3, 1, 1)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def gaussian_blur(picture, sigma):
    """scipy.ndimage.gaussian_filter with its defaults: cut off at 4 sigma, edges mirrored."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        moved = np.moveaxis(picture, axis, -1)
        padded = np.pad(moved, ((0, 0), (0, 0), (radius, radius)), mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=-1)
        picture = np.moveaxis(windows @ kernel, -1, axis)
    return picture


def curve(score, x, base, heat, mode, ends):
    """The scores of images 1..n (the authors) or 0..n (RISE)."""
    n = math.ceil(PIXELS / STEP)
    ranked = np.sort(heat.ravel())[::-1]
    images = []
    for k in range(0 if ends == "rise" else 1, n + 1):
        if ends == "rise":
            threshold = ranked[min(STEP * k, PIXELS) - 1] if k > 0 else np.inf
        else:
            threshold = ranked[min(STEP * k, PIXELS - 1)]
        chosen = heat >= threshold
        images.append(np.where(chosen if mode == "insertion" else ~chosen, x, base))
    return score(np.stack(images).astype(np.float32))


def area(scores):
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "crates/relc-eval/tests/data/insertion_deletion.json")
    out = parser.parse_args().out
    session = onnxruntime.InferenceSession(str(ROOT / "examples/demo/model.onnx"))
    (name,) = [i.name for i in session.get_inputs()]
    picture = Image.open(ROOT / "examples/demo/images/03_star.png").convert("RGB")
    x = np.moveaxis(np.asarray(picture, np.float64) / 255, -1, 0)
    normalise = lambda image: (image - MEAN) / STD
    logits = session.run(None, {name: normalise(x)[None].astype(np.float32)})[0]
    label = int(logits.argmax())
    score = lambda images: softmax(session.run(None, {name: images})[0].astype(np.float64))[:, label]

    p = np.arange(PIXELS).reshape(SIDE, SIDE)
    permutation = (p * 1597) % PIXELS
    nearness = 64 - np.abs(p // SIDE - 32) - np.abs(p % SIDE - 32)
    maps = {
        "distinct": permutation + PIXELS * nearness,
        "tied": permutation // 16,  # 16 pixels share each value
    }
    cases = []
    for heat in maps:
        for base, ends in (("black", "authors"), ("blur", "rise")):
            removed = np.zeros_like(x) if base == "black" else gaussian_blur(x, 10 * SIDE / 224)
            case = {"map": heat, "base": base, "ends": ends}
            for mode in ("insertion", "deletion"):
                scores = curve(score, normalise(x), normalise(removed), maps[heat], mode, ends)
                case[mode] = [round(float(s), 9) for s in scores]
                case[mode + "_area"] = area(scores)
            cases.append(case)
    result = {"picture": "03_star.png", "class": label, "cases": cases}
    out.write_text(json.dumps(result) + "\n")
    for case in cases:
        print({k: v for k, v in case.items() if not isinstance(v, list)})


if __name__ == "__main__":
    main()
