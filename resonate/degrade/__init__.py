"""The capture chain: simulates what a phone in the crowd records, eight stages in the order in which they happen.

    bank = Bank.load("resonate/bank", split="train")
    chain = CaptureChain(bank, ChainConfig())
    params = chain.from_seed(1, n_samples=stems.shape[-1])
    capture = chain.apply(stems, [params])  # stems (1, 4, 2, T)

Every stage draws its parameters (`sample`) apart from applying them (`apply`), and acts on every tracked component
alike or adds to the distortion. General augmentation libraries do one signal at a time, in numpy, with draws from the
global generators: they cannot keep components apart, run on a device, or rebuild an example from its parameters. What
they share with this chain (resampling, codecs) is torchaudio's and FFmpeg's here.

The package can be called as well: `resonate.degrade("song.flac", "out", preset="far")`, see `resonate.api.degrade`.
Importing it loads nothing heavy; its names are looked up when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resonate.degrade.bank import Bank, BankItem
    from resonate.degrade.chain import Capture, CaptureChain, ChainConfig

__all__ = ["Bank", "BankItem", "Capture", "CaptureChain", "ChainConfig"]

_HOMES = {"Bank": "bank", "BankItem": "bank", "Capture": "chain", "CaptureChain": "chain", "ChainConfig": "chain"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
