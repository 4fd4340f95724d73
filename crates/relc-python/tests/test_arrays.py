"""Arrays go in and out without a copy; what is no such array is converted."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import DEMO

resource = pytest.importorskip("resource", reason="needs Unix")

#: In a process of its own, so that nothing else counts: hands a large batch over, and prints by how many bytes the most
#: memory that the process had grew, and how many bytes the batch has.
GROWTH = """
import resource, sys
import numpy as np, relc

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

explainer = relc.compile(sys.argv[1])
x = np.random.default_rng(0).normal(size=(64, 3, 64, 64)).astype(np.float32)
explainer.predict(x)  # memory that stays
x = np.concatenate([x] * 16)
before = peak()
explainer.predict(x)
print(peak() - before, x.nbytes)
"""


def test_a_large_batch_goes_in_without_a_copy():
    command = [sys.executable, "-c", GROWTH, DEMO / "model.onnx"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    grown, given = map(int, out.split())
    print(f"grew by {grown / 2**20:.1f} MiB over an input of {given / 2**20:.1f} MiB")
    assert grown < given // 4


def test_numpy_allocates_nothing_large(explainer, x):
    batch = np.concatenate([x] * 8)
    explainer(batch)
    tracemalloc.start()
    explanation = explainer(batch)
    relevance, map_ = explanation.relevance, explanation.map
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"Python and numpy took {most / 2**10:.1f} KiB for {(relevance.nbytes + map_.nbytes) / 2**20:.1f} MiB")
    assert most < map_.nbytes // 4


def test_results_lie_where_the_engine_wrote_them(explainer, x):
    batch = np.concatenate([x] * 8)
    explanation = explainer(batch)
    for array in (explanation.relevance, explanation.map):
        assert type(array.base).__name__ == "PySliceContainer"  # a Vec of Rust's
        assert not array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
        assert array.dtype == np.float32 and len(array) == 64


def test_every_access_gives_the_same_array(explainer, x):
    explanation = explainer(x)
    for name in ("relevance", "map", "logits", "probabilities", "targets", "conservation_error", "ledger", "joins"):
        assert getattr(explanation, name) is getattr(explanation, name)


def test_an_array_that_fits_is_taken_as_it_is(x):
    from relc._inputs import as_array

    assert as_array(x) is x
    assert np.shares_memory(as_array(x[2]), x)


@pytest.mark.parametrize("change", ["float64", "float16", "order", "strided", "big", "misaligned", "list", "readonly"])
def test_other_arrays_are_converted(explainer, x, change):
    x = x.astype(np.float16).astype(np.float32)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    readonly = x.copy()
    readonly.flags.writeable = False
    changed = {
        "float64": lambda: x.astype(np.float64),
        "float16": lambda: x.astype(np.float16),
        "order": lambda: np.asfortranarray(x),
        "strided": lambda: np.repeat(x, 2, axis=3)[..., ::2],
        "big": lambda: x.astype(">f4"),
        "misaligned": lambda: raw[1:].view(np.float32).reshape(x.shape),
        "list": lambda: x.tolist(),
        "readonly": lambda: readonly,
    }[change]()
    np.testing.assert_array_equal(explainer(changed).relevance, explainer(x).relevance)
