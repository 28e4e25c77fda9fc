"""MIDI rendered to stems: WAD files, instrument groups, one clock, silence that is known, renditions in one split."""

import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

mido = pytest.importorskip("mido", reason="mido is not installed: pip install 'resonate[render]'")

from data_recipes import midi_groups, midi_stems, synth, wad  # noqa: E402
from data_recipes.common import read_table  # noqa: E402
from resonate import RATE, STEMS  # noqa: E402
from resonate.data.music import load_song, scan_music  # noqa: E402
from resonate.errors import UserError  # noqa: E402

SOUNDFONTS = [Path(p) for p in ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf2/TimGM6mb.sf2",
                                "/usr/share/sounds/sf2/default-GM.sf2")]


def midi_bytes(path: Path, notes: list[tuple[float, int, int, int]], programs: dict[int, int]) -> bytes:
    """A MIDI file at 120 beats per minute: notes are (start in s, channel, note, velocity), 0.25 s each."""
    events = [(0.0, mido.Message("program_change", channel=c, program=p)) for c, p in programs.items()]
    for start, channel, note, velocity in notes:
        events.append((start, mido.Message("note_on", channel=channel, note=note, velocity=velocity)))
        events.append((start + 0.25, mido.Message("note_off", channel=channel, note=note)))
    track, now = mido.MidiTrack(), 0
    for time, message in sorted(events, key=lambda e: e[0]):
        tick = round(time * 960)
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(path)
    return path.read_bytes()


def note_starts(data: bytes) -> list[tuple[float, int, int]]:
    """(seconds, channel, note) of every note in a MIDI file."""
    now, found = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(data)):
        now += message.time
        if message.type == "note_on" and message.velocity:
            found.append((round(now, 3), message.channel, message.note))
    return found


