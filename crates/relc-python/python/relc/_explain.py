"""Compiling a model, and explaining with it."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from . import _relc
from ._explanation import Explanation
from ._inputs import as_array, as_batch, as_seed, as_target, current_device, names_several, on_gpu
from ._preprocess import Preprocess, as_preprocess
from ._zennit import Composite

Shape = Union[str, Sequence[Optional[int]]]


class Explainer:
    """A model compiled into a program that explains its decisions. Made by `relc.compile`.

    Threads may share one: it never changes, and while it computes the interpreter's lock is released. Results depend
    neither on threads nor on how samples are batched, to the bit.

    Examples
    --------
    >>> import relc
    >>> relc.compile("examples/demo/model.onnx")
    Explainer(preset='two_level', input='input' [N, 3, 64, 64], outputs=8, engine='jit')
    """

    __slots__ = ("_native", "_preprocess", "_preset")

    def __init__(self, native: _relc.Explainer, preprocess: Optional[Preprocess] = None) -> None:
        self._native = native
        self._preprocess = preprocess
        self._preset = native.preset  # which takes a while to compare with the one that comes with relc

    def __call__(
        self,
        x: Any,
        target: Any = None,
        *,
        seed: Any = None,
        preprocess: Any = None,
    ) -> Union[Explanation, List[Explanation]]:
        """Explains a batch, or one sample.

        Parameters
        ----------
        x : array, torch tensor, PIL picture, path, or list of pictures or paths
            The input, ``[N, C, H, W]`` or as the model has it, with or without the batch. Float32 that is C-contiguous
            is taken without a copy, anything else is converted; it must not be changed meanwhile. A tensor on the GPU
            that the explainer runs on is taken from there, and its relevance stays there (`Explanation.tensor`): one of
            PyTorch, or float32 that is C-contiguous of whatever speaks DLPack. Pictures are prepared by the preprocessing. Files are read as the command reads them: pictures, ``.npy``, ``.csv`` (a
            signal's column is a channel, a table's row a sample), ``.nii`` and ``.nii.gz``; for a model of three
            spatial axes a video, which is an animated GIF, WebP or PNG, or a folder of frames.
        target : None, int, sequence of int, or str
            What to explain: None is the largest output of each sample, an int that output of every sample, a sequence
            one output for each sample. Text is taken as by ``relc explain --target``: ``"argmax"``, ``"top3"``,
            ``"3,5,7"``.
        seed : str or array, optional
            The relevance to start from: ``"logit"``, ``"prob"``, ``"onehot"``, ``"contrast"``, or any array ``[N, K]``
            or ``[K]``, with which there is no target. None: the preset's.
        preprocess : optional
            For pictures, in place of the explainer's, as `relc.compile` takes it.

        Returns
        -------
        Explanation or list of Explanation
            A list if `target` is text that asks for several outputs (``"top3"``, ``"3,5,7"``): one for each, which
            share one forward pass.

        Raises
        ------
        RelcError
            If the input or the request does not fit the model, too much memory would be needed, or a value is not
            finite.
        """
        seed = as_seed(seed)
        if isinstance(seed, np.ndarray) and target is not None:
            raise _relc.RelcError("got a target and an array as seed, which says what each output gets; leave one out")
        tensor, targets = on_gpu(self._native, x), as_target(target, self.outputs)
        if tensor is None:
            results = self._native.explain(self._batch(x, preprocess), targets, seed)
        else:
            with current_device(x):
                results = self._native.explain_on_gpu(tensor, targets, seed)
        explanations = [Explanation(result, self._preset, type(x)) for result in results]
        return explanations if names_several(target) else explanations[0]

    def predict(self, x: Any, *, preprocess: Any = None) -> np.ndarray:
        """The explained output, without an explanation.

        Parameters
        ----------
        x, preprocess
            As for a call.

        Returns
        -------
        numpy.ndarray
            float64 ``[N, K]``: logits, if the model ends in a softmax or sigmoid.
        """
        tensor = on_gpu(self._native, x)
        if tensor is not None:
            with current_device(x):
                return self._native.predict_on_gpu(tensor)
        return self._native.predict(self._batch(x, preprocess))

    def to_onnx(self, target: Union[str, int] = "argmax", *, seed: Optional[str] = None) -> bytes:
        """An ONNX file that explains as this explainer does, wherever ONNX runs: see ``docs/onnx.md``.

        Parameters
        ----------
        target : str or int
            ``"argmax"``, an output, or ``"input"``: a second input, ``target`` int64 ``[N]``, names it.
        seed : str, optional
            ``"logit"``, ``"prob"``, ``"onehot"`` or ``"contrast"``; None: the preset's.

        Returns
        -------
        bytes
            Its outputs are ``logits``, ``relevance`` and, for pictures, ``map``.
        """
        return self._native.to_onnx(target if target == "input" else as_target(target, self.outputs), seed)

    def _batch(self, x: Any, preprocess: Any) -> np.ndarray:
        return as_batch(self._native, x, self._preprocess if preprocess is None else as_preprocess(preprocess))

    @property
    def preset(self) -> str:
        """The preset's name; ``(modified)`` follows if options change what it computes."""
        return self._preset

    @property
    def seed(self) -> str:
        """The relevance to start from, unless a call says otherwise."""
        return self._native.seed

    @property
    def engine(self) -> str:
        """What computes: ``"jit"``, ``"cuda"``, ``"interp-f32"`` or ``"interp-f64"``."""
        return self._native.engine

    @property
    def is_conserving(self) -> bool:
        """Whether no relevance is lost, by the contracts of the rules."""
        return self._native.is_conserving

    @property
    def outputs(self) -> int:
        """How many outputs a sample has, of which targets choose."""
        return self._native.outputs

    @property
    def input_name(self) -> str:
        """The name of the model's input."""
        return self._native.input_name

    @property
    def input_shape(self) -> Tuple[Optional[int], ...]:
        """The input's shape; None stands for the batch."""
        return tuple(self._native.input_shape)

    @property
    def preprocess(self) -> Optional[Preprocess]:
        """How pictures become inputs."""
        return self._preprocess

    def report(self) -> Dict[str, Any]:
        """What the compiler made of the model: joins, claim, policies; ``compiled`` in ``docs/report.md``."""
        return json.loads(self._native.report())

    def __repr__(self) -> str:
        shape = ", ".join("N" if size is None else str(size) for size in self.input_shape)
        return (
            f"Explainer(preset={self.preset!r}, input={self.input_name!r} [{shape}], outputs={self.outputs}, "
            f"engine={self.engine!r})"
        )


