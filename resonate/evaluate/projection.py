"""What a black box did to the music and to the crowd, by projecting its output on both.

The output is fitted by two FIRs at once, one of the music alone and one of the noise alone (1024 taps each, 128 before
zero): z ~ h_m * m + h_n * n. What neither explains is the rest: the room's tail if `m` is dry, codec and clipping, and
everything that a time-varying or non-linear system added. Measured before and after the system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resonate.evaluate import fir
from resonate.evaluate.alignment import to_mid

#: The rest counts as at least this far under the music, so that a perfect input has a finite value.
REST_FLOOR_DB = -60.0


@dataclass(frozen=True)
class Projection:
    """Energies of the three parts of one signal."""

    music: float
    noise: float
    rest: float

    @property
    def noise_db(self) -> float:
        """Noise under the music in dB (lower is better); NaN without music or noise."""
        if self.music <= 0.0 or self.noise <= 0.0:
            return float("nan")
        return float(10.0 * np.log10(self.noise / self.music))

    @property
    def rest_db(self) -> float:
        """What is neither music nor noise, under the music, in dB (lower is better), floor -60; NaN without music."""
        if self.music <= 0.0:
            return float("nan")
        return max(REST_FLOOR_DB, float(10.0 * np.log10(self.rest / self.music + 1e-30)))


def project(signal: np.ndarray, music: np.ndarray, noise: np.ndarray) -> Projection:
    """Split `signal` by least squares into filtered `music`, filtered `noise` and the rest.

    The three are (time,) or (channels, time), aligned and of equal length.
    """
    (of_music, of_noise), rest = fir.fit(to_mid(signal), [to_mid(music), to_mid(noise)])
    return Projection(float(of_music @ of_music), float(of_noise @ of_noise), float(rest @ rest))


def noise_attenuation(before: Projection, after: Projection) -> float:
    """How many dB the noise sank under the music.

    Formula: 10 log10(N/M before) - 10 log10(N/M after), N and M the energies of the projections on noise and music.
    Range: any, higher is better, 0 for an unchanged signal; NaN where there is no noise or no music.  Invariant to:
    gain, delays within the taps.  Cheats: gating the gaps brings only the gaps' share of the noise, and
    `music_distortion` shows it (over the music alone, as `verdict.score` takes it, it brings nothing); a filter that
    keeps the bands where music is strongest brings much, and `lsd` shows that.
    """
    return before.noise_db - after.noise_db


def music_distortion(before: Projection, after: Projection) -> float:
    """How many dB the part that is neither music nor noise rose against the music.

    Formula: 10 log10(E/M after) - 10 log10(E/M before), E the energy that neither projection explains, E/M at least
    -60 dB.  Range: any, lower is better, 0 for an unchanged signal.  Invariant to: gain, delays within the taps and
    short filters in as far as the music was clean.  Against dry music the room's tail is part of E before,
    so that removing it counts as less distortion; against the captured music every change of the tail counts as more.
    Cheats: a low-pass lowers it where E was high-pitched; adding noise that is in the noise reference does not show.
    """
    return after.rest_db - before.rest_db
