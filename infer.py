"""Restore recordings: python infer.py show.m4a -o out/ [mode=reveal] [start=30 duration=20] [diagnose_only=true]."""

from __future__ import annotations

import os
import signal
import sys

# Ops without an MPS kernel run on the CPU; torch reads this when it is imported.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

from resonate.restore.command import main

if __name__ == "__main__":
    # Ends as Ctrl-C does: the scratch folder is cleared on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
