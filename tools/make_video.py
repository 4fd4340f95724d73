#!/usr/bin/env python3
"""Make the example of a video, examples/volume/ball.gif: the slices of ball.nii.gz as frames, with the mean of its
neighbours between every two, so that the 16 frames of the volume's network are every other one.

Grey 0 is the value -1.5 and grey 255 the value 2.75, which examples/volume/frames.toml turns back.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image

LOW, HIGH = -1.5, 2.75


def main():
    folder = Path(__file__).parent.parent / "examples" / "volume"
    data = gzip.decompress((folder / "ball.nii.gz").read_bytes())
    sizes = struct.unpack_from("<3h", data, 42)
    slices = np.frombuffer(data, "<f4", int(np.prod(sizes)), 352).reshape(sizes, order="F")
    frames = np.empty((2 * len(slices) - 1, *slices.shape[1:]), np.float32)
    frames[::2] = slices
    frames[1::2] = (slices[1:] + slices[:-1]) / 2
    grey = np.rint((frames.clip(LOW, HIGH) - LOW) / (HIGH - LOW) * 255).astype(np.uint8)
    first, *others = [Image.fromarray(frame) for frame in grey]
    first.save(folder / "ball.gif", save_all=True, append_images=others, duration=100, loop=0, optimize=False)


if __name__ == "__main__":
    main()
