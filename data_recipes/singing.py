"""Speech made to sing: a spoken line is taken apart by the WORLD vocoder and given notes.

After Saitou, Goto, Unoki, Akagi (2007), "Speech-to-singing synthesis: converting speaking voices to singing voices by
controlling acoustic features unique to singing voices", WASPAA: notes with overshoot between them, vibrato, fine
fluctuation, longer voiced sounds, and a ring near 3 kHz. The words, consonants and timbre are the speaker's; the melody
is drawn. WORLD: Morise, Yokomori, Ozawa (2016), IEICE Trans. E99-D.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from scipy import signal

from resonate import RATE
from resonate.errors import UserError

#: s between frames of WORLD.
FRAME = 0.005
#: Degrees of the scales that melodies keep to, in semitones: major, minor, pentatonic, minor pentatonic.
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))
# The transition between notes as a damped oscillator (Saitou et al., table 1: overshoot): rad/s and damping.
_OMEGA, _ZETA = 34.8, 0.5422
_RING_HZ, _RING_WIDTH = 3000.0, 700.0
_SILENCE = 1e-9


@dataclass(frozen=True)
class Speech:
    """A line as WORLD sees it, frames of `FRAME` s at 44.1 kHz.

    f0: (frames,) Hz, 0 where unvoiced; envelope, noise: (frames, bins) spectral power and aperiodicity (0..1).
    """

    f0: np.ndarray
    envelope: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class Singer:
    """How a line is sung.

    Attributes:
        formants: factor of the formants' frequencies, a larger or smaller throat.
        tonic: Hz, in the middle of the range.
        scale: semitones of the degrees.
        stretch: how much longer voiced sounds become.
        beat: s, the shortest note.
        vibrato: cents.
        ring: dB more near 3 kHz.
    """

    formants: float
    tonic: float
    scale: tuple[int, ...]
    stretch: float
    beat: float
    vibrato: float
    ring: float

    @classmethod
    def draw(cls, rng: np.random.Generator, pitch: float) -> "Singer":
        """A singer made of a speaker whose pitch is `pitch` Hz: up to seven semitones above it, as singing lies."""
        formants = float(2 ** rng.uniform(-0.25, 0.25))
        return cls(formants, float(pitch * formants * 2 ** (rng.uniform(0, 7) / 12)),
                   SCALES[rng.integers(len(SCALES))], float(rng.uniform(1.4, 3.2)), float(rng.uniform(0.16, 0.4)),
                   float(rng.uniform(10, 70)), float(rng.uniform(0, 9)))


def analyse(speech: np.ndarray) -> Speech | None:
    """A line (time,) at 44.1 kHz taken apart; None where less than a tenth of a second of it is voiced."""
    world = vocoder()
    x = np.ascontiguousarray(speech, np.float64)
    f0, times = world.dio(x, RATE, f0_floor=65.0, f0_ceil=700.0, frame_period=1000 * FRAME)
    f0 = world.stonemask(x, f0, times, RATE)
    if np.count_nonzero(f0) < 0.1 / FRAME:
        return None
    return Speech(f0, world.cheaptrick(x, f0, times, RATE), world.d4c(x, f0, times, RATE))


def pitch_of(lines: list[Speech]) -> float:
    """The median pitch of a speaker's voiced frames in Hz."""
    return float(np.median(np.concatenate([line.f0[line.f0 > 0] for line in lines])))


def sing(speech: Speech, singer: Singer, rng: np.random.Generator) -> np.ndarray:
    """The line sung: (time,) float32 at 44.1 kHz, longer than the speech by up to `singer.stretch`."""
    place = _places(speech.f0 > 0, singer.stretch)
    nearest = np.minimum(np.round(place).astype(int), len(speech.f0) - 1)
    voiced = speech.f0[nearest] > 0
    f0 = np.where(voiced, melody(voiced, singer, rng), 0.0)
    envelope = _even(_warp(np.exp(_between(np.log(speech.envelope + _SILENCE**2), place)), singer.formants), voiced)
    hz = np.linspace(0, RATE / 2, envelope.shape[1])
    ring = 10 ** (singer.ring / 10 * np.exp(-0.5 * np.square((hz - _RING_HZ) / _RING_WIDTH)))
    envelope[voiced] *= ring
    noise = np.clip(_warp(_between(speech.noise, place), singer.formants), 0.0, 1.0)
    y = vocoder().synthesize(f0, np.ascontiguousarray(envelope), np.ascontiguousarray(noise), RATE, 1000 * FRAME)
    return y.astype(np.float32)


