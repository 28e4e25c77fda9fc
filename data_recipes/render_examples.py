"""One rendered example: a stretch of music through the capture chain, a pure function of settings, split and number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from data_recipes.render_config import PRESETS, Mix, Plan, RenderConfig, make_plan
from resonate.data.excerpts import Excerpts, Remix, bank_under
from resonate.data.licences import allowed, classify
from resonate.data.music import scan_music
from resonate.data.splits import SPLITS
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig
from resonate.errors import UserError


class Renderer:
    """Renders examples of one split, one by one. Raises UserError for music or a bank that cannot be used."""

    def __init__(self, plan: Plan, split: str) -> None:
        settings = self.settings = plan.settings
        self.split = split
        remix = Remix(share=settings.remix) if split == "train" else None
        self.excerpts = Excerpts(plan.music, split, settings.seconds, remix, settings.licence)
        bank = bank_under(plan.bank, split, settings.licence)
        self.chains = {name: CaptureChain(bank, ChainConfig(**values)) for name, values in settings.degrade.items()}

    def example(self, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Example `index`: (rows, 2, T) float32, rows as `resonate.data.shards.ROWS` (and the crowd), and its JSON."""
        s = self.settings
        sequence = np.random.SeedSequence([s.seed, SPLITS.index(self.split), index])
        seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
        rng = np.random.default_rng(seed)
        # One thread: a sum over another number of threads is another sum in its last bit.
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1), torch.inference_mode():
                excerpt = self.excerpts.draw(rng)
                level = s.severity if s.severity != "mix" else str(rng.choice(PRESETS, p=self._shares()))
                params = self.chains[level].sample(rng, excerpt.stems.shape[-1])
                made = self.chains[level].apply(torch.from_numpy(excerpt.stems)[None], [params])
        finally:
            torch.set_num_threads(before)
        parts = [made.capture[0][None], made.stems_wet[0], made.stems_early[0].sum(0, keepdim=True), made.stems_dry[0]]
        data = torch.cat(parts + [made.crowd[0][None]] * s.crowd).numpy()
        details = {
            "key": s.key, "split": self.split, "seconds": s.seconds, "song": excerpt.song,
            "songs": list(excerpt.songs), "start": round(excerpt.start, 3), "mix_only": excerpt.mix_only,
            "present": excerpt.present.tolist(), "preset": level, "severity": round(params["severity"], 4),
            "seed": seed, "index": index, "settings": asdict(s), "measures": made.measures[0], "gaps": params["gaps"],
            "params": made.params[0],
        }  # fmt: skip
        return data, details

    def _shares(self) -> np.ndarray:
        shares = np.array([self.settings.mix[name] for name in PRESETS])
        return shares / shares.sum()


def rebuild(details: dict[str, Any], music: Sequence[str],
            bank: Sequence[str] = ()) -> tuple[np.ndarray, dict[str, Any]]:
    """An example again, bit by bit, from the JSON that lies beside it in its shard.

    Args:
        details: that JSON.
        music: the folders of songs, in the order in which they were rendered from, wherever they lie now.
        bank: likewise; none means the starter bank.

    Returns:
        what `Renderer.example` gave.

    Raises:
        UserError: the JSON was written by a version without this, or the folders hold something else than they did.
    """
    try:
        known, split, index = details["settings"], details["split"], details["index"]
        weights = [weight for _, _, weight in known["music"]]
        same = {name: known[name] for name in ("seconds", "seed", "per_shard", "severity", "remix", "licence", "crowd")}
        mix, degrade = Mix(**known["mix"]), known["degrade"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("This JSON does not hold the settings of its render; render again.") from error
    if len(weights) != len(music):
        raise UserError(f"The example was rendered from {len(weights)} folders of music, {len(music)} are given.")
    named = [f"{folder}={weight}" for folder, weight in zip(music, weights, strict=True)]
    plan = make_plan(RenderConfig(music=named, bank=list(bank), mix=mix, **same))
    plan = replace(plan, settings=replace(plan.settings, degrade=degrade))
    if plan.settings.key != details["key"]:
        raise UserError("The music, the bank or the version is not the one that this example was rendered with.")
    return Renderer(plan, split).example(index)


def left_out(plan: Plan) -> list[str]:
    """What `licence=` leaves out, in sentences; empty where it leaves out nothing."""
    songs = [song.licence for folder, _ in plan.music for song in scan_music(folder)]
    files = [item.licence for item in Bank.load(list(plan.bank), "all").entries]
    return list(filter(None, (_count(plan, songs, "songs"), _count(plan, files, "files of the bank"))))


def _count(plan: Plan, licences: list[str], what: str) -> str:
    wanted = allowed(plan.settings.licence)
    refused = Counter(classify(licence) for licence in licences if wanted is not None and not wanted(licence))
    if not refused:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(refused.items()))
    return (f"licence={plan.settings.licence} leaves out {refused.total()} of {len(licences)} {what}, "
            f"whose licences are: {kinds}.")