def make_wad(path: Path, lumps: dict[str, bytes]) -> Path:
    body, entries, place = b"", b"", 12
    for name, data in lumps.items():
        entries += struct.pack("<ii8s", place, len(data), name.encode())
        body, place = body + data, place + len(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<4sii", b"PWAD", len(lumps), place) + body + entries)
    return path


# ---- WAD files


def test_lumps_come_out_of_a_wad(tmp_path):
    path = make_wad(tmp_path / "a.wad", {"D_E1M1": b"MThd...", "MARKER": b"", "D_RUNNIN": b"MUS\x1a"})
    assert list(wad.lumps(path)) == [("D_E1M1", b"MThd..."), ("MARKER", b""), ("D_RUNNIN", b"MUS\x1a")]


@pytest.mark.parametrize("data, match", [
    (b"RIFF" + b"\0" * 8, "not a WAD"), (b"PW", "not a WAD"), (struct.pack("<4sii", b"IWAD", 3, 12), "beyond its end"),
    (struct.pack("<4sii", b"IWAD", -1, 12), "beyond its end"),
    (struct.pack("<4sii", b"IWAD", 1, 12) + struct.pack("<ii8s", 1000, 5, b"D_X"), "D_X lies beyond"),
    (struct.pack("<4sii", b"IWAD", 1, 12) + struct.pack("<ii8s", -8, 5, b"D_X"), "D_X lies beyond")])
def test_a_damaged_wad_is_refused(tmp_path, data, match):
    (tmp_path / "bad.wad").write_bytes(data)
    with pytest.raises(UserError, match=match):
        list(wad.lumps(tmp_path / "bad.wad"))


# ---- instrument groups


def test_every_note_goes_to_one_group_on_one_clock(tmp_path):
    notes = [(0.0, 9, 36, 100), (0.5, 0, 40, 90), (1.0, 1, 60, 80), (1.5, 9, 38, 100), (2.0, 0, 43, 90)]
    data = midi_bytes(tmp_path / "a.mid", notes, {0: 33, 1: 27})
    parts = midi_groups.take_apart(midi_groups.read(data, "a"))
    assert set(parts.files) == {"drums", "bass", "other"} and not parts.choir
    assert note_starts(parts.files["drums"]) == [(0.0, 9, 36), (1.5, 9, 38)]
    assert note_starts(parts.files["bass"]) == [(0.5, 0, 40), (2.0, 0, 43)]
    assert note_starts(parts.files["other"]) == [(1.0, 1, 60)]


def test_a_channel_that_changes_its_instrument_changes_its_group(tmp_path):
    path = tmp_path / "a.mid"
    track = mido.MidiTrack([
        mido.Message("program_change", channel=0, program=33), mido.Message("note_on", note=40, time=0),
        mido.Message("program_change", channel=0, program=0, time=100),  # the bass note still sounds
        mido.Message("note_off", note=40, time=100), mido.Message("note_on", note=60, time=0),
        mido.Message("note_off", note=60, time=100), mido.Message("program_change", channel=0, program=117),
        mido.Message("note_on", note=50, time=0), mido.Message("note_off", note=50, time=10)])
    mido.MidiFile(type=0, tracks=[track]).save(path)
    parts = midi_groups.take_apart(midi_groups.read(path.read_bytes(), "a"))
    assert [n[2] for n in note_starts(parts.files["bass"])] == [40]
    assert [n[2] for n in note_starts(parts.files["other"])] == [60]
    assert [n[2] for n in note_starts(parts.files["drums"])] == [50]
    ends = [m for m in mido.MidiFile(file=io.BytesIO(parts.files["bass"])) if m.type == "note_off"]
    assert [m.note for m in ends] == [40]


def test_transposition_spares_the_drums_and_tempo_moves_all_alike(tmp_path):
    data = midi_bytes(tmp_path / "a.mid", [(1.0, 9, 36, 100), (1.0, 0, 60, 90), (2.0, 0, 126, 90)], {0: 0})
    parts = midi_groups.take_apart(midi_groups.read(data, "a"), transpose=3, tempo=2.0)
    assert note_starts(parts.files["drums"]) == [(0.5, 9, 36)]
    assert note_starts(parts.files["other"]) == [(0.5, 0, 63), (1.0, 0, 126)]


@pytest.mark.parametrize("program, choir", [(52, True), (54, True), (85, True), (91, True), (55, False), (90, False)])
def test_a_choir_is_noticed(tmp_path, program, choir):
    data = midi_bytes(tmp_path / "a.mid", [(0.0, 2, 60, 90)], {2: program})
    assert midi_groups.take_apart(midi_groups.read(data, "a")).choir is choir


def with_event(event: bytes) -> bytes:
    """A MIDI file of one note, before which comes `event`."""
    track = b"\0" + event + b"\0\x90\x3c\x50\x60\x80\x3c\0\0\xff\x2f\0"
    return b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk" + struct.pack(">L", len(track)) + track


def test_the_slowest_tempo_and_messages_that_belong_to_no_file_are_no_obstacle():
    slow, clock = with_event(b"\xff\x51\3\xff\xff\xff"), with_event(b"\xf8")
    parts = midi_groups.take_apart(midi_groups.read(slow, "a"), tempo=0.9)
    tempos = [m.tempo for m in mido.MidiFile(file=io.BytesIO(parts.files["other"])) if m.type == "set_tempo"]
    assert tempos[-1] == 0xFFFFFF
    assert note_starts(midi_groups.take_apart(midi_groups.read(clock, "a")).files["other"]) == [(0.0, 0, 60)]


@pytest.mark.parametrize("data", [b"", b"MThd", b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\xff", b"nonsense" * 20,
                                  b"MThd\0\0\0\6\0\2\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
                                  with_event(b"\xff\x59\2\x0c\0")])  # a key with 12 sharps
def test_what_is_no_playable_midi_is_named(data):
    with pytest.raises(UserError, match="my song"):
        midi_groups.read(data, "my song")


# ---- the recipe, with a stand-in for the synthesiser


def beeps(midi: bytes, font: synth.Soundfont, room: float = 0.2, reverb: float = 0.9) -> np.ndarray:
    """A synthesiser of beeps: each note one, at its time and pitch, louder than full scale."""
    starts = note_starts(midi)
    out = np.zeros((2, round((starts[-1][0] + 0.5) * RATE)), np.float32)
    for time, _, note in starts:
        t = np.arange(RATE // 4) / RATE
        first = round(time * RATE)
        out[:, first : first + len(t)] += 1.5 * np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * t)
    return out


@pytest.fixture
def songs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(synth, "render", beeps)
    monkeypatch.setattr(synth, "check", lambda: None)
    folder = tmp_path / "midi"
    folder.mkdir()
    band = [(t, 9, 36, 100) for t in np.arange(0, 31, 0.5)] + [(t, 0, 40, 90) for t in np.arange(0, 32, 1.0)]
    band += [(t, 1, 60, 80) for t in np.arange(0.25, 31, 1.0)]
    midi_bytes(folder / "band.mid", band, {0: 33, 1: 27})
    midi_bytes(folder / "piano.mid", [(t, 1, 60, 80) for t in np.arange(0, 31, 1.0)], {1: 0})
    midi_bytes(folder / "choir.mid", [(t, 1, 61, 80) for t in np.arange(0, 31, 1.0)], {1: 52})
    midi_bytes(folder / "short.mid", band[:3], {})
    shutil.copyfile(folder / "band.mid", folder / "copy.mid")
    (folder / "broken.mid").write_bytes(b"MThd")
    (tmp_path / "font.sf2").write_bytes(b"RIFF\0\0\0\0sfbk")
    return folder


def build(songs: Path, out: Path, *more: str) -> list[dict[str, str]]:
    midi_stems.main(["--out", str(out), "--packages", "--midi", str(songs), "--licence", "CC0-1.0", "--soundfonts",
                     str(songs.parent / "font.sf2"), "--soundfont-licence", "MIT", *more])
    return read_table(out / "songs.tsv")


def test_midi_becomes_stems_on_one_clock_with_silence_that_is_known(tmp_path, songs):
    rows = build(songs, tmp_path / "out", "--renditions", "1")
    assert {r["licence"] for r in rows} == {"CC0-1.0 and MIT"} and {r["shippable"] for r in rows} == {"yes"}
    reasons = {r["song"]: r["reason"] for r in read_table(tmp_path / "out" / "left_out.tsv")}
    assert set(reasons) == {"copy", "short", "broken"}
    assert "shorter than 30 s" in reasons["short"] and "copy of band" in reasons["copy"]
    by_name = {song.name: song for song in scan_music(tmp_path / "out")}
    band, present = load_song(by_name["band__0"])
    assert present.tolist() == [True] * 4  # vocals too: known to be silent
    assert np.abs(band[STEMS.index("vocals")]).max() == 0
    peaks = [np.abs(band[i]).max() for i in range(3)]
    assert max(*peaks, np.abs(band.sum(0)).max()) == pytest.approx(0.9, abs=1e-3) and min(peaks) > 0.2
    # The beats of drums and bass coincide: both begin at the same sample.
    starts = [int(np.flatnonzero(np.abs(band[STEMS.index(s), 0]) > 1e-3)[0]) for s in ("drums", "bass")]
    assert abs(starts[0] - starts[1]) <= 2
    # No drums are played, so they are silent; the left hand may be a bass, so the bass is unknown.
    assert by_name["piano__0"].present.tolist() == [True, False, True, True]
    assert by_name["choir__0"].present.tolist() == [True, False, True, False]


def test_stems_that_a_soundfont_plays_far_too_softly_are_brought_up():
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal((2, 4 * RATE))).astype(np.float32)
    sparse = noise * 0
    sparse[:, RATE : 2 * RATE] = noise[:, :RATE] * 0.01  # 40 dB under, in one second of four
    made = midi_stems.balance({"drums": sparse, "bass": noise * 0.5, "other": noise})
    levels = {group: midi_stems.active_level(x) for group, x in made.items()}
    assert levels["drums"] - levels["other"] == pytest.approx(-6, abs=0.1)
    assert np.array_equal(made["bass"], noise * 0.5) and np.array_equal(made["other"], noise)
    alone = midi_stems.balance({"drums": sparse})
    assert np.array_equal(alone["drums"], sparse)


