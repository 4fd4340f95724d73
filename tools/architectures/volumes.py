"""Networks of videos and of volumes."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, Conv3DNoTemporal, Conv3DSimple

from .parts import CLASSES, Residual, basic, conv_norm, network, shortcut, stem


def video_resnet(stem, builders):
    """torchvision's VideoResNet of 18 layers, eight channels wide."""
    stages, inputs = [stem], 8
    for stage, builder in enumerate(builders):
        outputs, stride, down = 8 << stage, 2 if stage else 1, None
        if stage:
            strides = builder.get_downsample_stride(stride)
            conv = nn.Conv3d(inputs, outputs, 1, strides, bias=False)
            down = nn.Sequential(conv, nn.BatchNorm3d(outputs))
        stages += [BasicBlock(inputs, outputs, builder, stride, down), BasicBlock(outputs, outputs, builder)]
        inputs = outputs
    return nn.Sequential(*stages, nn.AdaptiveAvgPool3d(1), nn.Flatten(1), nn.Linear(inputs, CLASSES))


def video_stem():
    """One convolution over time, height and width."""
    conv = nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(8), nn.ReLU())


def factored_video_stem():
    """First over height and width, then over time."""
    space = nn.Conv3d(3, 6, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
    time = nn.Conv3d(6, 8, (3, 1, 1), 1, (1, 0, 0), bias=False)
    return nn.Sequential(space, nn.BatchNorm3d(6), nn.ReLU(), time, nn.BatchNorm3d(8), nn.ReLU())


@network("r3d_18", 3, 8, 32, 32)
def r3d_18():
    return video_resnet(video_stem(), [Conv3DSimple] * 4)


@network("mc3_18", 3, 8, 32, 32)
def mc3_18():
    return video_resnet(video_stem(), [Conv3DSimple] + [Conv3DNoTemporal] * 3)


@network("r2plus1d_18", 3, 8, 32, 32)
def r2plus1d_18():
    return video_resnet(factored_video_stem(), [Conv2Plus1D] * 4)


class PaddedShortcut(nn.Module):
    """Shortcut A: every stride-th voxel, and zeros for the channels that are new."""

    def __init__(self, channels, stride):
        super().__init__()
        self.channels, self.pool = channels, nn.AvgPool3d(1, stride)

    def forward(self, x):
        x = self.pool(x)
        zeros = torch.zeros(x.size(0), self.channels - x.size(1), *x.shape[2:])
        return torch.cat([x, zeros], 1)


def volume_block(inputs, outputs, stride, dilation, padded):
    """A basic block over three axes; padded: shortcut A."""
    main = [conv_norm(inputs, outputs, 3, stride, dilation=dilation, axes=3)]
    main += [conv_norm(outputs, outputs, 3, act=None, dilation=dilation, axes=3)]
    changes = inputs != outputs or stride > 1
    skip = PaddedShortcut(outputs, stride) if padded and changes else shortcut(inputs, outputs, stride, 3)
    return Residual(nn.Sequential(*main), skip, nn.ReLU())


def volume_resnet(first_stride, strides, dilations, padded):
    """ResNet-10 for volumes of one channel."""
    width = inputs = 8
    layers = [conv_norm(1, width, 7, first_stride, axes=3), nn.MaxPool3d(3, 2, 1)]
    for stage, (stride, dilation) in enumerate(zip(strides, dilations)):
        layers.append(volume_block(inputs, width << stage, stride, dilation, padded))
        inputs = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(1), nn.Linear(inputs, CLASSES))


@network("medical_resnet3d_a", 1, 16, 32, 32)
def medical_resnet3d_a():
    """As MONAI builds it, with shortcut A."""
    return volume_resnet(1, (1, 2, 2, 2), (1, 1, 1, 1), padded=True)


@network("medical_resnet3d_b", 1, 16, 32, 32)
def medical_resnet3d_b():
    """As MedicalNet builds it: the last stages are dilated, shortcut B."""
    return volume_resnet(2, (1, 2, 1, 1), (1, 1, 2, 4), padded=False)


class Folded(nn.Module):
    """The mean of a network's outputs over the frames of N,T,C,H,W, which go through it as one batch."""

    def __init__(self, features, channels):
        super().__init__()
        self.features, self.fc = features, nn.Linear(channels, CLASSES)

    def forward(self, x):
        n, t, c, h, w = x.shape
        x = self.features(x.view(n * t, c, h, w))
        return self.fc(x.view(n, t, -1).mean(1))


def folded(*features, channels=16):
    return Folded(nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(1)), channels)


@network("batch_folded", 4, 3, 32, 32)
def batch_folded():
    return folded(stem(), basic(8, 8), basic(8, 16, 2))


class TemporalShift(nn.Module):
    """TSM written with assignments to slices: some channels from the next frame, some from the one before."""

    def __init__(self, frames):
        super().__init__()
        self.frames = frames

    def forward(self, x):
        nt, c, h, w = x.size()
        x = x.view(nt // self.frames, self.frames, c, h, w)
        fold = c // 4
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return out.view(nt, c, h, w)


class PaddedTemporalShift(nn.Module):
    """TSM written with paddings and a concatenation."""

    def __init__(self, frames, channels):
        super().__init__()
        fold = channels // 4
        self.frames, self.split = frames, [fold, fold, channels - 2 * fold]

    def forward(self, x):
        shape = x.shape
        x = x.view(-1, self.frames, *shape[1:])
        later, earlier, same = x.split(self.split, 2)
        later = F.pad(later[:, 1:], [0, 0, 0, 0, 0, 0, 0, 1])
        earlier = F.pad(earlier[:, :-1], [0, 0, 0, 0, 0, 0, 1, 0])
        return torch.cat([later, earlier, same], 2).view(shape)


@network("tsm_resnet", 4, 3, 32, 32)
def tsm_resnet():
    return folded(stem(), basic(8, 8, before=TemporalShift(4)), basic(8, 16, 2, before=TemporalShift(4)))


@network("tsm_resnet_padded", 4, 3, 32, 32)
def tsm_resnet_padded():
    shifts = PaddedTemporalShift(4, 8), PaddedTemporalShift(4, 8)
    return folded(stem(), basic(8, 8, before=shifts[0]), basic(8, 16, 2, before=shifts[1]))
