"""Quantus: relc's explanations as its metrics ask for them."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ._explain import Explainer
from ._torch import from_torch


def explain_func(
    model: Any,
    inputs: Any,
    targets: Any,
    *,
    explainer: Optional[Explainer] = None,
    preset: Any = "two_level",
    seed: Any = None,
    **options: Any,
) -> np.ndarray:
    """Explains a batch for a metric of Quantus.

    Quantus calls ``explain_func(model, inputs, targets, **explain_func_kwargs)``: hand this function to a metric as
    ``explain_func`` and the explainer in ``explain_func_kwargs``.

    Parameters
    ----------
    model : Explainer, torch.nn.Module or any
        The model that the metric measures. It is explained itself only where there is no `explainer`: a torch module is
        exported and compiled at each call then, which is what metrics that change its weights need, and slow.
    inputs : array
        ``[N, C, H, W]``.
    targets : array of int
        ``[N]``.
    explainer : Explainer, optional
        The compiled model.
    preset, **options
        As `relc.compile` takes them, where there is no explainer.
    seed : optional
        As a call of an `Explainer` takes it.

    Returns
    -------
    numpy.ndarray
        The relevance, float32 in the shape of `inputs`.

    Examples
    --------
    >>> quantus.MaxSensitivity()(  # doctest: +SKIP
    ...     model, x, y, explain_func=relc.explain_func, explain_func_kwargs={"explainer": explainer}
    ... )
    """
    if explainer is None:
        explainer = model if isinstance(model, Explainer) else _compiled(model, inputs, preset, options)
    explanation = explainer(inputs, np.asarray(targets).reshape(-1), seed=seed)
    return explanation.relevance  # type: ignore[union-attr]


def _compiled(model: Any, inputs: Any, preset: Any, options: Any) -> Explainer:
    import torch

    parameter = next(model.parameters(), None)
    like = {} if parameter is None else {"device": parameter.device, "dtype": parameter.dtype}
    return from_torch(model, torch.as_tensor(np.asarray(inputs)[:1], **like), preset, **options)