def test_renditions_differ_but_share_a_split_and_a_second_run_renders_nothing(tmp_path, songs, monkeypatch):
    rows = build(songs, tmp_path / "out", "--renditions", "2")
    for name in ("band", "piano", "choir"):
        mine = [r for r in rows if r["song"].startswith(name)]
        assert len({r["song"] for r in mine}) == 2 and len({r["split"] for r in mine}) == 1
        notes = {r["note"].split(" rms")[0] for r in mine}
        assert len(notes) == 2 and any("transpose=0 tempo=1 kit=None" in n for n in notes)
        assert {s.split for s in scan_music(tmp_path / "out") if s.name.startswith(name)} == {mine[0]["split"]}
    monkeypatch.setattr(synth, "render", lambda *a: pytest.fail("rendered again"))
    assert build(songs, tmp_path / "out", "--renditions", "2") == rows
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_song_given_twice_is_rendered_once(tmp_path, monkeypatch):
    songs = [midi_stems.Source("band", b"MThd", "CC0-1.0", "", "own:band") for _ in range(2)]
    rows = [{"song": "band__0", "file": "band__0/drums.flac"}]
    monkeypatch.setattr(midi_stems, "write_song", lambda *arguments: rows)
    assert midi_stems.build(songs, tmp_path, [], renditions=1) == rows
    assert read_table(tmp_path / "left_out.tsv") == []


