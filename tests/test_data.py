"""Splits, music folders, excerpts and the starter bank."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from resonate import RATE, STEMS, audio
from resonate.data import splits
from resonate.data.excerpts import Excerpts, Remix
from resonate.data.music import load_song, scan_music
from resonate.errors import UserError

BANK = Path(__file__).parents[1] / "resonate" / "bank"


def tone(seconds: float, hz: float = 440.0, rate: int = RATE, level: float = 0.2) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * hz * t), np.cos(2 * np.pi * hz * t)]).astype(np.float32) * np.float32(level)


def put(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, samples, rate, subtype="PCM_24")
    return path


# ---- splits


def test_the_album_is_split_as_the_project_decided():
    assert {s: splits.split_of("songs", s) for s in ("Caesium", "Rubidium", "Lithium", "Sodium", "Potassium")} == {
        "Caesium": "test", "Rubidium": "valid", "Lithium": "train", "Sodium": "train", "Potassium": "train"}
    assert splits.is_reserved("Francium") and splits.is_reserved("fretsonfire-songs-sectoid")
    assert not splits.is_reserved("Caesium")


def test_every_kind_has_all_three_splits():
    for kind, names in splits.load().items():
        assert set(names.values()) == set(splits.SPLITS), kind


def test_unlisted_songs_are_assigned_by_name_not_by_order():
    songs = [(f"song {i}", "") for i in range(400)]
    first = splits.assign(songs)
    assert first == splits.assign(songs[::-1])
    counts = [list(first.values()).count(s) for s in splits.SPLITS]
    assert 25 <= counts[1] <= 55 and counts[2] == 0  # a tenth; nothing of the user's is test unless it is listed


def test_adding_songs_moves_no_other_song():
    songs = [(f"song {i}", "") for i in range(60)]
    whole = splits.assign(songs)
    seen_valid = False
    for count in range(2, 60):
        part = splits.assign(songs[:count])
        moved = [song for song in part if part[song] != whole[song]]
        assert "valid" in part.values() and "train" in part.values()
        # Only the song that stands in while none is valid by its hash may move, and only to train.
        assert len(moved) <= 1 and all((part[m], whole[m]) == ("valid", "train") for m in moved)
        assert not (seen_valid and moved)
        seen_valid = seen_valid or not moved
    artists = [(f"{artist} {i}", artist) for artist in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for i in range(2)]
    fewer, more = splits.assign(artists[:40]), splits.assign(artists)
    assert all(more[key] == split for key, split in fewer.items())


def test_two_songs_train_and_validate_and_one_song_trains():
    assert sorted(splits.assign([("a", ""), ("b", "")]).values()) == ["train", "valid"]
    assert list(splits.assign([("a", "")]).values()) == ["train"]


def test_an_artist_is_never_in_two_splits():
    songs = [(f"{artist} {i}", artist) for artist in "ABCDEFGHIJKL" for i in range(3)]
    assigned = splits.assign(songs)
    for artist in "ABCDEFGHIJKL":
        assert len({split for (_, a), split in assigned.items() if a == artist}) == 1
    assert set(assigned.values()) == {"train", "valid"}


def test_a_table_may_say_the_split_but_not_against_the_project():
    songs = [("Mine", ""), ("Caesium", "")]
    assert splits.assign(songs, {("Mine", ""): "test", ("Caesium", ""): "train"}) == {
        ("Mine", ""): "test", ("Caesium", ""): "test"}


def test_a_listed_artist_decides():
    assert splits.assign([("anything", "Lincoln Domina")])["anything", "Lincoln Domina"] == "test"


# ---- music folders


def test_several_files_per_stem_are_summed_on_one_clock(tmp_path):
    x, y = tone(2.0, 300), tone(1.0, 900)
    put(tmp_path / "One" / "drums__KICK.wav", x)
    put(tmp_path / "One" / "drums__HATS.wav", y)
    put(tmp_path / "One" / "other__PAD + BASS.flac", y)
    (song,) = scan_music(tmp_path)
    stems, present = load_song(song)
    assert present.tolist() == [True, False, True, False] and not song.mix_only
    want = x.copy()
    want[:, : y.shape[1]] += y
    assert stems.shape == (4, 2, 2 * RATE) and stems.dtype == np.float32
    assert np.abs(stems[0] - want).max() < 1e-6
    assert np.abs(stems[2, :, RATE:]).max() == 0 and np.abs(stems[1]).max() == 0


def test_aac_stems_start_at_zero_because_the_edit_list_is_obeyed(tmp_path):
    x = np.zeros((2, 3 * 48000), np.float32)
    x[:, 48000:48600] = np.hanning(600) * np.sin(np.arange(600))
    folder = tmp_path / "Song"
    folder.mkdir()
    audio.encode(folder / "vocals.m4a", x, 48000, codec="aac", bit_rate=192_000)
    put(folder / "other.wav", x, 48000)
    stems, _ = load_song(scan_music(tmp_path)[0], 0.0, 2.5)
    a, b = stems[STEMS.index("vocals"), 0], stems[STEMS.index("other"), 0]
    lags = np.correlate(a, b, mode="full")
    assert abs(int(np.argmax(lags)) - (len(b) - 1)) <= 1


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_stretch_equals_the_same_stretch_of_the_whole(tmp_path, rate):
    rng = np.random.default_rng(0)
    put(tmp_path / "S" / "bass.flac", (0.1 * rng.standard_normal((2, 3 * rate))).astype(np.float32), rate)
    song = scan_music(tmp_path)[0]
    whole, _ = load_song(song)
    part, _ = load_song(song, 1.0, 0.7)
    start = RATE
    assert np.abs(part - whole[..., start : start + part.shape[-1]]).max() < 2e-3 * np.abs(whole).max()


def test_a_finished_mix_comes_as_other_with_nothing_present(tmp_path):
    put(tmp_path / "A song.flac", tone(1.0)[:1])
    (song,) = scan_music(tmp_path)
    stems, present = load_song(song, 0.0, 2.0)
    assert song.mix_only and not present.any()
    assert np.abs(stems[2, :, :RATE]).max() > 0.1 and np.abs(stems[2, 0] - stems[2, 1]).max() == 0
    assert np.abs(stems[2, :, RATE:]).max() == 0 and np.abs(stems[[0, 1, 3]]).max() == 0


def test_musdb_test_songs_stay_test_songs(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        for stem in (*STEMS, "mixture"):
            put(tmp_path / part / name / f"{stem}.wav", tone(0.1))
    by_name = {song.name: song for song in scan_music(tmp_path)}
    assert by_name["c"].split == "test"
    assert sorted([by_name["a"].split, by_name["b"].split]) == ["train", "valid"]
    assert by_name["a"].mixture.name == "mixture.wav" and set(by_name["a"].stems) == set(STEMS)


def test_a_folder_called_test_is_the_test_split_in_any_depth(tmp_path):
    held_out = ("test/flat.wav", "test/Artist/deep.wav", "more/test/Artist/Song/drums.wav")
    for name in (*held_out, "flat too.wav", "Artist/mine.wav", "Artist/Own/drums.wav", "latest/new.wav"):
        put(tmp_path / name, tone(0.1))
    found = {song.name: song.split for song in scan_music(tmp_path)}
    assert {name for name, split in found.items() if split == "test"} == {"flat", "deep", "Song"}


def test_songs_tsv_gives_artist_and_licence_and_reserved_songs_are_left_out(tmp_path):
    put(tmp_path / "x.flac", tone(0.2))
    put(tmp_path / "Francium" / "drums.flac", tone(0.2))
    (tmp_path / "songs.tsv").write_text("song\tartist\tlicence\nx\tLincoln Domina\tCC0\n")
    (song,) = scan_music(tmp_path)
    assert (song.artist, song.licence, song.split) == ("Lincoln Domina", "CC0", "test")


def wrong_nothing(root: Path) -> str:
    (root / "notes.txt").write_text("no music")
    return "holds no audio"


def wrong_stranger(root: Path) -> str:
    put(root / "S" / "drums.wav", tone(0.1))
    put(root / "S" / "piano.wav", tone(0.1))
    return "piano.wav"


def wrong_empty(root: Path) -> str:
    (root / "a.wav").touch()
    return "a.wav is empty"


def wrong_stem_mp4(root: Path) -> str:
    (root / "a.stem.mp4").write_bytes(b"x")
    return "MUSDB18-HQ"


@pytest.mark.parametrize("make", [wrong_nothing, wrong_stranger, wrong_empty, wrong_stem_mp4])
def test_a_wrong_layout_is_named(tmp_path, make):
    message = make(tmp_path)
    with pytest.raises(UserError, match=message):
        scan_music(tmp_path)


def test_a_text_file_called_wav_is_named(tmp_path):
    (tmp_path / "a.wav").write_text("this is not audio")
    with pytest.raises(UserError, match=r"a\.wav"):
        _ = scan_music(tmp_path)[0].duration


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        scan_music(tmp_path / "nowhere")


# ---- excerpts


@pytest.fixture
def four_songs(tmp_path) -> Path:
    for number, name in enumerate(("Lithium", "Sodium", "Potassium", "Rubidium")):
        for place, stem in enumerate(STEMS):
            if not (name == "Potassium" and stem == "bass"):
                put(tmp_path / name / f"{stem}.flac", tone(3.0, 200 * (number + 1) + 37 * place))
    return tmp_path


def test_an_excerpt_is_a_pure_function_of_the_generator(four_songs):
    source = Excerpts([(four_songs, 1.0)], "train", 1.0, Remix())
    for seed in range(4):
        one, two = (source.draw(np.random.default_rng(seed)) for _ in range(2))
        assert one.song == two.song and np.array_equal(one.stems, two.stems)
    assert "Rubidium" not in {song.name for song in source.songs}


def test_excerpts_have_a_level_and_no_peak_above_one(four_songs):
    source = Excerpts([(four_songs, 1.0)], "train", 1.0, Remix())
    for seed in range(8):
        mix = source.draw(np.random.default_rng(seed)).stems.sum(0)
        rms = 20 * np.log10(np.sqrt(np.mean(mix**2)))
        assert -20.1 < rms < -13.9 and np.abs(mix).max() <= 1.0 + 1e-6


def test_a_song_without_bass_never_gets_one_by_remixing(four_songs):
    source = Excerpts([(four_songs, 1.0)], "train", 1.0, Remix(share=1.0, swap=1.0))
    seen = 0
    for seed in range(20):
        excerpt = source.draw(np.random.default_rng(seed))
        if excerpt.songs[0] == "Potassium":
            seen += 1
            assert not excerpt.present[1] and np.abs(excerpt.stems[1]).max() == 0
            assert set(excerpt.songs) - {"Potassium"}
    assert seen


def test_validation_is_never_remixed(four_songs):
    source = Excerpts([(four_songs, 1.0)], "valid", 1.0)
    assert source.draw(np.random.default_rng(0)).songs == ("Rubidium",)


def test_a_split_without_songs_is_an_error_that_names_the_folder(four_songs):
    with pytest.raises(UserError, match=four_songs.name):
        Excerpts([(four_songs, 1.0)], "test", 1.0)


def test_of_quiet_stretches_the_loudest_is_taken(tmp_path):
    level = np.repeat(10 ** (-np.array([70, 60, 50, 65, 75]) / 20), 3 * RATE)
    put(tmp_path / "Lithium.flac", (level * tone(15.0)).astype(np.float32))
    source = Excerpts([(tmp_path, 1.0)], "train", 1.0)
    starts = [source.draw(np.random.default_rng(seed)).start for seed in range(20)]
    # One in five starts lies in the loudest stretch; of twelve tries one nearly always does.
    assert sum(5.0 < start < 9.0 for start in starts) >= 15


def test_silent_music_is_refused(tmp_path):
    put(tmp_path / "Lithium.flac", np.zeros((2, 3 * RATE), np.float32))
    with pytest.raises(UserError, match="silent"):
        Excerpts([(tmp_path, 1.0)], "train", 1.0).draw(np.random.default_rng(0))


# ---- the starter bank


def bank_rows() -> list[dict[str, str]]:
    with (BANK / "bank.tsv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_the_bank_carries_every_kind_in_every_split():
    have = {(row["kind"], row["split"]) for row in bank_rows()}
    assert have == {(k, s) for k in ("crowd", "rooms", "devices", "handling") for s in splits.SPLITS}


def test_no_room_device_or_recording_lies_in_two_splits():
    by_group: dict[tuple[str, str], set[str]] = {}
    for row in bank_rows():
        by_group.setdefault((row["kind"], row["group"]), set()).add(row["split"])
        assert splits.split_of(row["kind"], row["group"]) == row["split"], row["file"]
    assert all(len(found) == 1 for found in by_group.values())


def test_the_bank_may_be_passed_on_and_is_what_its_table_says():
    from data_recipes.common import shippable

    rows = bank_rows()
    files = {p.relative_to(BANK).as_posix() for p in BANK.rglob("*") if p.is_file()}
    assert files == {row["file"] for row in rows} | {"bank.tsv", "LICENSES.md", ".made-by"}
    assert sum((BANK / f).stat().st_size for f in files) < 40_000_000
    for row in rows:
        assert shippable(row["licence"]), row
        assert "GPL" not in row["licence"] and row["source"] and row["origin"]
        assert hashlib.sha256((BANK / row["file"]).read_bytes()).hexdigest() == row["sha256"], row["file"]


def test_bank_material_is_sound():
    from resonate.degrade.bank import Bank

    bank = Bank.load(BANK, "all")
    for kind in ("crowd", "rooms", "handling"):
        for item in bank.items(kind):
            if item.path.stat().st_size > 600_000:
                continue  # the two long recordings take most of the time
            x = bank.audio(item)
            assert np.isfinite(x).all() and np.abs(x).max() > 0.01, item.name
            assert kind != "crowd" or x.shape[-1] > 3 * RATE, item.name
