"""The crowd as a scene, rendered: sources at their places, louder and quieter with the music.

Two buses come out: `near`, people around the phone with their own direct sound and first reflections, and `field`,
the many farther away, to which the room adds its diffuse tail. The chain sets the level of both as one.
"""

import numpy as np

from resonate import RATE
from resonate.degrade import choir, claps, speech, voices
from resonate.degrade.bank import Bank
from resonate.degrade.crowd import CrowdParams, Layer
from resonate.degrade.filters import read_at
from resonate.degrade.places import Place, pan, place
from resonate.degrade.programme import STEP, Programme

#: Seconds in which a crowd grows loud, and in which it calms down.
RISE_S, FALL_S = 0.35, 2.5
#: A rise of the music by this many dB within a second is a drop, a level this far under the mean a quiet stretch.
DROP_DB, QUIET_DB = 8.0, -7.0
# Numbers of the generators that the parts of a scene draw from: one part less leaves the others as they are.
_BABBLE, _CHEER, _CLAPS, _NEAR, _EVENTS, _CHOIR = range(6)


def render(params: CrowdParams, programme: Programme, vocals: np.ndarray, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """The crowd before room, capsule and level: (near, field), each (2, n_samples) float32.

    Args: vocals (n_samples,) float32 clean vocal stem, from which the sing-along is made.
    Raises UserError for a recording that the bank lacks.
    """
    n = programme.n_samples
    mood = {name: _gain(curve, n) for name, curve in activity(params, programme).items()}
    field = _talk(params, n, bank, mood)
    if params.cheerers:
        sound = voices.cheering(_rng(params, _CHEER), params.cheerers, n)
        field += _level(params.cheer_db) * mood["cheer"] * _unit(sound)
    if params.clappers:
        field += _level(params.applause_db) * _clapping(params, programme, mood["applause"])
    if params.sing_along_voices and np.abs(vocals).max() > 1e-4:
        sound = choir.sing_along(
            _rng(params, _CHOIR), vocals, params.sing_along_voices, params.sing_along_late_ms, params.sing_along_cents
        )
        field += _level(params.sing_along_db) * _unit(sound)
    return _near(params, n), field


def activity(params: CrowdParams, programme: Programme) -> dict[str, np.ndarray]:
    """What the music makes the crowd do: label -> gain in dB per control period (frames,)."""
    silent = 1.0 - programme.music
    stopped = _follow(silent, RISE_S, FALL_S)
    quiet = _follow(silent + (programme.music > 0.5) * (programme.level_db < QUIET_DB), 0.5, 0.5)
    second = RATE // STEP
    before = np.concatenate([np.full(second, programme.level_db[0]), programme.level_db])[: len(silent)]
    begins = np.concatenate([[0.0], np.maximum(0.0, np.diff(programme.music))])
    rise = np.clip((programme.level_db - before) / DROP_DB - 1.0, 0.0, 1.0) * programme.music
    comes_in = _follow(np.maximum(np.minimum(rise, 1.0), begins > 0.05), 0.1, 1.5)
    excited = params.gap_boost_db * stopped + params.drop_boost_db * comes_in
    talk = 0.4 * params.gap_boost_db * stopped + params.quiet_boost_db * quiet
    return {"applause": excited, "cheer": excited, "talk": talk}


def clap_times(params: CrowdParams, programme: Programme) -> np.ndarray:
    """When people clap along, in s: on beats of the music, or at beat_hz where it has none; never in gaps."""
    beats = programme.beats_s
    if not len(beats):
        beats = np.arange(0.2, programme.n_samples / RATE, 1.0 / params.beat_hz)
    chosen = beats[params.beat_first % params.beat_every :: params.beat_every]
    frame = np.minimum((chosen * RATE / STEP).astype(int), len(programme.music) - 1)
    return chosen[programme.music[frame] > 0.5]


def _talk(params: CrowdParams, n: int, bank: Bank, mood: dict[str, np.ndarray]) -> np.ndarray:
    """Recordings and babble, the reference of all levels: about RMS 1 before their moods."""
    parts = [(_unit(_loop(bank.audio(one.name), one, n)), one.gain_db, one.label) for one in params.layers]
    if params.talkers:
        rng = _rng(params, _BABBLE)
        babble = voices.babble(rng, params.talkers, n, float(rng.uniform(0.2, 0.8)))
        parts.append((_unit(babble), params.babble_db, "talk"))
    field = np.zeros((2, n), np.float32)
    power = sum(10 ** (gain_db / 10) for _, gain_db, _ in parts)
    for sound, gain_db, label in parts:
        field += (_level(gain_db) / np.float32(np.sqrt(power))) * mood[label] * sound
    return field


def _clapping(params: CrowdParams, programme: Programme, mood: np.ndarray) -> np.ndarray:
    """Applause that follows the music's structure; on_beat: clapping along, and applause only where it stops."""
    rng, n = _rng(params, _CLAPS), programme.n_samples
    if not params.on_beat:
        return mood * _unit(claps.applause(rng, params.clappers, n, params.spread_m))
    together = claps.on_beats(rng, params.clappers, clap_times(params, programme), n, params.spread_m)
    out = _unit(together)
    if programme.music.min() < 0.5:
        stopped = _gain(20 * np.log10(_follow(1.0 - programme.music, RISE_S, FALL_S) + 1e-4), n)
        out = out + mood * stopped * _unit(claps.applause(rng, params.clappers, n, params.spread_m))
    return out


def _near(params: CrowdParams, n: int) -> np.ndarray:
    """Neighbours who talk, and single whistles, screams and claps, each at its place."""
    near = np.zeros((2, n), np.float32)
    rng = _rng(params, _NEAR)
    for one in params.neighbours:
        start = int(one.start_s * RATE)
        length = min(int((one.end_s - one.start_s) * RATE), n - start)
        if length < RATE // 4:
            continue
        where = Place(one.position, one.distance_m, float(rng.uniform(0.2, 1.0)))
        heard = place(rng, _unit(speech.talk(rng, length, one.effort)), where)[:, :length]
        near[:, start : start + length] += _level(one.level_db) * heard
    rng = _rng(params, _EVENTS)
    for kind, time, level_db, position, distance in params.events:
        where = Place(position, distance, float(rng.uniform(0.2, 1.0)))
        sound = place(rng, voices.event(rng, kind), where)
        start = int(time * RATE)
        sound = sound[:, : max(0, n - start)]
        near[:, start : start + sound.shape[-1]] += _level(level_db) * sound
    return near


def _loop(audio: np.ndarray, layer: Layer, n_samples: int) -> np.ndarray:
    """A recording repeated with cross-faded seams, at another speed, from its offset on: (2, n_samples)."""
    need = int(np.ceil(n_samples * layer.speed)) + 2
    length = audio.shape[-1]
    fade = min(RATE // 4, length // 4)
    period = length - fade
    start = int(layer.offset * period)
    ramp = np.sqrt(np.linspace(0.0, 1.0, fade, dtype=np.float32))
    body = audio[:2, :period].copy()
    body[:, :fade] = audio[:2, :fade] * ramp + audio[:2, period:] * ramp[::-1]
    tiles = np.tile(body, (1, (start + need) // period + 1))[:, start : start + need]
    moved = read_at(tiles, np.arange(n_samples) * layer.speed)
    return pan(moved[0], layer.position) if len(moved) == 1 else moved


def _follow(wanted: np.ndarray, rise_s: float, fall_s: float) -> np.ndarray:
    """wanted (frames,) in 0..1, reached exponentially with these time constants; starts where it wants to be."""
    period = STEP / RATE
    up, down = 1.0 - float(np.exp(-period / rise_s)), 1.0 - float(np.exp(-period / fall_s))
    now, out = float(wanted[0]), []
    for target in np.minimum(wanted, 1.0).tolist():
        now += (up if target > now else down) * (target - now)
        out.append(now)
    return np.array(out)


def _gain(curve_db: np.ndarray, n: int) -> np.ndarray:
    """Control-rate dB -> (n,) linear float32."""
    at = np.interp(np.arange(n), (np.arange(len(curve_db)) + 0.5) * STEP, 10.0 ** (curve_db / 20.0))
    return at.astype(np.float32)


def _level(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def _unit(x: np.ndarray) -> np.ndarray:
    """x at RMS 1 (silence stays silence)."""
    rms = float(np.sqrt(np.mean(np.square(x), dtype=np.float64)))
    return x / np.float32(rms) if rms > 1e-8 else x


def _rng(params: CrowdParams, part: int) -> np.random.Generator:
    return np.random.default_rng([params.seed, part])
