"""The native half of the package: what the Python half calls, with arguments that it has converted."""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union, final

import numpy as np
from numpy.typing import NDArray

__version__: str

class RelcError(ValueError):
    """A model, input or request that relc can't use; the text says what was got and what is expected."""

def presets() -> List[Tuple[str, str]]:
    """Names and descriptions of the presets that come with relc."""

def compile(
    model: Union[bytes, str, "os.PathLike[str]"],
    preset: Optional[str],
    *,
    save: Optional["os.PathLike[str]"],
    split: Optional[str],
    gate: Optional[str],
    bias: Optional[str],
    batchnorm: Optional[str],
    bounds: Optional[Tuple[Sequence[float], Sequence[float]]],
    engine: Optional[str],
    device: str,
    precision: str,
    output: Optional[str],
    input_shape: Optional[Sequence[Optional[int]]],
    hold: Sequence[Tuple[str, NDArray[np.float32]]],
    preprocess: Optional[Preprocess],
    ledger: bool,
    sensitivity: bool,
) -> Explainer:
    """Compiles a model into an explainer."""

def read(
    path: str, explainer: Explainer, preprocess: Optional[Preprocess]
) -> Optional[NDArray[np.float32]]:
    """The samples of a file, with the batch; None if it needs a preprocessing and there is none."""

def heat_png(map: NDArray[np.float32], colormap: str, min_side: int) -> bytes:
    """Draws a map `f32[H,W]` as a PNG."""

@final
class Explainer:
    """A compiled model; threads may share it."""

    preset: str
    seed: str
    engine: str
    isa: Optional[str]
    is_conserving: bool
    outputs: int
    input_name: str
    input_shape: List[Optional[int]]
    input_limits: Optional[Tuple[float, float]]
    gpu: Optional[int]
    def explain(
        self,
        x: NDArray[np.float32],
        target: Union[str, int, Sequence[int]],
        seed: Union[None, str, NDArray[np.float32]],
    ) -> List[Explanation]: ...
    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]: ...
    def explain_on_gpu(
        self, x: Any, target: Union[str, int, Sequence[int]], seed: Union[None, str, NDArray[np.float32]]
    ) -> List[Explanation]: ...
    def predict_on_gpu(self, x: Any) -> NDArray[np.float64]: ...
    def to_onnx(self, target: Union[str, int], seed: Optional[str]) -> bytes: ...
    def takes(self, shape: Sequence[int]) -> bool: ...
    def report(self) -> str: ...

@final
class Explanation:
    """The explanation of one target of each sample."""

    relevance: NDArray[np.float32]
    tensor: Optional[Tensor]
    map: Optional[NDArray[np.float32]]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    targets: NDArray[np.int64]
    seed: str
    conservation_error: List[float]
    warnings: List[List[str]]
    def report(self, sample: int) -> str: ...

@final
class Tensor:
    """The relevance of the input on the GPU."""

    shape: List[int]
    def __dlpack_device__(self) -> Tuple[int, int]: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> Any: ...

@final
class Preprocess:
    """What a network expects of a picture."""

    @staticmethod
    def load(name: str) -> Preprocess: ...
    @staticmethod
    def from_toml(text: str) -> Preprocess: ...
    def of_array(self, picture: NDArray[np.uint8], explainer: Explainer) -> NDArray[np.float32]: ...
