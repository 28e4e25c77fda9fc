"""The capture chain: simulates what a phone in the crowd records, eight stages in the order in which they happen.

    bank = Bank.load("resonate/bank", split="train")
    chain = CaptureChain(bank, ChainConfig())
    params = chain.from_seed(1, n_samples=stems.shape[-1])
    capture = chain.apply(stems, [params])  # stems (1, 4, 2, T)
"""

from resonate.degrade.bank import Bank, BankItem
from resonate.degrade.chain import Capture, CaptureChain, ChainConfig

__all__ = ["Bank", "BankItem", "Capture", "CaptureChain", "ChainConfig"]
