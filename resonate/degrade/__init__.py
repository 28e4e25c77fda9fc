"""The capture chain: simulates what a phone in the crowd records, eight stages in the order in which they happen.

    bank = Bank.load("resonate/bank", split="train")
    chain = CaptureChain(bank, ChainConfig())
    params = chain.from_seed(1, n_samples=stems.shape[-1])
    capture = chain.apply(stems, [params])  # stems (1, 4, 2, T)

Every stage draws its parameters (`sample`) apart from applying them (`apply`), and acts on every tracked component
alike or adds to the distortion. General augmentation libraries do one signal at a time, in numpy, with draws from the
global generators: they cannot keep components apart, run on a device, or rebuild an example from its parameters. What
they share with this chain (resampling, codecs) is torchaudio's and FFmpeg's here.
"""

from resonate.degrade.bank import Bank, BankItem
from resonate.degrade.chain import Capture, CaptureChain, ChainConfig

__all__ = ["Bank", "BankItem", "Capture", "CaptureChain", "ChainConfig"]
