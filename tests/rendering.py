"""What the tests of rendering share: a little music, plans, hashes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_recipes.render_config import Plan, make_plan, read_config
from resonate import RATE, STEMS, audio


def noise(seed: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.05 * rng.standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def make_music(folder: Path) -> Path:
    """Two train songs, one without bass; one valid song; a finished mix."""
    for number, name in enumerate(("Lithium", "Sodium", "Rubidium")):
        for place, stem in enumerate(STEMS):
            if (name, stem) != ("Sodium", "bass"):
                path = folder / name / f"{stem}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                audio.write(path, noise(4 * number + place, 2.5), RATE, subtype="PCM_16")
    audio.write(folder / "Potassium.flac", noise(99, 2.5), RATE, subtype="PCM_16")
    rows = ["song\tartist\tlicence", "Lithium\ta\tCC0-1.0", "Sodium\tb\tCC-BY-NC-4.0", "Rubidium\tc\tCC-BY-4.0"]
    (folder / "songs.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def make(music: Path, out: Path, *words: str, **changes) -> Plan:
    """A plan for small shards."""
    small = ("seconds=1", "per_shard=2", "shards.train=2", "shards.valid=1", "severity=mid", "listen=0")
    config, _ = read_config([f"music={music}", f"out={out}", *small, *words])
    return replace(make_plan(config), **changes)


def hashes(out: Path) -> dict[str, str]:
    """Of all that is the same whenever and wherever it is rendered."""
    names = [*sorted(out.glob("*.tar")), out / "index.json", out / "manifest.tsv"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}
