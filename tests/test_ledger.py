"""The ledger's equations and the proof of mode reveal, on files read back from disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from restoring import music, tiny_weights, weights_arguments, work_on

from resonate import RATE, STEMS, audio
from resonate.models.restorer import apply_gain
from resonate.models.weights import load_restorer
from resonate.restore import grid, operator
from resonate.restore.command import main
from resonate.restore.config import Choose
from resonate.restore.deliver import LEDGER
from resonate.restore.diagnosis import clean
from resonate.restore.networks import MASK_UNIT, ratio_masks, stem_masks
from resonate.restore.proof import prove
from resonate.restore.stages import chain
from resonate.restore.store import Track

#: -120 dBFS.
LIMIT = 1e-6

CASES = {
    "48k-stereo": (48000, 2, "m4a", "aac"),
    "44k-stereo": (44100, 2, "wav", "pcm_s16le"),
    "8k-mono": (8000, 1, "wav", "pcm_s16le"),
    "96k-six": (96000, 6, "wav", None),
}


def load(folder: Path, name: str) -> tuple[np.ndarray, int]:
    x, rate = soundfile.read(folder / f"{name}.wav", dtype="float64", always_2d=True)
    return x.T, rate


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[str, str], tuple[Path, Path]]:
    """(case, mode) -> (recording, result folder)."""
    folder = tmp_path_factory.mktemp("ledger")
    made = {}
    for k, (case, (rate, channels, suffix, codec)) in enumerate(CASES.items()):
        path = folder / f"{case}.{suffix}"
        x = music(1.3, rate, channels, seed=k)
        if codec:
            audio.encode(path, x, rate, codec)
        else:
            audio.write(path, x, rate, "PCM_24")
        for mode in ("extend", "reveal") if k < 2 else ("reveal",) if k == 2 else ("extend",):
            assert main([str(path), "-o", str(folder / mode), f"mode={mode}", "threads=1", *weights_arguments()]) == 0
            made[case, mode] = (path, folder / mode / case)
    return made


def test_all_parts_are_on_the_recordings_clock(results):
    for path, result in results.values():
        given = audio.read(path)
        for name in LEDGER:
            info = soundfile.info(result / "ledger" / f"{name}.wav")
            assert (info.frames, info.samplerate) == (given.samples.shape[1], given.rate), name
            assert (info.channels, info.subtype) == (2, "FLOAT")


def test_separated_and_crowd_make_the_separator_input(results):
    for _, result in results.values():
        parts = [load(result / "ledger", name)[0] for name in (*(f"separated_{s}" for s in STEMS), "crowd")]
        whole = load(result / "ledger", "separator_input")[0]
        stages = json.loads((result / "report.json").read_text(encoding="utf-8"))["stages"]
        taken_back = next(stage for stage in stages if stage["name"] == "separate")["effect"].get("taken_back")
        # What is taken back lies in "other" as it was.
        heard = [parts[STEMS.index("other")]] if taken_back else parts
        assert np.abs(whole).max() > 0.1 and all(np.abs(part).max() > 1e-4 for part in heard)
        assert np.abs(sum(parts) - whole).max() < LIMIT


def test_revealed_and_extended_make_the_premaster(results):
    for (_, mode), (_, result) in results.items():
        revealed, extended, premaster = (load(result / "ledger", n)[0] for n in ("revealed", "extended", "premaster"))
        assert np.abs(revealed).max() > 1e-3
        assert (np.abs(extended).max() == 0) == (mode == "reveal")
        assert np.abs(revealed + extended - premaster).max() < LIMIT


def test_revealed_and_removed_make_the_recording(results):
    for path, result in results.values():
        given, _ = audio.to_stereo(audio.read(path).samples)
        revealed, removed = load(result / "ledger", "revealed")[0], load(result / "ledger", "removed")[0]
        assert np.abs(revealed + removed - given).max() < LIMIT


def test_separator_input_is_the_recording_but_for_rumble(results):
    path, result = results["44k-stereo", "extend"]
    given = audio.read(path).samples.astype(np.float64)
    x = load(result / "ledger", "separator_input")[0]
    f = np.fft.rfftfreq(x.shape[1], 1 / RATE)
    ratio = np.abs(np.fft.rfft(x)) / (np.abs(np.fft.rfft(given)) + 1e-9)
    assert np.abs(ratio[:, (f > 100) & (f < 15000)] - 1).mean() < 0.02


def test_stems_sum_to_the_premaster(results):
    _, result = results["44k-stereo", "extend"]
    stems = sum(load(result / "stems", name)[0] for name in STEMS)
    assert np.abs(stems - load(result / "ledger", "premaster")[0]).max() < LIMIT


def test_reveal_is_proved_by_its_operators(results):
    for (_, mode), (path, result) in results.items():
        if mode == "reveal":
            proof = prove(result, path)
            assert proof.holds and proof.gain_most > 0.1, proof


def test_the_proof_fails_for_what_the_operators_did_not_make(results, tmp_path):
    import shutil

    path, result = results["44k-stereo", "reveal"]
    forged = tmp_path / "forged"
    shutil.copytree(result, forged)
    x, rate = load(forged / "ledger", "revealed")
    x[0, 20_000] += 1e-5
    audio.write(forged / "ledger" / "revealed.wav", x.astype(np.float32), rate)
    assert not prove(forged, path).holds
    shutil.copytree(result, tmp_path / "beyond")
    gain = np.load(tmp_path / "beyond" / "work" / "gain.npy")
    gain[:] = 1000
    np.save(tmp_path / "beyond" / "work" / "gain.npy", gain)
    assert not prove(tmp_path / "beyond", path).holds


def test_the_inverse_of_a_gain_control_is_part_of_the_proof(tmp_path):
    """The gain over time that undoes the phone's is stored, bounded, and one of the operators that are proved."""
    x = music(8.0, RATE)
    ducked = x * np.where((np.arange(x.shape[1]) / RATE) % 4 < 2, 1.0, 0.2).astype(np.float32)
    audio.write(tmp_path / "x.wav", ducked, RATE, "PCM_24")
    words = [str(tmp_path / "x.wav"), "-o", str(tmp_path / "out"), "mode=reveal", "threads=1", *weights_arguments(),
             "precondition.agc=true", "precondition.agc_least_db=0", "precondition.agc_most_db=6"]
    assert main(words) == 0
    result = tmp_path / "out" / "x"
    report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    effect = next(stage["effect"]["agc"] for stage in report["stages"] if stage["name"] == "precondition")
    rows = np.load(result / "work" / "agc.npy")
    assert effect["most_db"] > effect["least_db"] and rows.max() > rows.min()
    assert np.abs(20 * np.log10(rows)).max() <= 6.0 + 1e-3
    proof = prove(result, tmp_path / "x.wav")
    assert proof.holds and proof.error_dbfs < -100, proof
    np.save(result / "work" / "agc.npy", 1.01 * rows)
    assert not prove(result, tmp_path / "x.wav").holds


