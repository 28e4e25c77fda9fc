"""The report page in headless Chromium: it plays, changes between sounds in step, and says what was found."""

import json
import time
from itertools import pairwise

import numpy as np
import pytest
from browsing import browser, shown, until
from matplotlib.image import imread

from resonate import audio
from resonate.report import screenshot
from resonate.report.page import build

RATE, SECONDS, PERIOD = 44100, 16.0, 0.5
NASTY = "<script>document.title='broken'</script> & \"Tom\" '🎸' [1].wav"
#: Sounds that far apart (s) are in step; a change of sound may move the place by LEAP.
APART, LEAP = 0.05, 0.25


def bursts(hertz: float, level: float, seconds: float = SECONDS) -> np.ndarray:
    """(2, time) short tones, one every PERIOD s."""
    t = np.arange(round(seconds * RATE)) / RATE
    shape = np.exp(-(t % PERIOD) / 0.02)
    return (level * shape * np.sin(2 * np.pi * hertz * t) * np.ones((2, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result folder in which all sounds beat together, with two stretches taken back."""
    folder = tmp_path_factory.mktemp("out") / "show"
    parts = {
        "ledger/revealed": bursts(1000, 0.1), "ledger/removed": bursts(3000, 0.1), "ledger/crowd": bursts(3000, 0.1),
        "ledger/extended": bursts(9000, 0.02), "master": bursts(1000, 0.5), "stems/vocals": bursts(1000, 0.1),
    }  # fmt: skip
    for name, samples in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write(folder / f"{name}.wav", samples, RATE)
    vetoes = [
        {"from": a, "to": a + 2.0, "part": part, "why": ["onsets that the recording lacks"], "figures": {"onsets": 0.1}}
        for a, part in ((4.0, "gain"), (10.0, "extension"))
    ]
    report = {
        "name": "show", "mode": "extend", "input": {"name": NASTY, "seconds": SECONDS},
        "diagnosis": {"words": ["The crowd is <b>loud</b>."], "songs": {"songs": [[0, 6], [8, 16]], "gaps": [[6, 8]]}},
        "notes": ["The file <i>ends</i> early."], "timings": {"restore": 3.0}, "settings": {"seed": 1},
        "stages": [{"name": "restore", "settings": {}, "effect": {"taken_back": vetoes}, "seconds": 3.0}],
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    build(folder, report)
    return folder


HEARD = """() => {
  const running = [...document.querySelectorAll("audio.track")].filter((track) => !track.paused);
  const open = running.filter((track) => !track.muted);
  return { open: open.map((track) => track.src.split("/").pop()), running: running.length,
           at: open.length ? open[0].currentTime : null,
           apart: running.length > 1 ? Math.max(...running.map((t) => t.currentTime))
                                       - Math.min(...running.map((t) => t.currentTime)) : 0 };
}"""
IS_HEARD = f"name => {{ const now = ({HEARD})(); return now.open.length === 1 && now.open[0] === name + '.m4a'; }}"


@pytest.mark.slow
def test_it_plays_changes_in_step_and_loops(result):
    with shown(result / "report.html") as page:
        assert page.inner_text("#play") == "Play" and page.is_disabled("#loop")
        page.keyboard.press(" ")
        until(page, IS_HEARD, "input")
        until(page, "() => document.querySelector('audio.track').currentTime > 0.3")
        page.focus("#seek")  # the keys go on to mean what the page says
        for key, name in (("b", "restored"), ("x", "input"), ("x", "restored"), ("4", "extended"), ("a", "input")):
            began, before = time.monotonic(), page.evaluate(HEARD)["at"]
            page.keyboard.press(key)
            until(page, IS_HEARD, name)
            moved = page.evaluate(HEARD)["at"] - before
            assert -LEAP < moved < time.monotonic() - began + LEAP, (key, moved)
            # on a busy machine players fall behind, by more than APART too, and are brought into step again
            until(page, f"() => {{ const now = ({HEARD})(); return now.running === 2 && now.apart < {APART}; }}")
        assert page.inner_text("[data-slot='1']").endswith("Extended")
        assert page.get_attribute("[data-slot='0']", "aria-checked") == "true"
        page.evaluate("document.activeElement.blur()")
        # a loop by keyboard, then one by a stroke across the picture
        page.keyboard.press(" ")
        until(page, "() => document.getElementById('play').textContent === 'Play'")
        page.locator("#seek").evaluate("e => { e.value = '6'; e.dispatchEvent(new Event('change')); }")
        page.keyboard.press("i")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("o")
        assert page.inner_text("#stretch") == "0:06 to 0:08"
        box = page.locator(".screen").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.3125, box["y"] + 30)
        page.mouse.up()
        assert page.inner_text("#stretch") == "0:04 to 0:05" and page.is_visible(".span >> nth=0")
        page.keyboard.press(" ")
        seen = []
        for _ in range(80):  # 4 s and more, in which it would get past 8 s without a loop
            seen.append(page.evaluate(HEARD)["at"])
            page.wait_for_timeout(50)
        seen = [at for at in seen if at is not None]
        assert min(seen) > 3.9 and max(seen) < 6.5 and sum(b < a for a, b in pairwise(seen)) >= 1
        page.keyboard.press("l")
        until(page, f"() => ({HEARD})().at > 5.5")


def test_it_tells_what_was_found_and_names_are_text(result):
    with shown(result / "report.html") as page:
        assert page.inner_text("h1") == NASTY and page.title() == f"{NASTY} - Resonate"
        text = page.inner_text("main")
        assert "The crowd is <b>loud</b>." in text and "The file <i>ends</i> early." in text
        assert "took back 2 stretches" in text and "onsets that the recording lacks" in text
        until(page, "() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
                    " || (scrollTo(0, document.body.scrollHeight), false)")  # fmt: skip
        page.click(".vetoes .jump >> nth=1")
        assert page.inner_text("#clock") == "0:10 / 0:16"
        ribbon = page.locator(".screen").last
        ribbon.click(position={"x": ribbon.bounding_box()["width"] / 2, "y": 9})
        assert page.inner_text("#clock") == "0:08 / 0:16"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(result, width):
    with shown(result / "report.html", width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_screenshots_are_taken_at_every_width(result, tmp_path):
    paths = screenshot.take(result / "report.html", tmp_path / "pictures")
    assert len(paths) == 4 and {imread(path).shape[1] for path in paths} == {1280, 390}


TAP = """() => {
  // Notes when the bursts begin in what each player sends out, muted or not, all by one clock.
  const tracks = [...document.querySelectorAll("audio.track")], context = new AudioContext();
  const merger = context.createChannelMerger(tracks.length);
  const tap = context.createScriptProcessor(2048, tracks.length, 1);
  window.onsets = tracks.map(() => []);
  const quiet = tracks.map(() => 0);
  let count = 0;
  tap.onaudioprocess = (event) => {
    tracks.forEach((track, n) => {
      const x = event.inputBuffer.getChannelData(n);
      for (let i = 0; i < x.length; i++, quiet[n]++) {
        if (Math.abs(x[i]) < 0.02) continue;
        if (quiet[n] > 0.1 * context.sampleRate) window.onsets[n].push((count + i) / context.sampleRate);
        quiet[n] = 0;
      }
    });
    count += event.inputBuffer.length;
  };
  const silent = new Map();
  Object.defineProperty(HTMLMediaElement.prototype, "muted", {
    get() { return silent.get(this) || false; }, set(value) { silent.set(this, value); },
  });
  tracks.forEach((track, n) => context.createMediaElementSource(track).connect(merger, 0, n));
  merger.connect(tap);
  tap.connect(context.destination);
}"""


def serve(folder, route, request):
    """Files of `folder` with byte ranges, for which media elements ask: sound from disk cannot be tapped."""
    content = (folder / request.url.split("/", 3)[3]).read_bytes()
    kind = {"html": "text/html", "png": "image/png", "m4a": "audio/mp4"}[request.url.rsplit(".", 1)[1]]
    first = int(request.headers.get("range", "bytes=0-").split("=")[1].split("-")[0])
    head = {"Accept-Ranges": "bytes", "Content-Type": kind}
    if "range" in request.headers:
        head["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
    route.fulfill(status=206 if "range" in request.headers else 200, headers=head, body=content[first:])


@pytest.mark.slow
def test_what_sounds_is_in_step_when_it_changes(result):
    """By the sound itself, sample by sample, not by what the players say of themselves."""
    numbers = {"input": 0, "revealed": 1, "restored": 2, "extended": 3, "vocals": 4}
    with browser() as opened:
        page = opened.new_page()
        page.route("**/*", lambda route, request: serve(result, route, request))
        page.goto("http://report.test/report.html")
        page.evaluate(TAP)
        page.keyboard.press(" ")
        for key, now, before in (("b", "restored", "input"), ("x", "input", "restored"), ("5", "vocals", "restored")):
            page.keyboard.press(key)
            until(page, IS_HEARD, now)
            for _ in range(10):  # as above: what fell behind on a busy machine is brought into step again
                page.wait_for_timeout(1500)
                onsets = page.evaluate("window.onsets")
                last = onsets[numbers[now]][-2:]
                apart = [min((at - other for other in onsets[numbers[before]]), key=abs) for at in last]
                if len(apart) == 2 and np.abs(apart).max() < APART:
                    break
            else:
                raise AssertionError(f"{now} never came into step with {before}: {apart}")


@pytest.mark.slow
def test_the_page_of_a_three_hour_show_stays_small_and_plays(tmp_path):
    """A sparse file of three hours, two minutes of which sound, and as many vetoes as there can be."""
    seconds, rate = 3 * 3600, 8000
    for name in ("master", "ledger/revealed", "ledger/removed", "ledger/extended"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        audio.write(path, bursts(500, 0.2, 120.0)[:1, ::5], rate, "PCM_16")
        grow(path, seconds * rate * 2)
    songs = [[k * 400.0, k * 400.0 + 380.0] for k in range(27)]
    taken = [{"from": 10.0 * k, "to": 10.0 * k + 10.0, "part": "gain", "why": ["tones that the recording lacks"]}
             for k in range(1080)]  # fmt: skip
    report = {
        "input": {"name": "show.wav", "seconds": seconds}, "diagnosis": {"words": ["Long."], "songs": {"songs": songs}},
        "stages": [{"name": "restore", "effect": {"taken_back": taken, "levels": list(range(10_000))}, "seconds": 1.0}],
    }  # fmt: skip
    build(tmp_path, report)
    assert (tmp_path / "report.html").stat().st_size < 300_000
    with browser() as opened:
        page = opened.new_page()
        page.goto((tmp_path / "report.html").as_uri(), wait_until="load")
        assert page.inner_text("#clock") == "0:02:55 / 3:00:00"
        assert page.locator(".jumps .jump").count() == 12
        page.keyboard.press(" ")
        until(page, "() => document.querySelector('audio.track').currentTime > 0.2")


def grow(path, size: int) -> None:
    """Lengthen the data of a 44-byte-header WAV file with zeros that take no room on the disk."""
    with path.open("r+b") as file:
        head = bytearray(file.read(64))
        at = head.index(b"data")
        head[4:8] = (at + size).to_bytes(4, "little")
        head[at + 4 : at + 8] = size.to_bytes(4, "little")
        file.seek(0)
        file.write(head[: at + 8])
        file.truncate(at + 8 + size)
