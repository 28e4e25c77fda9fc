"""The diagnosis in plain words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: (least music over crowd in dB, what becomes of recordings like it)
_EXPECT = (
    (14.0, "so there is little crowd to take away; what changes most is the tone and the band."),
    (7.0, "so expect the crowd to sink, most of all in the pauses, with traces of it under the music."),
    (1.0, "so the crowd is nearly as loud: expect quiet pauses, and some music to go with the crowd."),
    (-99.0, "so the crowd is as loud or louder: expect little, and much of the music to go with the crowd."),
)

#: Differences between octaves below this say more about the song than about the way to the phone.
_COLOURED_DB = 6.0


def clock(seconds: float) -> str:
    """Minutes and seconds, 1:05."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def sentences(d: Mapping[str, Any]) -> list[str]:
    """All that was found, one sentence each."""
    if d["silent"]:
        return ["The recording is silent."]
    out = [f"The recording lasts {d['seconds']:.1f} s, with peaks at {d['peak_dbfs']:.1f} dBFS."]
    out += band(d)
    out += _crowd(d) + _damage(d) + _format(d) + _songs(d)
    if d["clean"]:
        out.append("It sounds clean already, like a finished mix; unless clean.bypass=false it stays as it is.")
    elif d["finished"]:
        out.append(
            "It sounds like a finished mix of a narrow band; unless clean.bypass=false what it holds stays as it is."
        )
    if d["range_over_floor_db"] is not None and d["range_over_floor_db"] < 10 and not d["finished"]:
        out.append("Crowd, room or noise never fall far below the music.")
    return out


def band(d: Mapping[str, Any]) -> list[str]:
    """The captured band, of each part where it moves."""
    first, *later = d["parts"] or [d]
    at_first = ", at first" if later else ""
    out = [f"Music was captured between about {first['low_hz']:.0f} and {first['high_hz']:.0f} Hz{at_first}."]
    for part in later:
        edges = f"{part['low_hz']:.0f} and {part['high_hz']:.0f} Hz"
        out.append(f"From {clock(part['from'])} on, it was captured between about {edges}.")
    return out


def _crowd(d: Mapping[str, Any]) -> list[str]:
    out = []
    if d["music_to_crowd_db"] is not None and not d["finished"]:
        worst = min(d["music_to_crowd_over_time_db"])
        usual = d["music_to_crowd_db"]
        expect = next(words for least, words in _EXPECT if usual >= least)
        out.append(f"A rough guess: the music is {usual:.0f} dB over the crowd ({worst:.0f} at the worst), {expect}")
    room = d["room"]
    if not d["finished"]:
        out += _room(room)
    early = {int(hz): db for hz, db in room["early_db"].items() if db is not None}
    if early and not d["finished"]:
        weak, strong = min(early, key=early.__getitem__), max(early, key=early.__getitem__)
        apart = early[strong] - early[weak]
        if apart >= _COLOURED_DB:
            out.append(
                f"A rough guess: what arrives first is strongest around {strong} Hz and {apart:.0f} dB weaker around "
                f"{weak} Hz, beside finished music."
            )
    if d["noise_floor_dbfs"] is not None:
        out.append(f"The noise floor lies at {d['noise_floor_dbfs']:.0f} dBFS.")
    return out


def _room(room: Mapping[str, Any]) -> list[str]:
    out = []
    if room["mid_s"] is not None and room["mid_measured"]:
        out.append(f"A rough guess: the room rings for {room['mid_s']:.1f} s.")
    elif room["mid_s"] is not None:
        out.append(f"How long the room rings was not measured ({room['mid_s']:.1f} s would be typical).")
    if room["clarity_db"] is not None:
        out.append(f"A rough guess: the room's clarity C80 is {room['clarity_db']:.0f} dB.")
    return out


def _damage(d: Mapping[str, Any]) -> list[str]:
    out = []
    if d["clipped_share"] > 1e-5:
        out.append(f"{100 * d['clipped_share']:.3f} % of the samples are clipped.")
    if d["soft_clipped_share"] > 1e-4:
        out.append(f"{100 * d['soft_clipped_share']:.3f} % of the samples are pressed against the highest level.")
    if d["agc"]["range_db"] > 3.0:
        moved = 100 * d["agc"]["active_share"]
        out.append(f"A gain control moved the level by about {d['agc']['range_db']:.0f} dB, {moved:.0f} % of the time.")
    if d["hum"]["base_hz"]:
        out.append(f"There is mains hum at {d['hum']['base_hz']:.1f} Hz with {len(d['hum']['lines'])} audible lines.")
    if max(abs(v) for v in d["dc_offset"]) > 1e-3:
        out.append("The signal is off centre (a DC offset), which is taken out.")
    return out


def _format(d: Mapping[str, Any]) -> list[str]:
    codec, kind = d["codec"], d["channels"]["kind"]
    sound = "one channel (both sides are the same)" if kind == "mono" else "two different channels"
    out = [f"It holds {sound}."]
    if codec["step_db"] > 0 and codec["cutoff_hz"] < 22000:
        out.append(f"The spectrum breaks off at {codec['cutoff_hz'] / 1000:.1f} kHz: {codec['guess']}.")
    return out


def _songs(d: Mapping[str, Any]) -> list[str]:
    songs, gaps = d["songs"]["songs"], d["songs"]["gaps"]
    if len(songs) < 2 and not gaps:
        return []
    times = ", ".join(f"{clock(a)} to {clock(b)}" for a, b in songs[:30]) or "none"
    return [f"Music plays in {len(songs)} stretch{'' if len(songs) == 1 else 'es'}: {times}."]