def melody(voiced: np.ndarray, singer: Singer, rng: np.random.Generator) -> np.ndarray:
    """A pitch in Hz for each frame, (frames,) bool in: notes of the scale that change where a voiced sound begins and
    every few beats within one, joined by overshoot, with vibrato in the longer ones."""
    frames = len(voiced)
    begins = set(np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(int)])) > 0).tolist())
    semitones, since = np.zeros(frames), np.zeros(frames)
    degree, left, age = int(rng.integers(-2, 3)), 0, 0
    for i in range(frames):
        if left <= 0 or (i in begins and age > 0.1 / FRAME):
            degree += int(rng.choice([-2, -1, -1, 0, 1, 1, 2]))
            degree = int(np.clip(degree, -5, 6))
            left, age = round(singer.beat * int(rng.choice([1, 1, 2, 2, 3, 4])) / FRAME), 0
        octave, step = divmod(degree, len(singer.scale))
        semitones[i], since[i] = 12 * octave + singer.scale[step], age * FRAME
        left, age = left - 1, age + 1
    smooth = _damped(semitones)
    depth = np.clip((since - 0.2) / 0.3, 0, 1) * singer.vibrato / 100
    vibrato = depth * np.sin(2 * np.pi * rng.uniform(5, 6.5) * FRAME * np.arange(frames) + rng.uniform(0, 2 * np.pi))
    b, a = signal.butter(2, 2 * FRAME * 10)
    fluctuation = 0.15 * signal.lfilter(b, a, rng.standard_normal(frames))
    return singer.tonic * 2 ** ((smooth + vibrato + fluctuation) / 12)


def _damped(steps: np.ndarray) -> np.ndarray:
    """Steps of pitch through a damped second-order system of gain 1."""
    b, a, _ = signal.cont2discrete(([_OMEGA**2], [1, 2 * _ZETA * _OMEGA, _OMEGA**2]), FRAME)
    start = signal.lfilter_zi(b.ravel(), a) * steps[0]
    return signal.lfilter(b.ravel(), a, steps, zi=start)[0]


def _places(voiced: np.ndarray, stretch: float) -> np.ndarray:
    """Which frame of the speech (a fraction between two) is heard in each frame of the song."""
    ends = np.cumsum(np.where(voiced, stretch, 1.0))
    return np.interp(np.arange(int(ends[-1])), np.concatenate([[0.0], ends[:-1]]), np.arange(len(voiced)))


def _between(frames: np.ndarray, place: np.ndarray) -> np.ndarray:
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(frames) - 1)
    share = (place - low)[:, None]
    return frames[low] * (1 - share) + frames[high] * share


def _warp(spectra: np.ndarray, factor: float) -> np.ndarray:
    """Spectra (frames, bins) with every frequency times `factor`; what lies beyond the end repeats the last bin."""
    bins = spectra.shape[1]
    at = np.minimum(np.arange(bins) / factor, bins - 1)
    return _between(spectra.T, at).T


def _even(envelope: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Half the level differences in dB among voiced frames taken away: a sung line does not fall as a spoken one."""
    power = envelope.sum(1)
    wanted = np.median(power[voiced]) if voiced.any() else 1.0
    gain = np.where(voiced, np.clip(np.sqrt(wanted / (power + _SILENCE**2)), 0.2, 5.0), 1.0)
    soft = signal.filtfilt(np.ones(8) / 8, 1, gain) if len(gain) > 24 else gain
    return envelope * soft[:, None]


def vocoder() -> ModuleType:
    """pyworld. Raises UserError where it is not installed."""
    try:
        import pyworld
    except ImportError:
        raise UserError("Making speech sing needs pyworld; install it with pip install 'resonate[render]'.") from None
    return pyworld
