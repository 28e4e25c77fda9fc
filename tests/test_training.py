"""Training: losses that tell the truth, both experiments for a few steps from a folder of songs, and resuming."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from safetensors.torch import load_file

from resonate import RATE, audio
from resonate.data.examples import CachedCaptures, FreshCaptures
from resonate.data.module import CaptureData, DataConfig
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.errors import UserError
from resonate.memory import keep_freed_memory
from resonate.models.restorer import RestorerConfig
from resonate.models.weights import load_restorer, load_separator, read_header
from resonate.training import run as training_run
from resonate.training.callbacks import StopOnSignal, ramped_average
from resonate.training.heldout import CachedWhole, data_for
from resonate.training.losses import LogSpectrumLoss, StemLoss, coherent_sdr, fold_missing, magnitude, spectrum
from resonate.training.record import check_same
from resonate.training.restorer import RestorerTask
from resonate.training.run import TrainConfig, pick_precision, train, without_paths
from resonate.training.start import check_model

CONFIGS = str(Path(__file__).parents[1] / "configs")


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> Path:
    """Two songs of two synthesised stems each."""
    folder = tmp_path_factory.mktemp("songs")
    t = np.arange(8 * RATE) / RATE
    for k, name in enumerate(("First", "Second")):
        beat = np.exp(-((t * (2 + k)) % 1.0) * 20) * np.random.default_rng(k).standard_normal(len(t))
        voice = np.sin(2 * np.pi * (220 + 60 * k) * t + 3 * np.sin(2 * np.pi * 5 * t)) * (np.sin(np.pi * t) > 0)
        for stem, x in (("drums", beat), ("vocals", voice)):
            (folder / name).mkdir(exist_ok=True)
            audio.write(folder / name / f"{stem}.wav", np.stack([x, x]).astype(np.float32) * 0.2, RATE)
    return folder


def config(experiment: str, output: Path, *overrides: str) -> TrainConfig:
    """What the command line would give."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    with initialize_config_dir(CONFIGS, version_base=None):
        composed = compose("train", [f"experiment={experiment}", "debug=smoke", f"output={output}",
                                     "trainer.threads=1", "trainer.accelerator=cpu", "callbacks.progress=false",
                                     *overrides])
    return OmegaConf.to_object(composed)


def tiny_htdemucs() -> tuple[str, ...]:
    return ("model=htdemucs_small", "model.options.channels=8", "model.options.segment=2.0", "data.seconds=2.0",
            "model.options.bottom_channels=16")


TINY = {"restorer": ("model.options.width=16", "data.seconds=2.0"), "finetune_demucs": tiny_htdemucs()}


