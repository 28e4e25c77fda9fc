"""One rendered example: a stretch of music through the capture chain, a pure function of settings, split and number."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from data_recipes.render_config import PRESETS, Plan
from resonate.data.excerpts import Excerpts, Remix, bank_under
from resonate.data.licences import allowed, classify
from resonate.data.music import scan_music
from resonate.data.splits import SPLITS
from resonate.degrade.bank import Bank
from resonate.degrade.chain import CaptureChain, ChainConfig


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
            "seed": seed, "measures": made.measures[0], "gaps": params["gaps"], "params": made.params[0],
        }  # fmt: skip
        return data, details

    def _shares(self) -> np.ndarray:
        shares = np.array([self.settings.mix[name] for name in PRESETS])
        return shares / shares.sum()


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
