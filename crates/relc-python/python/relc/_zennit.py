"""The presets, and zennit's composites by their names."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Dict, Iterator, List, Mapping

from . import _relc


@dataclass(frozen=True)
class Composite:
    """A preset, and how BatchNormalization is treated so that it computes what zennit does.

    Attributes
    ----------
    preset : str
        The preset's name.
    batchnorm : str
        ``"fold-as-zennit"``: folded as zennit's canonizers do, whose epsilon keeps acting.
    """

    preset: str
    batchnorm: str = "fold-as-zennit"


class Composites(Mapping[str, Composite]):
    """zennit's composites by zennit's names, for `relc.compile`.

    Seeds are zennit's too: relevance starts with 1 at the target. Only composites that relc has a preset for are here.

    Examples
    --------
    >>> import relc
    >>> relc.composites["epsilon_plus"]
    Composite(preset='epsilon_plus', batchnorm='fold-as-zennit')
    >>> relc.composites["beta_smooth"]  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    KeyError: 'got the composite "beta_smooth", expected one of deconvnet, epsilon_alpha2_beta1, ...'
    """

    def __init__(self) -> None:
        zennits = (
            "deconvnet",
            "epsilon_alpha2_beta1",
            "epsilon_alpha2_beta1_flat",
            "epsilon_gamma_box",
            "epsilon_plus",
            "epsilon_plus_flat",
            "excitation_backprop",
            "guided_backprop",
        )
        known = presets()
        self._of: Dict[str, Composite] = {name: Composite(name) for name in zennits if name in known}

    def __getitem__(self, name: str) -> Composite:
        try:
            return self._of[name]
        except KeyError:
            raise KeyError(f'got the composite "{name}", expected one of {", ".join(self._of)}') from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        names: List[str] = list(self)
        return f"relc.composites: {', '.join(names)}"


def presets() -> Mapping[str, str]:
    """The presets that come with relc, and what each is for.

    Returns
    -------
    mapping of str to str

    Examples
    --------
    >>> import relc
    >>> "two_level" in relc.presets()
    True
    """
    return MappingProxyType(dict(_relc.presets()))


composites = Composites()
