"""Build the bundled recording: 24 s of the test song through the capture chain, saved by a real AAC encoder.

Everything in it comes from the test split: song, room, crowd, device and handling. The chain's own codec stage is left
out, because the file itself is encoded.
"""

import json
import logging
from pathlib import Path

import numpy as np
import torch

from resonate import RATE, STEMS, audio
from resonate.audio import sha256
from resonate.data.music import load_song, scan_music
from resonate.degrade import Bank, Capture, CaptureChain, ChainConfig
from resonate.errors import UserError

log = logging.getLogger(__name__)

SONG, START, SECONDS = "Caesium", 174.0, 24.0
GAP = (0.0, 3.0)
SEVERITY = 0.5
SEED = 20240601
ROOM = "rooms/openair_large_hall__large_hall.flac"
#: Crowd recording -> (offset, gain in dB, position).
CROWD = {
    "crowd/stk_applause.ogg": (0.0, 0.0, -0.3),
    "crowd/cheers_test_1.opus": (0.3, -3.0, 0.5),
    "crowd/stk_restaurant.ogg": (0.1, -6.0, 0.0),
}
PHONE_RATE, BIT_RATE = 48000, 128_000


def build(music: Path, bank_folder: Path, out: Path) -> dict:
    """Write out/demo/{demo.m4a, demo.json, clean/*.flac} and out/LICENSES.md; returns what demo.json says.

    Raises UserError when the song is not in `music` or not in the test split.
    """
    song = next((s for s in scan_music(music) if s.name == SONG), None)
    if song is None or song.split != "test":
        raise UserError(f"{music} holds no test song {SONG}; build it with python -m data_recipes.starter.")
    stems, _ = load_song(song, START, SECONDS)
    bank = Bank.load(bank_folder, "test")
    chain = CaptureChain(bank, ChainConfig())
    params = parameters(chain, stems.shape[-1])
    with torch.inference_mode():
        made = chain.apply(torch.from_numpy(stems)[None], [params])
    folder = out / "demo"
    (folder / "clean").mkdir(parents=True, exist_ok=True)
    capture = made.capture[0].numpy()
    # A phone never stores more than full scale; the encoder would only clip it in its own way.
    phone = audio.resample(capture / max(1.0, float(np.abs(capture).max()) / 0.99), RATE, PHONE_RATE)
    audio.encode(folder / "demo.m4a", phone, PHONE_RATE, codec="aac", bit_rate=BIT_RATE)
    gain = write_clean(folder / "clean", made.stems_dry[0].numpy())
    about = describe(song.present, params, made, gain, folder)
    (folder / "demo.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (out / "LICENSES.md").write_text(licences(bank, params), encoding="utf-8")
    log.info("%s: SNR %.1f dB, DRR %.1f dB", folder, made.measures[0]["snr_db"], made.measures[0]["drr_db"])
    return about


def parameters(chain: CaptureChain, n_samples: int) -> dict:
    """The drawn parameters of SEED, with the room, crowd, gap and hand that the recording is meant to show."""
    params = chain.sample(np.random.default_rng(SEED), n_samples, SEVERITY)
    params["gaps"], params["fades"] = [list(GAP)], [[0.0, 0.05]]
    params["venue"] |= {"kind": "measured", "venue": "hall", "room": ROOM, "moves": False, "distance_m": 12.0,
                        "drr_db": 3.0, "seed": 1}
    layers = [{"name": name, "offset": offset, "speed": 1.0, "gain_db": gain, "position": position}
              for name, (offset, gain, position) in CROWD.items()]
    params["crowd"] |= {"snr_db": 8.0, "layers": layers, "talkers": 6, "babble_db": -8.0, "clappers": 0,
                        "gap_boost_db": 1.0, "sing_along_voices": 0, "reverb_db": -3.0,
                        "neighbours": [], "cheerers": 0, "quiet_boost_db": 0.0, "drop_boost_db": 0.0,
                        "events": [["whistle", 1.4, 4.0, 0.6], ["whoop", 14.2, 6.0, -0.5]]}
    params["handling"] |= {"wind_db": -120.0, "pockets": [],
                           "events": [["recorded", 9.6, -4.0, "handling/tap__tap.flac"], ["rub", 18.5, -8.0, ""]]}
    params["capsule"] |= {"capsules": 2, "low_hz": 90.0, "low_order": 2, "high_hz": 11000.0, "high_order": 4}
    params["agc"] |= {"active": True, "suppressor_db": 0.0}
    params["converter"] |= {"rate": PHONE_RATE, "highpass_hz": 0.0}
    params["codec"] = {"passes": []}
    return params


def write_clean(folder: Path, stems: np.ndarray) -> float:
    """The dry stems as 16-bit FLAC under one gain that keeps every peak and the mix below 1; returns the gain."""
    peak = max(float(np.abs(stems).max()), float(np.abs(stems.sum(0)).max()))
    gain = min(1.0, 0.98 / peak)
    for stem, x in zip(STEMS, stems, strict=True):
        audio.write(folder / f"{stem}.flac", x * np.float32(gain), RATE, subtype="PCM_16")
    return gain


def describe(present: np.ndarray, params: dict, made: Capture, gain: float, folder: Path) -> dict:
    """What demo.json holds."""
    return {
        "description": "Simulated: 24 s of a real song through a measured hall, real and synthesised crowd, hand "
                       "noise, a phone's capsule and gain control, saved as AAC.",
        "song": SONG, "artist": "Software-Entwicklungskit", "split": "test", "start_s": START, "seconds": SECONDS,
        "gaps": [list(GAP)], "rate_clean": RATE, "rate_recording": PHONE_RATE, "bit_rate": BIT_RATE,
        "stems_present": dict(zip(STEMS, present.tolist(), strict=True)),
        "note": "The song has no bass stem of its own: bass.flac is silent and the bass sounds in other.flac.",
        "clean_gain": gain, "seed": SEED, "measures": made.measures[0], "params": params,
        "sha256": {p.relative_to(folder).as_posix(): sha256(p)
                   for p in sorted(folder.rglob("*")) if p.suffix in (".m4a", ".flac")},
    }


def licences(bank: Bank, params: dict) -> str:
    """LICENSES.md of the assets: every recording that sounds in the demo."""
    rows = {item.name: item.licence for item in bank.entries}
    used = [ROOM, *CROWD, "handling/tap__tap.flac", *([d] if (d := params["capsule"]["device"]) else [])]
    lines = ["# Licences of the bundled assets", "",
             "`demo/` is simulated: built by `python -m data_recipes.bundle demo` from the material below. The result "
             "is under CC-BY-SA-4.0, as share-alike parts ask for; the clean stems alone are CC0.", "",
             "| what | licence | source |", "|---|---|---|",
             f"| song {SONG}, album Everything is Free, Software-Entwicklungskit | CC0-1.0 | "
             "https://github.com/ichbinsoftware/everythingisremixed |"]
    where = "see `resonate/bank/bank.tsv` and `resonate/bank/LICENSES.md`"
    lines += [f"| `{name}` | {rows[name]} | {where} |" for name in used]
    return "\n".join(lines) + "\n"