def test_a_run_that_is_asked_to_stop_saves_and_ends_without_validating(songs, tmp_path, monkeypatch):
    def ask_at_once(self, trainer, module):
        self._ask()

    monkeypatch.setattr(StopOnSignal, "on_train_start", ask_at_once)
    settings = (f"data.music={songs}", *TINY["restorer"], "trainer.max_steps=5", "trainer.valid_every=5")
    figures, objects = train(config("restorer", tmp_path, *settings))
    assert objects["trainer"].global_step == 1 and (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert not any(name.startswith("valid") for name in figures)


def test_the_last_step_is_validated_whatever_the_interval(songs, tmp_path, monkeypatch):
    validated, original = [], RestorerTask.validation_step
    monkeypatch.setattr(RestorerTask, "validation_step", lambda task, batch, index: validated.append(task.global_step)
                        or original(task, batch, index))
    settings = (f"data.music={songs}", *TINY["restorer"], "data.valid_examples=1", "trainer.checkpoint_every=1")
    for steps, every, times in ((2, 500, [2]), (4, 2, [4]), (5, 2, [5])):
        validated.clear()
        figures, objects = train(config("restorer", tmp_path, *settings, f"trainer.max_steps={steps}",
                                        f"trainer.valid_every={every}"))
        assert validated == times and objects["trainer"].global_step == steps
        record = read_header(tmp_path / "weights.safetensors", "restorer")["record"]
        assert record["step"] == steps
        assert record["figures"]["valid/loss"] == pytest.approx(figures["valid/loss"], abs=1e-5)
        # They are those of the averaged weights.
        exported = load_file(tmp_path / "weights.safetensors")
        assert all(torch.equal(exported[k], v) for k, v in objects["task"].model.state_dict().items())
        assert (tmp_path / "best.safetensors").is_file() and (tmp_path / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize("experiment", list(TINY))
def test_both_experiments_train_on_a_folder_of_songs_and_resume(experiment, songs, tmp_path, monkeypatch):
    settings = (f"data.music={songs}", *TINY[experiment])
    first = config(experiment, tmp_path, *settings, "trainer.max_steps=3", "trainer.checkpoint_every=1")
    figures, _ = train(first)
    validated = [figures["valid/loss"]]
    assert np.isfinite(validated[0])
    drawn = []
    original = FreshCaptures.__getitem__
    monkeypatch.setattr(FreshCaptures, "__getitem__", lambda data, i: drawn.append(i) or original(data, i))
    again, objects = train(config(experiment, tmp_path, *settings, "trainer.max_steps=5", "trainer.valid_every=5"))
    validated.append(again["valid/loss"])
    assert objects["trainer"].global_step == 5
    # The resumed run took 2 steps, on the examples after those that the first run saw.
    batch = objects["data"].config.batch_size
    assert [i for i in drawn if i >= batch] == list(range(3 * batch, 5 * batch))
    # What it leaves is the moving average, with which training ends.
    exported = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(exported[k], v) for k, v in objects["task"].model.state_dict().items())
    load = load_restorer if experiment == "restorer" else load_separator
    loaded = load(tmp_path / "weights.safetensors")
    assert all(torch.isfinite(p).all() for p in loaded.parameters())
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["seed"] == 1 and len(record["data"]["train"]["songs"]) >= 1
    assert len(record["data_hash"]) == 64 and record["config"]["trainer"]["max_steps"] == 5 and record["commit"]
    best = read_header(tmp_path / "best.safetensors", "restorer" if experiment == "restorer" else "separator")["record"]
    assert best["figures"]["valid/loss"] == pytest.approx(min(validated), abs=1e-5)
    if experiment == "finetune_demucs":
        # Whole captures at the middle of the lower and of the upper half of the severities.
        assert {"valid/near/vocals/si_sdr", "valid/far/drums/sdr", "valid/stems/input_si_sdr"} <= set(figures)
        assert "valid/bass/si_sdr" not in figures


def test_what_a_kill_in_the_last_validation_cost_is_made_up_for(songs, tmp_path):
    settings = (f"data.music={songs}", *TINY["restorer"], "trainer.max_steps=2", "trainer.checkpoint_every=1",
                "trainer.valid_every=2")
    train(config("restorer", tmp_path, *settings))
    wanted = load_file(tmp_path / "weights.safetensors")
    for name in ("weights", "best"):
        (tmp_path / f"{name}.safetensors").unlink()
    figures, _ = train(config("restorer", tmp_path, *settings))
    assert np.isfinite(figures["valid/loss"])
    found = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert read_header(tmp_path / "weights.safetensors", "restorer")["record"]["step"] == 2
    assert (tmp_path / "best.safetensors").is_file()


def test_a_run_that_starts_over_cannot_fall_back_to_the_one_before(songs, tmp_path, monkeypatch):
    settings = (f"data.music={songs}", *TINY["restorer"], "trainer.max_steps=2", "trainer.checkpoint_every=1",
                "trainer.valid_every=2")
    train(config("restorer", tmp_path, *settings))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_run.L.Trainer, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config("restorer", tmp_path, *settings, "resume=never", "optimiser.lr=1e-4"))
    before = tmp_path / "checkpoints-before"
    assert list(before.glob("*.ckpt")) and not list((tmp_path / "checkpoints").glob("*.ckpt"))
    # Its least loss would else be the one to beat, and its weights this run's best.
    for name in ("weights.safetensors", "best.safetensors"):
        assert (before / name).is_file() and not (tmp_path / name).exists()
    again = config("restorer", tmp_path, *settings, "optimiser.lr=1e-4", "trainer.max_steps=1")
    assert train(again)[1]["trainer"].global_step == 1


