"""Models of PyTorch."""

from __future__ import annotations

import inspect
import io
from typing import TYPE_CHECKING, Any

from . import _relc
from ._explain import Explainer, compile

if TYPE_CHECKING:
    import torch


def from_torch(model: "torch.nn.Module", example: "torch.Tensor", preset: Any = "two_level", **options: Any) -> Explainer:
    """Exports a PyTorch model to ONNX and compiles it.

    The model is exported as it stands, in evaluation mode; its mode is restored. BatchNormalization is left for relc to
    fold, which keeps the signs of its weights. Later changes of the model don't change the explainer.

    Parameters
    ----------
    model : torch.nn.Module
        A module that takes one tensor.
    example : torch.Tensor
        An input with its batch, on the model's device. Only its shape and type matter; the batch's size stays open.
    preset
        As `relc.compile` takes it.
    **options
        Further options of `relc.compile`.

    Returns
    -------
    Explainer

    Raises
    ------
    RelcError
        If the exported model is none that relc supports.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch, torchvision  # doctest: +SKIP
    >>> model = torchvision.models.resnet50(weights="IMAGENET1K_V2")  # doctest: +SKIP
    >>> explainer = relc.from_torch(model, torch.zeros(1, 3, 224, 224))  # doctest: +SKIP
    """
    return compile(_export(model, example), preset, **options)


def _export(model: "torch.nn.Module", example: "torch.Tensor") -> bytes:
    """The bytes of an ONNX file."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("relc.from_torch needs PyTorch: pip install torch") from error
    if not isinstance(model, torch.nn.Module):
        raise _relc.RelcError(f"got a model of the type {type(model).__name__}, expected a torch.nn.Module")
    options: Any = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    file = io.BytesIO()
    try:
        with torch.no_grad():
            torch.onnx.export(
                model,
                (example,),
                file,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "N"}, "output": {0: "N"}},
                opset_version=17,
                # With its BatchNormalizations: folded ones have lost their signs.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                **options,
            )
    finally:
        for module, training in modes:
            module.training = training
    return file.getvalue()
