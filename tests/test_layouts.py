"""Layouts of datasets and of a user's own folders, right and wrong; what is repaired, refused, masked or silent."""

import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_data import put, tone
from test_recipes import make_deb

from data_recipes import archives, moisesdb, musdb18hq, own_bank, own_music
from data_recipes.common import read_table
from data_recipes.debian_packages import PACKAGES
from resonate import RATE, STEMS, audio
from resonate.data import checks, licences
from resonate.data.excerpts import Excerpts, Remix
from resonate.data.music import load_song, scan_music
from resonate.degrade.bank import Bank
from resonate.errors import UserError

# ---- licences


@pytest.mark.parametrize("licence, kind", [
    ("CC0-1.0", "free"), ("BSD-3-Clause and MIT", "free"), ("GPL-2+ or CC-BY-3.0", "free"), ("GPL-2+", "copyleft"),
    ("GPL-3 and CC-BY-3.0", "copyleft"), ("CC-BY-NC-SA-4.0", "research"), ("CC-BY-ND-4.0", "research"),
    ("research-only (MUSDB18)", "research"), ("CC0 and research-only", "research"), ("", "unknown"),
    ("CC-BY-3.0 and something else", "unknown"), ("CC-BY-NC-3.0 or CC-BY-3.0", "free")])
def test_every_licence_has_one_class(licence, kind):
    assert licences.classify(licence) == kind
    assert licences.shippable(licence) == (kind == "free")


def test_the_filter_takes_all_or_what_is_free():
    assert licences.allowed("any") is None and licences.allowed("cc") is licences.shippable
    with pytest.raises(ValueError, match="any, cc"):
        licences.allowed("gpl")


# ---- songs: known, unknown, silent


def test_an_instrumental_mix_has_vocals_that_are_known_to_be_silent(tmp_path):
    put(tmp_path / "Theme.flac", tone(1.0))
    put(tmp_path / "Song.flac", tone(1.0))
    (tmp_path / "songs.tsv").write_text("song\tsilent\tsplit\nTheme\tvocals\ttest\n")
    song, theme = scan_music(tmp_path)
    stems, present = load_song(theme)
    assert theme.mix_only and present.tolist() == [False, False, False, True] and theme.split == "test"
    assert np.abs(stems[STEMS.index("vocals")]).max() == 0
    assert np.abs(stems.sum(0) - tone(1.0)).max() < 1e-4  # the rest sums to the mix
    assert not song.present.any()


def test_an_instrumental_gets_vocals_of_another_song_and_knows_them(tmp_path):
    put(tmp_path / "Lithium.flac", tone(2.0, 300))
    put(tmp_path / "Potassium.flac", tone(2.0, 300))
    put(tmp_path / "Sodium" / "vocals.flac", tone(2.0, 900))
    put(tmp_path / "Sodium" / "other.flac", tone(2.0, 500))
    (tmp_path / "songs.tsv").write_text("song\tsilent\nLithium\tvocals\n")
    source = Excerpts([(tmp_path, 1.0)], "train", 1.0, Remix(share=1.0, swap=1.0, speed=0.0))
    draws = [source.draw(np.random.default_rng(seed)) for seed in range(60)]
    vocals = STEMS.index("vocals")
    mine = [d for d in draws if d.songs[0] == "Lithium"]
    assert mine and all(d.present[vocals] and d.mix_only for d in mine)
    sung = [d for d in mine if "Sodium" in d.songs]
    assert sung and all(np.abs(d.stems[vocals]).max() > 0.01 for d in sung)
    assert all(np.abs(d.stems[vocals]).max() == 0 for d in mine if "Sodium" not in d.songs)
    # A mix that may have vocals of its own gets no others.
    assert all(d.songs == ("Potassium",) for d in draws if d.songs[0] == "Potassium")


@pytest.mark.parametrize("table, match", [
    ("song\tsilent\nS\tdrums\n", "drums of S silent"), ("song\tsilent\nS\tpiano\n", "'piano' of S"),
    ("song\tsplit\nS\ttraining\n", "'training'"), ("name\tartist\nS\tA\n", "no column called song")])
