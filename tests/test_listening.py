"""The blind test: its page says nothing that unblinds, its versions are equally loud, its figures are right."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browsing import shown, until
from rich.console import Console
from scipy import signal

from resonate import audio
from resonate.errors import UserError
from resonate.evaluate import listening
from resonate.evaluate.answers import FORMAT
from resonate.evaluate.answers import read as read_answers
from resonate.evaluate.listening_material import run_labels
from resonate.restore.loudness import LoudnessMeter

RATE, SECONDS = 44100, 5.0
VERSIONS = ("reference", "restored", "revealed", "input", "anchor")
NASTY = '</script><script>alert(1)</script> @DATA@ & "go" é 🎸.m4a'


def noise(seed: int, level: float, hertz: float | None = None) -> np.ndarray:
    """(2, time) noise, low-passed at `hertz`, that comes and goes twice a second."""
    x = np.random.default_rng(seed).standard_normal((2, round(SECONDS * RATE)))
    if hertz:
        x = signal.sosfilt(signal.butter(4, hertz, fs=RATE, output="sos"), x)
    swell = 1 + 0.8 * np.sin(4 * np.pi * np.arange(x.shape[1]) / RATE)
    return (level * swell * x).astype(np.float32)


def make_run(folder, name=NASTY, late=0):
    """A result folder whose master is 20 dB louder than its revealed; returns (folder, reference file)."""
    (folder / "ledger").mkdir(parents=True)
    song = noise(1, 0.03)
    revealed, crowd = noise(1, 0.01, 6000.0), noise(2, 0.02)
    for part, samples in {"revealed": revealed, "removed": crowd}.items():
        audio.write(folder / "ledger" / f"{part}.wav", samples, RATE)
    audio.write(folder / "master.wav", 10 * (revealed + 0.1 * song), RATE)
    (folder / "report.json").write_text(json.dumps({"input": {"name": name}}), "utf-8")
    reference = folder.parent / f"{folder.name}_reference.wav"
    audio.write(reference, np.pad(song, ((0, 0), (late, 0)))[:, : song.shape[1]], RATE)
    return folder, reference


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page of one run with a reference that comes 30 ms late."""
    run, reference = make_run(tmp_path_factory.mktemp("made") / "show", late=round(0.03 * RATE))
    path = listening.build([run], run.parent / "test", [reference], seed=3, trials=6, excerpts=2, seconds=2.0)
    return run, reference, path


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self.references = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]

    def handle_data(self, text):
        self.texts.setdefault(self.tags[-1] if self.tags else "", []).append(text)


def data_of(path) -> dict:
    text = path.read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def decoded(path, tmp_path) -> list[tuple[str, np.ndarray]]:
    heard = []
    for clip in data_of(path)["clips"]:
        (tmp_path / "clip.m4a").write_bytes(base64.b64decode(clip["sound"]))
        heard.append((clip["version"], audio.read(tmp_path / "clip.m4a").samples))
    return heard


def loudness(samples: np.ndarray) -> float:
    meter = LoudnessMeter(RATE, samples.shape[0])
    meter.push(samples)
    return meter.loudness()


def test_all_versions_of_an_excerpt_are_equally_loud_in_step_and_unclipped(built, tmp_path):
    heard = decoded(built[2], tmp_path)
    assert len(heard) == 10
    for first in (0, 5):
        group = dict(heard[first : first + 5])
        assert set(group) == set(VERSIONS)
        levels = [loudness(samples) for samples in group.values()]
        assert max(levels) - min(levels) < 0.5
        assert len({samples.shape for samples in group.values()}) == 1
        assert max(float(np.abs(samples).max()) for samples in group.values()) < 1.0
        spectra = {name: np.abs(np.fft.rfft(samples[0])) ** 2 for name, samples in group.items()}
        high = np.fft.rfftfreq(group["anchor"].shape[1], 1 / RATE) > 4500.0
        assert spectra["anchor"][high].sum() < 1e-4 * spectra["anchor"].sum()
        assert spectra["reference"][high].sum() > 0.3 * spectra["reference"].sum()
        # the reference came 30 ms late, and the delay is taken out
        across = signal.correlate(group["restored"][0], group["reference"][0], method="fft")
        assert abs(int(np.argmax(across)) - (group["reference"].shape[1] - 1)) <= 2


