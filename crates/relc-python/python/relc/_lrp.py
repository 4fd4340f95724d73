"""captum: relc's explanations in the shape of its attribution methods."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from . import _relc
from ._explain import Explainer
from ._inputs import as_array
from ._torch import from_torch


class LRP:
    """Attributions as captum's ``LRP`` gives them, by any of relc's presets.

    Parameters
    ----------
    model : Explainer or torch.nn.Module
        A module is exported and compiled when the first inputs are given; later changes of it don't count.
    preset, **options
        As `relc.compile` takes them, for a module.
    seed : str
        The relevance to start from. captum's LRP starts from the target's output: ``"logit"``.

    Examples
    --------
    >>> import numpy, relc
    >>> lrp = relc.LRP(relc.compile("examples/demo/model.onnx"))
    >>> x = numpy.ones((2, 3, 64, 64), "float32")
    >>> relevance, delta = lrp.attribute(x, target=[3, 5], return_convergence_delta=True)
    >>> relevance.shape, delta.shape
    ((2, 3, 64, 64), (2,))
    """

    def __init__(self, model: Any, preset: Any = "two_level", *, seed: str = "logit", **options: Any) -> None:
        self.explainer: Optional[Explainer] = model if isinstance(model, Explainer) else None
        self.model = model
        self._preset, self._seed, self._options = preset, seed, options

    def has_convergence_delta(self) -> bool:
        """Whether there is a delta: always."""
        return True

    def attribute(
        self,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        verbose: bool = False,
    ) -> Any:
        """The relevance of inputs.

        Parameters
        ----------
        inputs : torch tensor, array, or tuple of one
            With the batch.
        target : None, int, or sequence of int
            As a call of an `Explainer` takes it. None is the largest output, where captum wants a model of one output.
        additional_forward_args, verbose
            captum's; relc's models take one input, and nothing is printed.
        return_convergence_delta : bool
            Whether to give the delta too.

        Returns
        -------
        attributions : as `inputs`
            Torch tensors for torch tensors, of their type and on their device; else numpy arrays.
        delta : as `inputs`, optional
            ``[N]``: the target's output less the sum of the sample's attributions, as captum defines it.
        """
        if additional_forward_args is not None:
            raise _relc.RelcError("got additional_forward_args, expected none: relc's models take one input")
        in_tuple = isinstance(inputs, tuple)
        if in_tuple and len(inputs) != 1:
            raise _relc.RelcError(f"got a tuple of {len(inputs)} inputs, expected one")
        given = inputs[0] if in_tuple else inputs
        if self.explainer is None:
            self.explainer = from_torch(self.model, given.detach(), self._preset, **self._options)
        explanation = self.explainer(as_array(given), target, seed=self._seed)
        if isinstance(explanation, list):
            raise _relc.RelcError(f"got the target {target!r}, expected one output for each sample")
        attributions = _like(explanation.relevance, given)
        attributions = (attributions,) if in_tuple else attributions
        if not return_convergence_delta:
            return attributions
        output = explanation.logits[np.arange(len(explanation)), explanation.targets]
        relevance = explanation.relevance.reshape(len(explanation), -1).sum(axis=1, dtype=np.float64)
        return attributions, _like(output - relevance, given)


def _like(array: np.ndarray, given: Any) -> Any:
    """As a torch tensor, if one was given."""
    if not hasattr(given, "detach"):
        return array
    import torch

    return torch.from_numpy(array).to(device=given.device, dtype=given.dtype)
