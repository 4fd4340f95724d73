"""Explain a picture from Python: which output, whether relevance was conserved, and the pixel that mattered most.

    pip install ./crates/relc-python && python examples/python/explain.py
"""

import pathlib

import numpy as np
import relc

demo = pathlib.Path(__file__).parents[1] / "demo"
explainer = relc.compile(demo / "model.onnx", preprocess=demo / "preprocess.toml")
explanation = explainer(demo / "images/00_disc.png")
target = explanation.targets[0]
print(f"output {target}, probability {explanation.probabilities[0, target]:.3f}")
print(f"conserved to {explanation.conservation_error[0]:.1e}")
row, column = np.unravel_index(explanation.map[0].argmax(), explanation.map[0].shape)
print(f"most relevant pixel: row {row}, column {column} ({explanation.map[0, row, column]:.4f})")