def test_the_seed_alone_decides_the_order(built, tmp_path):
    once, again, other = (
        data_of(listening.build([built[0]], tmp_path / name, seed=seed, trials=6, excerpts=1, seconds=2.0))
        for name, seed in (("once", 3), ("again", 3), ("other", 4))
    )
    assert again == once
    assert other["pages"] != once["pages"] and other["test"] != once["test"]


def test_x_is_a_or_b_of_the_same_excerpt_and_neither_always_nor_never_a(built, tmp_path):
    run, reference, _ = built
    path = listening.build([run], tmp_path, [reference], trials=60, excerpts=1, seconds=2.0)
    data = data_of(path)
    abx = [page for page in data["pages"] if page["kind"] == "abx"]
    names = [clip["version"] for clip in data["clips"]]
    assert len(abx) == 60
    for page in abx:
        assert {names[page["a"]], names[page["b"]]} == {"input", "restored"} and page["x"] in (page["a"], page["b"])
    for share in (np.mean([p["x"] == p["a"] for p in abx]), np.mean([names[p["a"]] == "input" for p in abx])):
        assert 0.25 < share < 0.75
    (rated,) = (page for page in data["pages"] if page["kind"] == "mushra")
    assert sorted(names[n] for n in rated["clips"]) == sorted(VERSIONS)
    assert names[rated["reference"]] == "reference"


def test_without_a_reference_none_is_offered_and_the_recording_makes_the_anchor(built, tmp_path):
    path = listening.build([built[0]], tmp_path / "test", trials=0, excerpts=1, seconds=2.0)
    data = data_of(path)
    assert [page["kind"] for page in data["pages"]] == ["mushra"] and data["pages"][0]["reference"] is None
    assert {name for name, _ in decoded(path, tmp_path)} == {"input", "revealed", "restored", "anchor"}


def test_names_are_text_and_the_page_refers_to_nothing(built):
    text = built[2].read_text("utf-8")
    page = Tags(text)
    assert page.tags.count("script") == 2 and NASTY in "".join(page.texts["title"])
    assert data_of(built[2])["pages"][0]["run"] == NASTY
    assert page.references == ["#"]
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|file:", re.sub(r'id="data">.*?</script>', "", text, flags=re.DOTALL))


def test_runs_of_one_recording_get_their_own_names(built, tmp_path):
    for name in ("gentle", "strong"):
        shutil.copytree(built[0], tmp_path / name)
    labels = run_labels([tmp_path / "gentle", tmp_path / "strong"])
    assert labels == [f"{NASTY} (gentle)", f"{NASTY} (strong)"]


def answers(right: int, total: int, scores=(), run="show", listener="") -> dict:
    pair = {"run": run, "a": "restored", "b": "input"}
    abx = [{**pair, "x": "input", "answer": "input" if n < right else "restored"} for n in range(total)]
    rated = [{"run": run, "scores": score} for score in scores]
    return {"format": FORMAT, "listener": listener, "abx": abx, "mushra": rated}


def saved(folder, *contents) -> list:
    paths = []
    for n, content in enumerate(contents):
        path = folder / f"answers{n}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        paths.append(path)
    return paths


def printed(paths) -> str:
    console = Console(file=io.StringIO(), width=160, color_system=None)
    assert listening.main(["results", *map(str, paths)], console) == 0
    return console.file.getvalue()


