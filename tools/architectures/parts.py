"""What many networks share."""

import torch
from torch import nn


CLASSES = 10
SEED = 7
NETWORKS = {}
def network(name, *shape):
    """Enters a function that builds a network, with the shape of one input."""

    def enter(make):
        NETWORKS[name] = make, shape
        return make

    return enter


class Residual(nn.Module):
    """act(main(x) + skip(x))."""

    def __init__(self, main, skip=None, act=None):
        super().__init__()
        self.main, self.skip, self.act = main, skip or nn.Identity(), act or nn.Identity()

    def forward(self, x):
        return self.act(self.main(x) + self.skip(x))


class Gated(nn.Module):
    """x times a gate that is computed from x."""

    def __init__(self, *gate):
        super().__init__()
        self.gate = nn.Sequential(*gate)

    def forward(self, x):
        return x * self.gate(x)


class Scale(nn.Module):
    """A learned factor for each channel of N,C,H,W."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x):
        return x * self.gamma


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of N,C,H,W."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """Axes in another order."""

    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(*self.order)


class Mean(nn.Module):
    """The mean over some axes, which go."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(self.axes)


def conv_norm(inputs, outputs, kernel=1, stride=1, act=nn.ReLU, groups=1, dilation=1, axes=2):
    """Convolution, BatchNorm and activation that keep the size when the stride is one."""
    conv, norm = getattr(nn, f"Conv{axes}d"), getattr(nn, f"BatchNorm{axes}d")
    padding = dilation * (kernel // 2)
    layers = [conv(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False), norm(outputs)]
    return nn.Sequential(*layers, *([act()] if act else []))


def shortcut(inputs, outputs, stride, axes=2):
    """The identity where it fits, else a convolution of one."""
    same = inputs == outputs and stride == 1
    return nn.Identity() if same else conv_norm(inputs, outputs, 1, stride, None, axes=axes)


def basic(inputs, outputs, stride=1, extra=None, before=None):
    """ResNet's basic block, with a module at the end or the start of its main branch."""
    main = [conv_norm(inputs, outputs, 3, stride), conv_norm(outputs, outputs, 3, act=None)]
    main = ([before] if before else []) + main + ([extra] if extra else [])
    return Residual(nn.Sequential(*main), shortcut(inputs, outputs, stride), nn.ReLU())


def bottleneck(inputs, outputs, stride=1, middle=None, act=nn.ReLU):
    """ResNet's bottleneck; `middle` takes the place of the 3x3 convolution."""
    width = outputs // 2
    middle = middle or conv_norm(width, width, 3, stride, act)
    main = [conv_norm(inputs, width, act=act), middle, conv_norm(width, outputs, act=None)]
    return Residual(nn.Sequential(*main), shortcut(inputs, outputs, stride), act())


def stem(width=8, inputs=3):
    """ResNet's stem: a quarter of the size."""
    return nn.Sequential(conv_norm(inputs, width, 7, 2), nn.MaxPool2d(3, 2, 1))


def deep_stem(act=nn.ReLU):
    """Three convolutions and a pooling: a quarter of the size."""
    convs = [conv_norm(3, 4, 3, 2, act), conv_norm(4, 4, 3, act=act), conv_norm(4, 8, 3, act=act)]
    return nn.Sequential(*convs, nn.MaxPool2d(3, 2, 1))


def classifier(channels, *features):
    """Features, the mean over height and width, a linear layer."""
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(channels, CLASSES))


def small_resnet(width=8):
    """A stem and two basic blocks."""
    return classifier(2 * width, stem(width), basic(width, width), basic(width, 2 * width, 2))


def squeeze_excite(channels):
    """SE: a gate for each channel from the means of all."""
    hidden = max(channels // 4, 4)
    squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU()]
    return Gated(*squeeze, nn.Conv2d(hidden, channels, 1), nn.Sigmoid())
