"""What an explanation says."""

from __future__ import annotations

import base64
import html
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, Optional, Union

import numpy as np

from . import _relc

#: Of how many samples a notebook shows the maps.
_SHOWN = 8


@dataclass(frozen=True)
class Join:
    """A residual join: where a branch and its skip meet in a sum.

    Attributes
    ----------
    name : str
        The ONNX name of the Add.
    fork : str
        The node where the branches part.
    skip : str
        ``"identity"``, ``"projection"`` or ``"unweighted"``.
    skip_share : tuple of float
        The share of the relevance, in magnitude, that took the skip, for each sample.
    """

    name: str
    fork: str
    skip: str
    skip_share: tuple


class Explanation:
    """The explanation of one output of each sample of a batch. Made by calling an `Explainer`.

    Arrays are made once: every access gives the same object. In a notebook it shows itself.

    Examples
    --------
    >>> import numpy, relc
    >>> explainer = relc.compile("examples/demo/model.onnx")
    >>> explanation = explainer(numpy.ones((2, 3, 64, 64), "float32"), [3, 5])
    >>> explanation
    Explanation(samples=2, targets=[3, 5], preset='two_level', seed='logit')
    >>> explanation.relevance.shape, explanation.map.shape, explanation.logits.shape
    ((2, 3, 64, 64), (2, 64, 64), (2, 8))
    >>> [join.skip for join in explanation.joins]
    ['identity', 'identity', 'projection', 'identity', 'projection', 'identity']
    """

    def __init__(self, native: _relc.Explanation, preset: str, kind: type = np.ndarray) -> None:
        self._native = native
        self.preset = preset
        self._kind = kind

    @property
    def relevance(self) -> np.ndarray:
        """The relevance of the input: float32, in the input's shape. Where it is on a GPU, this copies it."""
        return self._native.relevance

    @cached_property
    def tensor(self) -> Any:
        """The relevance on the GPU, if the input was there: a ``torch.Tensor`` if the input was one, else what speaks DLPack
        (``cupy.from_dlpack(explanation.tensor)``). None for any other input. It is the explanation's own: clone it before
        you write to it."""
        tensor = self._native.tensor
        torch = sys.modules.get("torch")
        if tensor is None or torch is None or not issubclass(self._kind, torch.Tensor):
            return tensor
        with torch.cuda.device(tensor.__dlpack_device__()[1]):
            return torch.from_dlpack(tensor)

    @property
    def map(self) -> Optional[np.ndarray]:
        """Its sum over the channels, float32: ``[N, H, W]`` of pictures, ``[N, L]`` of signals, ``[N, D, H, W]`` of volumes;
        None if the input is none of these."""
        return self._native.map

    @property
    def logits(self) -> np.ndarray:
        """The explained output, float64 ``[N, K]``: logits, if the model ends in a softmax or sigmoid."""
        return self._native.logits

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax over the logits, or sigmoid if the model ends in one: float64 ``[N, K]``."""
        return self._native.probabilities

    @property
    def targets(self) -> np.ndarray:
        """The explained output of each sample, int64 ``[N]``; with an array as seed, the largest logit."""
        return self._native.targets

    @property
    def seed(self) -> str:
        """What relevance started from."""
        return self._native.seed

    @cached_property
    def conservation_error(self) -> np.ndarray:
        """``|sum R(input) - sum seed| / sum |seed|``, float64 ``[N]``."""
        return np.array(self._native.conservation_error)

    @cached_property
    def warnings(self) -> List[List[str]]:
        """For each sample, what keeps its map from being an explanation; empty lists if nothing does."""
        return self._native.warnings

    @cached_property
    def _reports(self) -> List[Dict[str, Any]]:
        samples = [json.loads(self._native.report(sample)) for sample in range(len(self))]
        return [sample["explanations"][0] for sample in samples]

    @cached_property
    def ledger(self) -> List[Dict[str, Any]]:
        """For each sample, where the relevance went: ``total`` and ``nodes``, as in ``docs/report.md``.

        Each node has ``value``, ``node``, ``op`` and the sums ``in``, ``out``, ``bias``, ``stabiliser``, ``clipped``,
        ``padding`` and others, with ``in = out + bias + stabiliser + clipped + padding``.
        """
        return [report["ledger"] for report in self._reports]

    @cached_property
    def joins(self) -> List[Join]:
        """The residual joins, from the input to the output."""
        of_samples = [report["joins"] for report in self._reports]
        return [
            Join(same[0]["join"], same[0]["fork"], same[0]["skip"], tuple(join.get("skip_share") for join in same))
            for same in zip(*of_samples)
        ]

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __repr__(self) -> str:
        return (
            f"Explanation(samples={len(self)}, targets={self.targets.tolist()}, preset={self.preset!r}, "
            f"seed={self.seed!r})"
        )

    def heat_png(self, sample: int = 0, *, colormap: str = "seismic", min_side: int = 256) -> bytes:
        """Draws a sample's map.

        Parameters
        ----------
        sample : int
            Which.
        colormap : str
            ``"seismic"``, ``"bwr"``, ``"coolwarm"``, ``"bluered"``, ``"hot"``, ``"inferno"``, ``"magma"``, ``"viridis"`` or
            ``"turbo"``. Zero is the middle of the first four.
        min_side : int
            Small maps are enlarged by a whole factor until their shorter side has so many pixels.

        Returns
        -------
        bytes
            A PNG.
        """
        return _relc.heat_png(self._plane(sample), colormap, min_side)

    def _plane(self, sample: int) -> np.ndarray:
        """The map of a sample as a plane to draw: a signal's is one row."""
        if self.map is None:
            raise _relc.RelcError("there is no map to draw: the model's input has no spatial axes")
        if not 0 <= sample < len(self):
            raise _relc.RelcError(f"got sample {sample}, expected 0 to {len(self) - 1}")
        values = self.map[sample]
        if values.ndim > 2:
            raise _relc.RelcError(f"the map of a volume, {values.shape}, is no plane: draw slices of explanation.map")
        return values.reshape(-1, values.shape[-1])

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes it: ``.npz`` all arrays by their names here, ``.npy`` the relevance, ``.png`` the map of one sample.

        Parameters
        ----------
        path : str or path-like
            The file; its ending says which.
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending == ".npz":
            names = ("relevance", "map", "logits", "probabilities", "targets", "conservation_error")
            arrays = {name: getattr(self, name) for name in names}
            np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        elif ending == ".npy":
            np.save(path, self.relevance)
        elif ending == ".png":
            if len(self) != 1:
                raise _relc.RelcError(f"got {len(self)} samples for one picture; draw each with heat_png(sample)")
            png = self.heat_png()
            with open(path, "wb") as file:
                file.write(png)
        else:
            raise _relc.RelcError(f"got the file {os.fspath(path)}, expected one that ends in .npz, .npy or .png")

    def _repr_html_(self) -> str:
        """For notebooks: the maps of the first samples, and their numbers."""
        samples = range(min(len(self), _SHOWN))
        rows = "".join(self._row(sample) for sample in samples)
        more = f"<p>... of {len(self)} samples</p>" if len(self) > _SHOWN else ""
        heads = ("map", "sample", "target", "logit", "probability", "conservation error", "warnings")
        head = "".join(f"<th>{name}</th>" for name in heads)
        title = html.escape(f"preset {self.preset}, seed {self.seed}")
        return f"<div><p>{title}</p><table><tr>{head}</tr>{rows}</table>{more}</div>"

    def _row(self, sample: int) -> str:
        target = int(self.targets[sample])
        numbers = (
            f"{sample}",
            f"{target}",
            f"{self.logits[sample, target]:.4g}",
            f"{self.probabilities[sample, target]:.4g}",
            f"{self.conservation_error[sample]:.1e}",
            "; ".join(self.warnings[sample]),
        )
        picture = ""
        if self.map is not None and self.map.ndim <= 3:
            png = base64.b64encode(self.heat_png(sample, min_side=112)).decode("ascii")
            picture = f'<img alt="relevance of sample {sample}" height="112" src="data:image/png;base64,{png}">'
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in numbers)
        return f"<tr><td>{picture}</td>{cells}</tr>"
