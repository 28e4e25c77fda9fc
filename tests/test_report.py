"""The page: what it refers to exists beside it, nothing else is referred to, and names cannot break it."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from resonate import audio
from resonate.errors import UserError
from resonate.report import account, charts, previews, words
from resonate.report.analysis import BANDS, Spectra, analyse, attenuated, band_hz, upper_edge, usual_gain
from resonate.report.page import build
from resonate.report.sounds import Sound, collect

RATE, SECONDS = 44100, 3.0
KEYS = ["input", "revealed", "restored", "extended", "vocals", "other", "bass", "drums", "removed", "crowd"]
NASTY = "Don't <script>alert(1)</script> & \"go\" [1] #2 é 🎸.m4a"


def tone(hertz: float, level: float, seconds: float = SECONDS) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * t) * np.ones((2, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result folder: the recording is a 440 Hz tone and a 3 kHz 'crowd', 20 dB softer than the master."""
    folder = tmp_path_factory.mktemp("out") / "show"
    (folder / "ledger").mkdir(parents=True)
    (folder / "stems").mkdir()
    revealed, crowd, extended = tone(440, 0.05), tone(3000, 0.01), tone(9000, 0.005)
    ledger = {"revealed": revealed, "removed": crowd, "crowd": crowd, "extended": extended}
    for name, samples in ledger.items():
        audio.write(folder / "ledger" / f"{name}.wav", samples, RATE)
    for share, stem in zip((0.5, 0.2, 0.2, 0.1), ("vocals", "drums", "bass", "other"), strict=True):
        audio.write(folder / "stems" / f"{stem}.wav", share * (revealed + extended), RATE)
    audio.write(folder / "master.wav", 10 * (revealed + extended), RATE, "PCM_24")
    report = {
        "name": "show",
        "mode": "extend",
        "input": {"name": NASTY, "seconds": SECONDS, "sha256": "ab", "source": {"codec": "aac", "rate": RATE}},
        "diagnosis": {"words": ["The crowd is <loud>."]},
        "notes": ["mono: both & sides"],
        "stages": [{"name": "mas<ter", "settings": {"a<b": [1, None]}, "effect": {"x_db": 1.25}, "seconds": 0.5}],
        "timings": {"mas<ter": 0.5, "report": 1.0},
        "settings": {"nested": {"deep<": True}},
        "weights": {"restorer": {"path": "/somewhere/private/restorer.safetensors", "sha256": "cd"}},
        "versions": {"python": "3.11"},
    }
    build(folder, report)
    return folder, report


