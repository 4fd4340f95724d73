"""Pictures to inputs."""

from __future__ import annotations

import json
import os
from typing import Any, Union

import numpy as np

from . import _relc


class Preprocess:
    """What a network expects of a picture: size, order of channels, normalisation.

    Parameters
    ----------
    source : str or path-like, optional
        ``"imagenet"``, ``"cifar10"``, ``"none"``, or a ``.toml`` file as ``relc explain --preprocess`` takes it.
    **keys
        In place of a source, the keys of such a file: ``size``, ``resize``, ``resize_to``, ``filter``, ``layout``,
        ``channels``, ``scale``, ``mean``, ``std``, ``arrays``. Bytes of a picture are multiplied by ``scale`` (1/255
        unless it is given), then ``mean`` is subtracted, and the rest divided by ``std``; of both there is one number for
        each channel of the model, or one for all.

    Examples
    --------
    >>> import relc
    >>> relc.Preprocess("none")
    Preprocess(resized to the model's size (bilinear), RGB, values / 255, mean [0], std [1])
    >>> half = relc.Preprocess(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    """

    __slots__ = ("_native",)

    def __init__(self, source: Union[str, "os.PathLike[str]", None] = None, **keys: Any) -> None:
        if source is not None and keys:
            raise TypeError(f"got the preprocessing {source!r} and {', '.join(keys)}; expected one of the two")
        if source is not None:
            self._native = _relc.Preprocess.load(os.fspath(source))
        else:
            self._native = _relc.Preprocess.from_toml("".join(f"{k} = {_toml(v)}\n" for k, v in keys.items()))

    def __repr__(self) -> str:
        return repr(self._native)


def _toml(value: Any) -> str:
    """A number, a text or a list of them, as TOML writes it: as JSON does."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def as_preprocess(value: Any) -> Preprocess:
    """What a user gives for ``preprocess=``: one, or what one is made of."""
    if isinstance(value, Preprocess):
        return value
    if isinstance(value, dict):
        return Preprocess(**value)
    return Preprocess(value)
