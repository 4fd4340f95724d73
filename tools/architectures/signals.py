"""Networks of signals, spectrograms and tables."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import CLASSES, Residual, basic, conv_norm, network, shortcut, stem


def signal_block(inputs, outputs, stride):
    """Two long convolutions with dropout; the skip pools before it changes the channels."""
    main = [conv_norm(inputs, outputs, 7, stride, axes=1), nn.Dropout(0.3)]
    main += [conv_norm(outputs, outputs, 7, act=None, axes=1)]
    pool = nn.MaxPool1d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
    skip = nn.Sequential(pool, shortcut(inputs, outputs, 1, 1))
    return nn.Sequential(Residual(nn.Sequential(*main), skip, nn.ReLU()), nn.Dropout(0.3))


class MeanAndMaximum(nn.Module):
    """The means and the maxima over time, side by side."""

    def __init__(self):
        super().__init__()
        self.mean, self.maximum = nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(1)

    def forward(self, x):
        return torch.cat([self.mean(x), self.maximum(x)], 1).flatten(1)


@network("ecg_resnet", 12, 500)
def ecg_resnet():
    blocks = [signal_block(16, 16, 1), signal_block(16, 24, 2), signal_block(24, 32, 2)]
    head = [MeanAndMaximum(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, CLASSES)]
    return nn.Sequential(conv_norm(12, 16, 15, 2, axes=1), nn.MaxPool1d(3, 2, 1), *blocks, *head)


class BandNorm(nn.BatchNorm2d):
    """BatchNorm of each frequency band of N,1,F,T."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SpectrogramHead(nn.Module):
    """The mean over frequencies, then mean plus maximum over time, as PANNs have it."""

    def __init__(self, channels):
        super().__init__()
        self.hidden, self.fc = nn.Linear(channels, channels), nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = torch.mean(x, dim=2)
        maximum, _ = torch.max(x, dim=2)
        x = maximum + torch.mean(x, dim=2)
        return self.fc(F.relu(self.hidden(x)))


@network("spectrogram_resnet", 1, 64, 101)
def spectrogram_resnet():
    blocks = [basic(8, 8), basic(8, 16, 2), basic(16, 32, 2)]
    return nn.Sequential(BandNorm(64), stem(8, 1), *blocks, SpectrogramHead(32))


@network("tabular_resnet", 24)
def tabular_resnet():
    def block(width, hidden):
        first = [nn.BatchNorm1d(width), nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(0.2)]
        return Residual(nn.Sequential(*first, nn.Linear(hidden, width), nn.Dropout(0.1)))

    head = [nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, CLASSES)]
    return nn.Sequential(nn.Linear(24, 32), block(32, 64), block(32, 64), block(32, 64), *head)
