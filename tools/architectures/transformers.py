"""Transformers, and networks that become some."""

import torch
from torch import nn

from .attention import relative_indices
from .parts import (
    CLASSES,
    ChannelNorm,
    Mean,
    Permute,
    Residual,
    basic,
    classifier,
    conv_norm,
    network,
    squeeze_excite,
    stem,
)
from .products import map_perceptron, perceptron


class MapAttention(nn.Module):
    """Visformer's attention: heads from channels of a map, by convolutions of one."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head = heads, width // heads
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.last = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x):
        n, _, h, w = x.shape
        x = self.qkv(x).reshape(n, 3, self.heads, self.head, -1).permute(1, 0, 2, 4, 3)
        q, k, v = x.unbind(0)
        attention = ((q @ k.transpose(-2, -1)) * self.head**-0.5).softmax(dim=-1)
        return self.last((attention @ v).permute(0, 1, 3, 2).reshape(n, -1, h, w))


class Positions(nn.Module):
    """Adds a learned embedding of the places."""

    def __init__(self, *shape):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(1, *shape) * 0.3)

    def forward(self, x):
        return x + self.embedding


@network("visformer", 3, 32, 32)
def visformer():
    def grouped(width):
        """The first stage's perceptron, with a grouped convolution inside."""
        first, last = nn.Conv2d(width, 2 * width, 1, bias=False), nn.Conv2d(2 * width, width, 1, bias=False)
        middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=8, bias=False)
        return Residual(nn.Sequential(nn.BatchNorm2d(width), first, nn.GELU(), middle, nn.GELU(), last))

    def block(width):
        mlp = nn.Sequential(nn.BatchNorm2d(width), map_perceptron(width))
        return Residual(nn.Sequential(nn.BatchNorm2d(width), MapAttention(width, 2))), Residual(mlp)

    def patches(inputs, outputs, side):
        return nn.Conv2d(inputs, outputs, 2, 2), nn.BatchNorm2d(outputs), Positions(outputs, side, side)

    first = [conv_norm(3, 8, 7, 2), *patches(8, 16, 8), grouped(16)]
    return classifier(32, *first, *patches(16, 32, 4), *block(32), *block(32), nn.BatchNorm2d(32))


def position_table(side, heads):
    """A table of biases for all relative positions, and the row of each pair of places."""
    rows, columns = relative_indices(side)
    return nn.Parameter(torch.randn((2 * side - 1) ** 2, heads)), rows * (2 * side - 1) + columns


class BiasedAttention(nn.Module):
    """CoAtNet's attention over a map, with a bias for each relative position."""

    def __init__(self, width, side):
        super().__init__()
        self.heads, self.head = 2, width // 2
        self.qkv, self.last = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.table, indices = position_table(side, self.heads)
        self.register_buffer("indices", indices)

    def forward(self, x):
        n, _, h, w = x.shape
        q, k, v = self.qkv(x).view(n, self.heads, self.head * 3, -1).chunk(3, dim=2)
        bias = self.table[self.indices.view(-1)].view(h * w, h * w, -1).permute(2, 0, 1).contiguous()
        attention = ((q * self.head**-0.5).transpose(-2, -1) @ k + bias.unsqueeze(0)).softmax(dim=-1)
        return self.last((v @ attention.transpose(-2, -1)).view(n, -1, h, w))


def inverted_bottleneck(inputs, outputs, stride):
    """MBConv as CoAtNet has it: normalised first, a pooling in the skip."""
    hidden = 2 * outputs
    middle = [conv_norm(inputs, hidden, act=nn.SiLU), conv_norm(hidden, hidden, 3, stride, nn.SiLU, hidden)]
    last = nn.Conv2d(hidden, outputs, 1, bias=False)
    main = [nn.BatchNorm2d(inputs), *middle, squeeze_excite(hidden), last]
    pool = [nn.AvgPool2d(2, 2)] if stride > 1 else []
    skip = nn.Sequential(*pool, *([nn.Conv2d(inputs, outputs, 1)] if inputs != outputs else []))
    return Residual(nn.Sequential(*main), skip)


@network("coatnet", 3, 32, 32)
def coatnet():
    def down(inputs, outputs, side):
        main = nn.Sequential(ChannelNorm(inputs), nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))
        skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))
        return Residual(nn.Sequential(main, BiasedAttention(outputs, side)), skip)

    def mlp(width):
        return Residual(nn.Sequential(ChannelNorm(width), map_perceptron(width)))

    convs = [conv_norm(3, 8, 3, 2, nn.SiLU), nn.Conv2d(8, 8, 3, padding=1)]
    convs += [inverted_bottleneck(8, 16, 2), inverted_bottleneck(16, 16, 1)]
    attention = Residual(nn.Sequential(ChannelNorm(24), BiasedAttention(24, 4)))
    return classifier(24, *convs, down(16, 24, 4), mlp(24), attention, mlp(24), ChannelNorm(24))


