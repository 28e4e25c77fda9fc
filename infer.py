"""Restore recordings: python infer.py show.m4a -o out/ [mode=reveal] [start=30 duration=20] [diagnose_only=true]."""

from __future__ import annotations

import os
import sys

# Ops without an MPS kernel run on the CPU; torch reads this when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

from resonate.restore.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
