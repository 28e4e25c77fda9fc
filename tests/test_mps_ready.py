"""Readiness for Apple's GPUs, checked without one: every tensor and operation of a training step of each model."""

import ast
import copy
import importlib.util
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import demucs
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import resonate
from resonate import STEMS
from resonate.models.restorer import RestorerConfig
from resonate.models.restorer_networks import UNet
from resonate.models.selfcheck import TOLERANCE, check_device, check_signal, relative_peak_error, run
from resonate.models.separator import build_separator
from resonate.models.stats import BINS
from resonate.restore import work
from resonate.restore.config import RestoreConfig
from resonate.restore.diagnosis.finished import DETAILS, Finished
from resonate.restore.diagnosis.fit import loss as listener_loss
from resonate.restore.diagnosis.listener import FEATURES, Listener
from resonate.restore.diagnosis.scene import MOVING, STILL, SceneNet
from resonate.training.config import ModelConfig
from resonate.training.restorer import RestorerLoss, RestorerTask
from resonate.training.schedule import OptimiserConfig
from resonate.training.separator import SeparatorTask

ROOT = Path(__file__).parents[1]
log = logging.getLogger(__name__)

#: Operations seen on the CPU that torch's list gives no MPS kernel for, and why that does no harm there.
ALLOWED = {
    "_scaled_dot_product_flash_attention_for_cpu": "the CPU's own attention; MPS takes "
    "_scaled_dot_product_attention_math_for_mps",
    "_scaled_dot_product_flash_attention_for_cpu_backward": "as its forward pass",
    "native_group_norm_backward": "runs on the CPU through PYTORCH_ENABLE_MPS_FALLBACK, which train.py sets; the "
    "norms at the transformer's outputs and of the U-Net alone need it",
}

#: Operations that meet complex tensors (MPS has known them since macOS 14), and where. On MPS demucs computes its own
#: spectrograms on the CPU; those of the losses and of the restorer stay on the device.
COMPLEX = {
    "_fft_r2c": "STFT", "_fft_c2r": "inverse STFT", "_fft_c2c": "gradient of an STFT",
    "complex": "the restorer's correction, of its two parts",
    "view_as_complex": "demucs's channels as a spectrum", "view_as_real": "a spectrum as real and imaginary parts",
    **dict.fromkeys(("abs", "sgn", "_conj", "neg", "sum"), "the restorer's magnitudes and coherent SDR"),
    **dict.fromkeys(("add", "sub", "mul", "div"), "scales of a transform, gains on a spectrum"),
    **dict.fromkeys(("clone", "copy", "new_zeros", "constant_pad_nd"), "memory and padding"),
    **dict.fromkeys(("view", "slice", "transpose", "expand", "unsqueeze", "select"), "views"),
}

#: Where demucs and this repo ask what device they are on, and what they do there.
BRANCHES = {
    "demucs/apply.py": "threads for the blocks, on the CPU alone; this repo does not use it",
    "demucs/hdemucs.py": "as htdemucs.py; its layers are used, its model is not",
    "demucs/htdemucs.py": "the spectrogram's values go to the CPU and come back: complex numbers stay there",
    "demucs/spec.py": "the STFT and its inverse run on the CPU",
    "resonate/restore/config.py": "the names that device= takes",
    "resonate/restore/estimate.py": "how quick a device is, for the time expected",
    "resonate/restore/work.py": "auto takes mps where there is no cuda; each network is compared with the CPU",
    "resonate/training/run.py": "auto takes mps, in float32, after comparing it with the CPU",
}


def kernels() -> dict[str, bool]:
    """Operation (with overload) -> whether it runs on MPS, from the list inside the torch wheel."""
    folder = Path(importlib.util.find_spec("torchgen").submodule_search_locations[0])
    text = (folder / "packaged" / "ATen" / "native" / "native_functions.yaml").read_text()
    found, delegates = {}, {}
    for entry in re.split(r"^- func: ", text, flags=re.MULTILINE)[1:]:
        name = entry.split("(")[0].strip()
        dispatch = re.search(r"^  dispatch:\n((?:    .*\n| *#.*\n)+)", entry, re.MULTILINE)
        keys = re.findall(r"^    ([\w, ]+):", dispatch[1], re.MULTILINE) if dispatch else []
        keys = {key.strip() for group in keys for key in group.split(",")}
        # Without a dispatch table an operation is made of others, unless it delegates to its out= form.
        found[name] = not dispatch or any(key == "MPS" or key.startswith("Composite") for key in keys)
        if delegate := re.search(r"^  structured_delegate: (\S+)", entry, re.MULTILINE):
            delegates[name] = delegate[1]
        for made in re.findall(r"^  autogen: (.*)", entry, re.MULTILINE):
            found.update(dict.fromkeys((m.strip() for m in made.split(",")), found[name]))
    return {**found, **{name: found[target] for name, target in delegates.items()}}


