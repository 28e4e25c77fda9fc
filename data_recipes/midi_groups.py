"""Take a MIDI file apart by instrument group, so that each group can be rendered to a stem of its own."""

import io
from collections import Counter
from dataclasses import dataclass, field

import mido

from resonate.errors import UserError

#: The stems that General MIDI instruments make.
GROUPS = ("drums", "bass", "other")
DRUM_CHANNEL = 9  # channel 10, counted from 0
BASSES = range(32, 40)  # programs 33 to 40, counted from 0
DRUM_PROGRAMS = range(116, 119)  # taiko, melodic tom, synth drum
CHOIRS = (52, 53, 54, 85, 91)  # choir aahs, voice oohs, synth voice, lead 6 (voice), pad 4 (choir)
_MAX_SECONDS = 1800.0
_SLOWEST = 0xFFFFFF  # microseconds per beat that a MIDI file can state


@dataclass
class Parts:
    """A MIDI file by groups.

    Attributes:
        files: group -> a MIDI file (type 0) with the notes of that group and all else of every channel; groups without
            a note are absent. All files have the same tempo map and length, so they are rendered on one clock.
        choir: whether a choir or voice program plays. It sounds in "other", but may pass for vocals.
    """

    files: dict[str, bytes]
    choir: bool
    notes: Counter = field(default_factory=Counter)


def read(data: bytes, name: str) -> mido.MidiFile:
    """A MIDI file from its bytes. Raises UserError, with `name` in it, for what is none or cannot be played."""
    try:
        midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except (EOFError, OSError, ValueError, KeyError, IndexError, mido.KeySignatureError) as error:
        raise UserError(f"{name} is not a readable MIDI file; replace it or take it out.") from error
    if midi.type not in (0, 1) or midi.ticks_per_beat <= 0:
        raise UserError(f"{name} is a MIDI file of a kind that has no beats or several songs; save it as type 0 or 1.")
    if midi.length > _MAX_SECONDS:
        raise UserError(f"{name} plays for {midi.length / 60:.0f} minutes; cut it to {_MAX_SECONDS / 60:.0f} or less.")
    return midi


def group_of(channel: int, program: int) -> str:
    """The stem of a note: drums is channel 10 and the drums among the programs, bass the programs 33 to 40."""
    if channel == DRUM_CHANNEL or program in DRUM_PROGRAMS:
        return "drums"
    return "bass" if program in BASSES else "other"


def take_apart(midi: mido.MidiFile, transpose: int = 0, tempo: float = 1.0, kit: int | None = None) -> Parts:
    """Split a piece by instrument groups.

    A channel may change its instrument within the piece, so every note goes by the program that its channel has when it
    begins; a note that ends goes where it began.

    Args:
        midi: of type 0 or 1.
        transpose: semitones by which all but the drums are moved; a note that would leave the range stays.
        tempo: > 1 plays faster.
        kit: drum kit (program of channel 10, from 0), instead of the kits that the piece chooses.
    """
    merged = list(mido.merge_tracks(midi.tracks))
    tracks = {group: mido.MidiTrack() for group in GROUPS}
    last = dict.fromkeys(GROUPS, 0)
    programs = [0] * 16
    sounding: dict[tuple[int, int], list[tuple[str, int]]] = {}
    notes: Counter = Counter()
    choir, now = False, 0

    def put(group: str, message: mido.Message | mido.MetaMessage) -> None:
        tracks[group].append(message.copy(time=now - last[group]))
        last[group] = now

    for group in GROUPS:
        put(group, mido.MetaMessage("set_tempo", tempo=round(500_000 / tempo)))  # what holds where the piece sets none
        if kit is not None:
            put(group, mido.Message("program_change", channel=DRUM_CHANNEL, program=kit))
    for message in merged:
        now += message.time
        if message.type == "note_on" and message.velocity > 0:
            group = group_of(message.channel, programs[message.channel])
            moved = message.note if message.channel == DRUM_CHANNEL or group == "drums" else message.note + transpose
            moved = moved if 0 <= moved <= 127 else message.note
            choir = choir or (message.channel != DRUM_CHANNEL and programs[message.channel] in CHOIRS)
            notes[group] += 1
            sounding.setdefault((message.channel, message.note), []).append((group, moved))
            put(group, message.copy(note=moved))
        elif message.type in ("note_on", "note_off"):
            begun = sounding.get((message.channel, message.note))
            if begun:
                group, moved = begun.pop(0)
                put(group, message.copy(note=moved))
        elif message.type == "set_tempo":
            for group in GROUPS:
                put(group, message.copy(tempo=min(max(1, round(message.tempo / tempo)), _SLOWEST)))
        elif message.type == "program_change":
            programs[message.channel] = message.program
            if kit is None or message.channel != DRUM_CHANNEL:
                for group in GROUPS:
                    put(group, message)
        elif not (message.is_meta or message.is_realtime):  # what has no place in a file cannot be written to one
            for group in GROUPS:
                put(group, message)
    for group in GROUPS:
        put(group, mido.MetaMessage("end_of_track"))
    files = {group: _bytes(tracks[group], midi.ticks_per_beat) for group in GROUPS if notes[group]}
    return Parts(files, choir, notes)


def _bytes(track: mido.MidiTrack, ticks_per_beat: int) -> bytes:
    out = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=ticks_per_beat, tracks=[track]).save(file=out)
    return out.getvalue()