def test_a_songs_table_that_contradicts_itself_is_refused(tmp_path, table, match):
    put(tmp_path / "S" / "drums.wav", tone(0.2))
    (tmp_path / "songs.tsv").write_text(table)
    with pytest.raises(UserError, match=match):
        scan_music(tmp_path)


def test_a_link_to_nothing_is_not_taken_for_a_missing_stem(tmp_path):
    put(tmp_path / "S" / "drums.wav", tone(0.2))
    (tmp_path / "S" / "bass.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(UserError, match=r"bass\.wav is a link"):
        scan_music(tmp_path)


# ---- what is repaired and what is refused


def test_small_differences_are_repaired_with_a_warning_that_names_the_file(tmp_path, caplog):
    put(tmp_path / "Lithium" / "drums.wav", tone(2.0))
    put(tmp_path / "Lithium" / "bass.wav", tone(1.6))
    put(tmp_path / "Lithium" / "vocals.wav", tone(2.0, rate=48000), 48000)
    with caplog.at_level(logging.WARNING):
        Excerpts([(tmp_path, 1.0)], "train", 1.0)
    assert any("bass.wav is 0.400 s shorter" in m for m in caplog.messages)
    assert any("vocals.wav" in m and "44100" in m for m in caplog.messages)
    stems, present = load_song(scan_music(tmp_path)[0])
    assert stems.shape[-1] == 2 * RATE and present.tolist() == [True, True, False, True]
    assert np.abs(stems[1, :, round(1.61 * RATE) :]).max() == 0
    assert np.abs(stems[3] - tone(2.0))[:, 500:-500].max() < 2e-3  # resampled, on the same clock


def test_stems_that_differ_by_more_than_a_second_are_refused(tmp_path):
    put(tmp_path / "Lithium" / "drums.wav", tone(3.0))
    put(tmp_path / "Lithium" / "bass.wav", tone(1.5))
    with pytest.raises(UserError, match=r"bass\.wav is 1\.5 s shorter than drums\.wav"):
        Excerpts([(tmp_path, 1.0)], "train", 1.0)
    # One of several files of a stem may end where its sound ends.
    (tmp_path / "Lithium" / "bass.wav").rename(tmp_path / "Lithium" / "bass__a.wav")
    put(tmp_path / "Lithium" / "bass__b.wav", tone(3.0))
    assert checks.check(scan_music(tmp_path)) == []


def test_a_mixture_that_is_not_the_sum_is_reported(tmp_path):
    for place, stem in enumerate(STEMS):
        put(tmp_path / "Song" / f"{stem}.wav", tone(1.0, 200 + 100 * place))
    right = sum(tone(1.0, 200 + 100 * place) for place in range(4))
    put(tmp_path / "Song" / "mixture.wav", right)
    (song,) = scan_music(tmp_path)
    assert checks.check_sound(song) == []
    put(tmp_path / "Song" / "mixture.wav", right * 0.7)
    (warning,) = checks.check_sound(song)
    assert "mixture.wav is not the sum" in warning
    assert np.abs(load_song(song)[0].sum(0) - right).max() < 1e-4  # the stems' sum is what counts
    (tmp_path / "Song" / "mixture.wav").unlink()
    assert checks.check_sound(scan_music(tmp_path)[0]) == []


def test_own_music_is_checked_file_by_file(tmp_path, caplog):
    put(tmp_path / "A" / "drums.wav", tone(1.0))
    put(tmp_path / "A" / "vocals.wav", tone(1.0) * 0)
    put(tmp_path / "B" / "drums.wav", tone(1.0))
    broken = tmp_path / "B" / "bass.m4a"
    broken.write_bytes(b"nothing")
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="1 of the songs"):
        own_music.main([str(tmp_path)])
    text = "\n".join(caplog.messages)
    assert "bass.m4a" in text and "vocals.wav is silent throughout" in text
    assert "drums, vocals; bass unknown; other unknown" in text


# ---- MUSDB18-HQ


