"""The capture chain as a whole: what it promises about components, clocks, seeds and batches."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.signal import correlate
from test_mps_ready import Watch, kernels

from resonate import RATE, audio
from resonate.degrade import (
    Bank,
    CaptureChain,
    ChainConfig,
    agc,
    capsule,
    codec,
    converter,
    crowd,
    fidelity,
    gaps,
    handling,
    stage,
    venue,
)
from resonate.errors import UserError

SECONDS = 2.0
N = int(SECONDS * RATE)
PRESETS = sorted((Path(__file__).parents[1] / "configs" / "degrade").glob("*.yaml"))


def music(n: int = N, seed: int = 0) -> torch.Tensor:
    """(1, 4, 2, n): clicks, a bass tone, a noise pad and a sung vowel."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / RATE
    drums = rng.standard_normal((2, n)) * np.exp(-(t % 0.5) * 40) * 0.3
    bass = 0.2 * np.sin(2 * np.pi * 82.4 * t) * np.ones((2, 1))
    other = 0.05 * rng.standard_normal((2, n))
    vocals = 0.1 * sum(np.sin(2 * np.pi * 220 * k * t) / k for k in range(1, 12)) * np.ones((2, 1))
    return torch.from_numpy(np.stack([drums, bass, other, vocals]).astype(np.float32))[None]


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    """A small bank of synthesised recordings in the format that Bank.load reads."""
    root = tmp_path_factory.mktemp("bank")
    rng = np.random.default_rng(3)
    t = np.arange(RATE // 2) / RATE
    room = rng.standard_normal((2, len(t))) * np.exp(-t * 12) * 0.05
    room[:, 300] += 1.0
    device = np.zeros((1, 2048))
    device[0, :3] = [1.0, -0.4, 0.1]
    sounds = {
        "crowd/people.wav": ("crowd", 0.1 * rng.standard_normal((1, RATE))),
        "rooms/hall.wav": ("rooms", room),
        "devices/phone.wav": ("devices", device),
        "handling/tap.wav": ("handling", 0.3 * rng.standard_normal((1, 2000)) * np.exp(-np.arange(2000) / 300)),
    }
    rows = ["file\tkind\tsplit\tgroup\tlicence\tsource\torigin\tsha256\tnote"]
    for name, (kind, samples) in sounds.items():
        (root / name).parent.mkdir(exist_ok=True)
        audio.write(root / name, samples.astype(np.float32), RATE)
        rows.append(f"{name}\t{kind}\ttrain\t{kind}\tCC0\ttest\ttest\t-\t")
    (root / "bank.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Bank.load(root, split="train")


@pytest.mark.parametrize("seed", range(6))
def test_components_sum_to_the_capture(bank, seed):
    chain = CaptureChain(bank, ChainConfig(measured_share=0.5))
    out = chain.apply(music(), [chain.from_seed(seed, N)])
    total = out.stems_wet.sum(1) + out.crowd + out.handling + out.distortion
    assert torch.isfinite(out.capture).all() and out.capture.abs().max() > 1e-3
    assert (total - out.capture).abs().max() < 1e-5
    assert out.stems_early.shape == out.stems_dry.shape == out.stems_wet.shape == (1, 4, 2, N)


def test_json_rebuilds_the_same_bytes_and_so_does_the_seed(bank):
    chain = CaptureChain(bank, ChainConfig(measured_share=0.5))
    for seed in (11, 12, 13):
        params = chain.from_seed(seed, N)
        again = CaptureChain(bank, ChainConfig(measured_share=0.5)).from_seed(seed, N)
        one = chain.apply(music(), [params])
        two = chain.apply(music(), [json.loads(json.dumps(again))])
        assert torch.equal(one.capture, two.capture) and torch.equal(one.crowd, two.crowd)
        assert one.measures == two.measures
    assert chain.from_seed(11, N) != chain.from_seed(12, N)


def test_a_batch_of_eight_equals_its_members(bank):
    chain = CaptureChain(bank, ChainConfig(codecs=False))
    n = RATE // 2
    stems = torch.cat([music(n, seed) for seed in range(8)])
    params = [chain.from_seed(seed, n) for seed in range(8)]
    together = chain.apply(stems, params)
    for i in range(8):
        alone = chain.apply(stems[i : i + 1], params[i : i + 1])
        for name in ("capture", "stems_wet", "crowd", "handling", "distortion", "stems_early", "stems_dry"):
            assert (getattr(alone, name)[0] - getattr(together, name)[i]).abs().max() < 1e-5, name


def test_encoding_in_other_processes_changes_no_sample(bank, monkeypatch):
    n = RATE // 2
    stems = torch.cat([music(n, seed) for seed in range(3)])
    here = CaptureChain(bank, ChainConfig())
    params = [here.from_seed(seed, n) for seed in range(3)]
    for one in params:
        one["codec"] = {"passes": [{"encoder": "aac", "rate": 44100, "bit_rate": 64000, "channels": 2}]}
    want = here.apply(stems, params)
    there = CaptureChain(bank, ChainConfig(codec_workers=1))
    ours = []
    monkeypatch.setattr(codec, "round_trip", lambda *args: ours.append(args))
    got = there.with_severity(0.0, 1.0).apply(stems, params)
    assert not ours, "nothing is encoded in this process"
    assert torch.equal(got.capture, want.capture) and torch.equal(got.distortion, want.distortion)
    assert got.measures == want.measures


def test_threads_change_no_bit(bank):
    """A data loader's workers compute with one thread, a process by itself with several."""
    chain = CaptureChain(bank, ChainConfig(suppressor_share=1.0, pocket_share=1.0, codecs=False))
    for seed in (1, 2):
        params = chain.from_seed(seed, N)
        one = chain.apply(music(), [params])
        torch.set_num_threads(2)
        try:
            two = chain.apply(music(), [params])
        finally:
            torch.set_num_threads(1)
        assert torch.equal(one.capture, two.capture) and torch.equal(one.crowd, two.crowd)
        assert one.measures == two.measures


def test_dry_early_and_wet_share_one_clock(bank):
    """Propagation and codec delay are out: noise through the chain correlates best at lag zero."""
    stems = 0.1 * torch.randn(1, 4, 2, N, generator=torch.Generator().manual_seed(1))
    chain = CaptureChain(bank, ChainConfig(measured_share=0.5, gap_share=0.0, moving_share=0.0))
    kinds = set()
    for seed in range(8):
        params = chain.sample(np.random.default_rng(seed), N, severity=0.05)
        params["converter"]["rate"] = 48000
        params["stage"]["width"] = 0.0
        params["codec"] = {"passes": [{"encoder": "aac", "rate": 48000, "bit_rate": 128000, "channels": 2}]}
        out = chain.apply(stems, [params])
        kinds.add(params["venue"]["kind"])
        dry = out.stems_dry[0].sum(0).mean(0)[8000:60000].numpy()
        early = out.stems_early[0].sum(0)[:, 8000:60000].numpy()
        wet = out.stems_wet[0].sum(0)[:, 8000:60000].numpy()
        capture = out.capture[0][:, 8000:60000].numpy()
        # Two capsules are 14 cm apart (18 samples) and the far speaker arrives later: the first arrival is at zero.
        assert min(abs(_first_lag(early[c], dry)) for c in range(2)) <= 1, seed
        assert abs(_lag(capture[0], wet[0])) == 0


def test_gaps_hold_no_music_but_crowd(bank):
    chain = CaptureChain(bank, ChainConfig(gap_share=1.0, codecs=False, moving_share=0.0))
    for seed in range(4):
        params = chain.from_seed(seed, N)
        out = chain.apply(music(), [params])
        for start, end in params["gaps"]:
            inside = slice(int(np.ceil(start * RATE)), int(end * RATE))
            assert end - start > 0.5
            assert out.stems_dry[..., inside].abs().max() == 0.0
            assert out.crowd[..., inside].abs().max() > 1e-4
    shares = [bool(CaptureChain(bank).from_seed(s, N)["gaps"]) for s in range(300)]
    assert 0.25 < np.mean(shares) < 0.45
    long = [gaps.sample(np.random.default_rng(s), 10.0)[0] for s in range(200)]
    begins, ends = np.mean([g[0][0] == 0.0 for g in long]), np.mean([g[-1][1] == 10.0 for g in long])
    assert begins > 0.35 and ends > 0.35 and all(sum(b - a for a, b in g) <= 5.0 for g in long)


def test_snr_asked_is_snr_measured():
    chain = CaptureChain(Bank(), ChainConfig(gap_share=0.0, codecs=False))
    noise = 0.1 * torch.randn(1, 4, 2, N, generator=torch.Generator().manual_seed(2))
    for asked in (15.0, 5.0, -3.0):
        params = chain.sample(np.random.default_rng(5), N, severity=0.5)
        params["crowd"]["snr_db"] = asked
        params["handling"].update(events=[], wind_db=-120.0, pockets=[])
        params["capsule"]["noise_db"] = 80.0
        # A constant gain: the ratio is set at the capsule, a gain that follows the sum would weight it over time.
        params["agc"]["active"] = False
        assert chain.apply(noise, [params]).measures[0]["snr_db"] == pytest.approx(asked, abs=0.5)


def test_severity_orders_the_captures():
    chain = CaptureChain(Bank())
    snr, drr = [], []
    for severity in (0.15, 0.45, 0.7, 0.95):
        drawn = [chain.sample(np.random.default_rng(s), N, severity) for s in range(40)]
        snr.append(np.mean([p["crowd"]["snr_db"] for p in drawn]))
        drr.append(np.mean([p["venue"]["drr_db"] for p in drawn]))
    assert np.all(np.diff(snr) < -3) and np.all(np.diff(drr) < -2)
    assert snr[0] > 15 and snr[-1] < 0


def test_with_severity_moves_the_knob_and_keeps_the_rest(bank):
    chain = CaptureChain(bank, ChainConfig(gap_share=0.6, codecs=False))
    harder = chain.with_severity(0.8, 0.9)
    drawn = [harder.from_seed(s, N) for s in range(20)]
    assert all(0.8 <= p["severity"] <= 0.9 for p in drawn)
    assert harder.bank is bank and harder.config.gap_share == 0.6 and chain.config.severity == (0.0, 1.0)
    with pytest.raises(UserError, match="severity"):
        chain.with_severity(0.5, 1.5)


def test_clipping_and_overload_come_with_severity():
    """None near the stage, some captures at full scale and at the capsule's limit under a screaming crowd."""
    found = {}
    for severity in (0.15, 0.95):
        chain = CaptureChain(Bank(), ChainConfig(codecs=False, moving_share=0.0)).with_severity(severity, severity)
        found[severity] = [chain.apply(music(RATE), [chain.from_seed(s, RATE)]).measures[0] for s in range(12)]
    share = lambda s, key: np.mean([m[key] > 1e-4 for m in found[s]])  # noqa: E731
    for key in ("clip_ratio", "overload_ratio"):
        assert share(0.15, key) <= 0.1 and 0.15 < share(0.95, key) < 0.95
        assert np.mean([m[key] for m in found[0.95]]) < 0.04
    assert any(m["agc_range_db"] > 2.0 for m in found[0.95])


def test_every_stage_survives_json(bank):
    """Parameters are plain numbers, strings and lists: back from JSON they are equal, of the same types."""
    chain = CaptureChain(bank, ChainConfig(measured_share=0.5, pocket_share=1.0, gap_share=1.0))
    builders = {
        "stage": lambda d: stage.StageParams(**d),
        "venue": lambda d: venue.VenueParams(**d),
        "crowd": crowd.CrowdParams.from_dict,
        "handling": handling.HandlingParams.from_dict,
        "capsule": lambda d: capsule.CapsuleParams(**d),
        "agc": lambda d: agc.AgcParams(**d),
        "converter": lambda d: converter.ConverterParams(**d),
        "codec": codec.CodecParams.from_dict,
    }
    for seed in range(20):
        params = chain.from_seed(seed, 5 * RATE)
        back = json.loads(json.dumps(params))
        for name, build in builders.items():
            one, two = build(params[name]), build(back[name])
            assert one == two and json.dumps(asdict(two)) == json.dumps(params[name]), name


def test_no_float64_tensors_anywhere_and_every_operation_has_a_kernel_on_mps(bank):
    """Apple's GPUs know no float64, and not every operation of torch."""
    config = ChainConfig(measured_share=0.5, moving_share=1.0, suppressor_share=1.0, pocket_share=1.0)
    chain = CaptureChain(bank, config)
    with Watch() as watch:
        for seed in range(5):
            chain.apply(music(RATE), [chain.from_seed(seed, RATE)])
    assert {"_fft_r2c", "_fft_c2r"} <= watch.operations and not watch.double
    there = kernels()
    assert not {name for name in watch.operations if not there.get(name, False)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_devices_agree(bank):
    chain = CaptureChain(bank, ChainConfig(codecs=False, suppressor_share=0.0))
    for seed in range(4):
        params = chain.from_seed(seed, N)
        here, there = chain.apply(music(), [params]), chain.apply(music().cuda(), [params])
        assert there.capture.device.type == "cuda"
        assert (here.capture - there.capture.cpu()).abs().max() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(900)  # 150 captures and their encoders
def test_fifty_examples_have_the_same_bytes_again_and_in_a_batch(bank):
    n = RATE // 2
    chain = CaptureChain(bank, ChainConfig(measured_share=0.5))
    stems = torch.cat([music(n, seed) for seed in range(50)])
    params = [chain.from_seed(seed, n) for seed in range(50)]
    fields = ("capture", "stems_wet", "crowd", "handling", "distortion", "stems_early", "stems_dry")
    digest = lambda out, i: hashlib.sha256(  # noqa: E731
        b"".join(getattr(out, name)[i].contiguous().numpy().tobytes() for name in fields)
    ).hexdigest()
    alone = [chain.apply(stems[i : i + 1], params[i : i + 1]) for i in range(50)]
    first = [digest(out, 0) for out in alone]
    rebuilt = CaptureChain(bank, ChainConfig())
    again = [digest(rebuilt.apply(stems[i : i + 1], [json.loads(json.dumps(params[i]))]), 0) for i in range(50)]
    assert first == again and len(set(first)) == 50
    for start in range(0, 50, 8):
        batch = chain.apply(stems[start : start + 8], params[start : start + 8])
        for i, one in enumerate(alone[start : start + 8]):
            worst = max((getattr(batch, name)[i] - getattr(one, name)[0]).abs().max().item() for name in fields)
            assert worst < 1e-5


def test_silent_stems_stay_silent_under_a_crowd():
    chain = CaptureChain(Bank(), ChainConfig(codecs=False))
    out = chain.apply(torch.zeros(1, 4, 2, N), [chain.from_seed(4, N)])
    assert out.stems_wet.abs().max() == 0.0 and out.capture.abs().max() > 1e-4
    assert torch.isfinite(out.capture).all()


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_presets_are_valid(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = ChainConfig(**values)
    assert CaptureChain(Bank(), config).from_seed(0, N)["severity"] <= config.severity[1]


def test_a_song_shorter_than_a_capture_is_repeated_channel_by_channel():
    song = np.stack([np.full(300, 1.0), np.full(300, -1.0)]).astype(np.float32)
    for n in (100, 300, 1000):
        stems = fidelity._as_stems(song, n)
        assert stems.shape == (4, 2, n) and not stems[:3].any()
        assert (stems[3, 0] == 1.0).all() and (stems[3, 1] == -1.0).all()


def test_bad_use_is_refused(bank, tmp_path):
    with pytest.raises(UserError, match="severity"):
        ChainConfig(severity=(0.5, 0.2))
    for wrong in ({"gap_share": 1.5}, {"measured_share": 0.8, "simulated_share": 0.3}, {"simulated_rooms": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            ChainConfig(**wrong)
    with pytest.raises(UserError, match="not a bank"):
        Bank.load(tmp_path)
    with pytest.raises(UserError, match="split"):
        Bank.load(tmp_path, split="dev")
    with pytest.raises(UserError, match="holds no"):
        bank.audio("crowd/nobody.wav")
    with pytest.raises(ValueError, match="samples"):
        chain = CaptureChain(bank)
        chain.apply(music(), [chain.from_seed(0, N + 1)])
    for n, severity in ((1000, 0.5), (N, 1.01)):
        with pytest.raises(UserError, match="A capture lasts"):
            chain.sample(np.random.default_rng(0), n, severity)


HEAD = "file\tkind\tsplit\tgroup\tlicence\n"


@pytest.mark.parametrize(("table", "says"), [
    (b"file\tkind\na.wav\tcrowd\n", "no column split for a.wav"),
    (f"{HEAD}a.wav\tcrowd\n".encode(), "no column split for a.wav"),
    (f"{HEAD}a.wav\tsongs\ttrain\tx\tCC0\n".encode(), "unknown kind 'songs'"),
    (f"{HEAD}a.wav\tcrowd\tdev\tx\tCC0\n".encode(), "split 'dev'"),
    (f"{HEAD}b.wav\tcrowd\ttrain\tx\tCC0\n".encode(), "b.wav, which does not exist"),
    (b"\xff\xfe\x00f", "not tab-separated text"),
])
def test_a_wrong_table_of_a_bank_is_one_sentence(tmp_path, table, says):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "bank.tsv").write_bytes(table)
    with pytest.raises(UserError, match=says):
        Bank.load(tmp_path)


def _first_lag(a: np.ndarray, b: np.ndarray) -> int:
    """The earliest lag at which b appears in a."""
    match = np.abs(correlate(a, b, mode="full"))
    return int(np.flatnonzero(match > 0.4 * match.max())[0]) - (len(b) - 1)


def _lag(a: np.ndarray, b: np.ndarray) -> int:
    return int(correlate(a, b, mode="full").argmax()) - (len(b) - 1)
