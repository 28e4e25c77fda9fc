"""What the restorer's network may be: features of a spectrogram in, a few numbers per bin and frame out.

Both take (batch, bins, frames, features) and what is known of the whole recording, (batch, 4, bins), and give
(batch, bins, frames, heads) in float32. Bands split by width over
the spectrum, mixed over time and over bands, after Luo and Yu, "Music Source Separation with Band-Split RNN" (2023),
with the recurrences replaced by dilated convolutions, which are quick on every device; and a U-Net over the
spectrogram, after Jansson et al., "Singing Voice Separation with Deep U-Net Convolutional Networks" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resonate.models.stats import BINS

#: What is known of the whole recording, per bin.
STATISTICS = 4

#: (first bin, bin width) of each run of bands; the last band takes what is left up to the Nyquist frequency.
_LAYOUT = ((0, 4), (40, 8), (128, 16), (256, 32), (512, 64))


def band_edges() -> list[tuple[int, int]]:
    """(first, last + 1) bin of each band."""
    edges: list[int] = []
    for (first, step), end in zip(_LAYOUT, [first for first, _ in _LAYOUT[1:]] + [BINS], strict=True):
        edges += range(first, end, step)
    edges = [e for e in edges if BINS - e > 8]
    return list(zip(edges, [*edges[1:], BINS], strict=True))


class _Block(nn.Module):
    """Residual mixing over time (dilated convolution), over bands (linear) and over features (two layers)."""

    def __init__(self, width: int, bands: int, dilation: int) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(width)
        self.time = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.band_norm = nn.LayerNorm(width)
        self.band = nn.Linear(bands, bands)
        self.feature_norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        for layer in (self.time, self.band, self.feature[-1]):
            nn.init.normal_(layer.weight, std=0.3 * layer.weight[0].numel() ** -0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, bands, frames, width) to the same shape."""
        b, k, t, d = x.shape
        y = self.time_norm(x).reshape(b * k, t, d).transpose(1, 2)
        x = x + nn.functional.gelu(self.time(y)).transpose(1, 2).reshape(b, k, t, d)
        y = self.band_norm(x).permute(0, 2, 3, 1)
        x = x + self.band(y).permute(0, 3, 1, 2)
        return x + self.feature(self.feature_norm(x))


