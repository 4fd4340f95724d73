"""What a user gives, as the arrays that the native half takes."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import sys
from typing import Any, List, Optional, Union

import numpy as np

from . import _relc
from ._preprocess import Preprocess

#: DLPack's numbers of kinds of devices.
_CPU, _CUDA = 1, 2
_SEVERAL = re.compile(r"top\d+\Z|.*,")


def as_array(x: Any) -> np.ndarray:
    """A C-contiguous, aligned float32 array: `x` itself where it is one, else a converted copy."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    elif hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] != _CPU:
        raise _relc.RelcError("got a tensor on another device than the explainer's; copy it to the host first")
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise _relc.RelcError(f"got an array of {array.dtype}, expected numbers, best float32")
    return np.require(array, np.float32, ["C", "A"])


def as_batch(native: _relc.Explainer, x: Any, preprocess: Optional[Preprocess]) -> np.ndarray:
    """The input of the model, with the batch."""
    if _is_file_or_picture(x):
        array = _samples(native, x, preprocess)
    elif isinstance(x, (list, tuple)) and len(x) and all(_is_file_or_picture(one) for one in x):
        array = _together([_samples(native, one, preprocess) for one in x])
    else:
        array = as_array(x)
        if array.ndim == len(native.input_shape) - 1:
            array = array[None]
    limits = native.input_limits
    if limits is not None:
        _check_limits(array, *limits)
    return array


def on_gpu(native: _relc.Explainer, x: Any) -> Any:
    """`x` as the native half takes it, if it is a tensor on the GPU that the explainer runs on, which takes it from there; else None."""
    if native.gpu is None or native.input_limits is not None or not hasattr(x, "__dlpack_device__"):
        return None
    if tuple(x.__dlpack_device__()) != (_CUDA, native.gpu):
        return None
    return x.detach().float().contiguous() if hasattr(x, "detach") else x


def current_device(x: Any) -> Any:
    """PyTorch hands out tensors of its current device only; where `x` is one of its tensors, that of `x` is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return contextlib.nullcontext()
    return torch.cuda.device(x.device)


def _together(batches: List[np.ndarray]) -> np.ndarray:
    """One batch of several, whose samples are of one size."""
    sizes = {batch.shape[1:] for batch in batches}
    if len(sizes) > 1:
        raise _relc.RelcError(f"got samples of the sizes {sorted(sizes)}, expected one size; explain them one by one")
    return np.concatenate(batches)


def _is_file_or_picture(x: Any) -> bool:
    """Whether `x` is the path of a file, or a picture of PIL's."""
    return isinstance(x, (str, os.PathLike)) or (hasattr(x, "getbands") and hasattr(x, "convert"))


def _samples(native: _relc.Explainer, x: Any, preprocess: Optional[Preprocess]) -> np.ndarray:
    """The samples of a file, or a picture, with the batch."""
    own = None if preprocess is None else preprocess._native
    if isinstance(x, (str, os.PathLike)):
        batch = _relc.read(os.fspath(x), native, own)
        if batch is None:
            raise _no_preprocessing()
        return batch
    if own is None:
        raise _no_preprocessing()
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(x) or x
    mode = "RGBA" if "A" in upright.getbands() else "RGB"
    return own.of_array(np.asarray(upright.convert(mode), np.uint8), native)[None]


def _no_preprocessing() -> _relc.RelcError:
    return _relc.RelcError(
        'got a picture or video and no preprocessing; say what the model was trained with: preprocess="imagenet", '
        '"cifar10", "none", a .toml file, or relc.Preprocess(mean=..., std=...)'
    )


def _check_limits(array: np.ndarray, low: float, high: float) -> None:
    """Refuses what an input of integers can't hold."""
    wrong = ~((array >= low) & (array <= high) & (array == np.floor(array)))
    if wrong.any():
        raise _relc.RelcError(
            f"got the value {array[wrong][0]}, expected whole numbers from {low:g} to {high:g}: the model's input is of "
            "integers, which it normalises itself"
        )


def as_target(target: Any, outputs: int) -> Union[str, int, List[int]]:
    """A target as the native half takes it."""
    if target is None:
        return "argmax"
    if isinstance(target, str):
        return target
    if hasattr(target, "detach"):
        target = target.detach().cpu().numpy()
    if isinstance(target, (list, tuple, np.ndarray)) and np.ndim(target) > 0:
        array = np.asarray(target)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise _relc.RelcError(
                f"got targets of {array.dtype} and shape {array.shape}, expected a whole number for each sample"
            )
        return [_output(one, outputs) for one in array.tolist()]
    return _output(target.item() if isinstance(target, np.ndarray) else target, outputs)


def _output(target: Any, outputs: int) -> int:
    index = operator.index(target)
    if not 0 <= index < 1 << 63:
        raise _relc.RelcError(
            f"target {index} is out of range: the model has {outputs} outputs, 0 to {outputs - 1}"
        )
    return index


def names_several(target: Any) -> bool:
    """Whether a target is text that asks for several outputs: `top3`, `3,5,7`."""
    return isinstance(target, str) and _SEVERAL.match(target) is not None


def as_seed(seed: Any) -> Union[None, str, np.ndarray]:
    """A seed as the native half takes it."""
    return seed if seed is None or isinstance(seed, str) else as_array(seed)
