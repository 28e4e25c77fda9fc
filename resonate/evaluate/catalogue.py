"""What a reader must know of every measure: source, range, what it is blind to and what cheats it.

`docs/measures.md` is written from this table by `python -m resonate.evaluate.publish`, and every claim in it has a test
in `tests/test_measures.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One column of a table. `better`: +1 higher is better, -1 lower, 0 nearest to zero."""

    better: int
    unit: str
    says: str
    formula: str
    source: str
    range: str
    blind_to: str
    cheat: str
    digits: int = 1

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return {1: "↑", -1: "↓", 0: "→0"}[self.better]

    def told(self, value: float | None) -> str:
        """A value with this measure's digits, `-` where there is none."""
        return "-" if value is None or not math.isfinite(value) else f"{value:.{self.digits}f}"


_LSD = "rms over bins of 20 log10((\\|Y\\| + e)/(\\|C\\| + e)), mean over frames; levels matched, STFT 2048/512"
_OWN = "this project"

MEASURES: dict[str, Measure] = {
    "si_sdr": Measure(
        +1, "dB", "likeness to the clean mix, sample by sample",
        "10 log10(\\|a c\\|²/\\|y - a c\\|²), a = <y, c>/<c, c>",
        "Le Roux et al. 2019", "-inf..inf", "level, polarity", "nothing easy; it mostly ranks delay and tone",
    ),
    "f_sdr": Measure(
        +1, "dB", "likeness to the clean mix, EQ and early echoes forgiven",
        "SDR after the best FIR of the reference: 1024 taps, 128 before zero", "BSS Eval, Vincent et al. 2006",
        "-inf..180", "level, EQ, lost bands", "a low-pass raises it, muted gaps too",
    ),
    "lsd": Measure(
        -1, "dB", "distance of the spectra, 20 Hz to 20 kHz", _LSD, "Gray and Markel 1976", "0..66",
        "level, phase, gaps", "EQ lowers it",
    ),
    "lsd_low": Measure(
        -1, "dB", "the same, 20 to 120 Hz", _LSD, "as lsd", "0..66", "level, phase, gaps", "EQ lowers it",
    ),
    "lsd_high": Measure(
        -1, "dB", "the same, 8 to 16 kHz", _LSD, "as lsd", "0..66", "level, phase, gaps", "EQ or added hiss lowers it",
    ),
    "lsd_air": Measure(
        -1, "dB", "the same, 16 to 20 kHz", _LSD, "as lsd", "0..66", "level, phase, gaps", "EQ or added hiss lowers it",
    ),
    "gap_db": Measure(
        -1, "dB", "level of the gaps under the music", "mean power where no music is over that of the music", _OWN,
        "-120..", "level, noise under the music", "a gate passes it",
    ),
    "noise_attenuation": Measure(
        +1, "dB", "how far the crowd sank under the music",
        "crowd over music before less after, by least squares on captured music and crowd (1024 taps each)", _OWN,
        "any; 0 unchanged; where the crowd is not known alone it is that of all noise, and bounded where most of it is "
        "distortion, which follows the music",
        "level, delay, gaps", "a filter that keeps the loudest bands",
    ),
    "music_distortion": Measure(
        -1, "dB", "how much rose that is neither music nor crowd",
        "the rest of such a projection on dry music and noise, after over before",
        _OWN, "any; 0 unchanged", "level, delay, gaps", "a low-pass lowers it",
    ),
    "musical_noise": Measure(
        -1, "dB", "how much the noise twinkles, against the recording's",
        "spectral kurtosis in patches of a frame by 32 bins where no music is, output less recording",
        "kurtosis of the residual, Uemura et al. 2008", "-3..10; 0 unchanged", "level, EQ, gains over time",
        "a full gate leaves nothing to judge; steady hiss lowers it",
    ),
    "bandwidth": Measure(
        +1, "octaves", "octaves in which the clean mix's long-term level is met",
        "third-octave bands within 10 dB of the reference, median difference taken out", _OWN, "0..10",
        "level, phase, delay", "EQ that lifts noise, hiss of the right level",
    ),
    "stems_si_sdr": Measure(
        +1, "dB", "stems as captured, mean of those that sound", "si_sdr of each stem", "Le Roux et al. 2019",
        "-inf..inf", "level, polarity", "nothing easy",
    ),
    "stems_sdr": Measure(
        +1, "dB", "the same, museval's SDR", "median over seconds of 10 log10(\\|s\\|²/\\|y - s\\|²)",
        "museval, Stöter et al. 2018", "-inf..inf", "nothing", "a quieter estimate of a stem that cannot be found",
    ),
    "vocals_estoi": Measure(
        +1, "", "whether the words can be followed, against the clean vocals", "ESTOI by pystoi",
        "Jensen and Taal 2016", "0..1", "level, all above 5 kHz", "other instruments that follow the voice", 2,
    ),
    "zimtohrli": Measure(
        +1, "MOS", "opinion score of a listener model against the clean mix, where zimtohrli is installed",
        "zimtohrli at 48 kHz, equal loudness by RMS", "Alakuijala et al. 2025", "1..5", "level",
        "made for small differences: far from the reference it says little", 2,
    ),
    "visqol": Measure(
        +1, "MOS", "the same of ViSQOL's audio mode, where visqol-python is installed",
        "ViSQOL 3 at 48 kHz, equal loudness by RMS", "Chinen et al. 2020", "1..5", "level",
        "trained on coded studio music: far from the reference it says little", 2,
    ),
    "note_f1": Measure(
        +1, "", "how far the notes heard are those of the clean mix, where basic-pitch's network is at hand",
        "F1 over keys and frames, activation from 0.3", "basic-pitch, Bittner et al. 2022", "0..1", "level",
        "sharpening what the network listens to", 2,
    ),
    "extended_db": Measure(
        -1, "dB", "what the extension added to a full-band track", "power of the extended part over that of the input",
        _OWN, "-160..", "what it sounds like", "doing nothing",
    ),
    "lsd_missing": Measure(
        -1, "dB", "lsd in the band that was taken away", _LSD, "as lsd", "0..66", "level, phase, gaps",
        "hiss of the right level lowers it",
    ),
    "level_error": Measure(
        0, "dB", "level of the added band against the truth", "power in the missing band over the reference's", _OWN,
        "-160..; best 0", "phase, delay", "hiss of the right level",
    ),
    "captured_change": Measure(
        -1, "dB", "change inside the captured band, a sixth of an octave from its edge",
        "10 log10(\\|y - x\\|²/\\|x\\|²) in that band", _OWN, "-160..", "what happens outside the band",
        "doing nothing",
    ),
    "invented_tones": Measure(
        -1, "tones", "tones at a time that a recording without music did not hold",
        "peaks 18 dB above the half octave around for 5 frames (STFT 8192/2048), absent from the input", _OWN,
        "0..; 0 unchanged", "level", "silence; hiss is not seen", 3,
    ),
    "level_change": Measure(
        -1, "dB", "level of the output over that of the input", "mean powers", _OWN, "any; 0 unchanged",
        "what it sounds like", "turning it down",
    ),
    "output_dbfs": Measure(
        -1, "dBFS", "level of what comes out", "mean power re full scale", _OWN, "-160..", "what it sounds like",
        "turning it down",
    ),
    "low_hz": Measure(
        -1, "Hz", "lower edge of the band that moves like music", "see resonate.models.stats", _OWN, "20..", "level",
        "filling the bass with anything that moves", 0,
    ),
    "high_hz": Measure(
        +1, "Hz", "upper edge of the band that moves like music", "see resonate.models.stats", _OWN, "..22050", "level",
        "filling the treble with anything that moves", 0,
    ),
    "noise_floor": Measure(
        -1, "dB", "noise floor under the mean level inside the captured band",
        "10th percentile over time less the long-term spectrum", _OWN, "..0", "level", "a gate, an expander",
    ),
    "redegradation_residual": Measure(
        -1, "dB", "what the output, sent through the recording's response and gain again, leaves of the recording",
        "see resonate.faithfulness.redegradation (residual)", _OWN, "-120..", "level",
        "doing nothing; crowd that was rightly removed counts",
    ),
    "redegradation": Measure(
        -1, "dB", "what the output has more than the recording, once sent through its response and gain again",
        "see resonate.faithfulness.redegradation (excess)", _OWN, "-120..", "fixed EQ, slow gain", "doing nothing",
    ),
    "energy_support": Measure(
        -1, "", "share of the output's energy where the recording lies below its noise floor",
        "see resonate.faithfulness.energy_support", _OWN, "0..1", "level", "doing nothing", 3,
    ),
    "chroma_agreement": Measure(
        +1, "", "whether the recording's pitch classes sound, and no others",
        "see resonate.faithfulness.chroma_agreement", _OWN, "0..1", "level, octave", "doing nothing", 2,
    ),
    "onset_agreement": Measure(
        +1, "", "share of the output's onsets that the recording has", "see resonate.faithfulness.onset_agreement",
        "spectral flux, Bello et al. 2005", "0..1", "level", "doing nothing; losing onsets", 2,
    ),
    "note_agreement": Measure(
        +1, "", "share of the output's tones that the recording has", "see resonate.faithfulness.note_agreement", _OWN,
        "0..1", "level, smooth EQ", "doing nothing; losing notes", 2,
    ),
    "notes_invented": Measure(
        -1, "", "share of the notes heard that are not heard in the recording, where basic-pitch's network is at hand",
        "keys and frames (two frames either way) without a partner", "basic-pitch, Bittner et al. 2022",
        "0..1; 0 unchanged", "level", "doing nothing, silence", 3,
    ),
}  # fmt: skip

#: Which measures a change against the input is meaningless for: they are changes already.
CHANGES = frozenset({"noise_attenuation", "music_distortion", "musical_noise", "level_change", "captured_change"})


def markdown() -> str:
    """The table of `docs/measures.md`."""
    lines = ["| measure | unit, better | says | formula | source | range | blind to | cheated by |", "|---" * 8 + "|"]
    for name, m in MEASURES.items():
        way = {1: "higher", -1: "lower", 0: "nearest to 0"}[m.better]
        unit = f"{m.unit}, {way}" if m.unit else way
        cells = (f"`{name}`", unit, m.says, m.formula, m.source, m.range, m.blind_to, m.cheat)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
