"""Resonate: rebuild a performance from a phone recording made in the crowd.

Revealing what was captured, never inventing notes. Importing this package loads nothing heavy.
"""

__version__ = "0.1.0"

#: Sample rate in Hz at which every model and every capture works.
RATE = 44100

#: Stem names in the channel order used throughout (the order of the demucs package).
STEMS = ("drums", "bass", "other", "vocals")