class Attention(nn.Module):
    """timm's attention over tokens, its queries, keys and values from one linear layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head = heads, width // heads
        self.qkv, self.last = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, tokens, c = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = ((q * self.head**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.last((attention @ v).transpose(1, 2).reshape(n, tokens, c))


class EinsumAttention(nn.Module):
    """Attention over tokens written with torch.einsum alone."""

    def __init__(self, width, heads):
        super().__init__()
        self.scale = (width // heads) ** -0.5
        shape = heads, width, width // heads
        self.q, self.k, self.v = (nn.Parameter(torch.randn(shape) / width**0.5) for _ in range(3))
        self.last = nn.Parameter(torch.randn(heads, width // heads, width) / width**0.5)

    def forward(self, x):
        q, k, v = (torch.einsum("bnd,hde->bhne", x, weight) for weight in (self.q, self.k, self.v))
        attention = (torch.einsum("bhie,bhje->bhij", q, k) * self.scale).softmax(-1)
        y = torch.einsum("bhij,bhje->bhie", attention, v)
        return torch.einsum("bhne,hed->bnd", y, self.last)


def encoder_block(width, attention):
    """A transformer's block, normalised first."""
    first = Residual(nn.Sequential(nn.LayerNorm(width), attention))
    return nn.Sequential(first, Residual(nn.Sequential(nn.LayerNorm(width), perceptron(width))))


def patches(width, size):
    """An image as tokens."""
    return nn.Sequential(nn.Conv2d(3, width, size, size), nn.Flatten(2), Permute(0, 2, 1))


class ClassToken(nn.Module):
    """Puts a learned token before the others."""

    def __init__(self, width):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, x):
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)


class First(nn.Module):
    """The first token."""

    def forward(self, x):
        return x[:, 0]


@network("vit_cls", 3, 32, 32)
def vit_cls():
    tokens = [patches(32, 8), ClassToken(32), Positions(17, 32)]
    blocks = [encoder_block(32, Attention(32, 4)) for _ in range(3)]
    return nn.Sequential(*tokens, *blocks, nn.LayerNorm(32), First(), nn.Linear(32, CLASSES))


@network("vit_gap", 3, 32, 32)
def vit_gap():
    blocks = [encoder_block(32, Attention(32, 4)) for _ in range(3)]
    head = [Mean(1), nn.LayerNorm(32), nn.Linear(32, CLASSES)]
    return nn.Sequential(patches(32, 8), Positions(16, 32), *blocks, *head)


@network("einsum_attention", 3, 32, 32)
def einsum_attention():
    tokens = [stem(16), basic(16, 24, 2), nn.Flatten(2), Permute(0, 2, 1), Positions(16, 24)]
    blocks = [encoder_block(24, EinsumAttention(24, 2)) for _ in range(2)]
    return nn.Sequential(*tokens, *blocks, nn.LayerNorm(24), Mean(1), nn.Linear(24, CLASSES))


def window_partition(x, window):
    """N,H,W,C as N * windows,window²,C."""
    n, h, w, c = x.shape
    x = x.view(n, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, c)


def window_reverse(x, window, h, w):
    """The inverse of window_partition."""
    c = x.shape[-1]
    x = x.view(-1, h // window, w // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, h, w, c)


def shift_mask(side, window, shift):
    """f32[windows,window²,window²]: -100 between places that only the roll has brought together."""
    regions = torch.zeros(1, side, side, 1)
    bounds = [slice(0, -window), slice(-window, -shift), slice(-shift, None)]
    for row, down in enumerate(bounds):
        for column, across in enumerate(bounds):
            regions[:, down, across] = 3 * row + column
    regions = window_partition(regions, window).squeeze(-1)
    return (regions.unsqueeze(1) != regions.unsqueeze(2)) * -100.0


class WindowAttention(nn.Module):
    """Swin's attention within windows: a bias for each relative position, a mask for rolled maps."""

    def __init__(self, width, window, mask):
        super().__init__()
        self.heads, self.head, self.area = 2, width // 2, window * window
        self.qkv, self.last = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table, indices = position_table(window, self.heads)
        self.register_buffer("indices", indices)
        self.register_buffer("mask", mask)

    def masked(self, attention):
        """Attention logits with the mask of each window."""
        shape = -1, self.mask.shape[0], self.heads, self.area, self.area
        return (attention.view(shape) + self.mask.unsqueeze(1).unsqueeze(0)).view(-1, *shape[2:])

    def forward(self, x):
        n, tokens, c = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, self.head).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.indices.view(-1)].view(self.area, self.area, -1).permute(2, 0, 1).contiguous()
        attention = (q * self.head**-0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)
        if self.mask is not None:
            attention = self.masked(attention)
        return self.last((attention.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, tokens, c))


class Shifted(nn.Module):
    """A window attention over N,H,W,C, on a rolled map if there is a shift."""

    def __init__(self, width, side, window, shift):
        super().__init__()
        self.window, self.shift = window, shift
        mask = shift_mask(side, window, shift) if shift else None
        self.attention = WindowAttention(width, window, mask)

    def rolled(self, x, shift):
        return torch.roll(x, shifts=(shift, shift), dims=(1, 2)) if shift else x

    def forward(self, x):
        _, h, w, _ = x.shape
        x = window_partition(self.rolled(x, -self.shift), self.window)
        return self.rolled(window_reverse(self.attention(x), self.window, h, w), self.shift)


class PatchMerging(nn.Module):
    """Four neighbours become one place, with twice the channels."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x):
        corners = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        return self.reduce(self.norm(torch.cat(corners, -1)))


@network("swin", 3, 32, 32)
def swin():
    first = [nn.Conv2d(3, 16, 4, 4), Permute(0, 2, 3, 1), nn.LayerNorm(16)]
    blocks = [encoder_block(16, Shifted(16, 8, 4, shift)) for shift in (0, 2)]
    last = [PatchMerging(16), encoder_block(32, Shifted(32, 4, 4, 0)), nn.LayerNorm(32), Mean(1, 2)]
    return nn.Sequential(*first, *blocks, *last, nn.Linear(32, CLASSES))