def test_abx_figures_are_the_exact_binomial_ones(tmp_path):
    text = printed(saved(tmp_path, answers(5, 6, listener="a"), answers(4, 4, listener="b")))
    # 9 of 10: P(9 or 10 right by guessing) = 11/1024; Clopper-Pearson 0.5550 to 0.9975
    assert re.search(r"show\s.*9/10\s.*90 % \(55 to 100\)\s.*0\.011", text)
    text = printed(saved(tmp_path, answers(0, 10, listener="c")))
    assert re.search(r"0/10\s.*0 % \(0 to 31\)\s.*│ 1 ", text)


def test_mushra_means_come_with_intervals_and_unsure_listeners_are_told(tmp_path):
    files = []
    for n, base in enumerate((60, 62, 64, 66, 68)):
        hidden = 40 if n == 0 else 98
        scores = [{"input": 30, "restored": base + d, "anchor": 10, "reference": hidden} for d in (-1, 1)]
        files.append(answers(0, 0, scores, listener=str(n)))
    text = printed(saved(tmp_path, *files))
    low, high = map(float, re.search(r"restored\s.*64\.0 \(([\d.]+) to ([\d.]+)\)\s.*10", text).groups())
    assert 60.0 <= low < 62.5 and 65.5 < high <= 68.0  # five listeners are drawn: +-1.96 * 2.83 / sqrt(5)
    assert re.search(r"input\s.*30\.0 \(30\.0 to 30\.0\)", text)
    assert "1 of 5 listeners rated the hidden reference below 90" in text
    assert "ABX" not in text
    assert "no interval" in printed(saved(tmp_path, answers(0, 0, [{"input": 30}])))


def test_runs_are_told_apart_and_added_up_and_markup_in_a_name_is_text(tmp_path):
    text = printed(saved(tmp_path, answers(1, 2, run="[red]a[/red]\x1b[31m"), answers(2, 2, run="b")))
    assert "[red]a[/red]?[31m" in text and "\x1b" not in text
    assert re.search(r"all\s.*3/4", text)


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[" * 100_000,
        "[]",
        json.dumps({"format": "other", "abx": [], "mushra": []}),
        json.dumps(answers(0, 0)),
        json.dumps({**answers(1, 1), "mushra": None}),
        json.dumps(answers(0, 0, [{"input": 101}])),
        json.dumps(answers(0, 0, [{"input": float("nan")}])),
        json.dumps(answers(0, 0, [{"input": True}])),
        json.dumps(answers(0, 0, [{"": 1}])),
        json.dumps(answers(0, 0, [{"x" * 201: 1}])),
        json.dumps(answers(1, 1)).replace('"x": "input"', '"x": "anchor"'),
        json.dumps(answers(1, 1)).replace('"a": "restored"', '"a": "input"'),
        json.dumps(answers(0, 0, [{}])),
        json.dumps(answers(1, 1)).replace('"input"', '["input"]'),
        json.dumps(answers(1, 1)).replace('"show"', "7"),
    ],
)
def test_what_is_no_answer_is_refused_in_one_sentence(tmp_path, content, capsys):
    (path,) = saved(tmp_path, content)
    assert listening.main(["results", str(path)]) == 2
    said = capsys.readouterr().err
    assert path.name in said and said.count("\n") == 1 and "Traceback" not in said


def test_an_answer_file_counts_once_and_must_be_there(tmp_path):
    paths = saved(tmp_path, answers(1, 2), answers(1, 2))
    with pytest.raises(UserError, match="same answers"):
        read_answers(paths)
    with pytest.raises(UserError, match="cannot be read"):
        read_answers([tmp_path / "none.json"])