class Watch(TorchDispatchMode):
    """Notes every operation, and those that meet float64 or complex tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: set[str] = set()
        self.double: set[str] = set()
        self.complex: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == "profiler":  # the optimiser marks its steps
            return result
        name = func._schema.name.removeprefix("aten::")
        name = f"{name}.{func._schema.overload_name}" if func._schema.overload_name else name
        self.operations.add(name)
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, torch.Tensor):
                if value.dtype == torch.float64:
                    self.double.add(name)
                if value.is_complex():
                    self.complex.add(name)
        return result


def hearing_restorer() -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    task, batch = restorer(hears_music=True)
    return task, batch | {"separated": 0.5 * batch["capture"] + 0.1 * torch.randn_like(batch["capture"])}


def context_restorer() -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    """With what hears the statistics of the whole recording, as the sizes that are trained have it."""
    return restorer(context=8)


def unet_restorer() -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    return restorer(network="unet", channels=(8,) * 6)


def correcting_restorer() -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    """With a complex correction of the gains."""
    return restorer(correction=0.33)


def criticised_restorer() -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    """With the critic of its synthesis, which learns within the step."""
    return restorer(RestorerLoss(adversarial=0.5))


def restorer(weights: RestorerLoss | None = None, **settings) -> tuple[RestorerTask, dict[str, torch.Tensor]]:
    x = torch.randn(1, 2, 22050) * 0.1
    stats = {"ltas_db": torch.full((1, BINS), -40.0), "floor_db": torch.full((1, BINS), -80.0),
             "in_band": (torch.arange(BINS)[None] < 400).float()}
    task = RestorerTask(RestorerConfig(width=8, dilations=(1, 2), **settings), OptimiserConfig(), 2, weights=weights)
    stems = x[:, None].repeat(1, 4, 1, 1) / 4
    return task, {"capture": x, "wet": 0.8 * stems, "dry": stems, **stats}


def separator() -> tuple[SeparatorTask, dict[str, torch.Tensor]]:
    # Every kind of part that the released model has, only smaller.
    settings = {"segment": 0.5, "channels": 8, "t_layers": 2, "t_heads": 2, "bottom_channels": 8, "dconv_mode": 3,
                "sources": [*STEMS, "crowd"]}
    stems = torch.randn(1, 4, 2, 22050) * 0.1
    batch = {"capture": stems.sum(1), "wet": stems, "dry": stems, "present": torch.tensor([[True, False, True, True]])}
    config = ModelConfig(kind="separator", crowd_source=True)
    return SeparatorTask(build_separator(**settings), settings, OptimiserConfig(), 2, config), batch


class Diagnosing(torch.nn.Module):
    """One of the small networks that diagnosis asks, with its loss and the optimiser that they are all trained with."""

    def __init__(self, model: torch.nn.Module, loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        return self.loss(self.model, batch)

    def configure_optimizers(self) -> dict:
        optimiser = torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule}}


def listener() -> tuple[Diagnosing, dict[str, torch.Tensor]]:
    curve = torch.randn(2, 60)
    batch = {"features": torch.randn(2, FEATURES, 60), "gain": curve, "snr": curve, "rooms": torch.randn(2, 2),
             "known": torch.ones(2)}
    return Diagnosing(Listener(), lambda model, x: listener_loss(
        model(x["features"]), *(x[name] for name in ("gain", "snr", "rooms", "known")))), batch


def finished() -> tuple[Diagnosing, dict[str, torch.Tensor]]:
    return Diagnosing(Finished(), lambda model, x: torch.nn.functional.binary_cross_entropy_with_logits(
        model(x["details"]), x["wanted"], pos_weight=torch.tensor(0.5))), {
            "details": torch.randn(4, DETAILS), "wanted": torch.tensor([0.0, 1.0, 0.0, 1.0])}


def scene() -> tuple[Diagnosing, dict[str, torch.Tensor]]:
    def loss(model: SceneNet, x: dict[str, torch.Tensor]) -> torch.Tensor:
        moving, still = model.normalised(x["moving"], x["still"])
        return sum(heard.abs().mean() for member in model.members for heard in member(moving, still))

    return Diagnosing(SceneNet(), loss), {"moving": torch.randn(2, 20, MOVING), "still": torch.randn(2, STILL)}


def step(make) -> Watch:
    """One training step under watch: forward, backward, clipping, optimiser, schedule."""
    torch.manual_seed(0)
    task, batch = make()
    task.log = task.log_dict = lambda *_, **__: None
    made = task.configure_optimizers()
    with Watch() as watch:
        loss = task.training_step(batch, 0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 5.0)
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
        made["optimizer"].zero_grad()
    return watch


@pytest.mark.parametrize("make", [restorer, hearing_restorer, context_restorer, unet_restorer, correcting_restorer,
                                  criticised_restorer, separator, listener, finished, scene])
def test_a_training_step_has_no_float64_and_runs_on_mps(make):
    watch, there = step(make), kernels()
    assert {"_fft_r2c", "_fft_c2r", "mm", "convolution_backward"} & watch.operations
    assert not watch.double
    missing = {name for name in watch.operations if not there.get(name, False)}
    assert {name.split(".")[0] for name in missing} <= set(ALLOWED), missing
    log.info("%s: complex tensors in %s", make.__name__, ", ".join(sorted(watch.complex)))
    log.info("%s: without an MPS kernel: %s", make.__name__, ", ".join(sorted(missing)) or "nothing")
    assert {name.split(".")[0].rstrip("_") for name in watch.complex} <= set(COMPLEX)


def test_the_forms_that_are_watched_are_those_that_are_meant():
    assert isinstance(unet_restorer()[0].model.network, UNet)
    assert "complex" in step(correcting_restorer).complex - step(restorer).complex
    assert any("leaky_relu_backward" in name for name in step(criticised_restorer).operations)
    sizes = [sum(p.numel() for p in make()[0].parameters()) for make in (restorer, context_restorer)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("make", [hearing_restorer, context_restorer, unet_restorer, correcting_restorer, separator])
def test_every_form_can_be_compared_with_the_cpu(make):
    model = make()[0].model
    assert check_device(model, "cpu") == 0
    faulty = copy.deepcopy(model)
    # As a device would give it that computes something else.
    for weight in faulty.parameters():
        weight.data.add_(0.5)
    x = check_signal()
    assert relative_peak_error(run(model.eval(), x), run(faulty.eval(), x)) > TOLERANCE


def test_the_list_of_kernels_is_read_as_it_is_meant():
    there = kernels()
    assert there["mm"] and there["convolution"] and there["_fft_r2c"] and there["add.Tensor"] and there["chunk"]
    assert not there["linalg_eig"] and not there["_scaled_dot_product_flash_attention_for_cpu"]


def test_the_watch_sees_float64_that_numpy_brings_in():
    with Watch() as watch:
        torch.ones(3) * torch.from_numpy(np.ones(3))
    assert "mul.Tensor" in watch.double


def asks_for_a_device(node: ast.AST) -> bool:
    """Whether code names an accelerator, asks a tensor or torch for one, or compares something with "cpu"."""
    if isinstance(node, ast.Compare):
        return any(isinstance(part, ast.Constant) and part.value == "cpu" for part in ast.walk(node))
    if isinstance(node, ast.Attribute):
        return node.attr in ("mps", "cuda", "is_mps", "is_cuda", "is_cpu")
    return isinstance(node, ast.Constant) and node.value in ("mps", "cuda", "xpu", "gpu")


def test_branches_on_the_device_are_known():
    found = set()
    theirs = Path(demucs.__file__).parent
    places = [(Path(resonate.__file__).parent, "**/*.py"),
              *((theirs, f"{name}.py") for name in ("htdemucs", "spec", "transformer", "hdemucs", "apply"))]
    for folder, pattern in places:
        for path in folder.glob(pattern):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if asks_for_a_device(node):
                    found.add(f"{folder.name}/{path.relative_to(folder)}")
    for name in sorted(found):
        log.info("%s: %s", name, BRANCHES.get(name))
    assert not found - set(BRANCHES)
    assert {"demucs/htdemucs.py", "demucs/spec.py", "resonate/training/run.py"} <= found


@pytest.mark.parametrize("device", ["mps", "mps:0", "cpu"])
def test_restoring_on_mps_compares_both_networks_with_the_cpu(device, monkeypatch):
    seen = []
    monkeypatch.setattr(work, "find_device", lambda name: name)
    monkeypatch.setattr(work, "check_device", lambda model, device: seen.append((model.name, device)))
    for name in ("separator", "restorer"):
        model = SimpleNamespace(name=name, config=SimpleNamespace(correction=0.0))
        monkeypatch.setattr(work, f"load_{name}", lambda path, device, model=model: model)
    models = work.Models(RestoreConfig(device=device))
    models.load()
    models.load()
    assert seen == ([] if device == "cpu" else [("separator", device), ("restorer", device)])


@pytest.mark.parametrize("script", ["train.py", "infer.py"])
def test_fallback_is_set_before_torch_is_imported(script):
    lines = (ROOT / script).read_text(encoding="utf-8").splitlines()
    fallback = next(i for i, line in enumerate(lines) if "PYTORCH_ENABLE_MPS_FALLBACK" in line)
    imports = [i for i, line in enumerate(lines) if re.match(r"(import|from) (?!__future__|os|signal|sys)", line)]
    assert imports and fallback < min(imports)


@pytest.mark.parametrize(("before", "wanted"), [(None, "1"), ("0", "0")])
@pytest.mark.parametrize("module", ["resonate", "resonate.training.run", "resonate.restore.command", "resonate.api"])
def test_fallback_is_set_for_who_imports_the_package(module, before, wanted):
    """Before torch is imported, and without touching what is set already."""
    code = ("import os, sys\n"
            "class Notice:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'torch': print(os.environ.get('PYTORCH_ENABLE_MPS_FALLBACK'))\n"
            "sys.meta_path.insert(0, Notice())\n"
            f"import {module}\n"
            "import torch\n")
    name = "PYTORCH_ENABLE_MPS_FALLBACK"
    environment = {k: v for k, v in os.environ.items() if k != name} | ({} if before is None else {name: before})
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=True)
    assert done.stdout.split() == [wanted]


def test_training_is_imported_without_a_network():
    code = ("import socket\n"
            "def refuse(*a, **k): raise AssertionError('a connection while importing')\n"
            "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
            "import resonate.training.run\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