@pytest.fixture
def musdb(tmp_path) -> Path:
    for part, name in (("train", "A - One"), ("train", "ANiMAL - Rockshow"), ("test", "B - Two")):
        for place, stem in enumerate(STEMS):
            put(tmp_path / "hq" / part / name / f"{stem}.wav", tone(0.5, 200 + 100 * place, level=0.1))
        total = sum(tone(0.5, 200 + 100 * place, level=0.1) for place in range(4))
        put(tmp_path / "hq" / part / name / "mixture.wav", total)
    return tmp_path / "hq"


def test_musdb_is_linked_with_its_splits_and_its_licence(tmp_path, musdb, caplog):
    with caplog.at_level(logging.WARNING):
        musdb18hq.main(["--source", str(musdb), "--out", str(tmp_path / "out")])
    assert not caplog.messages
    songs = {s.name: s for s in scan_music(tmp_path / "out")}
    assert {n: s.split for n, s in songs.items()} == {
        "A - One": "train", "ANiMAL - Rockshow": "valid", "B - Two": "test"}
    assert all(s.present.all() and licences.classify(s.licence) == "research" for s in songs.values())
    with pytest.raises(UserError, match="free licence"):
        Excerpts([(tmp_path / "out", 1.0)], "train", 0.2, licence="cc")
    with pytest.raises(UserError, match="100 s long"):
        Excerpts([(tmp_path / "out", 1.0)], "train", 100.0)
    shutil.rmtree(tmp_path / "out" / "B - Two")
    with pytest.raises(UserError, match="no song is of the test split"):
        Excerpts([(tmp_path / "out", 1.0)], "test", 0.2)
    assert np.array_equal(load_song(songs["A - One"])[0],
                          load_song(next(s for s in scan_music(musdb) if s.name == "A - One"))[0])
    musdb18hq.main(["--source", str(musdb), "--out", str(tmp_path / "out"), "--headers-only"])  # a second time
    assert len(scan_music(tmp_path / "out")) == 3


