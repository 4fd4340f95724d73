"""Small relatives of the zoo's architectures: the same modules, a few channels wide."""

from __future__ import annotations

import torch
from torch import nn


def tiny(block, layers=(1, 1), channels=(8, 8), **options):
    """A timm ResNet whose last two stages do nothing."""
    from timm.models.resnet import ResNet

    options.setdefault("stem_type", "deep")
    options.setdefault("stem_width", 4)
    model = ResNet(block, [*layers, 1, 1], num_classes=7, channels=(*channels, 8, 8), **options)
    model.layer3, model.layer4 = nn.Identity(), nn.Identity()
    model.fc = nn.Linear(channels[-1] * block.expansion, 7)
    return model


def blocks():
    from timm.models import resnest, resnet, res2net, sknet

    return resnet.BasicBlock, resnet.Bottleneck, sknet.SelectiveKernelBasic, resnest.ResNestBottleneck, res2net.Bottle2neck


class Head(nn.Module):
    """Features and a classifier behind a mean."""

    def __init__(self, *features, channels):
        super().__init__()
        self.features, self.fc = nn.Sequential(*features), nn.Linear(channels, 7)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, *main):
        super().__init__()
        self.main = nn.Sequential(*main)

    def forward(self, x):
        return x + self.main(x)


class InvertedResidual(Residual):
    has_skip = True


class Dense(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(x).relu()], 1)


class UpAndDown(nn.Module):
    """Strided down, transposed and resized up, added."""

    sums = 2

    def __init__(self, channels):
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, 2, 1)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1)

    def forward(self, x):
        low = self.down(x).relu()
        nearest = nn.functional.interpolate(low, scale_factor=2, mode="nearest")
        linear = nn.functional.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        return self.up(low) + nearest + linear


def convs(act, channels=8):
    from timm.layers import SqueezeExcite

    return Head(
        nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), act(),
        InvertedResidual(
            nn.Conv2d(channels, 16, 1), nn.BatchNorm2d(16), act(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), act(),
            SqueezeExcite(16, rd_channels=4), nn.Conv2d(16, channels, 1), nn.BatchNorm2d(channels),
        ),
        channels=channels,
    )  # fmt: skip


def preact(norm, std):
    from timm.models.resnetv2 import ResNetV2

    options = {"conv_layer": std} if std else {}
    model = ResNetV2([1, 1, 1, 1], channels=(8, 8, 8, 8), num_classes=7, stem_chs=4, norm_layer=norm, **options)
    model.stages = model.stages[:2]
    return model


def convnext():
    from timm.models.convnext import ConvNeXt

    model = ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 4, 4, 4), num_classes=7)
    model.stages = model.stages[:2]
    return model


def models():
    from functools import partial

    from timm.layers import BlurPool2d, GroupNormAct, StdConv2d, BatchNormAct2d

    basic, bottleneck, sk, resnest, res2 = blocks()
    return {
        "basic": lambda: tiny(basic, channels=(4, 8), stem_width=2),
        "bottleneck": lambda: tiny(bottleneck, channels=(2, 2)),
        "avg-down": lambda: tiny(basic, channels=(4, 8), avg_down=True),
        "resnext": lambda: tiny(bottleneck, channels=(2, 2), cardinality=2, base_width=64),
        "se": lambda: tiny(basic, channels=(4, 4), block_args={"attn_layer": "se"}),
        "eca": lambda: tiny(basic, channels=(4, 4), block_args={"attn_layer": "eca"}),
        "blur": lambda: tiny(basic, channels=(4, 8), aa_layer=BlurPool2d),
        "sk": lambda: tiny(sk, channels=(4, 4), stem_width=2, block_args={"sk_kwargs": {"rd_divisor": 4, "split_input": True}}),
        "resnest": lambda: tiny(resnest, channels=(4, 4), stem_width=2, block_args={"radix": 2, "avd": True, "avd_first": False}),
        "res2net": lambda: tiny(res2, (2, 1), channels=(4, 4), base_width=64, block_args={"scale": 4}),
        "preact": lambda: preact(BatchNormAct2d, None),
        "preact-gn-ws": lambda: preact(partial(GroupNormAct, num_groups=4), StdConv2d),
        "silu-se": lambda: convs(nn.SiLU),
        "hardswish-se": lambda: convs(nn.Hardswish),
        "mish-se": lambda: convs(nn.Mish),
        "gelu-se": lambda: convs(nn.GELU),
        "prelu": lambda: convs(nn.PReLU),
        "elu": lambda: convs(nn.ELU),
        "relu6": lambda: convs(nn.ReLU6),
        "dense": lambda: Head(nn.Conv2d(3, 6, 3), Dense(6, 4), Dense(10, 4), nn.AvgPool2d(2), channels=14),
        "plain": lambda: Head(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), channels=8),
        "convnext": lambda: convnext(),
        "up-and-down": lambda: Head(nn.Conv2d(3, 6, 3, 2, 1), UpAndDown(6), channels=6),
        "layer-norm": lambda: Head(nn.Conv2d(3, 6, 3), nn.GroupNorm(1, 6), nn.InstanceNorm2d(6, affine=True),
                                   nn.LeakyReLU(0.1), nn.Softplus(), channels=6),
    }  # fmt: skip


MODELS = models()
