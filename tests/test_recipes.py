"""Recipes: licences, Debian packages, downloads by checksum and the bundled recording."""

import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from data_recipes import bank_names, bundle_bank, common, deb, debian_music, fetch, starter
from data_recipes.cheers import cheers
from data_recipes.common import read_table, shippable
from resonate import RATE, STEMS, audio
from resonate.audio import sha256
from resonate.data import splits
from resonate.data.music import scan_music
from resonate.errors import UserError

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "assets" / "demo"


# ---- licences


@pytest.mark.parametrize("licence", [
    "CC0", "CC0-1.0", "CC-BY-3.0", "CC-BY-SA-4.0", "public-domain", "MIT (repo)", "Apache-2.0 (repo)",
    "GPL-2+ OR CC-BY-SA", "zlib or GPL-2 or CC-BY-3.0", "CC-BY-4.0 and CC-BY-3.0", "CC-BY-SA-3.0 or CC-BY-3.0",
    "Creative Commons; audeering/micirp states CC-BY-SA-4.0"])
def test_free_licences_may_be_shipped(licence):
    assert shippable(licence)


@pytest.mark.parametrize("licence", [
    "GPL-2+", "GPL", "GPL-3+", "GPL and CC-BY-SA", "CC-BY-NC-SA-3.0", "CC-BY-ND-4.0", "", "unknown", "proprietary",
    "GPL-3.0 (repo)"])
def test_others_may_not(licence):
    assert not shippable(licence)


DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2005-2019, The Team
License: GPL-2+

