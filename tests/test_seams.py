"""The fixed grid: streaming gives what whole arrays give, bit for bit, and its seams are not heard in the sound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from restoring import music, tiny_weights, work_on

from resonate import RATE, STEMS
from resonate.models.separator import apply_separator, segment_samples
from resonate.models.weights import load_restorer, load_separator
from resonate.restore import networks, operator
from resonate.restore.array import restore_array
from resonate.restore.config import RestoreConfig, Separate, Veto
from resonate.restore.separation import Pass, passes
from resonate.restore.separation import Separate as Stage
from resonate.restore.work import Models, Work


def separate(x: np.ndarray, settings: Separate, folder) -> np.ndarray:
    """(4, 2, n) by the stage, streamed from disk to disk."""
    work = work_on(x, folder, separate=settings, veto=Veto(enabled=False))
    Stage().run(work)
    y = work.track["separated"].read(0, x.shape[1]).reshape(len(STEMS), 2, -1)
    work.close()
    return y


def on_grid(x: np.ndarray, stride: float, offset: int = 0) -> np.ndarray:
    """The network on the same grid with everything in memory: windows that sum to one, blocks added up."""
    model = load_separator(tiny_weights()[0])
    block = segment_samples(model)
    hop, n = int(block * stride), x.shape[1]
    count = max(0, -(-(n + offset - block) // hop)) + 1
    padded = np.zeros((2, (count - 1) * hop + block), np.float32)
    padded[:, offset : offset + n] = x
    ramp = ((np.arange(block - hop) + 0.5) / (block - hop)).astype(np.float32)
    out = np.zeros((len(STEMS), 2, padded.shape[1]), np.float32)
    for i in range(count):
        with torch.inference_mode():
            y = apply_separator(model, torch.from_numpy(padded[None, :, i * hop : i * hop + block].copy()))[0].numpy()
        if i > 0:
            y[..., : len(ramp)] *= ramp
        if i < count - 1:
            y[..., hop:] *= 1 - ramp
        out[..., i * hop : i * hop + block] += y
    return out[..., offset : offset + n]


@pytest.mark.parametrize("seconds", [0.7, 3.3])
def test_streaming_equals_whole_arrays_bit_for_bit(seconds, tmp_path):
    x = music(seconds, RATE)
    assert np.array_equal(separate(x, Separate(), tmp_path), on_grid(x, 0.75))


def test_the_passes_are_what_they_say(tmp_path):
    x = music(2.0, RATE)
    for name in ("shifts", "residual", "again"):
        (tmp_path / name).mkdir()
    first, block = on_grid(x, 0.75), 44100
    shifted = on_grid(x, 0.75, offset=round(block * 0.375))
    assert np.abs(shifted - first).max() > 1e-5  # another grid is another result
    both = separate(x, Separate(shifts=2), tmp_path / "shifts")
    assert np.abs(both - (first + shifted) / 2).max() < 1e-6
    more = separate(x, Separate(residual=True), tmp_path / "residual")
    assert np.abs(more - first - on_grid(x - first.sum(0), 0.75)).max() < 1e-6
    again = separate(x, Separate(again=True), tmp_path / "again")
    assert np.abs(again - on_grid(first.sum(0), 0.75)).max() < 1e-6
    assert passes(Separate()) == [Pass(1.0, 0.0, 0.0, 1.0, 0.0)]


@pytest.mark.parametrize("mode", ["extend", "reveal"])
def test_the_restorer_s_stream_equals_whole_arrays_bit_for_bit(mode, tmp_path, monkeypatch):
    block, hop = 96, 72
    monkeypatch.setattr(networks, "RESTORE_BLOCK", block)
    monkeypatch.setattr(networks, "RESTORE_HOP", hop)
    x = music(3.0, RATE)
    work = work_on(x, tmp_path, mode=mode)
    work.stats = replace(work.stats, high_hz=9000.0)
    rows, waves = zip(*blocks_of(work), strict=True)
    streamed = np.concatenate(rows), np.concatenate(waves, axis=1)
    model, places = load_restorer(tiny_weights()[1]), range(0, work.frames - block + hop, hop)
    gain = np.zeros((1025, places[-1] + block), np.float32)
    wave = np.zeros((2, gain.shape[1] * 512), np.float32)
    padded = np.pad(x, ((0, 0), (0, wave.shape[1] - x.shape[1])))
    for i in places:
        with torch.inference_mode():
            out = model(torch.from_numpy(padded[None, :, i * 512 : (i + block) * 512].copy()), work.stats, 1.0,
                        float(mode == "extend"), faithful=mode == "reveal")  # fmt: skip
        for whole, part, unit in ((gain, out.gain[0, :, :block], 1), (wave, out.extension[0], 512)):
            y, over = part.numpy().copy(), (block - hop) * unit
            ramp = ((np.arange(over) + 0.5) / over).astype(np.float32)
            if i > 0:
                y[:, :over] *= ramp
            if i < places[-1]:
                y[:, hop * unit :] *= 1 - ramp
            whole[:, i * unit : (i + block) * unit] += y
    assert len(places) > 2 and np.array_equal(streamed[0].T, gain) and np.array_equal(streamed[1], wave)
    assert wave.any() == (mode == "extend")
    work.close()


def blocks_of(work: Work) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(networks.gain_rows(work, work.track["separator_input"], None, work.config.mode == "extend"))


def test_cross_fades_hide_that_each_block_is_normalised_by_itself(tmp_path, monkeypatch):
    """Steady noise through a separator that, as HTDemucs does, divides by the block's own level: frames inside the
    cross-fades are as loud and as steady as all others. benchmarks/seams.py has the same for the shipped weights."""

    def normalising(model, x):
        return (0.1 / x.std() * x / 4)[:, None].expand(1, len(STEMS), 2, -1)

    monkeypatch.setattr("resonate.restore.separation.apply_separator", normalising)
    swell = 1 + 0.3 * np.sin(2 * np.pi * np.arange(20 * RATE) / RATE / 7)
    x = (0.1 * swell * np.random.default_rng(0).standard_normal((2, 20 * RATE))).astype(np.float32)
    y, size, block, hop = separate(x, Separate(), tmp_path)[0].mean(0), 512, 44100, 33075
    frames = y[: len(y) // size * size].reshape(-1, size)[4:-4]
    spectra = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(size))) + 1e-9)
    level = 10 * np.log10(np.square(frames).mean(-1))
    flux = np.sqrt(np.square(np.diff(spectra, axis=0)).mean(-1))
    at = (np.arange(len(frames)) + 4.5) * size
    seam = (at % hop < block - hop) & (at > hop)
    assert abs(level[seam].mean() - level[~seam].mean()) < 0.15
    assert abs(flux[seam[1:]].mean() / flux[~seam[1:]].mean() - 1) < 0.02


def test_level_and_flux_at_the_seams_are_as_elsewhere():
    """Of steady noise, so that all that changes over time comes from the grid."""
    separator, restorer = map(str, tiny_weights())
    config = RestoreConfig(separator=separator, restorer=restorer, device="cpu")
    x = (0.1 * np.random.default_rng(0).standard_normal((2, 14 * RATE))).astype(np.float32)
    y = restore_array(x, config, Models(config))["revealed"].sum(0)
    size = 1024
    frames = y[:, : y.shape[1] // size * size].mean(0).reshape(-1, size)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(size))) + 1e-9
    level = 10 * np.log10(np.square(frames).mean(1))
    flux = np.square(np.diff(20 * np.log10(spectra), axis=0)).mean(1) ** 0.5
    centres = (np.arange(len(frames)) + 0.5) * size
    # The restorer's second block begins after 768 hops and fades in over 256; the separator's lie 0.75 s apart.
    inside = (centres > 768 * 512) & (centres < 1024 * 512)
    edge = slice(2, -2)
    assert abs(level[edge][inside[edge]].mean() - level[edge][~inside[edge]].mean()) < 0.1
    assert abs(flux[edge][inside[1:][edge]].mean() - flux[edge][~inside[1:][edge]].mean()) < 0.15
    assert np.abs(level[edge] - level[edge].mean()).max() < 6 * level[edge].std()


@pytest.mark.parametrize("first", [0, 3, 200])
def test_spectra_of_a_stretch_are_those_of_the_whole(first, tmp_path):
    x = music(3.0, RATE)
    from resonate.models.restorer import stft
    from resonate.restore.store import Track

    track = Track(tmp_path / "x.npy", 2, x.shape[1], RATE)
    track.write(0, x)
    whole = stft(torch.from_numpy(x))[..., first : first + 40]
    assert torch.allclose(operator.spectrum(track, first, 40), whole, atol=1e-4)
