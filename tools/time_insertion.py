# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnxruntime", "pillow"]
# ///
"""Time insertion and deletion by NumPy and ONNX Runtime, to compare with `relc eval`; see docs/evaluation.md.

    python tools/time_insertion.py examples/demo/model.onnx examples/demo/images --pictures 50 --threads 2

The loop that one writes in Python: the images of a curve in one batch, random maps, black pixels. Prints pictures per
second. Run nothing else meanwhile.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options)
    (model_input,) = session.get_inputs()
    _, _, height, width = model_input.shape
    files = sorted(args.images.rglob("*.png")) + sorted(args.images.rglob("*.jpg"))
    step = max(1, round(500 * height * width / 224**2))
    n = math.ceil(height * width / step)
    rng = np.random.default_rng(0)
    seconds = 0.0
    for i in range(args.pictures + 1):
        picture = Image.open(files[i % len(files)]).convert("RGB").resize((width, height))
        x = np.moveaxis(np.asarray(picture, np.float32) / 255, -1, 0)
        heat = rng.random((height, width))
        start = time.perf_counter()
        ranked = np.sort(heat.ravel())[::-1]
        thresholds = ranked[np.minimum(step * np.arange(1, n + 1), height * width - 1)]
        chosen = heat[None, None] >= thresholds[:, None, None, None]
        for mask in (chosen, ~chosen):
            logits = session.run(None, {model_input.name: np.where(mask, x, np.float32(0))})[0]
            e = np.exp(logits - logits.max(axis=1, keepdims=True))
            (e / e.sum(axis=1, keepdims=True)).sum()
        if i > 0:  # the first run warms up
            seconds += time.perf_counter() - start
    print(f"{args.pictures / seconds:.2f} pictures/s, {2 * n * args.pictures / seconds:.0f} forward passes/s")


if __name__ == "__main__":
    main()
