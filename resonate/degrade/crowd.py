"""The crowd: a distributed field, near neighbours, and sing-along.

Recordings from the bank are looped seamlessly, overlapped with random offsets and pitch; applause, babble,
whistles and screams are synthesised (`voices.py`), so an empty bank still gives a crowd; the sing-along is
built from the vocal stem: late, detuned, wide. The level is set by the SNR asked for, after the room.
"""

from dataclasses import dataclass

import numpy as np

from resonate import RATE
from resonate.degrade import voices
from resonate.degrade.bank import Bank


@dataclass(frozen=True)
class Layer:
    """One recording: bank name, start as a fraction of it, playback speed, gain in dB, position -1..1."""

    name: str
    offset: float
    speed: float
    gain_db: float
    position: float


@dataclass(frozen=True)
class CrowdParams:
    """Levels in dB relative to each other; snr_db is music over crowd while music plays (at the capsule).

    clappers: people in the synthesised applause (0 = none); applause_gap_db: how much louder the whole crowd is
    while no music plays; on_beat: clapping in a common rhythm; events: (kind, time s, level dB, position -1..1).
    sing_along_voices: 0 = none; sing_along_db: over the other crowd. reverb_db: diffuse over direct crowd sound.
    """

    snr_db: float
    layers: list[Layer]
    babble_db: float
    talkers: int
    clappers: int
    applause_db: float
    on_beat: bool
    beat_hz: float
    gap_boost_db: float
    events: list[tuple[str, float, float, float]]
    sing_along_voices: int
    sing_along_db: float
    sing_along_late_ms: float
    reverb_db: float
    seed: int

    @classmethod
    def from_dict(cls, values: dict) -> "CrowdParams":
        """Rebuild from the plain form that JSON gives back."""
        layers = [Layer(**layer) for layer in values["layers"]]
        return cls(**{**values, "layers": layers, "events": [tuple(event) for event in values["events"]]})


def sample(
    rng: np.random.Generator,
    severity: float,
    seconds: float,
    recordings: list[str] | None = None,
    sing_along_share: float = 0.3,
) -> CrowdParams:
    """Draw a crowd; SNR falls from about +20 dB (severity 0) to -3 dB (severity 1)."""
    layers = []
    if recordings and rng.uniform() < 0.9:
        for _ in range(int(rng.integers(1, 5))):
            layers.append(
                Layer(
                    name=str(rng.choice(recordings)),
                    offset=float(rng.uniform()),
                    speed=float(2.0 ** rng.uniform(-0.25, 0.25)),
                    gain_db=float(rng.uniform(-10.0, 0.0)),
                    position=float(rng.uniform(-1, 1)),
                )
            )
    applause = rng.uniform() < 0.45
    n_events = int(rng.poisson((0.08 + 0.15 * severity) * seconds)) if rng.uniform() < 0.6 else 0
    kinds = ["whistle", "scream", "whoop", "clap"]
    events = [
        (
            str(rng.choice(kinds, p=[0.25, 0.3, 0.3, 0.15])),
            float(rng.uniform(0, seconds)),
            float(rng.uniform(0.0, 14.0)),
            float(rng.uniform(-1, 1)),
        )
        for _ in range(n_events)
    ]
    return CrowdParams(
        snr_db=float(20.0 - 23.0 * severity + rng.normal(0.0, 1.5)),
        layers=layers,
        babble_db=float(rng.uniform(-12.0, 0.0)),
        talkers=int(rng.integers(4, 13)) if not layers or rng.uniform() < 0.4 else 0,
        clappers=int(rng.integers(3, 120)) if applause else 0,
        applause_db=float(rng.uniform(-12.0, 3.0)),
        on_beat=bool(rng.uniform() < 0.4),
        beat_hz=float(rng.uniform(1.4, 2.4)),
        gap_boost_db=float(rng.uniform(0.0, 9.0)),
        events=events,
        sing_along_voices=int(rng.integers(4, 17)) if rng.uniform() < sing_along_share else 0,
        sing_along_db=float(rng.uniform(-4.0, 6.0)),
        sing_along_late_ms=float(rng.uniform(40.0, 260.0)),
        reverb_db=float(rng.uniform(-10.0, 4.0)),
        seed=int(rng.integers(2**31)),
    )


def apply(params: CrowdParams, n_samples: int, vocals: np.ndarray, mute: np.ndarray, bank: Bank) -> np.ndarray:
    """The crowd before its room, at an arbitrary level: (2, n_samples) float32.

    Args: vocals (n_samples,) clean vocal stem; mute (n_samples,) 1 where music plays, 0 in gaps.
    """
    rng = np.random.default_rng(params.seed)
    bed = np.zeros((2, n_samples), np.float32)
    for layer in params.layers:
        bed += _unit(_loop(bank.audio(layer.name), layer, n_samples)) * np.float32(10 ** (layer.gain_db / 20))
    if params.talkers:
        babble = voices.babble(rng, params.talkers, n_samples)
        bed += _unit(babble) * np.float32(10 ** (params.babble_db / 20))
    bed = _unit(bed)
    if params.clappers:
        beat = params.beat_hz if params.on_beat else 0.0
        claps = voices.applause(rng, params.clappers, n_samples, beat)
        bed = _unit(bed + _unit(claps) * np.float32(10 ** (params.applause_db / 20)))
    for kind, time, level_db, position in params.events:
        start = int(time * RATE)
        sound = voices.event(rng, kind)[: max(0, n_samples - start)]
        bed[:, start : start + len(sound)] += voices.place(sound, position) * np.float32(0.5 * 10 ** (level_db / 20))
    bed *= _envelope(params, mute)
    if params.sing_along_voices and np.abs(vocals).max() > 1e-4:
        choir = voices.sing_along(rng, vocals, params.sing_along_voices, params.sing_along_late_ms)
        bed += _unit(choir) * np.float32(10 ** (params.sing_along_db / 20))
    return bed


def _loop(audio: np.ndarray, layer: Layer, n_samples: int) -> np.ndarray:
    """A recording repeated with cross-faded seams, at another speed, from its offset on: (2, n_samples)."""
    need = int(np.ceil(n_samples * layer.speed)) + 2
    length = audio.shape[-1]
    fade = min(RATE // 4, length // 4)
    period = length - fade
    start = int(layer.offset * period)
    ramp = np.sqrt(np.linspace(0.0, 1.0, fade, dtype=np.float32))
    body = audio[:, :period].copy()
    body[:, :fade] = audio[:, :fade] * ramp + audio[:, period:] * ramp[::-1]
    tiles = np.tile(body, (1, (start + need) // period + 1))[:, start : start + need]
    at = np.arange(n_samples) * layer.speed
    whole = at.astype(np.int64)
    part = (at - whole).astype(np.float32)
    moved = tiles[:, whole] * (1 - part) + tiles[:, whole + 1] * part
    return voices.place(moved[0], layer.position) if len(moved) == 1 else moved[:2]


def _envelope(params: CrowdParams, mute: np.ndarray) -> np.ndarray:
    """Louder while no music plays, rising and falling within about 0.7 s."""
    step = RATE // 50
    gain_db = params.gap_boost_db * (1.0 - mute[::step])
    kernel = np.hanning(35)
    smooth = np.convolve(np.pad(gain_db, 17, mode="edge"), kernel / kernel.sum(), mode="valid")
    at = np.interp(np.arange(len(mute)), np.arange(len(smooth)) * step, smooth)
    return (10 ** (at / 20)).astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    """x at RMS 1 (silence stays silence)."""
    rms = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    return x / np.float32(rms) if rms > 1e-8 else x