Files: data/music/*
Copyright: 2011 0zone0ne <a@b.c>
 2012, Someone Else
License: CC-BY-SA-3.0
Comment: Files: are named here

Files:
 data/music/bad*.ogg
 data/music/worse.ogg
Copyright: X
License: GPL-2

License: GPL-2
 The text of the licence.
"""


def test_the_last_matching_paragraph_of_a_copyright_file_counts():
    c = deb.Copyright(DEP5)
    assert c.of("data/music/good.ogg") == ("CC-BY-SA-3.0", "0zone0ne, Someone Else")
    assert c.of("data/music/bad_one.ogg")[0] == "GPL-2"
    assert c.of("data/music/worse.ogg")[0] == "GPL-2"
    assert c.of("src/main.c") == ("GPL-2+", "The Team")


def test_free_text_counts_for_the_package_only_when_it_names_one_licence():
    assert deb.Copyright("under the terms of the Creative Commons\nAttribution ShareAlike licence 3.0:").of("a") == (
        "CC-BY-SA-3.0", "")
    assert deb.Copyright("All rights reserved.").of("a") == ("", "")
    gpl = "under the terms of the GNU General Public License\n{} of the License, or (at your option) any later version."
    for words in ("version 2", "as published by the Free Software Foundation; either version 2"):
        assert deb.Copyright(gpl.format(words)).of("a") == ("GPL-2+", "")


# ---- Debian packages


def make_deb(path: Path, files: dict[str, bytes]) -> Path:
    """A .deb: an ar archive of debian-binary, control.tar.gz and data.tar.xz."""

    def tar(content: dict[str, bytes], mode: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    control = b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    parts = [("debian-binary", b"2.0\n"), ("control.tar.gz", tar({"./control": control}, "w:gz")),
             ("data.tar.xz", tar(files, "w:xz"))]
    out = b"!<arch>\n"
    for name, data in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return path


def test_packages_unpack_the_same_with_and_without_dpkg(tmp_path, monkeypatch):
    package = make_deb(tmp_path / "x_1_all.deb", {"./usr/share/a.txt": b"hello", "./usr/b": b"odd"})
    deb.unpack(package, tmp_path / "one")
    monkeypatch.setattr(deb.shutil, "which", lambda name: None)
    deb.unpack(package, tmp_path / "two")
    for folder in ("one", "two"):
        assert (tmp_path / folder / "usr/share/a.txt").read_bytes() == b"hello"
        assert (tmp_path / folder / "usr/b").read_bytes() == b"odd"
    (tmp_path / "bad.deb").write_bytes(b"no package")
    with pytest.raises(UserError, match="not a Debian package"):
        deb.unpack(tmp_path / "bad.deb", tmp_path / "three")


def test_a_package_that_is_cut_short_or_damaged_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(deb.shutil, "which", lambda name: None)
    whole = make_deb(tmp_path / "x_1_all.deb", {"./usr/a": b"hello"}).read_bytes()
    bad = tmp_path / "bad.deb"
    place = whole.index(b"data.tar.xz")
    sized, data = place + 48, whole[place + 60 :]  # where its size stands, and what it holds
    damaged = [whole[:length] for length in range(0, len(whole) - 1, 7)]
    damaged += [whole[:sized] + size + whole[sized + len(size) :] for size in (b"ten", b"-9", b"99999")]
    damaged += [whole[:sized] + f"{n:<10}`\n".encode() + data[:n] for n in (0, 20, len(data) // 2)]
    damaged += [whole.replace(b"data.tar.xz", b"data.t\xe4r.xz")]
    for content in damaged:
        bad.write_bytes(content)
        with pytest.raises(UserError, match="download it again"):
            deb.unpack(bad, tmp_path / "out")


def test_reserved_and_missing_packages_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="independent evaluation"):
        deb.obtain("lmms-common", None, tmp_path)
    (tmp_path / "debs").mkdir()
    with pytest.raises(UserError, match="holds no"):
        deb.obtain("marsshooter-data", tmp_path / "debs", tmp_path)
    monkeypatch.setattr(deb.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no apt-get"):
        deb.obtain("marsshooter-data", None, tmp_path)


def test_a_download_that_was_cut_short_is_never_taken_for_a_package(tmp_path, monkeypatch):
    """apt-get writes under the final name; the next run goes on in the same place."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "apt-get").write_text('#!/bin/sh\nprintf half >> "$2_1_all.deb"\ntest $(wc -c < "$2_1_all.deb") -gt 4\n')
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="could not download"):
        deb.obtain("some-music", None, cache)
    assert not list(cache.glob("*.deb"))
    whole = deb.obtain("some-music", None, cache)
    assert whole == cache / "some-music_1_all.deb" and whole.read_bytes() == b"halfhalf"
    assert deb.obtain("some-music", None, cache) == whole and whole.read_bytes() == b"halfhalf"


def flac(tmp_path: Path, seconds: float, channels: int = 2, rate: int = RATE, seed: int = 0) -> bytes:
    t = np.arange(round(seconds * rate)) / rate
    swell = 0.2 + 0.6 * np.abs(np.sin(2 * np.pi * (0.01 + 0.013 * seed) * t + seed))
    x = np.tile(swell * np.sin(2 * np.pi * 220 * t), (channels, 1)).astype(np.float32)
    audio.write(tmp_path / "t.flac", x, rate, subtype="PCM_16")
    return (tmp_path / "t.flac").read_bytes()


def test_a_package_becomes_a_dataset_of_what_may_be_used(tmp_path):
    music = "./usr/share/unknown-horizons/content/audio/music/"
    text = ("Files: *\nCopyright: T\nLicense: GPL-2+\n\nFiles: content/*\nCopyright: Lincoln Domina\n"
            "License: CC-BY-SA-3.0\n\nFiles: content/audio/music/gpl.flac\nCopyright: X\nLicense: GPL-2\n")
    good = flac(tmp_path, 31)
    make_deb(tmp_path / "debs" / "unknown-horizons_1_all.deb", {
        "./usr/share/doc/unknown-horizons/copyright": text.encode(),
        f"{music}good.flac": good, f"{music}zz copy.flac": good, f"{music}gpl.flac": flac(tmp_path, 31, seed=1),
        f"{music}short.flac": flac(tmp_path, 5), f"{music}mono.flac": flac(tmp_path, 31, 1),
        f"{music}low.flac": flac(tmp_path, 31, rate=22050), f"{music}broken.flac": b"fLaC nothing"})
    out = tmp_path / "out"
    debian_music.main(["--out", str(out), "--debs", str(tmp_path / "debs"), "--packages", "unknown-horizons"])
    (row,) = read_table(out / "songs.tsv")
    assert row["song"] == "unknown-horizons__good" and row["licence"] == "CC-BY-SA-3.0" and row["split"] == "test"
    assert sha256(out / row["file"]) == row["sha256"]
    reasons = {Path(r["file"]).stem: r["reason"] for r in read_table(out / "left_out.tsv")}
    assert reasons == {"zz copy": "a copy of another file", "gpl": "licence GPL-2", "short": "shorter than 30 s",
                       "mono": "1 channels at 44100 Hz", "low": "2 channels at 22050 Hz", "broken": "cannot be decoded"}
    (song,) = scan_music(out)
    assert song.mix_only and song.split == "test" and song.artist == "Lincoln Domina"
    # Allowed later, the GPL music comes in beside what is there, and is marked.
    words = ["--out", str(out), "--debs", str(tmp_path / "debs"), "--packages", "unknown-horizons", "--allow-gpl"]
    for _ in range(2):
        debian_music.main(words)
        rows = {r["song"]: r["shippable"] for r in read_table(out / "songs.tsv")}
        assert rows == {"unknown-horizons__good": "yes", "unknown-horizons__gpl": "no"}
    with pytest.raises(UserError, match="add --allow-gpl"):
        debian_music.main(["--out", str(out), "--packages", "supertux-data"])


def test_songs_of_one_name_are_told_apart_and_every_file_needs_a_licence(tmp_path):
    root = "./usr/share/games/fretsonfire/data/songs/"
    text = ("Files: *\nCopyright: T\nLicense: CC-BY-SA-3.0\n\nFiles: data/songs/half/song.ogg\nCopyright: X\n"
            "License: GPL-2\n\nFiles: data/songs/pair/song.ogg\nCopyright: X\nLicense: CC0\n")
    package = "fretsonfire-songs-muldjord"
    files = {"a/theme.flac": 1, "b/theme.flac": 2, "b/theme.ogg": 3, "b/alone.flac": 4, "pair/guitar.ogg": 5,
             "pair/song.ogg": 6, "pair/more.flac": 7, "half/guitar.ogg": 8, "half/song.ogg": 9}
    make_deb(tmp_path / "debs" / f"{package}_1_all.deb", {
        f"./usr/share/doc/{package}/copyright": text.encode(),
        **{f"{root}{name}": flac(tmp_path, 31, seed=seed) for name, seed in files.items()}})
    debian_music.main(["--out", str(tmp_path / "out"), "--debs", str(tmp_path / "debs"), "--packages", package])
    rows = {row["song"].removeprefix(f"{package}__"): row for row in read_table(tmp_path / "out" / "songs.tsv")}
    assert set(rows) == {"theme (data+songs+a+theme.flac)", "theme (data+songs+b+theme.flac)",
                         "theme (data+songs+b+theme.ogg)", "alone", "pair", "more"}
    assert rows["pair"]["licence"] == "CC-BY-SA-3.0 and CC0" and len(scan_music(tmp_path / "out")) == 6
    (left,) = read_table(tmp_path / "out" / "left_out.tsv")
    assert left["file"] == "data/songs/half/guitar.ogg" and left["reason"] == "licence GPL-2"


# ---- the starter recipe


def test_every_file_of_the_table_has_a_listed_place_and_an_origin():
    rows = fetch.table()
    assert len(rows) > 300 and not any("Francium" in row["file"] for row in rows)
    for row in rows:
        if not row["file"].startswith("music/"):
            kind, group = bank_names.place(row["file"])
            assert splits.split_of(kind, group) in splits.SPLITS, (kind, group)
    unknown = {row["file"].split("/")[1] for row in rows
               if not row["origin"].startswith("debian:") and not fetch.origins(row)}
    assert unknown == {"noice"}


def test_addresses_are_quoted_and_pinned_to_a_commit():
    row = next(r for r in fetch.table() if r["file"].endswith("Caesium/drums__ALT HATS.m4a"))
    (url,) = fetch.origins(row)
    assert url.endswith("6.Caesium_Stem_ALT%20HATS.m4a") and "/6a6fbe3a634871fba7efe298dee048f394aa0f18/" in url


def test_a_mirror_is_checked_by_checksum(tmp_path):
    row = {"file": "a.txt", "sha256": "0" * 64, "origin": "debian:x", "origin_sha256": ""}
    fetcher = fetch.Fetcher(tmp_path, tmp_path / "cache")
    with pytest.raises(UserError, match="missing"):
        fetcher.get(row)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="checksum"):
        fetcher.get(row)
    assert fetcher.get({**row, "sha256": sha256(tmp_path / "a.txt")}) == tmp_path / "a.txt"
    with pytest.raises(UserError, match="not a folder"):
        fetch.Fetcher(tmp_path / "nowhere", tmp_path)


def test_downloads_are_kept_by_checksum_and_not_fetched_twice(tmp_path, monkeypatch):
    """A wrong file is refused and not kept; what was fetched before a stop is not fetched again."""
    site, asked = tmp_path / "site", []
    site.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(fetch, "origins", lambda row: [f"{address}/moved/{row['file']}", f"{address}/{row['file']}"])
    (site / "a.txt").write_text("right")
    row = {"file": "a.txt", "origin": "x/y@z", "origin_sha256": sha256(site / "a.txt")}
    fetcher = fetch.Fetcher(None, tmp_path / "cache")
    try:
        (site / "a.txt").write_text("wrong")
        with pytest.raises(UserError, match=r"a\.txt could not be fetched"):
            fetcher.get(row)
        assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
        (site / "a.txt").write_text("right")
        assert fetcher.get(row).read_text() == "right"
        count = len(asked)
    finally:
        server.shutdown()
        server.server_close()
    assert fetch.Fetcher(None, tmp_path / "cache").get(row).read_text() == "right" and len(asked) == count


def album(mirror: Path, song: str, files: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """Files of a song of the album in a mirror; returns their rows of sources.tsv."""
    rows = []
    for name, x in files.items():
        path = mirror / starter.ALBUM / song / name
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write(path, x, 48000)
        rows.append({"file": f"{starter.ALBUM}{song}/{name}", "sha256": sha256(path), "licence": "CC0-1.0",
                     "source": "s", "origin": "o"})
    return rows


def test_album_stems_are_summed_under_one_gain(tmp_path, monkeypatch):
    loud = np.full((2, 4800), 0.9, np.float32)
    rows = album(tmp_path / "mirror", "Caesium", {
        "drums__A B.wav": loud, "drums__C.wav": loud[:, :2400], "other__PAD + BASS.wav": loud / 4})
    monkeypatch.setattr(starter, "table", lambda: rows)
    made = starter.build_music(fetch.Fetcher(tmp_path / "mirror", tmp_path / "c"), tmp_path / "music")
    assert {row["file"] for row in made} == {"Caesium/drums.flac", "Caesium/other.flac"}
    drums, other = (audio.read(tmp_path / "music/Caesium" / f"{s}.flac").samples for s in ("drums", "other"))
    assert drums.shape == other.shape == (2, 4410) and np.abs(drums).max() <= 0.981
    ratio = drums[0, 1000:2000].mean() / other[0, 1000:2000].mean()
    assert abs(ratio - 1.8 / 0.225) < 0.05
    assert {row["split"] for row in made} == {"test"}


def test_songs_are_added_one_by_one_to_those_that_are_there(tmp_path, monkeypatch):
    files = {"drums__A.wav": np.full((2, 480), 0.5, np.float32), "other__B.wav": np.full((2, 480), 0.5, np.float32)}
    rows = [row for song in ("Caesium", "Lithium", "Sodium") for row in album(tmp_path / "mirror", song, files)]
    monkeypatch.setattr(starter, "table", lambda: rows)
    fetcher, out = fetch.Fetcher(tmp_path / "mirror", tmp_path / "c"), tmp_path / "music"
    starter.build_music(fetcher, out, ["Lithium"])
    write, written = audio.write, []

    def stopped(path, *more, **words):
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        write(path, *more, **words)

    monkeypatch.setattr(audio, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        starter.build_music(fetcher, out, ["Caesium", "Sodium"])
    listed = {row["song"] for row in read_table(out / "songs.tsv")}
    assert listed == {song.name for song in scan_music(out)} == {"Caesium", "Lithium"}
    (out / "Lithium" / "drums.flac").unlink()
    made = starter.build_music(fetcher, out, ["Sodium"])
    assert {row["file"] for row in made} == {"Caesium/drums.flac", "Caesium/other.flac", "Lithium/other.flac",
                                             "Sodium/drums.flac", "Sodium/other.flac"}


@pytest.mark.parametrize("table", [b"song\tartist\nMine\tMe\n", b"song\tfile\nMine\tMine.flac\n", b"song\nM\xe4rz\n"])
def test_a_table_of_the_users_own_is_not_overwritten(tmp_path, table):
    (tmp_path / "songs.tsv").write_bytes(table)
    for build in (lambda: debian_music.build([], tmp_path, None, tmp_path / "cache"),
                  lambda: starter.build_music(fetch.Fetcher(None, tmp_path / "cache"), tmp_path, ["no song"])):
        with pytest.raises(UserError, match=r"songs\.tsv was not written by a recipe"):
            build()
    assert (tmp_path / "songs.tsv").read_bytes() == table


def test_cheers_are_reproducible_and_end_in_silence():
    note = np.sin(2 * np.pi * 220 * np.arange(RATE) / RATE).astype(np.float32)
    one, two = (cheers(np.random.default_rng(1), [note], 3.0, people=5) for _ in range(2))
    assert np.array_equal(one, two) and one.shape == (2, 3 * RATE)
    assert abs(np.abs(one).max() - 0.7) < 1e-3 and np.abs(one[:, -1]).max() == 0


# ---- folders that are made as a whole


def make(out: Path, text: str, recipe: str = "mine", sources: tuple[Path, ...] = ()) -> None:
    with common.whole_folder(out, recipe, sources) as part:
        (part / "a.txt").write_text(text)


def test_only_what_the_same_recipe_made_is_replaced(tmp_path):
    out = tmp_path / "out"
    for text in ("one", "two"):
        make(out, text)
        assert (out / "a.txt").read_text() == text and [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="something else"):
        make(out, "three", "another")
    music = tmp_path / "music"
    music.mkdir()
    (music / "songs.tsv").write_text("song\tartist\n")
    (music / "bank.tsv").write_text("file\n")
    with pytest.raises(UserError, match="something else"):
        make(music, "three")
    assert sorted(p.name for p in music.iterdir()) == ["bank.tsv", "songs.tsv"]


def test_what_is_read_and_what_is_made_do_not_lie_in_one_another(tmp_path):
    out = tmp_path / "out"
    make(out, "one")
    for source in (out / "source", out, tmp_path):
        with pytest.raises(UserError, match="choose another --out"):
            make(out, "two", sources=(source,))
    assert (out / "a.txt").read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_old_folder_stays_until_the_new_one_is_in_its_place(tmp_path, monkeypatch):
    out = tmp_path / "out"
    make(out, "one")
    replace = os.replace

    def failing(old: Path, new: Path) -> None:
        if old.name.endswith(".part"):
            raise OSError("disk")
        replace(old, new)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="disk"):
        make(out, "two")
    assert (out / "a.txt").read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_and_the_folder_one_is_in_are_places_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    for text in ("one", "two"):
        make(link, text)
        assert link.is_symlink() and (tmp_path / "disk" / "a.txt").read_text() == text
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make(Path("."), "one")
    assert (tmp_path / "here" / "a.txt").read_text() == "one"


def test_the_starter_bank_can_be_built_again_but_not_over_other_data(tmp_path, monkeypatch):
    for name in ("_from_table", "_from_packages", "_synthesised"):
        monkeypatch.setattr(bundle_bank, name, lambda *_: [])
    (tmp_path / "data" / "music").mkdir(parents=True)
    fetcher = fetch.Fetcher(None, tmp_path / "cache")
    with pytest.raises(UserError, match="something else"):
        bundle_bank.build(fetcher, None, tmp_path / "cache", tmp_path / "data")
    assert (tmp_path / "data" / "music").is_dir()
    for _ in range(2):
        bundle_bank.build(fetcher, None, tmp_path / "cache", tmp_path / "bank")
    marks = [(folder / common.MARK).read_text() for folder in (tmp_path / "bank", ROOT / "resonate" / "bank")]
    assert marks[0] == marks[1]
    with pytest.raises(UserError, match="choose another --out"):
        bundle_bank.build(fetcher, None, tmp_path / "bank" / "cache", tmp_path / "bank")


# ---- the bundled recording


def test_the_bundled_recording_is_whole():
    about = json.loads((DEMO / "demo.json").read_text())
    for name, digest in about["sha256"].items():
        assert sha256(DEMO / name) == digest
    recording = audio.read(DEMO / "demo.m4a")
    assert (recording.rate, recording.samples.shape) == (48000, (2, round(about["seconds"] * 48000)))
    (begin, end), = about["gaps"]
    assert end - begin >= 2.5 and about["split"] == "test"
    mix = np.zeros((2, round(about["seconds"] * RATE)), np.float32)
    for stem in STEMS:
        clean = audio.read(DEMO / "clean" / f"{stem}.flac")
        assert clean.rate == RATE and clean.samples.shape == mix.shape
        assert np.abs(clean.samples[:, : round(end * RATE) - 1]).max() < 1e-4
        mix += clean.samples
        if about["stems_present"][stem]:
            assert clean.samples.std() > 1e-3, stem
    # There is a crowd where there is no music, and the clock of recording and clean stems is one.
    mono = audio.resample(recording.samples, 48000, RATE).mean(0)
    assert mono[: round(end * RATE)].std() > 0.01
    size = 1 << 21
    cross = np.fft.rfft(mono, size) * np.conj(np.fft.rfft(mix.mean(0), size))
    lag = int(np.argmax(np.fft.irfft(cross / (np.abs(cross) + 1e-9))))
    assert min(lag, size - lag) < 0.002 * RATE


def test_the_bundled_recording_uses_only_test_material_that_may_be_passed_on():
    about = json.loads((DEMO / "demo.json").read_text())
    rows = {row["file"]: row for row in read_table(ROOT / "resonate" / "bank" / "bank.tsv")}
    params = about["params"]
    used = [params["venue"]["room"], *(layer["name"] for layer in params["crowd"]["layers"]),
            *(name for *_, name in params["handling"]["events"] if name)]
    text = (ROOT / "assets" / "LICENSES.md").read_text()
    for name in used:
        assert rows[name]["split"] == "test" and shippable(rows[name]["licence"]) and name in text
    assert splits.split_of("songs", about["song"]) == "test"