def test_a_finished_mix_at_another_rate_is_proved_by_its_gains_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "faults", lambda diagnosis, limits: [])
    t = np.arange(57_600) / 48000
    # A tone that 44.1 kHz holds no more.
    audio.write(tmp_path / "x.wav", (music(1.2, 48000) + 0.1 * np.sin(2 * np.pi * 22500 * t)).astype("f4"), 48000)
    words = (str(tmp_path / "x.wav"), "-o", str(tmp_path / "out"), "mode=reveal", "threads=1", *weights_arguments())
    assert main(list(words)) == 0
    proof = prove(tmp_path / "out" / "x", tmp_path / "x.wav")
    assert proof.holds and proof.gain_least == proof.gain_most == 1.0 and proof.error_dbfs == -np.inf
    kept = tmp_path / "out" / "x" / "work" / "gain.npy"
    gain = np.load(kept)
    for other in (0.5, 1.5):
        gain[3, 100] = other
        np.save(kept, gain)
        assert not prove(tmp_path / "out" / "x", tmp_path / "x.wav").holds, other


def test_the_operators_by_hand_without_the_pipeline(results):
    """As an outsider would: numpy arrays from work/, one STFT, the bounds from the weights."""
    _, result = results["44k-stereo", "reveal"]
    x = load(result / "ledger", "separator_input")[0].astype(np.float32)
    gain, mask = np.load(result / "work" / "gain.npy"), np.load(result / "work" / "mask.npy")
    bound = 10 ** (load_restorer(tiny_weights()[1]).config.max_gain_db / 20)  # without the corrective EQ's
    assert gain.min() >= 0 and gain.max() <= bound
    assert mask.sum(1, dtype=np.int64).max() <= MASK_UNIT
    y = apply_gain(torch.from_numpy(x)[None], torch.from_numpy(gain.T.astype(np.float32))[None])[0].numpy()
    assert np.abs(y - load(result / "ledger", "revealed")[0]).max() < LIMIT
    parts = stem_masks(mask)
    assert parts.min() >= 0 and parts.max() <= 1
    for k, name in enumerate(STEMS):
        g = torch.from_numpy(gain.T.astype(np.float32) * parts[k])[None]
        stem = apply_gain(torch.from_numpy(x)[None], g)[0].numpy()
        assert np.abs(stem - load(result / "stems", name)[0]).max() < LIMIT


