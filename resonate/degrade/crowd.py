"""The crowd as a scene, drawn: who is there, where, how loud, and how they answer to the music.

Talk, cheering, applause, clapping along, near neighbours, screams, whistles and sing-along each have an own level,
place and behaviour; recordings of the bank take part under the label of what they hold (`label`), synthesis
(`speech`, `voices`, `claps`, `choir`) makes the same kinds, so a small bank, or none, still gives every scene anew.
`scene` renders what is drawn here. Levels are assumptions: about 20 dB under the music near the stage, over it among
screaming fans, and between songs 14 dB under the music to 4 dB over it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from resonate.degrade.voices import EVENTS

#: label -> words in a recording's name, group or note; the first that fits counts.
LABELS = {
    "applause": ("applause", "clap", "ovation"),
    "cheer": ("cheer", "goal", "boo", "stadium", "chant", "scream", "yell", "whoop", "fans"),
    "talk": ("talk", "coffee", "cafe", "restaurant", "tavern", "pub", "bar_", "conversation", "office", "library",
             "square", "playground", "babble", "speech", "people"),
}  # fmt: skip
#: What a recording counts as whose name says nothing.
UNKNOWN = "talk"


@dataclass(frozen=True)
class Layer:
    """One recording: bank name, start as a fraction of it (0..1), speed (0.84..1.19), gain in dB (-10..0),
    position -1..1 (for mono files) and label, a key of LABELS."""

    name: str
    offset: float
    speed: float
    gain_db: float
    position: float
    label: str = UNKNOWN


class Neighbour(NamedTuple):
    """Somebody talking beside the phone: level in dB over the field (-8..8), position -1..1, distance 0.5..4 m,
    effort 0 = talking .. 1 = shouting, and the stretch [start_s, end_s] in which they talk."""

    level_db: float
    position: float
    distance_m: float
    effort: float
    start_s: float
    end_s: float


class Event(NamedTuple):
    """One whistle, scream, whoop, shout or clap (`voices.EVENTS`): time in s, peak in dB over the field's RMS (4..20),
    position -1..1, distance 0.5..8 m."""

    kind: str
    time_s: float
    level_db: float
    position: float
    distance_m: float = 2.0


@dataclass(frozen=True)
class CrowdParams:
    """What `scene.render` needs. Levels in dB are over the field's talk and recordings, measured while music plays.

    snr_db: music over crowd while music plays, at the capsule (-8..25).
    talkers (0..60), babble_db (-12..0): the field's synthesised talk and its level against the recordings.
    cheerers (0..60), cheer_db (-20..0): shouting field. clappers (0..300), applause_db (-24..3): applause under the
    music. on_beat: while music plays they clap along, on every `beat_every`-th beat (1, 2 or 4) from the
    `beat_first`-th; beat_hz (1.4..2.4): where the music has no plain beat. spread_m (4..40): radius of the audience.
    gap_boost_db (0..24): how much applause and cheering grow when the music stops, talk by 0.4 of it;
    quiet_boost_db (0..8): talk in quiet stretches; drop_boost_db (0..10): cheering when the music comes in.
    sing_along_voices (0 = none, 3..24), sing_along_db (-6..6), sing_along_late_ms (20..200), sing_along_cents (10..60).
    reverb_db (-10..4): the field's diffuse over direct sound. seed: of everything that is synthesised.
    """

    snr_db: float
    layers: list[Layer]
    talkers: int
    babble_db: float
    neighbours: list[Neighbour]
    cheerers: int
    cheer_db: float
    clappers: int
    applause_db: float
    on_beat: bool
    beat_every: int
    beat_first: int
    beat_hz: float
    spread_m: float
    gap_boost_db: float
    quiet_boost_db: float
    drop_boost_db: float
    events: list[Event]
    sing_along_voices: int
    sing_along_db: float
    sing_along_late_ms: float
    sing_along_cents: float
    reverb_db: float
    seed: int

    @classmethod
    def from_dict(cls, values: dict) -> "CrowdParams":
        """Rebuild from the plain form that JSON gives back."""
        return cls(
            **{
                **values,
                "layers": [Layer(**layer) for layer in values["layers"]],
                "neighbours": [Neighbour(*one) for one in values["neighbours"]],
                "events": [Event(*event) for event in values["events"]],
            }
        )


def label(*texts: str) -> str:
    """applause, cheer or talk: what a recording of this name, group and note holds."""
    text = " ".join(texts).lower()
    return next((name for name, words in LABELS.items() if any(word in text for word in words)), UNKNOWN)


def sample(
    rng: np.random.Generator,
    severity: float,
    seconds: float,
    recordings: Mapping[str, str] | None = None,
    sing_along_share: float = 0.3,
    gaps: Sequence[Sequence[float]] = (),
) -> CrowdParams:
    """Draw a scene; SNR falls from about +20 dB (severity 0) to -3 dB (severity 1).

    Args: recordings: bank name -> label; gaps: [start, end] in s of the stretches without music.
    """
    snr_db = float(20.0 - 23.0 * severity + rng.normal(0.0, 1.5))
    layers = _layers(rng, recordings) if recordings and rng.uniform() < 0.75 else []
    gap_db = float(rng.uniform(-14.0, -1.0) + 5.0 * severity)  # crowd in the gaps over the music
    return CrowdParams(
        snr_db=snr_db,
        layers=layers,
        talkers=int(np.exp(rng.uniform(np.log(3), np.log(60)))) if not layers or rng.uniform() < 0.4 else 0,
        babble_db=float(rng.uniform(-12.0, 0.0)),
        neighbours=_neighbours(rng, severity, seconds),
        cheerers=int(np.exp(rng.uniform(np.log(4), np.log(60)))) if rng.uniform() < (0.7 if gaps else 0.35) else 0,
        cheer_db=float(rng.uniform(-20.0, 0.0)),
        clappers=int(np.exp(rng.uniform(np.log(4), np.log(300)))) if rng.uniform() < (0.75 if gaps else 0.4) else 0,
        applause_db=float(rng.uniform(-24.0, 3.0)),
        on_beat=bool(rng.uniform() < 0.4),
        beat_every=int(rng.choice([1, 2, 4], p=[0.5, 0.45, 0.05])),
        beat_first=int(rng.integers(4)),
        beat_hz=float(rng.uniform(1.4, 2.4)),
        spread_m=float(rng.uniform(4.0, 40.0)),
        gap_boost_db=float(np.clip(snr_db + gap_db, 0.0, 24.0)),
        quiet_boost_db=float(rng.uniform(0.0, 8.0)),
        drop_boost_db=float(rng.uniform(0.0, 10.0)),
        events=_events(rng, severity, seconds, gaps),
        sing_along_voices=int(rng.integers(3, 25)) if rng.uniform() < sing_along_share else 0,
        sing_along_db=float(rng.uniform(-6.0, 6.0)),
        sing_along_late_ms=float(rng.uniform(20.0, 200.0)),
        sing_along_cents=float(rng.uniform(10.0, 60.0)),
        reverb_db=float(rng.uniform(-10.0, 4.0)),
        seed=int(rng.integers(2**31)),
    )


def _layers(rng: np.random.Generator, recordings: Mapping[str, str]) -> list[Layer]:
    names = sorted(recordings)
    layers = []
    for _ in range(int(rng.integers(1, 4))):
        name = str(rng.choice(names))
        layers.append(
            Layer(
                name=name,
                offset=float(rng.uniform()),
                speed=float(2.0 ** rng.uniform(-0.25, 0.25)),
                gain_db=float(rng.uniform(-10.0, 0.0)),
                position=float(rng.uniform(-1, 1)),
                label=recordings[name],
            )
        )
    return layers


def _neighbours(rng: np.random.Generator, severity: float, seconds: float) -> list[Neighbour]:
    """Up to three people who talk for a while."""
    out = []
    for _ in range(min(3, int(rng.poisson(0.3 + 0.7 * severity)))):
        length = float(rng.uniform(0.3, 1.0) * seconds)
        start = float(rng.uniform(0.0, seconds - length))
        out.append(
            Neighbour(
                level_db=float(rng.uniform(-8.0, 8.0)),
                position=float(rng.uniform(-1, 1)),
                distance_m=float(np.sqrt(rng.uniform(0.25, 16.0))),
                effort=float(rng.uniform(0.2, 1.0)),
                start_s=start,
                end_s=start + length,
            )
        )
    return out


def _events(rng: np.random.Generator, severity: float, seconds: float, gaps: Sequence[Sequence[float]]) -> list[Event]:
    """Single voices and claps, one every 4 to 12 s and mostly where the music pauses."""
    count = int(rng.poisson((0.08 + 0.15 * severity) * seconds)) if rng.uniform() < 0.6 else 0
    out = []
    for _ in range(count):
        if gaps and rng.uniform() < 0.5:
            start, end = gaps[int(rng.integers(len(gaps)))]
            time = float(np.clip(rng.uniform(start - 0.5, end + 0.8), 0.0, seconds - 0.05))
        else:
            time = float(rng.uniform(0.0, seconds))
        out.append(
            Event(
                kind=str(rng.choice(EVENTS, p=[0.22, 0.25, 0.2, 0.2, 0.13])),
                time_s=time,
                level_db=float(rng.uniform(4.0, 16.0 + 4.0 * severity)),
                position=float(rng.uniform(-1, 1)),
                distance_m=float(np.sqrt(rng.uniform(0.25, 64.0))),
            )
        )
    return out
