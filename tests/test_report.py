"""The page: what it refers to exists beside it, nothing else is referred to, and names cannot break it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from resonate import audio
from resonate.errors import UserError
from resonate.report import previews, words
from resonate.report.analysis import BANDS, analyse, band_hz
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
    assert not re.search(r"https?:|//[a-z]|url\(|@import|file:", text)
    assert "/somewhere/private" not in text


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
    parts = previews.stretches(3 * 3600.0)
    assert len(parts) == 3 and all(a >= 0 and a + n <= 3 * 3600 for a, n in parts)
    for seconds in (24.0, 360.0, 900.0):
        rates = previews.bit_rates(KEYS, seconds)
        assert sum(rates.values()) * seconds / 8 <= 50e6
        assert max(rates.values()) <= previews.BEST_BIT_RATE and min(rates.values()) >= 24_000


def test_a_preview_of_many_stretches_holds_them_in_order(tmp_path):
    audio.write(tmp_path / "x.wav", np.arange(10 * 100, dtype=np.float32)[None] / 1000, 48000)
    sound = Sound("x", "", "", (tmp_path / "x.wav",))
    samples, rate = previews._read(sound, [(0.0, 100 / 48000), (500 / 48000, 100 / 48000)])
    assert rate == 48000 and samples.shape == (2, 200)
    assert samples[0, 50] == pytest.approx(0.050, abs=2e-3) and samples[0, 150] == pytest.approx(0.550, abs=2e-2)


def test_words():
    said = {seconds: words.duration(seconds) for seconds in (3.04, 125, 3720)}
    assert said == {3.04: "3.0 s", 125: "2 min 05 s", 3720: "1 h 02 min"}
    assert words.value({"gain_bound": 2.0, "flag": True, "list": []}) == "largest gain allowed 2; flag yes; list none"
    assert "made up" in words.promise({"mode": "reveal"}) and "filled in" in words.promise({"mode": "extend"})
    changed = words.recording({"input": {"sha256": "a", "sha256_after": "b"}})
    assert "CHANGED" in changed["SHA-256"]


STUB = """
const made = {};
function element(extra) {
  return Object.assign({ listeners: {}, attributes: {}, dataset: {}, style: {}, textContent: "", value: "0",
    addEventListener(name, f) { (this.listeners[name] = this.listeners[name] || []).push(f); },
    setAttribute(name, v) { this.attributes[name] = v; }, focus() {},
    fire(name, event) { (this.listeners[name] || []).forEach((f) => f(event || {})); } }, extra);
}
function sound(lag) {
  return element({ paused: true, currentTime: 0, lag,
    play() { this.paused = false; this.currentTime += this.lag; return Promise.resolve(); },
    pause() { this.paused = true; } });
}
const sounds = [sound(0), sound(0), sound(0.2)];
const buttons = sounds.map((_, i) => element({ dataset: { track: "t" + i, says: "says " + i } }));
const ids = { play: element(), seek: element({ dataset: { whole: "1000" } }), clock: element(), says: element(),
  stretches: element({ textContent: "[[100, 60], [500, 60]]" }) };
ids.play.click = () => ids.play.fire("click");
const head = element(), screen = element({ getBoundingClientRect: () => ({ left: 0, width: 100 }) });
global.document = element({ getElementById: (id) => ids[id], querySelectorAll: (q) =>
  ({ "audio.track": sounds, "[data-track]": buttons, ".head": [head], ".screen": [screen] })[q] });
global.requestAnimationFrame = () => {};
"""
CHECK = """
const assert = require("assert");
(async () => {
  ids.play.fire("click");
  assert(!sounds[0].paused && ids.play.textContent === "Pause");
  sounds[0].currentTime = 70;               // 10 s into the second excerpt
  sounds[0].fire("timeupdate");
  assert.equal(ids.clock.textContent, "8:30 / 16:40");
  assert.equal(head.style.left, "51%");
  buttons[2].fire("click");                 // starts 0.2 s off, must be moved
  await new Promise((r) => setTimeout(r, 5));
  assert(sounds[0].paused && !sounds[2].paused);
  assert(Math.abs(sounds[2].currentTime - sounds[0].currentTime) <= 0.05);
  assert.equal(buttons[2].attributes["aria-checked"], "true");
  assert.equal(ids.says.textContent, "says 2");
  screen.fire("click", { clientX: 13 });    // 130 s of the recording: 30 s into the previews
  assert(Math.abs(sounds[2].currentTime - 30) < 1e-6);
  screen.fire("click", { clientX: 99 });    // after the last excerpt: its end
  assert(Math.abs(sounds[2].currentTime - 120) < 1e-6);
  ids.play.fire("click");
  assert(sounds.every((s) => s.paused));
  buttons[1].fire("click");                 // a change while stopped keeps the place and stays stopped
  assert(sounds[1].paused && Math.abs(sounds[1].currentTime - 120) < 1e-6);
})().catch((e) => { console.error(e); process.exit(1); });
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_players_hand_over_within_50_ms_and_share_one_position(tmp_path):
    script = files("resonate.report").joinpath("page.js").read_text("utf-8")
    (tmp_path / "run.js").write_text(STUB + script + CHECK)
    done = subprocess.run(["node", str(tmp_path / "run.js")], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_stretches_in_the_page_are_json(result):
    folder, _ = result
    text = (folder / "report.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="stretches">(.*?)</script>', text)
    assert json.loads(found.group(1)) == [[0.0, SECONDS]]