def _perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Three layers, of which the last begins at zero."""
    layers = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                           nn.Linear(width, outputs))
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return layers


class BandSplit(nn.Module):
    """Features of each band mixed over time, bands and features.

    Receptive field: ``2 * sum(dilations)`` frames either way, since two frames are one step.

    Args:
        features: numbers per bin and frame that are given.
        heads: numbers per bin and frame that are asked for.
        width: features per band.
        dilations: dilation over pairs of frames of each block.
        context: width of a perceptron that hears the recording's statistics over all bands at once; 0 has none. The
            balance of the music of a whole recording is not to be seen in a second of it.
    """

    def __init__(self, features: int, heads: int, width: int, dilations: Sequence[int], context: int = 0) -> None:
        super().__init__()
        self.features, self.heads, self.width = features, heads, width
        #: Frames either way that an output depends on.
        self.reach = 2 * sum(dilations)
        self.bands = band_edges()
        self.context = _perceptron(STATISTICS * len(self.bands), context, width * len(self.bands)) if context else None
        means = torch.zeros(BINS, len(self.bands))
        for k, (a, b) in enumerate(self.bands):
            means[a:b, k] = 1 / (b - a)
        self.register_buffer("means", means, persistent=False)
        self.inputs = nn.ModuleList(nn.Linear(2 * features * (b - a), width) for a, b in self.bands)
        self.blocks = nn.ModuleList(_Block(width, len(self.bands), d) for d in dilations)
        self.norm = nn.LayerNorm(width)
        self.outputs = nn.ModuleList(nn.Linear(width, 2 * heads * (b - a)) for a, b in self.bands)
        for layer in self.outputs:
            nn.init.zeros_(layer.bias)
            layer.weight.data.mul_(0.1)

    def forward(self, features: Tensor, statistics: Tensor) -> Tensor:
        """(batch, bins, frames, features) to (batch, bins, frames, heads)."""
        batch, _, frames, _ = features.shape
        pairs = (frames + 1) // 2
        features = nn.functional.pad(features, (0, 0, 0, 2 * pairs - frames))
        x = torch.stack([
            layer(features[:, a:b].reshape(batch, b - a, pairs, 2 * self.features).transpose(1, 2).flatten(2))
            for layer, (a, b) in zip(self.inputs, self.bands, strict=True)], 1)
        if self.context is not None:
            known = self.context((statistics @ self.means).flatten(1))
            x = x + known.reshape(batch, len(self.bands), 1, self.width)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        out = []
        for k, (layer, (a, b)) in enumerate(zip(self.outputs, self.bands, strict=True)):
            y = layer(x[:, k]).reshape(batch, pairs, b - a, 2, self.heads)
            out.append(y.permute(0, 2, 1, 3, 4).reshape(batch, b - a, 2 * pairs, self.heads))
        return torch.cat(out, 1)[:, :, :frames].float()


class _Pair(nn.Module):
    """Two 3 x 3 convolutions around a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.3 * (9 * channels) ** -0.5)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, bins, frames) to the same shape."""
        return x + self.second(nn.functional.gelu(self.first(self.norm(x))))


class UNet(nn.Module):
    """Convolutions over the spectrogram, coarser and coarser and back again, with a skip at every level.

    Two frames are one step of the first level, and four bins; further levels halve the bins, the last three also the
    steps. Receptive field of the convolutions: :attr:`reach` frames either way; the norms read the mean and spread of
    all that is given at once.

    Args:
        features: numbers per bin and frame that are given.
        heads: numbers per bin and frame that are asked for.
        channels: of each level.
    """

    #: Bins and frames of one step at the first level, and what the coarsest level divides by.
    BINS_PER_STEP, FRAMES_PER_STEP = 4, 2

    def __init__(self, features: int, heads: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = heads
        per_step = self.BINS_PER_STEP * self.FRAMES_PER_STEP
        self.strides = [(2, 2 if level >= len(channels) - 4 else 1) for level in range(len(channels) - 1)]
        # Frames either way that an output depends on: two rows of each convolution, down and up, and the steps' ends.
        steps = [self.FRAMES_PER_STEP]
        for _, along_time in self.strides:
            steps.append(steps[-1] * along_time)
        self.reach = 2 * sum(steps) + 2 * sum(steps[:-1]) + steps[-1] - 1
        # The last bin goes with the four before it.
        self.place = nn.Parameter(torch.zeros(channels[0], (BINS - 1) // self.BINS_PER_STEP, 1))
        self.enter = nn.Conv2d(features * per_step, channels[0], (3, 1), padding=(1, 0))
        self.down = nn.ModuleList(_Pair(c) for c in channels)
        self.up = nn.ModuleList(_Pair(c) for c in channels[:-1])
        self.coarser = nn.ModuleList(nn.Conv2d(a, b, stride, stride)
                                     for a, b, stride in zip(channels, channels[1:], self.strides, strict=False))
        self.finer = nn.ModuleList(nn.ConvTranspose2d(b, a, stride, stride)
                                   for a, b, stride in zip(channels, channels[1:], self.strides, strict=False))
        self.leave = nn.Conv2d(channels[0], heads * per_step, 1)
        nn.init.zeros_(self.leave.bias)
        self.leave.weight.data.mul_(0.1)

    def forward(self, features: Tensor, statistics: Tensor) -> Tensor:
        """(batch, bins, frames, features) to (batch, bins, frames, heads)."""
        del statistics  # they are among the features, and its field of view is wide
        batch, _, frames, count = features.shape
        steps = self.FRAMES_PER_STEP
        for _, along_time in self.strides:
            steps *= along_time
        padded = -(-frames // steps) * steps
        x = nn.functional.pad(features[:, :-1], (0, 0, 0, padded - frames))
        k, f = self.BINS_PER_STEP, self.FRAMES_PER_STEP
        x = x.reshape(batch, (BINS - 1) // k, k, padded // f, f, count).permute(0, 2, 4, 5, 1, 3).flatten(1, 3)
        x = self.enter(x.contiguous(memory_format=torch.channels_last)) + self.place
        skips = []
        for pair, step in zip(self.down, [*self.coarser, None], strict=True):
            x = pair(x)
            if step is not None:
                skips.append(x)
                x = step(x)
        for pair, step, skip in zip(reversed(self.up), reversed(self.finer), reversed(skips), strict=True):
            x = pair(step(x) + skip)
        y = self.leave(x).reshape(batch, k, f, self.heads, (BINS - 1) // k, padded // f)
        y = y.permute(0, 4, 1, 5, 2, 3).reshape(batch, BINS - 1, padded, self.heads)
        return torch.cat([y, y[:, -1:]], 1)[:, :, :frames].float()
