"""The capture chain: clean stems in, what a phone in the crowd records out, with every component tracked.

capture = sum(stems_wet) + crowd + handling + distortion. Linear stages act on every component that goes
through them (the hand touches the phone itself, so room and pocket leave it alone), the AGC's gain on all alike; what
overload, suppressor, clip and codec add is `distortion`. Everything is drawn first (`sample`, plain
numbers that survive JSON), then applied as a pure function of stems, parameters and bank.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from resonate import RATE, STEMS
from resonate.degrade import (
    agc,
    capsule,
    codec,
    converter,
    crowd,
    filters,
    gaps,
    handling,
    measures,
    programme,
    scene,
    stage,
    venue,
)
from resonate.degrade.bank import Bank
from resonate.errors import UserError

#: RMS of the music at the capsule, and of stems_dry and stems_early as a mix: -20 dBFS while music plays.
MUSIC_RMS = 0.1
#: What neighbours are less reverberant than the field, in dB.
NEARER_DB = 9.0


@dataclass  # not frozen: Hydra cannot merge a list into a frozen structured config
class ChainConfig:
    """What may happen. Shares are probabilities in [0, 1]; those of suppressor and pocket hold at severity 0.5, and
    are multiplied by 0.5 + severity elsewhere. moving_share counts where a phone can move (see `venue.sample`).

    severity: (low, high) within [0, 1], drawn uniformly per example: 0 = near and clean, 1 = far, loud crowd.
    gap_share: captures that begin or end with, or hold, music-free crowd. pocket_share: phones put away for a while.
    simulated_share/simulated_rooms: rooms by pyroomacoustics and the size of their pool per venue.
    codec_workers: processes that encode one example of a batch while the next one is computed; 0 = none of its own,
    which is best in a data loader's workers. It changes no sample.
    """

    severity: tuple[float, float] = (0.0, 1.0)
    gap_share: float = 0.35
    measured_share: float = 0.3
    simulated_share: float = 0.0
    simulated_rooms: int = 8
    moving_share: float = 0.15
    sing_along_share: float = 0.3
    stereo_share: float = 0.5
    suppressor_share: float = 0.2
    pocket_share: float = 0.04
    codec_chain_share: float = 0.25
    codecs: bool = True
    codec_workers: int = 0

    def __post_init__(self) -> None:
        low, high = self.severity
        if not 0.0 <= low <= high <= 1.0:
            raise UserError(f"degrade severity must be two numbers 0 <= low <= high <= 1, got {low}, {high}.")
        for name in (one.name for one in fields(self) if one.name.endswith("_share")):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"degrade {name} is a probability from 0 to 1, got {getattr(self, name)}.")
        if self.measured_share + self.simulated_share > 1.0 + 1e-9:
            raise UserError("degrade measured_share and simulated_share must not exceed 1 together.")
        if self.simulated_rooms < 1 or self.codec_workers < 0:
            raise UserError("degrade simulated_rooms must be 1 or more, codec_workers 0 or more, got "
                            f"{self.simulated_rooms} and {self.codec_workers}.")


@dataclass
class Capture:
    """All (B, 2, T) or (B, 4, 2, T) float32 on one clock, no delay between any two.

    stems_wet: each stem as captured. handling: bumps, rubs, wind and the capsule's self-noise.
    stems_early: dry stems through the first 50 ms of the room, full band (no PA, capsule or AGC colouring; reflections
    lack the treble that the speakers send ahead, and air takes its share).
    stems_dry: the clean stems with the desk's balance, muted in the gaps; dry and early are at MUSIC_RMS.
    params: what `sample` gave; measures: see `measures.measure`.
    """

    capture: Tensor
    stems_wet: Tensor
    crowd: Tensor
    handling: Tensor
    distortion: Tensor
    stems_early: Tensor
    stems_dry: Tensor
    params: list[dict] = field(default_factory=list)
    measures: list[dict] = field(default_factory=list)


class CaptureChain:
    """Draws and applies captures. Examples are processed one by one, so a batch equals its members exactly."""

    def __init__(self, bank: Bank, config: ChainConfig | None = None) -> None:
        self.bank = bank
        self.config = config or ChainConfig()

    def with_severity(self, low: float, high: float) -> "CaptureChain":
        """The same chain and bank at severities in [low, high]: what a curriculum sets as training goes on.

        Raises UserError unless 0 <= low <= high <= 1.
        """
        return CaptureChain(self.bank, replace(self.config, severity=(float(low), float(high))))

    def sample(self, rng: np.random.Generator, n_samples: int, severity: float | None = None) -> dict:
        """Parameters for a capture of n_samples at 44.1 kHz: nested dicts of plain values (JSON-able).

        Raises UserError below 0.25 s, and for a severity outside [0, 1].
        """
        config, seconds = self.config, n_samples / RATE
        drawn = float(rng.uniform(*config.severity))
        severity = drawn if severity is None else float(severity)
        if seconds < 0.25 or not 0.0 <= severity <= 1.0:
            raise UserError(f"A capture lasts 0.25 s or more at a severity in [0, 1], not {seconds:g} s at {severity}.")
        names = {kind: [item.name for item in self.bank.items(kind)] for kind in ("devices", "handling")}
        place = venue.sample(
            rng,
            severity,
            self.bank.items("rooms"),
            config.measured_share,
            config.simulated_share,
            config.simulated_rooms,
            config.moving_share,
        )
        phone = capsule.sample(rng, severity, names["devices"], config.stereo_share)
        control = agc.sample(rng, severity, config.suppressor_share)
        adc = converter.sample(rng, severity, control.target_db)
        saved = codec.sample(rng, severity, adc.rate, phone.capsules, config.codec_chain_share)
        silent, fades = gaps.sample(rng, seconds) if rng.uniform() < config.gap_share else ([], [])
        labels = {item.name: crowd.label(item.name, item.group, item.note) for item in self.bank.items("crowd")}
        people = crowd.sample(rng, severity, seconds, labels, config.sing_along_share, silent)
        touch = handling.sample(
            rng, severity, seconds, place.venue == "open_air", names["handling"], config.pocket_share
        )
        return {
            "rate": RATE,
            "n_samples": n_samples,
            "severity": severity,
            "gaps": silent,
            "fades": fades,
            "stage": asdict(stage.sample(rng, severity)),
            "venue": asdict(place),
            "crowd": asdict(people),
            "handling": asdict(touch),
            "capsule": asdict(phone),
            "agc": asdict(control),
            "converter": asdict(adc),
            "codec": asdict(saved if config.codecs else codec.CodecParams([])),
        }

    def from_seed(self, seed: int | Sequence[int], n_samples: int) -> dict:
        """`sample` with a generator of its own: same seed, same parameters."""
        return self.sample(np.random.default_rng(seed), n_samples)

    def apply(self, stems: Tensor, params: list[dict]) -> Capture:
        """stems (B, 4, 2, T) float32 at 44.1 kHz in the order of resonate.STEMS -> Capture.

        Raises ValueError when shapes and parameters do not fit, UserError for names the bank lacks.
        """
        if stems.ndim != 4 or stems.shape[1:3] != (len(STEMS), 2) or not 0 < len(params) == len(stems):
            raise ValueError(f"stems must be (batch, 4, 2, time) with one params each, got {tuple(stems.shape)}")
        begun = []
        for example, values in zip(stems, params, strict=True):
            if values["n_samples"] != example.shape[-1]:
                raise ValueError(f"params are for {values['n_samples']} samples, stems have {example.shape[-1]}")
            begun.append(self._one(example.to(torch.float32), values))
        parts, figures = zip(*(finish() for finish in begun), strict=True)
        stacked = [torch.stack(column) for column in zip(*parts, strict=True)]
        return Capture(*stacked, params=list(params), measures=list(figures))

    def _one(self, stems: Tensor, values: dict) -> Callable[[], tuple[tuple[Tensor, ...], dict]]:
        """One example up to its encoding, which may go on elsewhere; what comes back waits for that and ends it."""
        n, device = stems.shape[-1], stems.device
        pa = stage.StageParams(**values["stage"])
        place = venue.VenueParams(**values["venue"])
        phone = capsule.CapsuleParams(**values["capsule"])
        people = crowd.CrowdParams.from_dict(values["crowd"])
        touch = handling.HandlingParams.from_dict(values["handling"])

        # 1, 2: desk, PA, room and capsule response (one linear filter from speakers to capsules)
        mute = gaps.mute_curve(values["gaps"], values["fades"], n)
        dry = stage.balance(stems, pa) * torch.from_numpy(mute).to(device)
        dry = _normalise(dry)
        fed = stage.apply(dry, pa)
        response = venue.response(place, pa, self.bank)
        mic = capsule.response(phone, self.bank)
        wet, early = self._through_room(fed, dry, response, place, pa, mic, phone)
        wet, early = _normalise(wet), _normalise(early)

        # 3, 4: crowd in the same room, handling at the phone, both through the capsule
        mono = dry.mean(dim=1).cpu().numpy()
        heard = programme.analyse(mono.sum(axis=0), mute)
        near, field_bus = scene.render(people, heard, mono[STEMS.index("vocals")], self.bank)
        noise = handling.apply(touch, n, MUSIC_RMS, self.bank)
        around = self._around(near, field_bus, noise, response, people, mic, phone, device)
        crowd_wet = around[0] * _crowd_gain(around[0], mute, people.snr_db)
        own = around[1] + torch.from_numpy(capsule.self_noise(phone, n, MUSIC_RMS)).to(device)
        heard_through = handling.muffle(torch.cat([wet, crowd_wet[None]]), touch)
        tracks = torch.cat([heard_through, own[None], torch.zeros_like(own)[None]])

        # 5 to 8: overload, AGC and suppressor, converter, codec
        total = tracks.sum(dim=0)
        tracks[6] += capsule.overload(total, phone, MUSIC_RMS) - total
        overloaded = capsule.overload_ratio(total, phone, MUSIC_RMS)
        control = agc.AgcParams(**values["agc"])
        level = agc.gain(tracks.sum(dim=0), control, MUSIC_RMS)
        tracks = tracks * level
        total = tracks.sum(dim=0)
        tracks[6] += agc.suppress(total, control) - total
        adc = converter.ConverterParams(**values["converter"])
        tracks = converter.linear(tracks, adc)
        loud = tracks.sum(dim=0)
        saved = codec.CodecParams.from_dict(values["codec"])
        coded = codec.start(converter.clip(loud).cpu().numpy(), saved, self.config.codec_workers)

        def finish() -> tuple[tuple[Tensor, ...], dict]:
            capture = torch.from_numpy(np.ascontiguousarray(coded())).to(device)
            if phone.capsules == 1:
                capture = capture.mean(dim=0, keepdim=True).expand(2, -1).contiguous()
            tracks[6] = capture - tracks[:6].sum(dim=0)
            figures = measures.measure(capture, tracks, loud, mute, response, values)
            figures |= {"overload_ratio": overloaded, "agc_range_db": measures.range_db(level)}
            return (capture, tracks[:4], tracks[4], tracks[5], tracks[6], early, dry), figures

        return finish

    def _through_room(
        self,
        fed: Tensor,
        dry: Tensor,
        response: venue.Response,
        place: venue.VenueParams,
        pa: stage.StageParams,
        mic: np.ndarray,
        phone: capsule.CapsuleParams,
    ) -> tuple[Tensor, Tensor]:
        colour = filters.fold(stage.response(pa), mic)
        # The limiter's gain is a property of the programme, so `fed` and `dry` need a transform each.
        legs = [response, *(venue.response(there, pa, self.bank) for there in venue.route(place)[1:])]
        shaped = [
            [_capsules(filters.fold(part, colour), phone, leg) for part in (leg.kernel, leg.late)] for leg in legs
        ]
        wet = venue.through(fed, shaped, place)
        first = [[_capsules(part, phone, leg) for part in (leg.early, leg.early_late)] for leg in legs]
        early = venue.through(dry, first, place)
        return wet, early

    def _around(
        self,
        near: np.ndarray,
        field_bus: np.ndarray,
        noise: np.ndarray,
        response: venue.Response,
        people: crowd.CrowdParams,
        mic: np.ndarray,
        phone: capsule.CapsuleParams,
        device: torch.device,
    ) -> Tensor:
        """Crowd and handling at the capsules: (2, 2, T). The room's diffuse tail answers the field more than the
        neighbours; the hand touches the phone itself."""
        tail = np.stack([response.late[0, 0], response.late[1, 1]])
        tail = filters.fold(tail / np.sqrt(np.square(tail).sum(axis=-1, keepdims=True) + 1e-12), mic)
        direct = np.zeros((2, filters.LEAD + 1), np.float32)
        direct[:, filters.LEAD] = 1.0
        wet = 10 ** (people.reverb_db / 20)
        sends = np.stack([near + field_bus, field_bus + np.float32(10 ** (-NEARER_DB / 20)) * near, noise])
        kernels = [filters.fold(direct, mic), tail * np.float32(wet), mic]
        heard = filters.convolve_each(torch.from_numpy(sends).to(device), kernels, [filters.LEAD, filters.LEAD, 0])
        around = torch.stack([heard[0] + heard[1], heard[2]])
        return around[:, :1].expand(-1, 2, -1).clone() if phone.capsules == 1 else around


def _normalise(stems: Tensor) -> Tensor:
    """(4, 2, T) with its sum at MUSIC_RMS while it plays; at most +40 dB, so silence stays silence."""
    rms = filters.active_rms(stems.sum(dim=0))
    return stems * min(MUSIC_RMS / rms, 100.0) if rms > 0 else stems


def _capsules(kernel: np.ndarray, phone: capsule.CapsuleParams, heard: venue.Response) -> np.ndarray:
    """A phone with one capsule hears the same in both channels: what arrives without delay."""
    return kernel[:, [heard.nearest, heard.nearest]] if phone.capsules == 1 else kernel


def _crowd_gain(people: Tensor, mute: np.ndarray, snr_db: float) -> float:
    """Gain for the SNR asked for over the time in which music plays (over all of it where none does)."""
    playing = mute > 0.5
    level = measures.rms(people, playing if playing.any() else None)
    return MUSIC_RMS * 10 ** (-snr_db / 20) / level if level > 1e-9 else 0.0
