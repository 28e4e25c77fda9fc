"""Truths about the repairs: they help where they act, and pass untouched what needs no repair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from restoring import work_on
from scipy.signal import butter, sosfilt, sosfreqz

from resonate import RATE
from resonate.degrade import agc as phone
from resonate.models.restorer import stft
from resonate.models.stats import HOP
from resonate.restore.config import Precondition as PreconditionSettings
from resonate.restore.config import Veto
from resonate.restore.diagnosis.truth import made_up_stems
from resonate.restore.precondition import Precondition
from resonate.restore.repair import agc, declip, transients
from resonate.restore.repair.hum import notches


def band(seconds: float, seed: int = 0) -> np.ndarray:
    """(2, n) of made-up music, peak 1."""
    x = made_up_stems(round(seconds * RATE), np.random.default_rng(seed)).sum(0)
    return (x / np.abs(x).max()).astype(np.float32)


def sdr(true: np.ndarray, made: np.ndarray) -> float:
    return float(10 * np.log10(np.square(true).sum() / np.square(true - made).sum()))


FULL = declip.ClipLevels((0.9999, 0.9999), (-0.9999, -0.9999))


@pytest.mark.parametrize("overdrive_db", [1.0, 3.0, 6.0, 10.0])
def test_declipping_helps_at_every_level(overdrive_db):
    true = band(1.5, 1) * np.float32(10 ** (overdrive_db / 20))
    clipped = np.clip(true, -1, 1)
    made = declip.declip(clipped, FULL)
    assert sdr(true, made) > sdr(true, clipped) + (2.0 if overdrive_db > 5 else 0.0)
    reliable = np.abs(clipped) < 0.9999
    assert np.array_equal(made[reliable], clipped[reliable])
    assert (np.abs(made[~reliable]) >= np.abs(clipped[~reliable])).all()


def test_declipping_leaves_clean_sound_alone():
    x = band(1.0) * np.float32(0.9)
    assert np.array_equal(declip.declip(x, FULL), x)


def test_declipping_can_begin_at_any_stretch():
    x = np.clip(3 * band(4.0), -1, 1)

    def read(start: int, count: int) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (max(-start, 0), max(start + count - x.shape[1], 0))))
        return padded[:, max(start, 0) : max(start, 0) + count]

    whole = list(declip.declip_blocks(read, x.shape[1], FULL))
    late = list(declip.declip_blocks(read, x.shape[1], FULL, declip.STRETCH))
    assert len(late) == len(whole) - 1
    assert all(a == b and np.array_equal(y, z) for (a, y), (b, z) in zip(whole[1:], late, strict=True))


def test_headroom_grows_with_the_share():
    values = [declip.headroom(share) for share in (0.0, 1e-4, 1e-2, 0.1, 0.9)]
    assert values == sorted(values) and values[0] >= 1.0 and values[-1] <= 4.0


def test_notches_take_hum_and_little_else():
    lines = [50.0, 100.0, 150.0]
    _, at = sosfreqz(notches(lines), worN=lines, fs=RATE)
    assert (20 * np.log10(np.abs(at) + 1e-12) < -40).all()
    _, beside = sosfreqz(notches(lines), worN=[45.0, 75.0, 110.0, 440.0], fs=RATE)
    assert (20 * np.log10(np.abs(beside)) > -0.3).all()


def preconditioned(x: np.ndarray, folder: Path, lines: list[float], clipped: bool = False, **settings) -> np.ndarray:
    """What the stage makes of (2, n) in which diagnosis found these lines, and whether it is clipped at full scale."""
    work = work_on(x, folder, precondition=replace(PreconditionSettings(), **settings), veto=Veto(enabled=False))
    work.diagnosis["hum"] = {"lines": [[hz, -30.0] for hz in lines]}
    if clipped:
        work.diagnosis["clipped_share"] = 0.01
        work.diagnosis["clip_levels"] = {"high": list(FULL.high), "low": list(FULL.low)}
    Precondition().run(work)
    track = work.track["separator_input"]
    return track.read(0, track.length)


def test_rumble_goes_and_what_lies_above_stays(tmp_path):
    t = np.arange(8 * RATE) / RATE
    tones = {hz: np.stack([0.1 * np.sin(2 * np.pi * hz * t)] * 2).astype(np.float32) for hz in (8.0, 60.0)}
    (tmp_path / "whole").mkdir()
    made = {}
    for hz, x in tones.items():
        (tmp_path / str(hz)).mkdir()
        made[hz] = preconditioned(x, tmp_path / str(hz), [], rumble_hz=20.0, events=False)
    settled = slice(2 * RATE, -RATE)
    levels = {hz: 20 * np.log10(np.sqrt(np.mean(y[:, settled] ** 2)) / (0.1 / np.sqrt(2))) for hz, y in made.items()}
    # Butterworth of order 2: 1 / (1 + (20 / f)^4) of the power.
    for hz, level in levels.items():
        assert level == pytest.approx(-10 * np.log10(1 + (20 / hz) ** 4), abs=0.1)
    whole = preconditioned(tones[8.0] + tones[60.0], tmp_path / "whole", [], rumble_hz=20.0, events=False)
    assert np.abs(whole - made[8.0] - made[60.0]).max() < 1e-6


def test_hum_bumps_and_clipping_in_one_recording_are_each_repaired(tmp_path):
    """With all three parts on the music is nearest; each part left out costs."""
    n = 10 * RATE
    t, true = np.arange(n) / RATE, band(10.0, 3)
    hum = sum(0.05 / k * np.sin(2 * np.pi * 50 * k * t) for k in (1, 2, 3))
    bumps = np.zeros((2, n), np.float32)
    clap = applause(np.random.default_rng(0), 1, 0.05)[0]
    for at in (2.1, 5.3, 7.7):
        bumps[:, round(at * RATE) : round(at * RATE) + len(clap)] += 1.5 * clap / np.abs(clap).max()
    # Overdriven by 10 dB: the music's own peaks are cut, too.
    x = np.clip(3 * (true + hum + bumps), -1, 1).astype(np.float32)

    def error_db(name: str, **settings) -> float:
        (tmp_path / name).mkdir()
        y = preconditioned(x, tmp_path / name, [50.0, 100.0, 150.0], clipped=True, rumble_hz=0.0, **settings)
        return -sdr(3 * true, y)

    recording, whole = -sdr(3 * true, x), error_db("whole")
    assert whole < recording - 4.0
    for name in ("hum", "events", "declip"):
        assert error_db(name, **{name: False}) > whole + 0.1, name


def gains_of(x: np.ndarray) -> np.ndarray:
    power = stft(np_to_tensor(x)).abs().square().sum(0).numpy()
    stretches = list(transients.gain_stretches(lambda a, n: power[:, a : a + n], power.shape[1], 6.0))
    return np.concatenate([rows for _, rows in stretches])


def applause(rng: np.random.Generator, claps: int, seconds: float) -> np.ndarray:
    """(2, n): single claps, decaying noise of 20 ms around 1.5 kHz, at random times; a lone one at the beginning."""
    out = np.zeros(round(seconds * RATE))
    sos = butter(2, [800, 2800], "bandpass", fs=RATE, output="sos")
    for start in [0] if claps == 1 else rng.integers(0, len(out) - 2000, claps):
        sound = sosfilt(sos, rng.standard_normal(1800) * np.exp(-np.arange(1800) / 250))
        out[start : start + 1800] += sound
    return np.stack([out, out]).astype(np.float32)


def np_to_tensor(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def test_single_claps_are_turned_down_and_the_music_is_not():
    music = 0.1 * band(8.0, 2)
    clap = applause(np.random.default_rng(0), 1, 0.05)[0]
    rms = float(np.sqrt(np.square(music).mean()))
    noise = np.zeros_like(music)
    for at in (2.1, 5.3):
        start = int(at * RATE)
        noise[:, start : start + len(clap)] += 10 * rms * clap / np.abs(clap).max()
    mask = transients.to_mask(gains_of(music + noise))
    spectra = [stft(np_to_tensor(part)).numpy() for part in (music, noise)]
    lost, left = (10 * np.log10(np.square(np.abs(z * mask)).sum() / np.square(np.abs(z)).sum()) for z in spectra)
    assert left < -5.0 and lost > -0.3
    assert mask.max() <= 1.0 and mask.min() >= 10 ** (-transients.MOST_DB / 20) - 1e-6


def test_beats_are_no_events():
    music = 0.1 * band(8.0, 2)
    spectrum = stft(np_to_tensor(music)).numpy()
    kept = spectrum * transients.to_mask(gains_of(music))
    assert 10 * np.log10(np.square(np.abs(kept)).sum() / np.square(np.abs(spectrum)).sum()) > -0.1


def test_steady_applause_is_its_own_reference():
    claps = applause(np.random.default_rng(1), 2400, 8.0)
    assert (gains_of(0.1 * claps).min(1) < -3.0).mean() < 0.02


def test_stretches_do_not_show():
    """The same gains whether a recording is worked on in one stretch or in several."""
    rng = np.random.default_rng(0)
    levels = rng.normal(-40, 3, (9000, transients.BANDS)).astype(np.float32)
    levels[[3000, 4095, 4100, 7000]] += 25
    whole = transients.band_gains(levels, 6.0)
    for first, rows in ((0, 4096), (4096, 4096)):
        begin, end = max(0, first - transients.CONTEXT), min(9000, first + rows + transients.CONTEXT)
        part = transients.band_gains(levels[begin:end], 6.0)[first - begin : first - begin + rows]
        np.testing.assert_array_equal(part, whole[first : first + rows])


def test_a_known_gain_is_undone():
    """With the true curve the phone's gain control comes off to a quarter of a decibel."""
    import torch

    x = 0.1 * band(6.0, 4)
    params = phone.AgcParams(True, -20.0, 15.0, 20.0, 200.0, 8.0, 0.0, 0.0, 1.0)
    gain = phone.gain(torch.from_numpy(x), params, float(np.sqrt(np.square(x).mean()))).numpy()
    rows = np.pad(gain, (0, -len(gain) % 2205), mode="edge").reshape(-1, 2205)
    curve = 20 * np.log10(rows.mean(1))
    inverse = agc.inverse_gain_db(curve - curve.mean(), 12.0)
    frames = agc.at_frames(inverse, 0, x.shape[1] // HOP + 3)
    parts = [agc.scale((gain * x)[:, a : a + 7000], a, frames[a // HOP :]) for a in range(0, x.shape[1], 7000)]
    again = np.concatenate(parts, axis=1)
    ratio = 20 * np.log10(np.abs(again[0]).reshape(-1, 4410).max(1) / np.abs(x[0]).reshape(-1, 4410).max(1))
    assert np.median(np.abs(ratio - np.median(ratio))) < 0.25


def test_the_inverse_gain_is_bounded():
    assert np.abs(agc.inverse_gain_db(np.linspace(-40, 40, 100), 12.0)).max() == 12.0