def test_a_table_of_the_users_own_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "songs.tsv").write_text("song\tartist\nMine\tMe\n")
    monkeypatch.setattr(midi_stems.synth, "check", lambda: None)
    monkeypatch.setattr(midi_stems, "from_package", lambda *_: pytest.fail("downloaded before it was refused"))
    for refused in (lambda: midi_stems.build([], tmp_path, []), lambda: midi_stems.main(["--out", str(tmp_path)])):
        with pytest.raises(UserError, match="not written by a recipe"):
            refused()
    assert "Mine" in (tmp_path / "songs.tsv").read_text()


def test_gpl_music_needs_a_word(tmp_path, songs):
    with pytest.raises(UserError, match="--allow-gpl"):
        midi_stems.main(["--out", str(tmp_path / "o"), "--packages", "openttd-openmsx"])
    assert not (tmp_path / "o").exists()


def test_wads_and_midi_files_of_a_package_are_found(tmp_path):
    unpacked = tmp_path / "unpacked" / "freedoom" / "usr" / "share"
    song = midi_bytes(tmp_path / "a.mid", [(0.0, 0, 60, 90)], {})
    make_wad(unpacked / "one.wad", {"D_E1M1": song, "D_MUS": b"MUS\x1a", "E1M1": b"MThd"})
    found = midi_stems.from_package("freedoom", None, tmp_path)
    assert [(s.name, s.data, s.licence) for s in found] == [("one_D_E1M1", song, "BSD-3-Clause")]


def test_a_missing_synthesiser_and_a_wrong_soundfont_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(synth.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="fluidsynth is not installed"):
        midi_stems.main(["--out", str(tmp_path / "o")])
    (tmp_path / "a.sf2").write_bytes(b"no soundfont")
    for name in ("a.sf2", "missing.sf2"):
        with pytest.raises(UserError, match=name):
            synth.from_file(tmp_path / name, "MIT")


@pytest.mark.skipif(not shutil.which("fluidsynth"), reason="fluidsynth is not installed")
def test_fluidsynth_plays_the_groups_on_one_clock(tmp_path):
    font = next((p for p in SOUNDFONTS if p.is_file()), None)
    if font is None:
        pytest.skip("no General MIDI soundfont is installed (apt-get install fluid-soundfont-gm)")
    data = midi_bytes(tmp_path / "a.mid", [(1.0, 9, 38, 120), (1.0, 0, 40, 120), (2.0, 1, 64, 120)], {0: 33, 1: 0})
    parts = midi_groups.take_apart(midi_groups.read(data, "a"))
    onset = {}
    for group, midi in parts.files.items():
        x = synth.render(midi, synth.from_file(font, "MIT"))
        loud = np.abs(x).max(0)
        onset[group] = int(np.flatnonzero(loud > 0.02 * loud.max())[0]) / RATE
    assert abs(onset["drums"] - 1) < 0.03 and abs(onset["bass"] - 1) < 0.05 and abs(onset["other"] - 2) < 0.05
