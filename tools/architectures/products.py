"""Networks that multiply two branches, or normalise by responses."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import CLASSES, ChannelNorm, Mean, Permute, Residual, Scale, classifier, conv_norm, network


def perceptron(width):
    """Two linear layers over the last axis."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def map_perceptron(width):
    """Two linear layers over the channels of N,C,H,W."""
    return nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1))


class StarBlock(nn.Module):
    """StarNet's block: the product of two linear maps."""

    def __init__(self, width):
        super().__init__()
        self.first = conv_norm(width, width, 7, groups=width, act=None)
        self.f1, self.f2 = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, 3 * width, 1)
        self.g = conv_norm(3 * width, width, act=None)
        self.last, self.act = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.ReLU6()

    def forward(self, x):
        y = self.first(x)
        y = self.act(self.f1(y)) * self.f2(y)
        return x + self.last(self.g(y))


@network("starnet", 3, 32, 32)
def starnet():
    stages = [conv_norm(3, 8, 3, 2, nn.ReLU6), conv_norm(8, 12, 3, 2, None), StarBlock(12)]
    return classifier(24, *stages, conv_norm(12, 24, 3, 2, None), StarBlock(24), nn.BatchNorm2d(24))


class FocalModulation(nn.Module):
    """FocalNet's modulation: contexts of growing reach, gated, times the query."""

    def __init__(self, width):
        super().__init__()
        levels = 2
        self.levels, self.split = levels, [width, width, levels + 1]
        self.f = nn.Conv2d(width, 2 * width + levels + 1, 1)
        self.h, self.last = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.layers = nn.ModuleList(self.layer(width, 3 + 2 * level) for level in range(levels))

    @staticmethod
    def layer(width, kernel):
        conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        return nn.Sequential(conv, nn.GELU())

    def forward(self, x):
        q, context, gates = torch.split(self.f(x), self.split, 1)
        total = 0
        for level, layer in enumerate(self.layers):
            context = layer(context)
            total = total + context * gates[:, level : level + 1]
        whole = F.gelu(context.mean((2, 3), keepdim=True))
        total = total + whole * gates[:, self.levels :]
        return self.last(q * self.h(total))


@network("focalnet", 3, 32, 32)
def focalnet():
    def block(width):
        modulation = nn.Sequential(ChannelNorm(width), FocalModulation(width), Scale(width))
        mlp = nn.Sequential(ChannelNorm(width), map_perceptron(width), Scale(width))
        return nn.Sequential(Residual(modulation), Residual(mlp))

    stages = [nn.Conv2d(3, 12, 4, 4), ChannelNorm(12), block(12)]
    stages += [nn.Conv2d(12, 24, 2, 2), ChannelNorm(24), block(24), ChannelNorm(24)]
    return classifier(24, *stages)


class GatedConv(nn.Module):
    """MambaOut's block over N,H,W,C: some channels are convolved, all are gated."""

    def __init__(self, width):
        super().__init__()
        hidden = 2 * width
        self.split = hidden, hidden - width, width
        self.norm, self.first = nn.LayerNorm(width), nn.Linear(width, 2 * hidden)
        self.conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.act, self.last = nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x):
        gate, plain, convolved = torch.split(self.first(self.norm(x)), self.split, dim=-1)
        convolved = self.conv(convolved.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.last(self.act(gate) * torch.cat([plain, convolved], -1))


@network("mamba_out", 3, 32, 32)
def mamba_out():
    def down(inputs, outputs, norm):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), Permute(0, 2, 3, 1), norm(outputs))

    first = [down(3, 8, nn.LayerNorm), Permute(0, 3, 1, 2), nn.GELU(), down(8, 12, nn.LayerNorm)]
    second = [Permute(0, 3, 1, 2), down(12, 24, nn.LayerNorm), GatedConv(24)]
    head = [nn.LayerNorm(24), nn.Linear(24, 48), nn.GELU(), nn.LayerNorm(48), nn.Linear(48, CLASSES)]
    return nn.Sequential(*first, GatedConv(12), *second, Mean(1, 2), *head)


class ResponseNorm(nn.Module):
    """ConvNeXt V2's GRN over N,H,W,C: the norms of the channels compete."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width) * 0.1)

    def forward(self, x):
        norms = x.norm(p=2, dim=(1, 2), keepdim=True)
        norms = norms / (norms.mean(-1, keepdim=True) + 1e-6)
        return x + torch.addcmul(self.bias.view(1, 1, 1, -1), self.weight.view(1, 1, 1, -1), x * norms)


def convnext_block(width):
    conv = [nn.Conv2d(width, width, 7, padding=3, groups=width), Permute(0, 2, 3, 1), nn.LayerNorm(width)]
    mlp = [nn.Linear(width, 4 * width), nn.GELU(), ResponseNorm(4 * width), nn.Linear(4 * width, width)]
    return Residual(nn.Sequential(*conv, *mlp, Permute(0, 3, 1, 2)))


@network("convnext_v2", 3, 32, 32)
def convnext_v2():
    stages = [nn.Conv2d(3, 12, 4, 4), ChannelNorm(12), convnext_block(12), convnext_block(12)]
    stages += [ChannelNorm(12), nn.Conv2d(12, 24, 2, 2), convnext_block(24)]
    return nn.Sequential(*stages, Mean(-2, -1), nn.LayerNorm(24), nn.Linear(24, CLASSES))
