"""Explanations on matplotlib."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from . import _relc
from ._explanation import Explanation


def show(
    explanation: Explanation,
    sample: int = 0,
    *,
    picture: Any = None,
    ax: Any = None,
    cmap: str = "seismic",
    percentile: float = 99.5,
    title: Optional[str] = None,
) -> Any:
    """Draws a sample's map.

    Zero has the middle colour; the ends are a percentile of the magnitudes, so that single pixels don't darken the rest.

    Parameters
    ----------
    explanation : Explanation
        What to draw.
    sample : int
        Which sample.
    picture : PIL picture or array ``[H, W]`` or ``[H, W, 3]``, optional
        Is drawn in grey under the map.
    ax : matplotlib axes, optional
        Where; else a new figure's.
    cmap : str
        A colour map of matplotlib's that has its middle at zero.
    percentile : float
        Of the magnitudes, the one that has the last colour.
    title : str, optional
        In place of the target and its probability.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("relc.show needs matplotlib: pip install matplotlib") from error
    values = explanation._plane(sample)
    limit = float(np.percentile(np.abs(values), percentile)) or float(np.abs(values).max()) or 1.0
    if ax is None:
        _, ax = plt.subplots()
    height, width = values.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    alpha: Any = None
    if picture is not None:
        grey = np.asarray(picture, dtype=np.float64)
        ax.imshow(grey if grey.ndim == 2 else grey[..., :3].mean(axis=-1), cmap="gray", extent=extent)
        alpha = 0.9 * np.sqrt(np.clip(np.abs(values) / limit, 0.0, 1.0))
    drawn = ax.imshow(values, cmap=cmap, vmin=-limit, vmax=limit, alpha=alpha, extent=extent)
    ax.figure.colorbar(drawn, ax=ax)
    target = int(explanation.targets[sample])
    ax.set_title(title or f"output {target}, probability {explanation.probabilities[sample, target]:.3g}")
    ax.set_axis_off()
    return ax