def test_a_test_that_cannot_be_built_is_refused_and_leaves_nothing(built, tmp_path, capsys):
    run, reference, _ = built
    bare, silent = tmp_path / "bare", tmp_path / "silent"
    for copy in (bare, silent):
        shutil.copytree(run, copy)
    shutil.rmtree(bare / "ledger")
    audio.write(silent / "ledger" / "revealed.wav", np.zeros((2, round(SECONDS * RATE)), np.float32), RATE)
    short = tmp_path / "short.wav"
    audio.write(short, noise(3, 0.1)[:, : 2 * RATE], RATE)
    (tmp_path / "taken").touch()
    out = str(tmp_path / "out")
    for words, says in (
        ([str(tmp_path / "none"), "-o", out], "master.wav"),
        ([str(bare), "-o", out], "ledger"),
        ([str(silent), "-o", out, "--seconds", "2"], "silent"),
        ([str(run), str(run), "-o", out], "twice"),
        ([str(run), "-o", out, "--seconds", "8"], "shorter"),
        ([str(run), "-o", out, "--seconds", "nan"], "take 0 to 200"),
        ([str(run), "-o", out, "--excerpts", "0"], "take 0 to 200"),
        ([str(run), "-o", out, "--seed", "-1"], "negative"),
        ([str(run), "-o", out, "--recordings", "0"], "1 to 50 recordings"),
        ([str(run), "-o", out, "--seconds", "2", "--reference", str(short)], "cut the reference"),
        ([str(run), "-o", out, "--seconds", "2", "--reference", "none.wav"], "none.wav"),
        ([str(run), "-o", out, "--reference", str(reference), "--reference", str(reference)], "one for each"),
        ([str(run), "-o", str(tmp_path / "taken"), "--seconds", "2"], "no folder"),
    ):
        assert listening.main(["build", *words]) == 2, words
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1, (words, said)
    assert not (tmp_path / "out").exists()


LOADED = "() => document.getElementById('note').textContent.startsWith('Hear')"
ONLY = "n => window.gains.every((g, i) => Math.abs(g.gain.value - (i === n ? 1 : 0)) < 0.05)"


def evaluation(tmp_path, **changes) -> Path:
    """The JSON of an evaluation of two pairs that need no network to restore."""
    for n, name in enumerate(("one", NASTY.replace("/", "_").removesuffix(".m4a"))):
        for folder, samples in (("captures", noise(n, 0.1, 3000.0)), ("references", noise(n, 0.1))):
            (tmp_path / "pairs" / folder).mkdir(parents=True, exist_ok=True)
            audio.write(tmp_path / "pairs" / folder / f"{name}.wav", samples, RATE)
    settings = {"suite": "folder", "pairs": str(tmp_path / "pairs"), "systems": ["EQ", "low-pass"], "gone": 1,
                "system": {"command": "touch {input} {output}", "name": "command", "timeout": 1.0}}  # fmt: skip
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"settings": settings, "focus": "EQ", **changes}), "utf-8")
    return path


def test_a_test_is_built_from_an_evaluation(tmp_path):
    source = evaluation(tmp_path)
    path = listening.build([source], tmp_path / "a", trials=2, excerpts=1, seconds=2.0)
    data = data_of(path)
    names = [clip["version"] for clip in data["clips"]]
    assert sorted(names) == sorted(2 * ["input", "EQ", "reference", "anchor"])
    assert len({page["run"] for page in data["pages"]}) == 2 and len(data["pages"]) == 6
    abx = [page for page in data["pages"] if page["kind"] == "abx"]
    assert all({names[page["a"]], names[page["b"]]} == {"input", "EQ"} for page in abx)
    both = listening.build([source], tmp_path / "b", trials=0, excerpts=1, seconds=2.0, recordings=1,
                           systems=["low-pass", "EQ"])  # fmt: skip
    assert {clip["version"] for clip in data_of(both)["clips"]} == {"input", "low-pass", "EQ", "reference", "anchor"}