def compile(
    model: Union[str, "os.PathLike[str]", bytes],
    preset: Union[str, "os.PathLike[str]", Composite, None] = None,
    *,
    save: Union[str, "os.PathLike[str]", None] = None,
    split: Optional[str] = None,
    batchnorm: Optional[str] = None,
    bias: Optional[str] = None,
    gate: Optional[str] = None,
    bounds: Optional[Tuple[Any, Any]] = None,
    engine: Optional[str] = None,
    device: str = "cpu",
    precision: str = "fp32",
    output: Optional[str] = None,
    input_shape: Optional[Shape] = None,
    hold: Optional[Mapping[str, Any]] = None,
    preprocess: Any = None,
    ledger: bool = True,
    sensitivity: bool = True,
) -> Explainer:
    """Compiles an ONNX model into an explainer.

    Parameters
    ----------
    model : str, path-like or bytes
        The ONNX file, or what is in one. External data lies beside a file. Or an artifact, which ``save`` or
        ``relc compile`` wrote: it is not compiled again.
    preset : str, path-like or Composite
        Its name (`relc.presets` lists them), a ``.toml`` file, or one of `relc.composites`. None: ``"two_level"``, or
        that which an artifact was compiled with.
    save : str or path-like, optional
        Where to write the explainer, as an artifact that every process may load at once.
    split : str, optional
        How a residual join shares its relevance: ``"ratio"``, ``"half"``, ``"half-at-projection"``,
        ``"ratio-at-projection"``, ``"signed"``, ``"main-only"``, ``"skip-only"``, ``"gradient"``.
    batchnorm : str, optional
        ``"fold"``, ``"keep"`` or ``"fold-as-zennit"``.
    bias : str, optional
        Which biases enter denominators: ``"include"``, ``"exclude"`` or ``"all"``.
    gate : str, optional
        What a gate takes of the relevance of its product with a signal: ``"signal"`` or ``"half"``.
    bounds : pair, optional
        The lowest and the highest value of the input, for the rule zbox: each a number, or one for each channel. None:
        those of the preprocessing, or of ImageNet's.
    engine : str, optional
        ``"jit"``, or the reference interpreter: ``"interp-f32"``, ``"interp-f64"``.
    device : str
        Where compiled programs run: ``"cpu"``, ``"cuda"`` (the first GPU), ``"cuda:1"``, or ``"auto"``, which warns and
        takes the processor where there is no GPU. A GPU needs NVIDIA's driver and NVRTC.
    precision : str
        What a GPU multiplies in convolutions: ``"fp32"``, ``"tf32"`` (maps are exact to some 1e-3) or ``"tf32x3"``
        (nearly as exact as fp32), on its tensor cores.
    output : str, optional
        The output to explain, where the model has several.
    input_shape : sequence or str, optional
        The input's shape, where the model does not fix it: ``(None, 3, 224, 224)`` or ``"N,3,224,224"``.
    hold : mapping, optional
        Inputs that are held constant, where the model has several: names to numbers or arrays.
    preprocess : Preprocess, dict, str or path-like, optional
        How pictures become inputs: see `Preprocess`. Arrays are never changed.
    ledger : bool
        Whether explanations keep their ledger; without it only its totals.
    sensitivity : bool
        Whether to measure how far rounding decides a map, which takes a second run where a rule's contract is
        unbounded.

    Returns
    -------
    Explainer

    Raises
    ------
    RelcError
        If the file can't be read, is no model that relc supports, or there is no such preset or option. The text holds
        all causes.

    Examples
    --------
    >>> import relc
    >>> explainer = relc.compile("examples/demo/model.onnx", "paper", split="half")
    >>> explainer.preset
    'paper (modified)'
    >>> relc.compile("no/such.onnx")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    relc.RelcError: can't import no/such.onnx
    because: ...
    """
    if isinstance(preset, Composite):
        batchnorm = preset.batchnorm if batchnorm is None else batchnorm
        preset = preset.preset
    prepared = None if preprocess is None else as_preprocess(preprocess)
    native = _relc.compile(
        bytes(model) if isinstance(model, (bytes, bytearray, memoryview)) else os.fspath(model),
        None if preset is None else os.fspath(preset),
        save=None if save is None else os.fspath(save),
        split=split,
        gate=gate,
        bias=bias,
        batchnorm=batchnorm,
        bounds=None if bounds is None else tuple(np.ravel(b).astype(float).tolist() for b in bounds),
        engine=engine,
        device=device,
        precision=precision,
        output=output,
        input_shape=None if input_shape is None else _shape(input_shape),
        hold=[(name, as_array(value)) for name, value in (hold or {}).items()],
        preprocess=None if prepared is None else prepared._native,
        ledger=ledger,
        sensitivity=sensitivity,
    )
    return Explainer(native, prepared)


def _shape(shape: Shape) -> List[Optional[int]]:
    """`(None, 3, 224, 224)` of what a user wrote."""
    sizes = shape.split(",") if isinstance(shape, str) else shape
    try:
        whole = [None if size is None or str(size).strip() == "N" else int(size) for size in sizes]
    except (TypeError, ValueError):
        whole = [-1]
    if any(size is not None and size < 1 for size in whole):
        raise _relc.RelcError(f"got the input_shape {shape!r}, expected sizes from 1: (None, 3, 224, 224)")
    return whole
