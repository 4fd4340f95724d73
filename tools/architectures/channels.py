"""ResNets with attention over channels."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Residual, basic, bottleneck, classifier, conv_norm, deep_stem, network, stem


class ChannelAttention(nn.Module):
    """CBAM's gate for channels: one perceptron for the means and for the maxima."""

    def __init__(self, channels):
        super().__init__()
        hidden = max(channels // 4, 4)
        first, last = nn.Conv2d(channels, hidden, 1, bias=False), nn.Conv2d(hidden, channels, 1, bias=False)
        self.mlp = nn.Sequential(first, nn.ReLU(), last)

    def forward(self, x):
        mean, maximum = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * torch.sigmoid(self.mlp(mean) + self.mlp(maximum))


class SpatialAttention(nn.Module):
    """CBAM's gate for places, from the mean and the maximum of the channels."""

    def __init__(self):
        super().__init__()
        self.conv = conv_norm(2, 1, 7, act=None)

    def forward(self, x):
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(both))


@network("cbam_resnet", 3, 32, 32)
def cbam_resnet():
    def attention(channels):
        return nn.Sequential(ChannelAttention(channels), SpatialAttention())

    return classifier(16, stem(), basic(8, 8, 1, attention(8)), basic(8, 16, 2, attention(16)))


class EfficientChannelAttention(nn.Module):
    """ECA: the gate of a channel comes from its neighbours by a convolution over the channels."""

    def __init__(self, kernel=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        y = x.mean((2, 3)).view(x.shape[0], 1, -1)
        y = self.conv(y).sigmoid().view(x.shape[0], -1, 1, 1)
        return x * y.expand_as(x)


@network("eca_resnet", 3, 32, 32)
def eca_resnet():
    blocks = [basic(8, 8, 1, EfficientChannelAttention()), basic(8, 16, 2, EfficientChannelAttention(5))]
    return classifier(16, stem(), *blocks)


class SelectiveKernel(nn.Module):
    """SKNet: two convolutions of unlike reach, weighed against each other for each channel."""

    def __init__(self, channels, stride):
        super().__init__()
        self.half = channels // 2
        self.paths = nn.ModuleList(
            conv_norm(self.half, channels, 3, stride, dilation=dilation) for dilation in (1, 2)
        )
        self.reduce = conv_norm(channels, self.half)
        self.select = nn.Conv2d(self.half, 2 * channels, 1, bias=False)

    def forward(self, x):
        parts = torch.split(x, self.half, 1)
        x = torch.stack([path(part) for path, part in zip(self.paths, parts)], dim=1)
        attention = self.select(self.reduce(x.sum(1).mean((2, 3), keepdim=True)))
        n, c, h, w = attention.shape
        attention = torch.softmax(attention.view(n, 2, c // 2, h, w), dim=1)
        return torch.sum(x * attention, dim=1)


@network("sk_resnet", 3, 32, 32)
def sk_resnet():
    blocks = [bottleneck(8, 16, 1, SelectiveKernel(8, 1)), bottleneck(16, 32, 2, SelectiveKernel(16, 2))]
    return classifier(32, stem(), *blocks)


class SplitAttention(nn.Module):
    """ResNeSt's convolution into two groups of channels, weighed against each other."""

    def __init__(self, channels):
        super().__init__()
        self.radix = radix = 2
        hidden = max(channels // 2, 8)
        self.conv = conv_norm(channels, channels * radix, 3, groups=radix)
        self.first = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.last = nn.Conv2d(hidden, channels * radix, 1)

    def attention(self, x):
        """f32[N,radix * channels], a softmax over the groups."""
        x = self.last(self.first(x.sum(1).mean((2, 3), keepdim=True)))
        n = x.size(0)
        return F.softmax(x.view(n, 1, self.radix, -1).transpose(1, 2), dim=1).reshape(n, -1)

    def forward(self, x):
        x = self.conv(x)
        n, rc, h, w = x.shape
        x = x.reshape(n, self.radix, rc // self.radix, h, w)
        attention = self.attention(x).reshape(n, self.radix, rc // self.radix, 1, 1)
        return (x * attention).sum(dim=1).contiguous()


def split_bottleneck(inputs, outputs, stride):
    """A bottleneck with split attention; strides are poolings, also in the skip."""
    width = outputs // 2
    pool = [nn.AvgPool2d(3, stride, padding=1)] if stride > 1 else []
    main = [conv_norm(inputs, width), SplitAttention(width), *pool, conv_norm(width, outputs, act=None)]
    down = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    skip = nn.Sequential(down, conv_norm(inputs, outputs, act=None))
    return Residual(nn.Sequential(*main), skip, nn.ReLU())


@network("resnest", 3, 32, 32)
def resnest():
    return classifier(32, deep_stem(), split_bottleneck(8, 16, 1), split_bottleneck(16, 32, 2))