class Links(HTMLParser):
    """Every src and href, every tag, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "poster", "srcset", "action")]

    def handle_data(self, data):
        self.text += data


def test_the_page_refers_to_files_beside_it_and_to_nothing_else(result):
    folder, _ = result
    text = (folder / "report.html").read_text("utf-8")
    links = Links(text).references
    assert "report/input.m4a" in links and "report/restored.m4a" in links and "master.wav" in links
    for link in links:
        assert (folder / link).is_file() or link == "report.json", link
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert not re.search(r"https?:|//[a-z]|url\(|@import|file:", text.replace(policy, ""))
    assert "/somewhere/private" not in text
    pictures = {path.name for path in (folder / "report").glob("*.png")}
    assert pictures == {"spectrogram_input.png", "spectrogram_restored.png", "origin.png"}
    assert text.count('loading="lazy"') == 3 and text.count("<svg") == 2


def test_the_account_is_there(result):
    folder, _ = result
    text = Links((folder / "report.html").read_text("utf-8")).text
    for said in ("mono: both & sides", "a<b 1, none", "x db 1.25", "Setting nested", "0.5 times", "restorer.saf"):
        assert said in text, said
    assert "99 % is revealed, 0.99 % extended" in text


def test_names_and_words_are_escaped(result):
    folder, _ = result
    page = Links((folder / "report.html").read_text("utf-8"))
    assert NASTY in page.text and "The crowd is <loud>." in page.text and "mas<ter" in page.text
    assert page.tags.count("script") == 2 and "loud" not in page.tags
    assert "viewport" in (folder / "report.html").read_text("utf-8")


def test_previews_are_of_one_length_and_the_compared_ones_equally_loud(result):
    folder, _ = result
    heard = {path.stem: audio.read(path) for path in (folder / "report").glob("*.m4a")}
    assert set(heard) == set(KEYS)
    for name, item in heard.items():
        assert abs(item.samples.shape[1] - SECONDS * RATE) < 0.05 * RATE, name
    loudness = {key: previews.loudness(heard[key].samples, RATE) for key in previews.MAIN}
    assert max(loudness.values()) - min(loudness.values()) < 0.5
    rms = {name: float(np.sqrt(np.mean(item.samples**2))) for name, item in heard.items()}
    assert rms["vocals"] / rms["bass"] == pytest.approx(2.5, rel=0.05)  # as in the mix
    assert rms["revealed"] / rms["extended"] == pytest.approx(10, rel=0.1)


def test_the_input_is_the_sum_of_revealed_and_removed(result):
    folder, report = result
    sounds = collect(folder, report)
    samples, rate = sounds["input"].read(0.5, 1.0)
    assert rate == RATE and samples.shape == (2, RATE)
    part = slice(RATE // 2, RATE // 2 + RATE)
    np.testing.assert_allclose(samples, (tone(440, 0.05) + tone(3000, 0.01))[:, part], atol=1e-6)
    streamed = np.concatenate(list(sounds["input"].blocks()), axis=1)
    np.testing.assert_allclose(streamed[:, part], samples, atol=1e-7)


def test_without_ledger_the_recording_itself_is_shown_and_without_master_the_page_is_refused(result, tmp_path):
    folder, report = result
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("ledger", "report", "report.html"))
    recording = tmp_path / "recording.wav"
    audio.write(recording, tone(440, 0.3, 5.0), RATE)
    given = {**report, "input": {**report["input"], "path": str(recording)}}
    given["settings"] = {"start": 1.0, "duration": 3.0}
    assert sum(b.shape[1] for b in collect(copy, given)["input"].blocks()) == 3 * RATE
    build(copy, given)
    present = {path.stem for path in (copy / "report").glob("*.m4a")}
    assert present == {"input", "restored", "vocals", "other", "bass", "drums"}
    (copy / "master.wav").unlink()
    with pytest.raises(UserError, match="master"):
        build(copy, given)


def test_silence_makes_a_page(tmp_path):
    for name in ("ledger/removed", "ledger/revealed", "master", "stems/vocals"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        audio.write(tmp_path / f"{name}.wav", np.zeros((2, RATE), np.float32), RATE)
    build(tmp_path, {})
    assert (tmp_path / "report.html").is_file() and (tmp_path / "report" / "input.m4a").is_file()


def test_spectra_show_a_tone_where_and_when_it_sounds():
    samples = np.concatenate([tone(1000, 0.5, 1.0), tone(200, 0.05, 1.0)], axis=1)
    for size in (997, 100_000):  # the blocks' size does not matter
        blocks = (samples[:, i : i + size] for i in range(0, samples.shape[1], size))
        spectra = analyse(blocks, RATE, 2.0)
        columns = spectra.power.shape[1]
        edges = band_hz()
        for place, hertz in ((columns // 4, 1000), (3 * columns // 4, 200)):
            band = int(np.argmax(spectra.power[:, place]))
            assert edges[max(band - 2, 0)] <= hertz <= edges[min(band + 3, BANDS)]
        level = 10 * np.log10(spectra.level)
        assert level[columns // 4] == pytest.approx(-9.03, abs=0.2)
        assert level[3 * columns // 4] == pytest.approx(-29.03, abs=0.2)


def test_spectra_of_other_rates_and_short_sounds():
    low = analyse([tone(1000, 0.5)[:, :8000]], 8000, 1.0)
    assert not low.power[band_hz()[1:] > 4100].any()
    assert analyse([np.zeros((2, 100), np.float32)], RATE, 100 / RATE).power.shape == (BANDS, 1)


def test_long_recordings_are_previewed_in_excerpts_and_within_the_budget():
    assert previews.stretches(899.0) == [(0.0, 899.0)]
    show = 3 * 3600.0
    many = [[400.0 * k, 400.0 * k + 380.0] for k in range(27)]
    for songs, count in (([], 3), ([[0.0, show]], 3), (many[:5], 5), (many, 12)):
        parts = previews.stretches(show, songs)
        assert len(parts) == count and sum(n for _, n in parts) <= previews.EXCERPTS_SECONDS
        assert parts[0][0] >= 0 and sum(parts[-1]) <= show
        assert all(a + n <= b for (a, n), (b, _) in pairwise(parts))
    assert previews.stretches(show, many)[0] == (175.0, 30.0)  # the middle of the first song
    for seconds in (24.0, 360.0, 900.0):
        rates = previews.bit_rates(KEYS, seconds)
        assert sum(rates.values()) * seconds / 8 <= 50e6
        assert max(rates.values()) <= previews.BEST_BIT_RATE and min(rates.values()) >= 24_000


def test_a_preview_of_many_stretches_holds_them_in_order(tmp_path):
    audio.write(tmp_path / "x.wav", np.arange(20 * 100, dtype=np.float32)[None] / 2000, 48000)
    sound = Sound("x", "", "", (tmp_path / "x.wav",))
    samples, rate = previews._read(sound, [(0.0, 100 / 48000), (1500 / 48000, 100 / 48000)])
    assert rate == 48000 and samples.shape == (2, 200)
    assert samples[0, 50] == pytest.approx(0.025, abs=1e-3) and samples[0, 150] == pytest.approx(0.775, abs=2e-2)


def test_bandwidth_follows_the_music_and_not_the_noise():
    """Music to 2 kHz that comes and goes, then to 8 kHz, over hiss that stays."""
    rng, n = np.random.default_rng(0), 8 * RATE
    t = np.arange(n) / RATE
    music = sum(np.sin(2 * np.pi * f * t + f) for f in np.geomspace(60, 2000, 90)) / 90
    music = music + (t > 4) * sum(np.sin(2 * np.pi * f * t + f) for f in np.geomspace(2000, 8000, 60)) / 90
    sound = music * (np.sin(2 * np.pi * t) > 0) + 1e-3 * rng.standard_normal(n)
    edge = upper_edge(analyse([sound[None].astype(np.float32)], RATE, 8.0))
    early, late = (np.nanmedian(edge[int(a * len(edge)) : int(b * len(edge))]) for a, b in ((0.06, 0.44), (0.6, 0.94)))
    assert 1500 < early < 2800 and 6000 < late < 11000
    assert np.isnan(upper_edge(analyse([np.zeros((1, RATE), np.float32)], RATE, 1.0))).all()


def test_what_is_turned_down_more_than_the_rest_is_attenuated():
    given = Spectra(np.ones((BANDS, 10)), np.ones(10), 1.0)
    kept = np.full((BANDS, 10), 0.25)
    kept[:, 0] = 0.025
    revealed = Spectra(kept, np.ones(10), 1.0)
    assert usual_gain(given, revealed) == pytest.approx(0.25)
    lost = attenuated(given, revealed)
    assert lost[:, 0] == pytest.approx(0.225) and not lost[:, 1:].any()
    silent = Spectra(np.zeros((BANDS, 10)), np.zeros(10), 1.0)
    assert usual_gain(silent, silent) == 1.0


def test_charts_break_where_nothing_is_known_and_join_what_touches():
    drawn = charts.lines({"input": np.array([1.0, 2.0, np.nan, 3.0])}, 0.0, 4.0)
    assert re.findall(r'points="([^"]*)"', drawn) == ["125.0,75.0 375.0,50.0", "875.0,25.0"]
    assert drawn.count(",") < 2 * charts.POINTS
    many = charts.ribbon([("veto", [(10.0 * k, 10.0 * k + 10.0) for k in range(1080)])], 10800.0)
    assert many.count("<rect") == 1 and 'width="1000.0"' in many
    long = charts.lines({"restored": np.zeros(1000)}, 0.0, 1.0)
    assert long.count(" ") < charts.POINTS + 10
    assert re.findall(r">([^<]+)</i>", charts.time_marks(10800.0)) == ["0:30 h", "1:00 h", "1:30 h", "2:00 h", "2:30 h"]


def test_vetoes_are_told_and_a_great_many_keep_the_page_short():
    taken = [
        {"from": 10.0 * k, "to": 10.0 * k + 10.0, "part": part, "why": ["<tones>"], "figures": {"tones_db": 7.0}}
        for k in range(1080) for part in ("gain", "extension")
    ]  # fmt: skip
    report = {"stages": [{"name": "restore", "effect": {"taken_back": taken, "levels": list(range(10_000))}}]}
    told = account.faults(report)
    assert told.count("<li>") == account.SHOWN and "2060 more" in told and len(told) < 40_000
    assert "took back 1080 stretches, 3 h 00 min together" in told and "&lt;tones&gt; (tones db 7)" in told
    assert "(10000 in all)" in account.stages(report) and "2160 stretches" in account.stages(report)
    other = {"from": 3.0, "to": 9.0, "part": "sound", "why": ["onsets"], "stage": "precondition"}
    report["stages"].append({"name": "precondition", "effect": {"taken_back": [other]}})
    assert "the stage “precondition” was left out, because there would have been onsets." in account.faults(report)
    none = {"stages": [{"name": "restore", "effect": {"taken_back": []}}]}
    assert "None: the file was read without a fault" in account.faults(none)
    off = {"settings": {"veto": {"enabled": False}}, "diagnosis": {"clean": True}}
    assert "veto.enabled=false" in account.faults(off) and "clean already" not in account.faults(off)


def test_words():
    assert [words.clock(t) for t in (5.9, 65, 3665)] == ["0:05", "1:05", "1:01:05"]
    assert [words.size(n) for n in (900, 2_500_000, 3e9)] == ["1 kB", "2.5 MB", "3.0 GB"]
    said = {seconds: words.duration(seconds) for seconds in (3.04, 125, 3720)}
    assert said == {3.04: "3.0 s", 125: "2 min 05 s", 3720: "1 h 02 min"}
    assert words.value({"gain_bound": 2.0, "flag": True, "list": []}) == "largest gain allowed 2; flag yes; list none"
    assert "made up" in words.promise({"mode": "reveal"}) and "filled in" in words.promise({"mode": "extend"})
    changed = words.recording({"input": {"sha256": "a", "sha256_after": "b"}})
    assert "CHANGED" in changed["SHA-256"]


def test_stretches_in_the_page_are_json(result):
    folder, _ = result
    text = (folder / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="stretches">(.*?)</script>', text)
    assert json.loads(found.group(1)) == [[0.0, SECONDS]]