def test_wrong_musdb_layouts_are_named(tmp_path, musdb):
    def attempt(source: Path) -> str:
        with pytest.raises(UserError) as info:
            musdb18hq.main(["--source", str(source), "--out", str(tmp_path / "wrong")])
        assert not (tmp_path / "wrong").exists()
        return str(info.value)

    assert "not a folder" in attempt(tmp_path / "nowhere")
    assert "no folders train/ and test/" in attempt(musdb / "train")
    (musdb / "train" / "A - One" / "bass.wav").unlink()
    assert "no bass.wav" in attempt(musdb)
    packed = tmp_path / "musdb18" / "train"
    packed.mkdir(parents=True)
    (packed / "A - One.stem.mp4").write_bytes(b"x")
    assert "MUSDB18-HQ" in attempt(tmp_path / "musdb18")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    put(musdb / "train" / "A - One" / "bass.wav", tone(0.5))
    with pytest.raises(UserError, match="something else"):
        musdb18hq.main(["--source", str(musdb), "--out", str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "thesis.txt").is_file()
    with pytest.raises(UserError, match="choose another --out"):
        musdb18hq.main(["--source", str(musdb), "--out", str(musdb / "linked")])


def test_a_damaged_song_of_a_dataset_is_left_out_with_the_name_of_its_file(tmp_path, musdb):
    put(musdb / "train" / "A - One" / "bass.wav", tone(2.0))
    musdb18hq.main(["--source", str(musdb), "--out", str(tmp_path / "out")])
    assert {s.name for s in scan_music(tmp_path / "out")} == {"ANiMAL - Rockshow", "B - Two"}
    (row,) = read_table(tmp_path / "out" / "left_out.tsv")
    assert row["song"] == "A - One" and "1.5 s shorter than bass.wav" in row["reason"]


# ---- MoisesDB


def moises_song(folder: Path, stems: dict[str, list[str]], artist: str = "Band") -> Path:
    about = {"song": "Tune", "artist": artist, "genre": "rock", "stems": [
        {"id": stem, "stemName": stem,
         "tracks": [{"id": track, "trackType": "x", "extension": "wav", "has_bleed": False} for track in tracks]}
        for stem, tracks in stems.items()]}
    for stem, tracks in stems.items():
        for place, track in enumerate(tracks):
            put(folder / stem / f"{track}.wav", tone(0.5, 300 + 100 * place, level=0.1))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.json").write_text(json.dumps(about))
    return folder


def test_moisesdb_tracks_become_four_stems(tmp_path):
    source = tmp_path / "moisesdb" / "moisesdb_v0.1"
    moises_song(source / "0001-uuid", {"vocals": ["lead", "choir"], "drums": ["kit"], "guitar": ["a"], "piano": ["b"]})
    moisesdb.main(["--source", str(source.parent), "--out", str(tmp_path / "out")])
    (song,) = scan_music(tmp_path / "out")
    stems, present = load_song(song)
    assert song.artist == "Band" and present.tolist() == [True, False, True, True]  # bass: masked out, not silent
    assert np.abs(stems[STEMS.index("vocals")] - tone(0.5, 300, level=0.1) - tone(0.5, 400, level=0.1)).max() < 1e-4
    assert np.abs(stems[STEMS.index("other")] - 2 * tone(0.5, 300, level=0.1)).max() < 1e-4
    assert licences.classify(song.licence) == "research"


def test_wrong_moisesdb_layouts_are_named(tmp_path):
    def attempt(source: Path) -> str:
        with pytest.raises(UserError) as info:
            moisesdb.main(["--source", str(source), "--out", str(tmp_path / "out")])
        return str(info.value)

    source = tmp_path / "db"
    source.mkdir()
    assert "no <song>/data.json" in attempt(source)
    song = moises_song(source / "s", {"vocals": ["lead"], "drums": ["kit"]})
    (song / "drums" / "kit.wav").unlink()
    assert "kit.wav is named in data.json" in attempt(source)
    moises_song(source / "s", {"lute": ["a"]})
    assert "'lute'" in attempt(source)
    put(tmp_path / "secret.wav", tone(0.5))
    moises_song(source / "s", {"drums": ["kit"]})
    text = (song / "data.json").read_text()
    (song / "data.json").write_text(text.replace('"kit"', '"../../../secret"'))
    assert "secret" in attempt(source)
    (song / "data.json").write_text("{}")
    assert "not the data.json" in attempt(source)


# ---- a bank of one's own


def test_own_recordings_become_a_bank(tmp_path):
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(RATE) / 4000) * rng.standard_normal((2, RATE))
    for room in "abcdef":
        put(tmp_path / "rooms" / room / "near.wav", (decay / np.abs(decay).max()).astype(np.float32))
        put(tmp_path / "rooms" / room / "far.wav", (0.1 * decay / np.abs(decay).max()).astype(np.float32))
    put(tmp_path / "crowd" / "bar.wav", tone(3.0, rate=48000), 48000)
    own_bank.main(["--rooms", str(tmp_path / "rooms"), "--crowd", str(tmp_path / "crowd"), "--licence", "CC0-1.0",
                   "--out", str(tmp_path / "bank")])
    bank = Bank.load(tmp_path / "bank", "all")
    assert len(bank.items("rooms")) == 12 and {i.licence for i in bank.items("rooms")} == {"CC0-1.0"}
    by_room = {}
    for item in bank.items("rooms"):
        by_room.setdefault(item.group, set()).add(item.split)
    assert all(len(found) == 1 for found in by_room.values())
    assert {"train", "valid"} == set.union(*by_room.values())
    (crowd,) = bank.items("crowd")
    assert crowd.split == "train" and bank.audio(crowd).shape == (2, 3 * RATE)


@pytest.mark.parametrize("samples, rate, match", [
    (tone(3.0) * 0, RATE, "silent"), (tone(0.5), RATE, "lasts 0.50 s"), (tone(3.0, rate=8000), 8000, "8000 Hz")])
def test_recordings_that_cannot_be_used_are_named(tmp_path, samples, rate, match):
    put(tmp_path / "crowd" / "my bar.wav", samples, rate)
    with pytest.raises(UserError, match=match) as info:
        own_bank.build({"crowd": tmp_path / "crowd"}, "own", tmp_path / "bank")
    assert "my bar.wav" in str(info.value)
    assert not (tmp_path / "bank").exists() and not list(tmp_path.glob(".*"))


