"""Inputs and relevance on a GPU that is simulated (`tests/simulated-gpu` of the repository): this suite runs itself again, in a
process that finds the simulation's libraries in place of NVIDIA's. What is its memory is the process's, so that it can be read.
"""

import ctypes
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import relc
from conftest import ROOT

SIMULATED = "RELC_SIMULATED"
here = pytest.mark.skipif(SIMULATED not in os.environ, reason="runs on a simulated GPU, in a process of its own")


@pytest.mark.skipif(SIMULATED in os.environ, reason="this is the process of its own")
@pytest.mark.parametrize(
    "memory, tests", [("1073741824", "not nothing"), ("4500000", "explained_there or several")], ids=["all", "in_rounds"]
)
def test_on_a_simulated_gpu(tmp_path, memory, tests):
    """All of it, and where the GPU has memory for one sample at a time."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C++ compiler")
    for name in ("cuda", "nvrtc"):
        source, library = ROOT / f"tests/simulated-gpu/{name}.cpp", tmp_path / f"lib{name}.so"
        options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"]
        subprocess.run([compiler, *options, source, "-o", library, "-ldl"], check=True)
    path = f"{tmp_path}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    env = dict(os.environ, LD_LIBRARY_PATH=path, RELC_CUDA_CACHE=str(tmp_path / "cache"), **{SIMULATED: "1"})
    env["RELC_SIMULATED_MEMORY"] = memory
    command = [sys.executable, "-m", "pytest", "-q", "-k", tests, __file__]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout + result.stderr


class Data(ctypes.Structure):
    """`DLManagedTensor` of dlpack.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


class OnGpu:
    """Numbers on the GPU, as another library has them: a copy to them is still to be made, on the default stream."""

    def __init__(self, array, device=(2, 0), strides=None):
        self.array, self.ndim, self.device, self.strides = array, array.ndim, device, strides
        self.cuda = ctypes.CDLL("libcuda.so")
        context, self.address, self.given_back = ctypes.c_void_p(), ctypes.c_uint64(), 0
        calls = [
            self.cuda.cuInit(0),
            self.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
            self.cuda.cuCtxSetCurrent(context),
            self.cuda.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(array.nbytes)),
            self.cuda.cuMemcpyHtoDAsync_v2(
                self.address, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), None
            ),
        ]
        assert calls == [0] * len(calls)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None, **_):
        assert stream == 1, "the default stream is asked for"
        self.shape = (ctypes.c_int64 * self.ndim)(*self.array.shape)

        def give_back(_):
            self.given_back += 1

        self.deleter = Data._fields_[-1][1](give_back)
        code = {"f": 2, "i": 0}[self.array.dtype.kind]
        strides = self.strides and (ctypes.c_int64 * self.ndim)(*self.strides)
        self.tensor = Data(
            data=self.address.value,
            device=(ctypes.c_int32 * 2)(*self.device),
            ndim=self.ndim,
            code=code,
            bits=8 * self.array.itemsize,
            lanes=1,
            shape=self.shape,
            strides=strides,
            deleter=self.deleter,
        )
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


