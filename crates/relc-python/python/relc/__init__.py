"""The relevance compiler: which pixels made an ONNX ResNet decide, with relevance that is conserved.

Compile a model once, then call the explainer:

>>> import relc
>>> explainer = relc.compile("examples/demo/model.onnx", preprocess="examples/demo/preprocess.toml")
>>> explanation = explainer("examples/demo/images/00_disc.png")
>>> explanation.targets
array([0])
>>> explanation.map.shape
(1, 64, 64)
>>> bool(explanation.conservation_error[0] < 1e-5)
True

An input is a numpy array, a torch tensor, a PIL picture, or the path of a picture, signal, table, volume or video; see `Explainer.__call__`.
"""

from ._explain import Explainer, compile
from ._explanation import Explanation, Join
from ._lrp import LRP
from ._preprocess import Preprocess
from ._quantus import explain_func
from ._relc import RelcError, __version__
from ._show import show
from ._torch import from_torch
from ._zennit import Composite, composites, presets

__all__ = [
    "LRP",
    "Composite",
    "Explainer",
    "Explanation",
    "Join",
    "Preprocess",
    "RelcError",
    "__version__",
    "compile",
    "composites",
    "explain_func",
    "from_torch",
    "presets",
    "show",
]