def test_an_evaluation_that_cannot_be_heard_is_refused(tmp_path, capsys):
    good, out = evaluation(tmp_path), str(tmp_path / "out")
    (tmp_path / "bad.json").write_text("{}")
    for words, says in (
        ([str(tmp_path / "bad.json")], "no JSON of an evaluation"),
        ([str(good), "--systems", "nonesuch"], "no system 'nonesuch'"),
        ([str(good), "--systems", "reference"], "beside the recording"),
        ([str(good), "--systems", "command"], "command"),  # what a file names is never run
        ([str(good), "--seconds", "6"], "less than an excerpt"),
        ([str(good), "--systems", "oracle noise mask", "--seconds", "2"], "cannot run"),
    ):
        assert listening.main(["build", *words, "-o", out]) == 2, words
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1, (words, said)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_whole_test_is_clicked_through_in_a_browser(tmp_path):
    run, reference = make_run(tmp_path / "show")
    path = listening.build([run], tmp_path / "test", [reference], seed=5, trials=2, excerpts=1, seconds=2.0)
    data = data_of(path)
    version = [clip["version"] for clip in data["clips"]]
    worth = dict(zip(VERSIONS, (100, 80, 70, 40, 10), strict=True))
    # notes when and from where each sound starts, and which are heard
    spy = """
      window.starts = []; window.gains = [];
      const start = AudioBufferSourceNode.prototype.start, create = AudioContext.prototype.createGain;
      AudioBufferSourceNode.prototype.start = function (...at) {
        window.starts.push([...at, this.buffer.length]);
        return start.apply(this, at);
      };
      AudioContext.prototype.createGain = function () {
        const made = create.apply(this);
        window.gains.push(made);
        return made;
      };
    """
    with shown(path, width=390, height=800, before=spy) as page:
        page.fill("#listener", "a b 1")  # keys typed into the name are no commands
        assert page.input_value("#listener") == "a b 1" and page.is_visible("#intro")
        page.click("#start")
        for number, trial in enumerate(data["pages"][:2]):
            until(page, LOADED)
            assert NASTY in page.inner_text("#where") and page.is_disabled("#next")
            page.evaluate("window.starts = []; window.gains = []")
            page.keyboard.press("1")
            page.keyboard.press("Enter")  # nothing was heard: the page stays
            assert f"Page {number + 1} of 3" in page.inner_text("#where")
            for key in "abx":
                page.keyboard.press(key)
                assert page.get_attribute(f'[data-key="{key}"]', "aria-pressed") == "true"
                until(page, ONLY, "abx".index(key))
            starts = page.evaluate("window.starts")
            assert len(starts) == 3 and all(start == starts[0] for start in starts)  # in step to the sample
            assert page.inner_text("#play").startswith("Pause")
            page.keyboard.press(" ")
            assert page.inner_text("#play").startswith("Play")
            page.click("#play")  # goes on from where it was
            assert page.evaluate("window.starts.at(-1)[1]") > 0
            for answer in "12":  # a button that has the focus is pressed, and no other
                page.focus(f'[data-key="{answer}"]')
                page.keyboard.press("Enter")
                assert page.get_attribute(f'[data-key="{answer}"]', "aria-pressed") == "true"
            # right on the first page, wrong on the second
            truth = "1" if trial["x"] == trial["a"] else "2"
            page.click(f'[data-key="{truth if number == 0 else "12".replace(truth, "")}"]')
            page.keyboard.press("Enter")
        until(page, LOADED)
        rated = data["pages"][2]
        assert page.locator(".version").count() == 5
        page.keyboard.press("r")
        for n, clip in enumerate(rated["clips"]):
            assert page.is_disabled("#next")
            page.keyboard.press(str(n + 1))
            page.locator(".version input").nth(n).fill(str(worth[version[clip]]))
        before = page.locator(".version input").last.input_value()
        page.keyboard.press("ArrowLeft")  # the last slider has the focus
        assert page.locator(".version input").last.input_value() == str(int(before) - 1)
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.click("#next")
        assert "1 of 2" in page.inner_text("#score")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "answers.json")
    (given,) = read_answers([tmp_path / "answers.json"])
    assert given["listener"] == "a b 1" and given["mushra"][0]["scores"] == worth
    text = printed([tmp_path / "answers.json"])
    assert "1/2" in text and "80.0 (one rating: no interval)" in text