def test_extension_lies_outside_the_band(results):
    _, result = results["44k-stereo", "extend"]
    report = json.loads((result / "report.json").read_text())
    extended, rate = load(result / "ledger", "extended")
    power = np.abs(np.fft.rfft(extended * np.hanning(extended.shape[1]))) ** 2
    f = np.fft.rfftfreq(extended.shape[1], 1 / rate)
    low, high = report["diagnosis"]["low_hz"], report["diagnosis"]["high_hz"]
    inside = power[:, (f > low + 60) & (f < high - 60)].sum() / power.sum()
    assert inside < 1e-3


@pytest.mark.parametrize(("mode", "clean"), [("extend", True), ("extend", False), ("reveal", False)])
def test_a_finished_mix_passes_bit_by_bit_and_only_missing_bands_are_filled(mode, clean, tmp_path):
    x = band_limited(music(1.5, RATE), 6000.0)
    work = work_on(x, tmp_path, mode=mode, choose=Choose(track="auto"))
    work.stats = replace(work.stats, high_hz=6000.0)
    work.diagnosis |= {"finished": True, "clean": clean}
    effects = {}
    for stage in chain(work.config)[2:]:
        work.folder = work.result = tmp_path / stage.name
        work.folder.mkdir()
        effects[stage.name] = stage.run(work)
        if stage.name == "stems":
            break
    assert effects["choose"]["track_made_from"] == "mix" and "finished" in effects["choose"]["because"]
    files = {p.stem: soundfile.read(p, dtype="float32")[0].T for p in tmp_path.glob("*/*/*.wav")}
    fills = mode == "extend" and not clean
    assert not files["removed"].any() and files["extended"].any() == fills
    for name in ("separator_input", "revealed"):
        assert np.array_equal(files[name], x), name
    premaster = work.track["premaster"].read(0, x.shape[1])
    assert np.array_equal(files["premaster"], premaster) and np.array_equal(premaster, x + files["extended"])
    if fills:
        power = np.square(np.abs(np.fft.rfft(files["extended"] * np.hanning(x.shape[1]))))
        assert power[:, np.fft.rfftfreq(x.shape[1], 1 / RATE) < 6000.0].sum() < 1e-6 * power.sum()
    assert np.abs(sum(files[name].astype(np.float64) for name in STEMS) - premaster).max() < LIMIT
    work.close()


