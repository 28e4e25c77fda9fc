"""Speech made to sing: the notes that were asked for, one length for all, and songs that lay over other music."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyworld", reason="pyworld is not installed: pip install 'resonate[render]'")

from data_recipes import singing, sung_voices
from data_recipes.common import read_table
from resonate import RATE, STEMS, audio
from resonate.data.excerpts import Excerpts, Remix
from resonate.data.music import load_song, scan_music
from resonate.errors import UserError

PLAIN = {"formants": 1.0, "scale": (0, 2, 4, 5, 7, 9, 11), "stretch": 2.0, "beat": 0.3, "vibrato": 0.0, "ring": 0.0}


def spoken(pitch: float = 120.0, seconds: float = 1.2, seed: int = 0) -> np.ndarray:
    """(time,) a buzz with formants at 700 and 1100 Hz, a pause in its middle."""
    from scipy import signal

    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.sign(np.sin(2 * np.pi * pitch * t)) - 0.9 * np.sign(np.sin(2 * np.pi * pitch * t + 0.4))
    for hz in (700, 1100):
        x = x + 4 * signal.lfilter(*signal.iirpeak(hz, 8, fs=RATE), x)
    x[round(0.45 * len(x)) : round(0.55 * len(x))] = 0
    return (0.1 * x + 1e-4 * rng.standard_normal(len(x))).astype(np.float32)


def write(path: Path, x: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, x, RATE, subtype="PCM_16")


def people(folder: Path, names: tuple[str, ...] = ("ann", "bob"), lines: int = 3) -> Path:
    for k, name in enumerate(names):
        for i in range(lines):
            line = spoken(110 + 60 * k + 5 * i, seed=i)[None]
            write(folder / name / f"{i}.wav", np.concatenate([line, line]))
    return folder


def test_a_line_is_sung_at_the_pitch_of_the_melody_and_longer() -> None:
    line = singing.analyse(spoken(120.0))
    singer = singing.Singer(tonic=220.0, **(PLAIN | {"scale": (0,)}))
    y = singing.sing(line, singer, np.random.default_rng(0))
    assert y.dtype == np.float32 and np.isfinite(y).all()
    voiced = np.count_nonzero(line.f0) * singing.FRAME
    assert len(y) / RATE == pytest.approx(len(line.f0) * singing.FRAME + voiced, abs=0.1)
    again = singing.analyse(y)
    semitones = 12 * np.log2(again.f0[again.f0 > 0] / 220.0)
    # One degree in the scale: whatever octave is sung, it is the tonic.
    assert np.median(np.abs(semitones - 12 * np.round(semitones / 12))) < 0.5


def test_formants_move_and_the_pitch_does_not() -> None:
    line = singing.analyse(spoken(120.0))

    def centre(formants: float) -> float:
        singer = singing.Singer(tonic=150.0, **(PLAIN | {"formants": formants}))
        sung = singing.analyse(singing.sing(line, singer, np.random.default_rng(1)))
        envelope = sung.envelope[sung.f0 > 0].mean(0)
        hz = np.linspace(0, RATE / 2, len(envelope))
        low = (hz > 400) & (hz < 2000)
        return float((hz[low] * envelope[low]).sum() / envelope[low].sum())

    assert centre(1.2) > 1.1 * centre(1.0)


def test_melody_keeps_to_the_scale_once_a_note_is_reached() -> None:
    singer = singing.Singer(tonic=200.0, **(PLAIN | {"beat": 0.5}))
    hz = singing.melody(np.ones(2000, bool), singer, np.random.default_rng(3))
    semitones = 12 * np.log2(hz / 200.0)
    off = np.abs((semitones[:, None] % 12) - np.array([*singer.scale, 12])).min(1)
    assert np.median(off) < 0.25 and len(np.unique(np.round(semitones))) > 3


def test_noise_and_silence_are_no_speech() -> None:
    assert singing.analyse(np.zeros(RATE, np.float32)) is None


def test_songs_hold_vocals_alone_and_lie_over_other_music(tmp_path: Path) -> None:
    out = tmp_path / "voices"
    sung_voices.main(["--out", str(out), "--packages", "--speech", str(people(tmp_path / "speech")), "--licence",
                      "CC0-1.0", "--songs", "2", "--seconds", "10"])
    rows = read_table(out / "songs.tsv")
    assert {row["song"] for row in rows} == {"ann__0", "ann__1", "bob__0", "bob__1"}
    assert {row["licence"] for row in rows} == {"CC0-1.0"} and {row["silent"] for row in rows} == {"drums,bass,other"}
    assert {row["artist"] for row in rows} == {"ann", "bob"}
    assert all(len({row["split"] for row in rows if row["artist"] == name}) == 1 for name in ("ann", "bob"))
    songs = scan_music(out)
    stems, present = load_song(songs[0])
    assert present.all() and stems.shape[-1] == 10 * RATE
    assert np.abs(stems[STEMS.index("vocals")]).max() == pytest.approx(0.9, abs=1e-3)
    assert not np.abs(np.delete(stems, STEMS.index("vocals"), 0)).any()
    first, second = (load_song(song)[0][STEMS.index("vocals")] for song in songs[:2])
    assert np.abs(first - second).max() > 0.1

    band = tmp_path / "band" / "song"
    noise = np.random.default_rng(0).standard_normal((2, 12 * RATE)).astype(np.float32) * 0.1
    for stem in ("drums", "bass", "other"):
        write(band / f"{stem}.wav", noise)
    (tmp_path / "band" / "songs.tsv").write_text("song\tsilent\nsong\tvocals\n", encoding="utf-8")
    drawn = Excerpts([(tmp_path / "band", 1.0), (out, 1e-9)], "all", 4.0, Remix(share=1.0, swap=1.0))
    mixed = [drawn.draw(np.random.default_rng(seed)) for seed in range(8)]
    assert sum(np.abs(e.stems[STEMS.index("vocals")]).max() > 0.01 for e in mixed) >= 4
    assert all(e.present.all() for e in mixed)


def test_made_again_nothing_changes_and_new_songs_are_added(tmp_path: Path) -> None:
    speech, out = people(tmp_path / "speech", ("ann",)), tmp_path / "voices"
    words = ["--out", str(out), "--packages", "--speech", str(speech), "--seconds", "10"]
    sung_voices.main([*words, "--songs", "1"])
    before = (out / "ann__0" / "vocals.flac").read_bytes()
    sung_voices.main([*words, "--songs", "2"])
    assert (out / "ann__0" / "vocals.flac").read_bytes() == before and (out / "ann__1" / "vocals.flac").is_file()
    assert not list(out.glob(".*part"))


def test_a_table_of_the_users_own_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "songs.tsv").write_text("song\tartist\nMine\tMe\n")
    monkeypatch.setattr(sung_voices, "from_package", lambda *_: pytest.fail("downloaded before it was refused"))
    for refused in (lambda: sung_voices.build([], tmp_path, 1, 10.0),
                    lambda: sung_voices.main(["--out", str(tmp_path)])):
        with pytest.raises(UserError, match="not written by a recipe"):
            refused()
    assert "Mine" in (tmp_path / "songs.tsv").read_text()


def test_what_cannot_be_sung_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to sing"):
        sung_voices.main(["--out", str(tmp_path / "o"), "--packages"])
    with pytest.raises(UserError, match="not a folder"):
        sung_voices.main(["--out", str(tmp_path / "o"), "--packages", "--speech", str(tmp_path / "no")])
    with pytest.raises(UserError, match="--seconds"):
        sung_voices.main(["--out", str(tmp_path / "o"), "--seconds", "1"])
    quiet = tmp_path / "speech" / "mute"
    for i in range(3):
        write(quiet / f"{i}.wav", np.zeros((2, RATE), np.float32))
    with pytest.raises(UserError, match=r"left_out\.tsv"):
        sung_voices.main(["--out", str(tmp_path / "o"), "--packages", "--speech", str(tmp_path / "speech")])
    assert read_table(tmp_path / "o" / "left_out.tsv")[0]["speaker"] == "mute"


def test_speakers_of_a_package_are_told_apart_and_unclear_licences_left_out(tmp_path: Path) -> None:
    root = tmp_path / "unpacked" / "0ad-data-speech"
    rights = root / "usr/share/doc/0ad-data/copyright"
    rights.parent.mkdir(parents=True)
    rights.write_text("""Files: binaries/data/mods/public/audio/*
Copyright: 2012 Some Games
License: CC-BY-SA-3.0

Files: binaries/data/mods/public/audio/voice/latin/*
Copyright: 2012 Another
License: CC-BY-NC-3.0
""", encoding="utf-8")
    voices = root / "usr/share/games/0ad/mods/public/audio/voice"
    for inside in ("greek/civ/civ_female_go_1.ogg", "greek/civ/civ_female_go_2.ogg", "greek/civ/civ_male_yes_1.ogg",
                   "latin/civ/civ_male_yes_1.ogg", "global/civ_dog_bark.ogg"):
        (voices / inside).parent.mkdir(parents=True, exist_ok=True)
        (voices / inside).touch()
    found = sung_voices.from_package("0ad-data", None, tmp_path)
    assert {(s.name, len(s.files), s.licence, s.holder) for s in found} == {
        ("0ad-data_greek_female", 2, "CC-BY-SA-3.0", "Some Games"),
        ("0ad-data_greek_male", 1, "CC-BY-SA-3.0", "Some Games"),
    }


def test_without_the_vocoder_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    monkeypatch.setattr(sung_voices, "from_package", lambda *_: pytest.fail("it was downloaded"))
    with pytest.raises(UserError, match="needs pyworld"):
        sung_voices.main(["--out", str(tmp_path / "o")])