def test_a_bank_takes_any_file_name_but_not_the_place_of_a_file(tmp_path):
    (tmp_path / "bank").write_text("mine")
    folder = tmp_path / "crowd"
    put(folder / "bar.wav", tone(3.0))
    with pytest.raises(UserError, match="something else"):
        own_bank.build({"crowd": folder}, "own", tmp_path / "bank")
    assert (tmp_path / "bank").read_text() == "mine"
    with pytest.raises(UserError, match="choose another --out"):
        own_bank.build({"crowd": folder}, "own", folder / "bank")
    try:
        (folder / "bar.wav").rename(folder / os.fsdecode(b"b\xe4r.wav"))
    except OSError:
        pytest.skip("this file system takes no names that are not UTF-8")
    own_bank.build({"crowd": folder}, "own", tmp_path / "other")
    (row,) = read_table(tmp_path / "other" / "bank.tsv")
    assert row["file"] == "crowd/b_r__b_r.flac" and row["origin"] == "b\\udce4r.wav"


def test_a_bank_of_nothing_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no recordings"):
        own_bank.build({"crowd": tmp_path / "empty"}, "own", tmp_path / "bank")
    with pytest.raises(UserError, match="nothing to make a bank of"):
        own_bank.main(["--licence", "own", "--out", str(tmp_path / "bank")])


# ---- music inside an archive inside a package


@pytest.mark.parametrize("with_dpkg", [True, False])
def test_only_what_is_wanted_leaves_an_archive(tmp_path, monkeypatch, with_dpkg):
    inner = tmp_path / "public.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("art/big.dds", b"x" * 100_000)
        archive.writestr("audio/music/a.ogg", b"sound a")
        archive.writestr("audio/music/b.ogg", b"sound b" * 1000, zipfile.ZIP_DEFLATED)
        archive.writestr("audio/../../../evil.ogg", b"no")
    package = make_deb(tmp_path / "g_1_all.deb", {
        "./usr/share/doc/g/copyright": b"text", "./usr/share/g/public.zip": inner.read_bytes(),
        "./usr/share/g/other.txt": b"not wanted"})
    if not with_dpkg:
        monkeypatch.setattr(archives.shutil, "which", lambda name: None)
    out = tmp_path / "out"
    archives.unpack_some(package, out, "usr/share/g/public.zip", lambda name: name.endswith(".ogg"))
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert files == {"usr/share/doc/g/copyright", "usr/share/g/audio/music/a.ogg", "usr/share/g/audio/music/b.ogg"}
    assert (out / "usr/share/g/audio/music/b.ogg").read_bytes() == b"sound b" * 1000
    with pytest.raises(UserError, match=r"holds no usr/share/g/gone\.zip"):
        archives.unpack_some(package, tmp_path / "o2", "usr/share/g/gone.zip", lambda name: True)
    damaged = inner.read_bytes().replace(b"sound a", b"sound x")
    bad = make_deb(tmp_path / "bad.deb", {"./usr/share/g/public.zip": damaged})
    with pytest.raises(UserError, match=r"damaged at audio/music/a\.ogg"):
        archives.unpack_some(bad, tmp_path / "o3", "usr/share/g/public.zip", lambda name: True)


def test_only_songs_known_to_be_instrumental_are_marked():
    assert PACKAGES["singularity-music"].silent("Nebula") == "vocals"
    assert PACKAGES["hyperrogue-music"].silent("hr3-caves") == "vocals"
    assert PACKAGES["hyperrogue-music"].silent("hr-savino-palace") == ""
    assert PACKAGES["marsshooter-data"].silent("03_fear") == ""


def test_flac_of_a_bank_is_exact_to_24_bits(tmp_path):
    x = tone(3.0, level=0.5)
    put(tmp_path / "crowd" / "hall" / "a.wav", x)
    own_bank.build({"crowd": tmp_path / "crowd"}, "own", tmp_path / "bank")
    assert np.abs(audio.read(tmp_path / "bank" / "crowd" / "hall__a.flac").samples - x).max() < 2**-22
