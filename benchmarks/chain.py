"""Seconds of capture per second of one core: the capture chain against audiomentations, and its own stages.

    python benchmarks/chain.py [--seconds 10] [--captures 16]

The first table does the same to one stereo programme twice: a room, a crowd, an equaliser, a limiter, a clip and MP3 at
96 kbit/s. The second runs whole captures (four stems, every component tracked) and shares their time among the stages.
Time is processor time of one thread, the best of several rounds, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from resonate import RATE, audio
from resonate.degrade import agc, capsule, codec, converter, filters, handling, measures, programme, scene, stage, venue
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig

BANK = Path(__file__).parents[1] / "resonate" / "bank"
MP3 = codec.Pass("libmp3lame", 44100, 96000, 2)
#: Functions that the chain calls, by stage.
STAGES = {
    "PA": [(stage, "apply"), (stage, "response")],
    "venue: response": [(venue, "response")],
    "venue: convolution": [(venue, "through")],
    "crowd": [(programme, "analyse"), (scene, "render")],
    "crowd and handling: convolution": [(filters, "convolve_each")],
    "handling": [(handling, "apply"), (handling, "muffle")],
    "capsule": [(capsule, "response"), (capsule, "overload"), (capsule, "overload_ratio"), (capsule, "self_noise")],
    "AGC, suppressor": [(agc, "gain"), (agc, "suppress")],
    "converter": [(converter, "linear"), (converter, "clip")],
    "codec": [(codec, "apply")],
    "measures": [(measures, "measure")],
}


def best(job: Callable[[], object], rounds: int = 4) -> float:
    """Seconds of processor time, the least of some rounds after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        job()
        times.append(time.process_time() - begun)
    return min(times[1:])


def ours(x: torch.Tensor, bank: Bank) -> dict[str, Callable[[], object]]:
    """The six stages on one stereo programme (2, T), by the chain's own functions."""
    n = x.shape[-1]
    rng = np.random.default_rng(0)
    pa = stage.sample(rng, 0.5)
    item = bank.items("rooms")[0]
    place = venue.sample(rng, 0.5, [item], measured_share=1.0, moving_share=0.0)
    kernel = np.ascontiguousarray(venue.response(place, pa, bank).kernel[0])
    noise = bank.audio(bank.items("crowd")[0])
    noise = torch.from_numpy(np.resize(noise, (2, n)).astype(np.float32))
    equaliser = stage.response(pa)
    host = x.numpy()

    def background() -> torch.Tensor:
        level = filters.active_rms(x) / filters.active_rms(noise)
        return x + noise * (level * 10 ** (-10 / 20))

    return {
        "room": lambda: filters.convolve(x[None], [kernel]),
        "crowd": background,
        "equaliser": lambda: filters.convolve(x[None], [np.stack([equaliser, equaliser])], lead=0),
        "limiter": lambda: stage.apply(x[None], pa),
        "clip": lambda: converter.clip(x),
        "MP3": lambda: codec.apply(host, codec.CodecParams([MP3])),
    }


def theirs(x: np.ndarray, bank: Bank, folder: Path) -> dict[str, Callable[[], object]]:
    """The same stages by audiomentations, each always on; without its limiter where its `extras` are not installed."""
    import audiomentations as am

    room = bank.audio(bank.items("rooms")[0])
    crowd_noise = bank.audio(bank.items("crowd")[0])
    audio.write(folder / "room.wav", room[:1] / np.abs(room).max(), RATE)
    audio.write(folder / "crowd.wav", np.resize(crowd_noise[:1], (1, x.shape[-1])).astype(np.float32), RATE)
    transforms = {
        "room": am.ApplyImpulseResponse(str(folder / "room.wav"), p=1.0),
        "crowd": am.AddBackgroundNoise(str(folder / "crowd.wav"), min_snr_db=10.0, max_snr_db=10.0, p=1.0),
        "equaliser": am.SevenBandParametricEQ(p=1.0),
        "clip": am.Clip(p=1.0),
        "MP3": am.Mp3Compression(min_bitrate=96, max_bitrate=96, backend="lameenc", preserve_delay=True, p=1.0),
    }
    if importlib.util.find_spec("numpy_audio_limiter"):
        transforms["limiter"] = am.Limiter(p=1.0)
    jobs = {name: lambda t=t: t(samples=x, sample_rate=RATE) for name, t in transforms.items()}
    # Its background noise is mono: one channel after the other.
    mono = transforms["crowd"]
    return jobs | {"crowd": lambda: [mono(samples=channel, sample_rate=RATE) for channel in x]}


