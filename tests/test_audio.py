"""The audio door: exact lengths and clocks for every container, honest files, resampling without delay."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from restoring import music

from resonate import audio
from resonate.audio_wav import RIFF_LIMIT, WavWriter, wav_header
from resonate.restore.config import RestoreConfig
from resonate.restore.prepare import Ingest
from resonate.restore.work import Models, Work

N = 50_000


def lag_of(y: np.ndarray, x: np.ndarray) -> int:
    """Samples by which `y` comes after `x`, from the peak of their cross-correlation."""
    size = 1 << 17
    c = np.fft.irfft(np.fft.rfft(y, size) * np.fft.rfft(x, size).conj())
    at = int(np.argmax(c))
    return at - size if at > size // 2 else at


def broadband(n: int = N, channels: int = 2) -> np.ndarray:
    noise = 0.3 * np.random.default_rng(1).standard_normal((channels, n))
    return np.stack([np.convolve(row, np.ones(8) / 8, "same") for row in noise]).astype(np.float32)


def test_a_title_that_is_not_utf8_is_no_reason_to_refuse_the_sound(tmp_path):
    path = tmp_path / "x.wav"
    audio.encode(path, broadband(), 44100, "pcm_s16le", 0)
    title = b"INFOINAM\x06\0\0\0Caf\xe9\0\0"
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(b"LIST" + len(title).to_bytes(4, "little") + title)
        size = file.tell() - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))
    assert audio.read(path).samples.shape == (2, N)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        ("m4a", "aac", 48000),
        ("m4a", "aac", 44100),
        ("mp4", "aac", 44100),
        ("mov", "aac", 48000),
        ("3gp", "aac", 44100),
        ("mp3", "libmp3lame", 44100),
        ("opus", "libopus", 48000),
        ("ogg", "libopus", 48000),
        ("webm", "libopus", 48000),
        ("m4a", "alac", 44100),
        ("flac", "flac", 44100),
        ("wav", "pcm_s16le", 44100),
        ("wav", "pcm_s24le", 96000),
        ("wav", "pcm_u8", 8000),
        ("ogg", "flac", 44100),
        ("caf", "alac", 44100),
    ],
)
def test_encoded_files_come_back_with_their_length_and_on_their_clock(tmp_path, suffix, codec, rate):
    x = broadband()
    path = tmp_path / f"x.{suffix}"
    audio.encode(path, x, rate, codec, 160_000)
    y = audio.read(path)
    assert y.rate == rate and y.samples.dtype == np.float32
    assert y.samples.shape == x.shape
    assert lag_of(y.samples[0], x[0]) == 0
    source = y.source
    assert source.decoded == N + source.trimmed_start + source.trimmed_end


def test_without_edit_list_all_samples_are_kept_and_it_says_so(tmp_path):
    path = tmp_path / "x.aac"
    audio.encode(path, broadband(), 44100, "aac")
    y = audio.read(path)
    assert y.samples.shape[1] == y.source.decoded == 51_200 and not y.source.has_edit_list
    assert any("all decoded samples" in note for note in y.source.notes)


@pytest.mark.parametrize("cut", [4096, 5000, 12345])
def test_an_edit_list_may_begin_inside_a_coded_frame_and_end_early(tmp_path, cut):
    x = broadband(channels=1)
    path = tmp_path / "x.m4a"
    audio.encode(path, x, 48000, "aac", 160_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    _, count, _, media_time = struct.unpack_from(">IIIi", data, at)
    assert count == 1 and media_time == 1024
    struct.pack_into(">Ii", data, at + 8, 500, 1024 + cut)
    path.write_bytes(data)
    y = audio.read(path)
    assert y.source.has_edit_list and y.samples.shape == (1, 24_000)
    assert y.source.trimmed_start == 1024 + cut
    assert lag_of(y.samples[0, 2000:], x[0, cut : cut + 24_000]) == -2000


def test_start_and_duration_cut_to_the_sample(tmp_path):
    x = broadband()
    audio.write(tmp_path / "x.wav", x, 44100)
    y = audio.read(tmp_path / "x.wav", start=0.25, duration=0.5).samples
    assert np.array_equal(y, x[:, 11_025 : 11_025 + 22_050])
    with pytest.raises(audio.AudioError, match=r"before the start at 9 s"):
        audio.read(tmp_path / "x.wav", start=9)


def test_stream_and_probe_agree_with_read(tmp_path):
    path = tmp_path / "x.m4a"
    audio.encode(path, broadband(), 44100, "aac")
    blocks = list(audio.stream(path))
    assert len(blocks) > 10 and np.array_equal(np.concatenate(blocks, 1), audio.read(path).samples)
    source = audio.probe(path)
    assert (source.codec, source.rate, source.channels, source.expected) == ("aac", 44100, 2, N)


@pytest.mark.parametrize(
    "rates", [(48000, 44100), (44100, 48000), (8000, 44100), (96000, 44100), (44100, 22050), (11025, 48000)]
)
def test_resampling_keeps_clock_and_level(rates):
    rate_in, rate_out = rates
    n = 30_001
    t_in = np.arange(n) / rate_in
    tone = 0.15 * rate_in if rate_in < rate_out else 0.15 * rate_out
    x = (0.5 * np.sin(2 * np.pi * tone * t_in)).astype(np.float32)
    y = audio.resample(x, rate_in, rate_out)
    assert len(y) == round(n * rate_out / rate_in)
    t_out = np.arange(len(y)) / rate_out
    inside = slice(len(y) // 10, -len(y) // 10)
    assert np.abs(y - 0.5 * np.sin(2 * np.pi * tone * t_out))[inside].max() < 1e-5


def test_streamed_resampling_equals_resampling_at_once():
    x = broadband()
    resampler = audio.Resampler(44100, 48000, 2)
    parts = [resampler.push(x[:, a : a + 7001], last=a + 7001 >= N) for a in range(0, N, 7001)]
    y, whole = np.concatenate(parts, 1), audio.resample(x, 44100, 48000)
    n = min(y.shape[1], whole.shape[1])
    assert abs(y.shape[1] - whole.shape[1]) <= 1 and np.abs(y[:, :n] - whole[:, :n]).max() < 1e-6


def test_float_is_never_clipped_and_comes_back_bit_by_bit(tmp_path):
    x = 3 * broadband()
    audio.write(tmp_path / "x.wav", x, 44100)
    assert np.array_equal(soundfile.read(tmp_path / "x.wav", dtype="float32")[0].T, x)
    assert np.array_equal(audio.read(tmp_path / "x.wav").samples, x)


@pytest.mark.parametrize(
    ("suffix", "subtype", "step"),
    [(".wav", "PCM_24", 2**-23), (".wav", "PCM_16", 2**-15), (".flac", "PCM_24", 2**-23), (".flac", "PCM_16", 2**-15)],
)
def test_pcm_is_exact_to_half_a_step_and_refuses_overs(tmp_path, suffix, subtype, step):
    x = np.clip(broadband(), -1, 1)
    x[0, :2] = 1.0, -1.0
    path = tmp_path / f"x{suffix}"
    audio.write(path, x, 44100, subtype)
    info = soundfile.info(path)
    assert (info.subtype, info.frames, info.channels) == (subtype, N, 2)
    error = np.abs(soundfile.read(path, dtype="float64")[0].T - x)
    assert error[0, 0] <= step and error[:, 2:].max() <= step / 2 * 1.001
    with pytest.raises(ValueError, match="do not fit"):
        audio.write(tmp_path / f"over{suffix}", x * 1.01, 44100, subtype)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "x.wav"
    audio.write(path, broadband(), 44100)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="NaN"):
        audio.write(path, np.full((2, 100), np.nan, np.float32), 44100)
    with pytest.raises(ValueError, match="announced"), WavWriter(path, 44100, 2, 100) as writer:
        writer.write(np.zeros((2, 99), np.float32))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_above_four_gigabytes_the_header_is_rf64(tmp_path):
    frames = RIFF_LIMIT // 8
    assert wav_header(48000, 2, frames, "FLOAT").startswith(b"RIFF")
    head = wav_header(48000, 2, frames + 1, "FLOAT")
    assert head.startswith(b"RF64") and b"ds64" in head
    # A sparse file: the size is real, the samples are holes.
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + (frames + 1) * 8)
    info = soundfile.info(path)
    assert (info.format, info.frames, info.samplerate, info.channels) == ("RF64", frames + 1, 48000, 2)
    assert audio.probe(path).expected == frames + 1


def test_more_channels_are_mixed_down_as_stated():
    x = np.zeros((6, 10), np.float32)
    for k in range(6):
        x[k] = 1.0
    y, note = audio.to_stereo(x)
    assert y.shape == (2, 10) and np.allclose(y, 1.0) and "FL FR FC LFE BL BR" in note
    only_low = np.zeros((6, 4), np.float32)
    only_low[3] = 1
    assert not audio.to_stereo(only_low)[0].any()
    only_left = np.zeros((6, 4), np.float32)
    only_left[0] = 1
    left, right = audio.to_stereo(only_left)[0]
    assert left.min() > 0.4 and not right.any()
    mono, note = audio.to_stereo(np.ones((1, 3), np.float32))
    assert mono.shape == (2, 3) and "mono" in note
    same = music(0.1, 8000)
    assert audio.to_stereo(same)[0] is same


def mux(path, *tracks: tuple[str, str, np.ndarray], rate: int = 48000) -> None:
    """Write a container with several sound tracks: (codec, FFmpeg's name of the layout, (channels, time))."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=rate, layout=layout) for codec, layout, _ in tracks]
        for stream, (_, layout, x) in zip(streams, tracks, strict=True):
            if not stream.codec_context.is_open:
                stream.codec_context.open()
            size = stream.codec_context.frame_size
            resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=size)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_track_that_cannot_be_decoded_is_passed_over(suffix, tmp_path):
    """As newer phones write them: stereo AAC beside four channels in a format that is the maker's own."""
    path = tmp_path / f"x.{suffix}"
    mux(path, ("aac", "4.0", broadband(96_000, 4)), ("aac", "stereo", broadband(40_000)))
    data = bytearray(path.read_bytes())
    track = data.index(b"moov")
    for box, other in ((b"mp4a", b"apac"), (b"esds", b"dapa")):
        at = data.index(box, data.index(b"stsd", track))
        data[at : at + 4] = other
    if suffix == "mov":  # which names the codec once more
        for _ in range(2):
            at = data.index(b"mp4a", track)
            data[at : at + 4] = b"apac"
    path.write_bytes(data)
    y = audio.read(path)
    assert y.samples.shape == (2, 40_000) and y.source.notes == ["2 sound tracks; track 1 is used"]
    path.write_bytes(data.replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    with pytest.raises(audio.AudioError, match="a format that cannot be decoded"):
        audio.read(path)


def test_of_several_tracks_the_edit_list_of_the_chosen_one_counts(tmp_path):
    path = tmp_path / "x.mp4"
    mux(path, ("aac", "mono", broadband(30_000, 1)), ("aac", "stereo", broadband(40_000)))
    data = bytearray(path.read_bytes())
    data[data.index(b"tkhd") + 7] = 2  # the first track is in the film, but not switched on
    path.write_bytes(data)
    y = audio.read(path)
    assert y.samples.shape == (2, 40_000) and y.source.expected == 40_000
    assert y.source.notes == ["2 sound tracks; track 1 is used"]


def lit(channels: int, k: int) -> np.ndarray:
    """(channels, N) with sound in channel k alone."""
    x = np.zeros((channels, N), np.float32)
    x[k] = broadband(channels=1)[0]
    return x


@pytest.mark.parametrize(
    ("layout", "suffix", "codec", "names", "lit_channel", "sides"),
    [
        ("4.0", "m4a", "aac", "FL FR FC BC", 2, (1, 1)),
        ("4.0", "m4a", "aac", "FL FR FC BC", 3, (1, 1)),
        ("quad", "wav", "pcm_s16le", "FL FR BL BR", 2, (1, 0)),
        ("2.1", "wav", "pcm_s16le", "FL FR LFE", 2, (0, 0)),
        ("5.1(side)", "wav", "pcm_s16le", "FL FR FC LFE SL SR", 5, (0, 1)),
    ],
)
def test_channels_are_mixed_down_by_their_names(layout, suffix, codec, names, lit_channel, sides, tmp_path):
    path = tmp_path / f"x.{suffix}"
    mux(path, (codec, layout, lit(len(names.split()), lit_channel)))
    config = RestoreConfig(device="cpu")
    work = Work(path, tmp_path, tmp_path, config, Models(config))
    assert Ingest().run(work)["layout"] == names
    assert any(f"taken as {names}, mixed down" in note for note in work.notes)
    level = np.abs(work.track["input"].read(0, N)).max(1)
    work.close()
    assert ((level > 0.02) == np.array(sides, bool)).all()
    if sides == (1, 1):
        assert level[0] == pytest.approx(level[1], rel=1e-3)


def test_channels_without_a_known_place_go_by_their_number():
    x = np.abs(broadband(50, 3))
    for layout in ("", "FL FR", "FL FR TFC", "FL BL SL"):
        np.testing.assert_array_equal(audio.to_stereo(x, layout)[0], audio.to_stereo(x)[0])
        assert "taken as FL FR FC" in audio.to_stereo(x, layout)[1]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp3", "libmp3lame"), ("mkv", "aac"), ("webm", "libopus"), ("flac", "flac"),
                          ("aiff", "pcm_s16be")],
)  # fmt: skip
def test_how_much_of_a_cut_recording_was_decoded_is_said(suffix, codec, tmp_path):
    path = tmp_path / f"x.{suffix}"
    audio.encode(path, broadband(192_000), 48000, codec)
    assert not any("could be decoded" in note for note in audio.read(path).source.notes)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    (note,) = (note for note in audio.read(path).source.notes if "could be decoded" in note)
    decoded, stated = (float(word) for word in note.split() if word.replace(".", "").isdigit())
    assert 2.2 < decoded < 2.5 and stated == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x20\0" + bytes(4096)])
def test_a_guessed_length_is_no_statement(tag, tmp_path):
    """The bit rate of the first frames says little about the length of what comes after."""
    path = tmp_path / "x.mp3"
    audio.encode(path, np.zeros((2, 96_000), np.float32), 48000, "libmp3lame", 320_000)
    data = path.read_bytes()
    at = max(data.find(b"Xing"), data.find(b"Info"))
    counted, silent = bytearray(data), bytearray(data)
    counted[at + 8 : at + 12] = (1000).to_bytes(4, "big")
    silent[at : at + 4] = bytes(4)
    path.write_bytes(tag + counted)
    assert any("of the 24.0 s that the file states" in note for note in audio.read(path).source.notes)
    path.write_bytes(tag + silent + bytes(len(data)))
    y = audio.read(path)
    assert y.source.expected > 1.5 * y.samples.shape[1]
    assert not any("could be decoded" in note for note in y.source.notes)


def test_hash_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert audio.sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
