# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "onnxruntime"]
# ///
"""Run ONNX files by ONNX Runtime.

    python tools/run_onnx.py FOLDER

For each `NAME.onnx` of FOLDER that has a `NAME.in.npz`, an array for each of its inputs, `NAME.out.npz` gets an array
for each of its outputs. A model that ONNX Runtime refuses gets a `NAME.error.txt` instead.
"""

from __future__ import annotations

import argparse
import pathlib

import numpy as np
import onnxruntime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for path in sorted(folder.glob("*.onnx")):
        given = path.with_suffix(".in.npz")
        if not given.exists():
            continue
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            with np.load(given) as arrays:
                outputs = session.run(None, dict(arrays))
        except Exception as error:  # whatever it is, the caller wants to read it
            path.with_suffix(".error.txt").write_text(str(error))
            continue
        names = [output.name for output in session.get_outputs()]
        np.savez(path.with_suffix(".out.npz"), **dict(zip(names, outputs)))


if __name__ == "__main__":
    main()