def band_limited(x: np.ndarray, high_hz: float) -> np.ndarray:
    """(channels, time) without what lies above `high_hz`."""
    spectrum = np.fft.rfft(x)
    spectrum[:, np.fft.rfftfreq(x.shape[1], 1 / RATE) > high_hz] = 0
    return np.fft.irfft(spectrum, x.shape[1]).astype(np.float32)


@pytest.mark.parametrize("n", [22_050, 131_072, 140_001, 3 * operator.FRAMES * 512 + 17])
def test_the_stretchwise_operator_equals_the_whole_one(n, tmp_path):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, n)).astype(np.float32)
    frames = operator.frame_count(n)
    gains = rng.uniform(0, 2, (1, 1025, frames)).astype(np.float32)
    track = Track(tmp_path / "x.npy", 2, n, RATE)
    track.write(0, x)
    pieces, at = [], 0
    for start, block in operator.apply(track, lambda a, m: gains[:, :, a : a + m]):
        assert start == at
        at += block.shape[-1]
        pieces.append(block[0])
    whole = apply_gain(torch.from_numpy(x)[None], torch.from_numpy(gains))[0].numpy()
    assert np.abs(np.concatenate(pieces, 1) - whole).max() < 2e-5


def test_masks_are_bounded_and_complete():
    rng = np.random.default_rng(0)
    magnitude = rng.exponential(size=(4, 1025, 9)) ** 2
    magnitude[:, :, 3] = 0
    band = np.zeros(1025, np.float32)
    band[3:500] = 1
    masks = stem_masks(ratio_masks(magnitude, band))
    assert masks.min() >= 0 and masks.max() <= 1 and np.abs(masks.sum(0) - 1).max() < 1e-6
    expected = magnitude / np.maximum(magnitude.sum(0), 1e-30)
    assert np.abs(masks - expected)[:, 3:500][..., [0, 1, 2, 4]].max() < 1e-4
    assert np.ptp(masks[:, 500:], axis=1).max() == 0


def test_masks_give_back_what_a_hedging_separator_meant():
    """A separator in doubt puts out a share of each bin per stem, its expectation: the masks are these shares."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((1025, 9)) + 1j * rng.standard_normal((1025, 9))
    doubt = rng.dirichlet(np.ones(4), size=(1025, 9)).transpose(2, 0, 1)
    masks = stem_masks(ratio_masks(np.abs(doubt * mix), np.ones(1025, np.float32)))
    assert np.abs(masks * mix - doubt * mix).max() < 1e-3


@pytest.mark.parametrize(
    ("length", "block", "hop"), [(10, 100, 75), (100, 100, 75), (101, 100, 75), (1000, 100, 50), (777, 64, 64)]
)
def test_crossfades_sum_to_one(length, block, hop):
    places = grid.starts(length, block, hop)
    assert places[-1] + block >= length and all(a % hop == 0 for a in places)
    fader = grid.Crossfader(block, hop)
    signal = np.random.default_rng(0).standard_normal(places[-1] + block).astype(np.float32)
    out = [fader.push(signal[a : a + block], last=i == len(places) - 1) for i, a in enumerate(places)]
    joined = np.concatenate(out)
    assert joined.shape == signal.shape and np.abs(joined - signal).max() < 1e-6


def test_the_spectrum_of_a_sum_is_the_sum_of_the_spectra(tmp_path):
    x = np.stack([music(1.0, RATE, seed=k) for k in range(4)]).reshape(8, -1)
    track = Track(tmp_path / "x.npy", 8, RATE, RATE)
    track.write(0, x)
    frames = operator.frame_count(RATE)
    each = operator.spectrum(track, 0, frames).reshape(4, 2, 1025, frames)
    assert (operator.sum_spectrum(track, 0, frames) - each.sum(0)).abs().max() < 1e-5 * each.abs().max()
    track.close()