def test_training_lowers_the_loss_on_one_example(songs, tmp_path):
    data = CaptureData(DataConfig(music=str(songs), seconds=2.0, batch_size=1), ChainConfig(codecs=False), 1)
    data.setup()
    settings = config("restorer", tmp_path, f"data.music={songs}", *TINY["restorer"], "trainer.max_steps=2")
    task = train(settings)[1]["task"]
    batch = {k: v[None] for k, v in data.train[0].items()}
    optimiser = torch.optim.Adam(task.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = task.losses(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_examples_are_a_function_of_seed_and_index(songs):
    def example(index: int, seed: int) -> dict:
        data = CaptureData(DataConfig(music=str(songs), seconds=2.0, seed=seed), ChainConfig(codecs=False), 5)
        data.setup()
        return data.train[index]

    one, again, other = example(3, 1), example(3, 1), example(3, 2)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["capture"], other["capture"])
    # Apple's GPUs take no float64.
    assert torch.float64 not in {value.dtype for value in one.values()}


def test_fold_missing_compares_sums():
    estimate = torch.randn(2, 4, 2, 100)
    present = torch.tensor([[True, False, True, True], [False, False, False, False]])
    folded = fold_missing(estimate, present)
    torch.testing.assert_close(folded[0, 2], estimate[0, 1] + estimate[0, 2])
    torch.testing.assert_close(folded[1, 2], estimate[1].sum(0))
    torch.testing.assert_close(folded[0, 3], estimate[0, 3])


def test_stem_loss_is_zero_for_the_truth_finite_on_silence_and_blind_to_missing_stems():
    loss = StemLoss()
    target = torch.randn(1, 4, 2, 8192) * 0.1
    everything = torch.ones(1, 4, dtype=torch.bool)
    assert loss(target, target, everything) < 1e-5
    silent = torch.zeros_like(target).requires_grad_()
    loss(silent, torch.zeros_like(target), everything).backward()
    assert torch.isfinite(silent.grad).all()
    no_bass = torch.tensor([[True, False, True, True]])
    moved = target.clone()
    moved[:, 1] += 0.3
    moved[:, 2] -= 0.3
    # What moves from other to bass is not seen, because their sum is compared; with the bass known it is.
    assert float(loss(moved, target, no_bass)) == pytest.approx(float(loss(target, target, no_bass)), abs=1e-5)
    assert float(loss(moved, target, everything)) > float(loss(target, target, everything)) + 0.1
    shifted = torch.cat([target[:, :1], target[:, 1:2] * 0, target[:, 2:3] + target[:, 1:2], target[:, 3:]], 1)
    assert loss(target, shifted, no_bass) < 1e-5


def test_log_spectrum_loss_ignores_level_and_grows_with_error():
    loss = LogSpectrumLoss(level_weight=0.0)
    reference = magnitude(torch.randn(2, 20000) * 0.1)
    decibels = 20 * torch.log10(reference + 1e-9)
    exact, louder = loss(decibels, reference), loss(decibels + 6, reference)
    assert exact["log_spectrum"] < 0.1
    assert abs(louder["loss"] - exact["loss"]) < 1e-2
    tilt = torch.linspace(-10, 10, decibels.shape[1])[None, :, None]
    assert loss(decibels + tilt, reference)["log_spectrum"] > 3


def test_log_spectrum_loss_punishes_crowd_in_pauses():
    loss = LogSpectrumLoss()
    music = torch.randn(1, 44100) * 0.1
    music[:, 22050:] = 0
    reference = magnitude(music)
    noisy = magnitude(music + 0.01 * torch.randn(1, 44100))
    assert loss(20 * torch.log10(noisy + 1e-9), reference)["loss"] > loss(20 * torch.log10(reference + 1e-9),
                                                                         reference)["loss"] + 1


def test_wrong_data_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        train(config("restorer", tmp_path, f"data.music={tmp_path / 'none'}"))
    with pytest.raises(UserError, match="nothing to train on"):
        train(config("restorer", tmp_path))
    (tmp_path / "cache").mkdir()
    with pytest.raises(UserError, match="no rendered cache"):
        CachedCaptures([tmp_path / "cache"], "train", 2.0, 4)


@pytest.mark.parametrize(
    ("machine", "asked", "taken"),
    [
        ({"cuda", "cuda bf16", "mps", "avx512 bf16"}, "auto", ("gpu", "bf16-mixed")),
        ({"cuda", "avx512 bf16"}, "auto", ("gpu", "16-mixed")),
        ({"cuda"}, "cuda", ("cuda", "16-mixed")),
        ({"mps", "avx512 bf16", "amx"}, "auto", ("mps", "32-true")),
        ({"avx512 bf16"}, "auto", ("cpu", "bf16-mixed")),
        ({"amx"}, "auto", ("cpu", "bf16-mixed")),
        (set(), "auto", ("cpu", "32-true")),
        ({"cuda", "cuda bf16"}, "cpu", ("cpu", "32-true")),
        ({"cuda", "cuda bf16", "mps"}, "mps", ("mps", "32-true")),
        ({"mps"}, "gpu", ("mps", "32-true")),
        ({"cuda"}, "gpu", ("gpu", "16-mixed")),
    ],
)
def test_precision_follows_the_device(machine, asked, taken, monkeypatch):
    """Half precision only where there are instructions for it: what emulates bf16 is slow."""
    for owner, name, part in (
        (torch.cuda, "is_available", "cuda"), (torch.backends.mps, "is_available", "mps"),
        (torch.cpu, "_is_avx512_bf16_supported", "avx512 bf16"), (torch.cpu, "_is_amx_tile_supported", "amx"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, lambda part=part: part in machine)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: including_emulation or "cuda bf16" in machine)  # fmt: skip
    settings = TrainConfig().trainer
    settings.accelerator = asked
    assert pick_precision(settings) == taken
    settings.precision = "64-true"
    assert pick_precision(settings) == (taken[0], "64-true")


def test_freed_memory_is_kept_for_the_next_step(monkeypatch):
    """The pages of a freed block serve the next one, which asks the kernel for none."""
    code = """
import resource
from resonate.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 100_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults(), keep_freed_memory(), faults(), faults())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, kept, _, after = done.stdout.split()
    if kept == "True":
        assert int(after) < int(before) / 10
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()


def test_coherent_sdr_is_high_for_filtered_music_and_falls_with_noise():
    rng = torch.Generator().manual_seed(0)
    music = torch.randn(1, 60000, generator=rng)
    echo = music + 0.5 * torch.roll(music, 40)
    noise = torch.randn(1, 60000, generator=rng)
    clean = spectrum(music)
    filtered, noisy = (float(coherent_sdr(spectrum(x), clean)) for x in (echo, echo + noise))
    assert filtered > 20
    assert noisy == pytest.approx(10 * np.log10(1.25), abs=1.0)
    assert float(coherent_sdr(spectrum(noise), clean)) < -10
    assert torch.isfinite(coherent_sdr(torch.zeros_like(clean), clean))


def test_resuming_another_run_is_refused(songs, tmp_path):
    settings = (f"data.music={songs}", *TINY["restorer"], "trainer.max_steps=2", "trainer.checkpoint_every=1")
    train(config("restorer", tmp_path, *settings))
    with pytest.raises(UserError, match="resume=never"):
        train(config("restorer", tmp_path, *settings, "model.options.width=8"))


def test_exported_record_names_no_folders():
    record = {"config": {"output": "/home/me/runs/x", "data": {"music": ["/home/me/a", "b"]}}, "name": "n"}
    assert without_paths(record) == {"config": {"output": "x", "data": {"music": ["a", "b"]}}, "name": "n"}


def test_songs_of_the_test_split_are_never_trained_on(tmp_path):
    (tmp_path / "test" / "Held out").mkdir(parents=True)
    audio.write(tmp_path / "test" / "Held out" / "drums.wav", np.full((2, 3 * RATE), 0.1, np.float32), RATE)
    data = CaptureData(DataConfig(music=str(tmp_path), seconds=1.0), ChainConfig(codecs=False), 1)
    with pytest.raises(UserError, match="test split"):
        data.setup()


def test_separator_validates_on_songs_of_the_licence_asked_for(songs, tmp_path):
    shutil.copytree(songs, tmp_path / "songs")
    rows = "song\tlicence\tsplit\nFirst\tCC0-1.0\tvalid\nSecond\tCC-BY-NC-4.0\tvalid\n"
    (tmp_path / "songs" / "songs.tsv").write_text(rows)
    data = data_for(config("finetune_demucs", tmp_path, f"data.music={tmp_path / 'songs'}", "data.licence=cc"))
    data.setup()
    for dataset in (data.train, data.valid):
        assert [song.name for song in dataset.excerpts.songs] == ["First"]


def test_stems_are_validated_on_songs_that_have_them(songs, tmp_path):
    """Finished mixes train, but "other" of a mix is its sum, and no figure of a stem comes from there."""
    shutil.copytree(songs, tmp_path / "songs")
    rng = np.random.default_rng(0)
    for name in ("Finished one", "Finished two"):
        noise = 0.1 * rng.standard_normal((2, 12 * RATE)).astype(np.float32)
        audio.write(tmp_path / "songs" / f"{name}.wav", noise, RATE)
    rows = "song\tsplit\nFirst\ttrain\nFinished one\ttrain\nSecond\tvalid\nFinished two\tvalid\n"
    (tmp_path / "songs" / "songs.tsv").write_text(rows)
    data = data_for(config("finetune_demucs", tmp_path, f"data.music={tmp_path / 'songs'}", "trainer.valid_seconds=10"))
    data.setup()
    assert [song.name for song in data.train.excerpts.songs] == ["Finished one", "First"]
    # The song is shorter than what was asked for, the mix is not.
    assert [song.name for song in data.valid.excerpts.songs] == ["Second"]
    example = data.valid[0]
    assert example["capture"].shape[-1] == 8 * RATE and torch.float64 not in {value.dtype for value in example.values()}

    captures = SimpleNamespace(items=[(tmp_path, {"severity": severity, "mix_only": mix}) for severity, mix in
                                      ((0.7, False), (0.1, True), (0.4, False), (0.5, True))])
    assert CachedWhole(captures, 8).chosen == [2, 0]
    captures.items = captures.items[1::2]
    assert CachedWhole(captures, 8).chosen == [0, 1]


def test_run_without_progress_stops_early_and_logs_sound(songs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    figures, objects = train(config(
        "finetune_demucs", tmp_path, f"data.music={songs}", *tiny_htdemucs(), "logger=wandb", "optimiser.lr=1e-30",
        "callbacks.patience=1", "trainer.max_steps=5", "trainer.valid_every=1", "trainer.valid_seconds=2",
        "data.valid_examples=1", "degrade.codecs=false"))
    # The second validation is no better than the first.
    assert objects["trainer"].global_step == 2 and np.isfinite(figures["valid/loss"])
    assert (tmp_path / "best.safetensors").is_file() and (tmp_path / "checkpoints" / "best.ckpt").is_file()
    media = {path.name.split("_")[0] for path in (tmp_path / "wandb").glob("offline-run-*/files/media/**/*.wav")}
    assert {"input", "vocals", "drums"} <= media
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/**/*.png"))


def test_average_follows_a_short_run_and_reaches_its_decay():
    average = ramped_average(0.99)
    early = average(torch.zeros(1), torch.ones(1), torch.tensor(1))
    late = average(torch.zeros(1), torch.ones(1), torch.tensor(100000))
    assert float(early) == pytest.approx(1 - 2 / 11)
    assert float(late) == pytest.approx(0.01)


def test_pretraining_on_clean_mixtures_needs_no_capture(songs, tmp_path, monkeypatch):
    monkeypatch.setattr(CaptureChain, "apply", None)
    figures, objects = train(config("pretrain_separator", tmp_path, f"data.music={songs}", *tiny_htdemucs(),
                                    "trainer.max_steps=2", "trainer.valid_every=2"))
    assert np.isfinite(figures["valid/loss"]) and "valid/mid/vocals/si_sdr" not in figures
    example = objects["data"].train[0]
    torch.testing.assert_close(example["capture"], example["dry"].sum(0))
    assert load_separator(tmp_path / "weights.safetensors").sources == ["drums", "bass", "other", "vocals"]


def test_every_ablation_composes(tmp_path):
    for path in sorted((Path(CONFIGS) / "ablation").glob("*.yaml")):
        kind = "restorer" if path.stem.startswith("restorer") else "separator"
        made = config({"restorer": "restorer", "separator": "finetune_demucs"}[kind], tmp_path, f"ablation={path.stem}")
        check_model(made.model)
        assert made.model.kind == kind and len(path.read_text().splitlines()) <= 12
        if kind == "restorer":
            RestorerConfig(**made.model.options)


def test_changed_files_are_not_resumed(songs, tmp_path):
    record = {"config": {"model": {}, "data": {}}, "data_hash": "a"}
    (tmp_path / "record.json").write_text(json.dumps(record))
    check_same(record, tmp_path)
    with pytest.raises(UserError, match="have changed"):
        check_same({**record, "data_hash": "b"}, tmp_path)


def test_changed_settings_are_refused_where_they_would_do_nothing_and_told_where_they_act(tmp_path, caplog):
    plain = OmegaConf.to_container(OmegaConf.structured(TrainConfig))
    (tmp_path / "record.json").write_text(json.dumps({"config": plain, "data_hash": "a"}))

    def resumed(group: str, key: str, value: object) -> None:
        check_same({"config": {**plain, group: {**plain[group], key: value}}, "data_hash": "a"}, tmp_path)

    for group, key, value in (("optimiser", "lr", 1.0), ("trainer", "accumulate", 7)):
        with pytest.raises(UserError, match=f"{group}.{key}="):
            resumed(group, key, value)
    assert not caplog.text
    resumed("data", "clean_share", 0.25)
    assert "data.clean_share was" in caplog.text and "now 0.25" in caplog.text


@pytest.mark.parametrize("word", ["data.batch_size=0", "data.workers=-1", "trainer.valid_every=0",
                                  "trainer.accumulate=0", "data.stems_only=true"])
def test_settings_that_cannot_be_are_one_sentence(word, songs, tmp_path):
    with pytest.raises(UserError, match=word.split("=")[0]):
        train(config("restorer", tmp_path, f"data.music={songs}", *TINY["restorer"], word))


def test_an_error_in_a_loaders_process_is_its_sentence():
    wrapped = ("Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
               "  File \"x.py\", line 1\nresonate.errors.UserError: a.wav is empty: copy it again.\n")
    assert training_run._of_worker(wrapped) == "a.wav is empty: copy it again."
    assert training_run._of_worker("a.wav is empty.") == "a.wav is empty."


def test_damaged_file_is_named_before_training(songs, tmp_path):
    shutil.copytree(songs, tmp_path / "songs")
    broken = tmp_path / "songs" / "First" / "vocals.wav"
    samples = np.full((2, 8 * RATE), 0.1, np.float32)
    samples[:, -2000:] = np.nan
    soundfile.write(broken, samples.T, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"First/vocals\.wav"):
        train(config("restorer", tmp_path / "out", f"data.music={tmp_path / 'songs'}", *TINY["restorer"]))