def compare(seconds: float, bank: Bank) -> Table:
    """Both chains, stage by stage."""
    x = (0.05 * np.random.default_rng(0).standard_normal((2, int(seconds * RATE)))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        left = {name: best(job) for name, job in ours(torch.from_numpy(x), bank).items()}
        right = {name: best(job) for name, job in theirs(x, bank, Path(folder)).items()}
    table = Table(title=f"one stereo programme of {seconds:g} s: seconds of sound per second of one core")
    for column in ("stage", "resonate", "audiomentations", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    both = [name for name in left if name in right]
    rows = [(name, left[name], right[name]) for name in both]
    rows.append(("all", sum(left[n] for n in both), sum(right[n] for n in both)))
    rows.append(("all but MP3", rows[-1][1] - left["MP3"], rows[-1][2] - right["MP3"]))
    for name, a, b in rows:
        table.add_row(name, f"{seconds / a:.0f}", f"{seconds / b:.0f}", f"{b / a:.1f}")
    for name in left.keys() - right.keys():
        table.add_row(name, f"{seconds / left[name]:.0f}", "not installed", "")
    return table


def profile(seconds: float, captures: int, bank: Bank, codecs: bool) -> tuple[float, dict[str, float]]:
    """Seconds of capture per second over `captures` captures of every severity, and milliseconds per stage each."""
    chain = CaptureChain(bank, ChainConfig(codecs=codecs))
    n = int(seconds * RATE)
    stems = torch.from_numpy(0.05 * np.random.default_rng(0).standard_normal((1, 4, 2, n)).astype(np.float32))
    drawn = [chain.from_seed([7, i], n) for i in range(captures)]
    for params in drawn:  # decodes the bank's recordings, measures the codecs' delays
        chain.apply(stems, [params])
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.process_time() - begun

        return call

    calls = [(name, module, attribute) for name, uses in STAGES.items() for module, attribute in uses]
    originals = [(module, attribute, getattr(module, attribute)) for _, module, attribute in calls]
    for name, module, attribute in calls:
        setattr(module, attribute, timed(name, getattr(module, attribute)))
    begun = time.process_time()
    for params in drawn:
        chain.apply(stems, [params])
    total = time.process_time() - begun
    for module, attribute, function in originals:
        setattr(module, attribute, function)
    spent["the rest (levels, sums)"] = total - sum(spent.values())
    return seconds * captures / total, {name: 1000 * value / captures for name, value in spent.items()}


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--captures", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = Bank.load(BANK, "train")
    console = Console(width=100)
    console.print(compare(options.seconds, bank))
    speed, rows = profile(options.seconds, options.captures, bank, codecs=False)
    coded, with_codecs = profile(options.seconds, options.captures, bank, codecs=True)
    table = Table(title=f"{options.captures} whole captures of {options.seconds:g} s, every severity, one core")
    for column in ("stage", "ms per capture"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    rows["codec"] = with_codecs["codec"]
    for name, value in rows.items():
        table.add_row(name, f"{value:.0f}")
    table.add_section()
    table.add_row("whole chain without codecs, s/s", f"{speed:.1f}")
    table.add_row("whole chain with codecs, s/s", f"{coded:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
