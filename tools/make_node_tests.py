# /// script
# requires-python = ">=3.10"
# dependencies = ["onnx", "numpy"]
# ///
"""Write ONNX's backend node tests as relc takes them: the first input of floats is the model's, the rest are constants.

    python tools/make_node_tests.py OUT             # all of them, for docs/operators.md
    python tools/make_node_tests.py OUT --subset    # of each operator two small ones that pass, as
                                                    # docs/operators.md has them, for the repository's tests

OUT gets `NAME.onnx`, `NAME.npz` (`x`, `y`) and `nodes.json`: for each test its operator and, where it can't be asked of
relc, why.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

FLOATS = (np.float32, np.float16, np.float64)
PER_OPERATOR, SMALL = 2, 3_000
DOCUMENT = pathlib.Path(__file__).parents[1] / "docs" / "operators.md"


def load():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnx.backend.test.loader

        return onnx.backend.test.loader.load_model_tests(kind="node")


def as_asked(case):
    """The model with one input, its value and what is expected; or why there is none."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    as_array = lambda v: numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v  # noqa: E731
    inputs, expected = ([as_array(v) for v in values] for values in case.data_sets[0])
    domains = {n.domain for n in graph.node} - {"", "com.microsoft"}
    if domains:
        return f"operators of the domain {', '.join(sorted(domains))}"
    if not all(isinstance(v, (np.ndarray, np.generic)) for v in [*inputs, *expected]):
        return "sequences or optionals"
    first = next((i for i, v in enumerate(inputs) if v.dtype in FLOATS and v.size), None)
    if first is None:
        return "no input of floats: integers exist in shape arithmetic only"
    if expected[0].dtype not in FLOATS:
        return "the output is not of floats"
    if "attention" in case.name:
        return "attention, which relc does not import"
    declared = list(graph.input)
    if len(declared) != len(inputs):
        return "an optional input is declared and absent"
    del graph.input[:]
    graph.input.append(declared[first])
    for i, (info, value) in enumerate(zip(declared, inputs)):
        if i != first:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
    outputs = list(graph.output)
    del graph.output[:]
    graph.output.append(outputs[0])
    dense = [np.ascontiguousarray(v, np.float32).reshape(v.shape) for v in (inputs[first], expected[0])]
    return model, *dense


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--subset", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    index, taken = {}, {}
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    supported, failing = ({row[i].strip().strip("`") for row in rows} for i in (1, 2))
    for case in sorted(load(), key=lambda c: c.name):
        if case.model is None:
            continue
        # Of an operator that is written as a function, the expansion is another test of the operators in it.
        ops = [n.op_type for n in case.model.graph.node]
        op = ops[-1] if case.name.endswith("_expanded") else ops[0]
        name = case.name.removeprefix("test_")
        asked = as_asked(case)
        if args.subset and (isinstance(asked, str) or not set(ops) <= supported or name in failing):
            continue
        if isinstance(asked, str):
            index[name] = {"op": op, "ops": sorted(set(ops)), "skip": asked}
            continue
        model, x, y = asked
        data = model.SerializeToString()
        if args.subset and (len(data) > SMALL or x.size > 300 or taken.get(op, 0) >= PER_OPERATOR):
            continue
        taken[op] = taken.get(op, 0) + 1
        index[name] = {"op": op, "ops": sorted(set(ops))}
        (args.out / f"{name}.onnx").write_bytes(data)
        np.savez_compressed(args.out / f"{name}.npz", x=x, y=y)
    (args.out / "nodes.json").write_text(json.dumps(index, indent=1) + "\n")
    print(len(index), "tests")


if __name__ == "__main__":
    main()
