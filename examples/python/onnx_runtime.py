"""Run an exported explainer by ONNX Runtime, without relc: what each sample got, and whether it adds up.

    relc export examples/demo/model.onnx -o explainer.onnx
    python examples/python/onnx_runtime.py explainer.onnx        # needs numpy and onnxruntime
"""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
model_input = session.get_inputs()[0]
shape = [2 if isinstance(size, str) else size for size in model_input.shape]
x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
logits, relevance = session.run(["logits", "relevance"], {model_input.name: x})
for sample, target in enumerate(logits.argmax(1)):
    print(f"output {target}: logit {logits[sample, target]:.4f}, relevance {relevance[sample].sum():.4f}")