def numbers(tensor):
    """What a tensor of relc's holds, whose memory is the process's."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = tensor.__dlpack__()
    data = Data.from_address(get(capsule, b"dltensor"))
    shape = [data.shape[i] for i in range(data.ndim)]
    assert (data.code, data.bits, data.lanes) == (2, 32, 1) and shape == list(tensor.shape)
    floats = ctypes.POINTER(ctypes.c_float)
    return np.ctypeslib.as_array(ctypes.cast(data.data, floats), shape)


@pytest.fixture(scope="module")
def gpu():
    if SIMULATED not in os.environ:
        pytest.skip("runs on a simulated GPU")
    return relc.compile(ROOT / "examples/demo/model.onnx", device="cuda")


@here
def test_what_is_on_the_gpu_is_explained_there(gpu, x):
    given = OnGpu(x[:2])
    explanation, expected = gpu(given, [3, 5]), gpu(x[:2], [3, 5])
    assert gpu.engine == "cuda" and given.given_back == 1
    assert tuple(explanation.tensor.shape) == (2, 3, 64, 64)
    assert explanation.tensor.__dlpack_device__() == (2, 0)
    for _ in range(2):  # as often as it is asked for
        np.testing.assert_array_equal(numbers(explanation.tensor), expected.relevance)
    np.testing.assert_array_equal(explanation.logits, expected.logits)
    np.testing.assert_array_equal(explanation.targets, [3, 5])
    np.testing.assert_array_equal(explanation.conservation_error, expected.conservation_error)
    assert explanation.warnings == [[], []] and expected.tensor is None
    # What is asked for on the host is copied there: not before, and once.
    numbers(explanation.tensor)[...] = 7
    assert explanation.ledger == expected.ledger
    assert (explanation.relevance == 7).all() and (explanation.map == 21).all()
    assert explanation.relevance is explanation.relevance


@here
def test_several_targets_share_a_forward_pass(gpu, x):
    first, second = gpu(OnGpu(x[:2]), "top2")
    expected = gpu(x[:2], "top2")
    for one, other in zip((first, second), expected):
        np.testing.assert_array_equal(numbers(one.tensor), other.relevance)


@here
def test_it_is_predicted_there(gpu, x):
    given = OnGpu(x[:1])
    np.testing.assert_array_equal(gpu.predict(given), gpu.predict(x[:1]))
    assert given.given_back == 1


@here
def test_a_sample_has_a_batch_of_one(gpu, x):
    explanation = gpu(OnGpu(x[0]), 3)
    np.testing.assert_array_equal(explanation.relevance, gpu(x[0], 3).relevance)


@here
@pytest.mark.parametrize("strides", [(12288, 4096, 64, 1), (1, 4096, 64, 1)])
def test_strides_of_one_sample_do_not_matter(gpu, x, strides):
    explanation = gpu(OnGpu(x[:1], strides=strides), 3)
    np.testing.assert_array_equal(numbers(explanation.tensor), gpu(x[:1], 3).relevance)


@here
def test_relevance_is_an_input_like_any_other(gpu, x):
    again = gpu(gpu(OnGpu(x[:1]), 3).tensor, 3)
    np.testing.assert_array_equal(again.logits, gpu.predict(gpu(x[:1], 3).relevance))


@here
def test_maps_that_are_no_explanation_say_so(gpu, x):
    nothing = np.zeros((1, gpu.outputs), np.float32)
    explanation, expected = gpu(OnGpu(x[:1]), seed=nothing), gpu(x[:1], seed=nothing)
    assert "zero everywhere" in explanation.warnings[0][0]
    assert explanation.warnings == expected.warnings
    # Its sum is 0, its map is not.
    assert gpu(OnGpu(x[:1]), seed="contrast").warnings == gpu(x[:1], seed="contrast").warnings == [[]]


@here
def test_rounding_is_measured_all_the_same(x):
    signed = relc.compile(ROOT / "examples/demo/model.onnx", "conserve", split="signed", device="cuda")
    explanation, expected = signed(OnGpu(x[:1]), 3), signed(x[:1], 3)
    np.testing.assert_array_equal(numbers(explanation.tensor), expected.relevance)
    assert explanation.warnings == expected.warnings
    assert explanation._reports[0].get("sensitivity") == expected._reports[0].get("sensitivity")


@here
def test_what_does_not_fit_is_refused(gpu, x):
    with pytest.raises(relc.RelcError, match="shape"):
        gpu(OnGpu(x[:1, :, :32]))
    with pytest.raises(relc.RelcError, match="float32 that is C-contiguous"):
        gpu(OnGpu(x[:1].astype(np.float64)))
    with pytest.raises(relc.RelcError, match="float32 that is C-contiguous"):
        gpu(OnGpu(x[:1], strides=(12288, 1, 192, 3)))
    with pytest.raises(relc.RelcError, match="on another device"):
        gpu(OnGpu(x[:1], device=(2, 1)))
    broken = x[:1].copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(relc.RelcError, match="finite"):
        gpu(OnGpu(broken))


@here
def test_an_explainer_of_the_processor_has_no_gpu(x):
    explainer = relc.compile(ROOT / "examples/demo/model.onnx")
    assert explainer._native.gpu is None and explainer(x[:1]).tensor is None


@here
def test_relevance_that_others_still_read_stays(gpu, x):
    given, target = OnGpu(x[:1]), OnGpu(np.zeros_like(x[:1]))
    explanation, expected = gpu(given, 3), gpu(x[:1], 3).relevance
    address, stream = numbers(explanation.tensor).ctypes.data, ctypes.c_void_p()
    # On a stream that nobody waits for until the explanation is gone.
    assert given.cuda.cuStreamCreate(ctypes.byref(stream), 1) == 0
    bytes_ = ctypes.c_size_t(expected.nbytes)
    assert given.cuda.cuMemcpyDtoDAsync_v2(target.address, ctypes.c_uint64(address), bytes_, stream) == 0
    del explanation
    gpu.predict(given)
    assert given.cuda.cuStreamSynchronize(stream) == 0
    kept = np.ctypeslib.as_array((ctypes.c_float * expected.size).from_address(target.address.value))
    np.testing.assert_array_equal(kept, expected.ravel())
