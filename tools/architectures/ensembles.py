"""Several networks in one file."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import network, small_resnet


class Ensemble(nn.Module):
    """The mean of two networks' outputs or of their softmaxes."""

    def __init__(self, softmax):
        super().__init__()
        self.softmax, self.members = softmax, nn.ModuleList([small_resnet(), small_resnet(12)])

    def forward(self, x):
        outputs = [member(x) for member in self.members]
        if self.softmax:
            outputs = [F.softmax(output, dim=1) for output in outputs]
        return torch.stack(outputs).mean(0)


class FlipAveraged(nn.Module):
    """The mean over an image and its mirror image."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return (self.model(x) + self.model(x.flip(3))) / 2


@network("ensemble_softmax", 3, 32, 32)
def ensemble_softmax():
    return Ensemble(True)


@network("ensemble_logits", 3, 32, 32)
def ensemble_logits():
    return Ensemble(False)


@network("flip_averaged", 3, 32, 32)
def flip_averaged():
    return FlipAveraged(small_resnet())
