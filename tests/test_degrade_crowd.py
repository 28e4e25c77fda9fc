"""The crowd: scenes that follow the music, sing-along from the vocals, and voices that sound like people."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import butter, correlate, sosfilt, welch

from resonate import RATE, audio
from resonate.degrade import Bank, choir, claps, crowd, gaps, places, programme, scene, speech, voices

EMPTY = {
    "layers": [],
    "talkers": 0,
    "neighbours": [],
    "cheerers": 0,
    "clappers": 0,
    "events": [],
    "sing_along_voices": 0,
}


def drawn(**changes) -> crowd.CrowdParams:
    """An empty scene with some of it filled in."""
    return replace(crowd.sample(np.random.default_rng(1), 0.5, 8.0), **(EMPTY | changes))


def beat_music(bpm: float, seconds: float = 8.0, first: float = 0.13) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(0)
    kick = rng.standard_normal(len(t)) * np.exp(-((t - first) % (60 / bpm)) * 40) * (t > first)
    return (0.3 * kick + 0.05 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)


def heard(n: int, mute: np.ndarray | None = None, music: np.ndarray | None = None) -> programme.Programme:
    mute = np.ones(n, np.float32) if mute is None else mute
    return programme.analyse((np.full(n, 0.1, np.float32) if music is None else music) * mute, mute)


def envelope(x: np.ndarray, hz: int = 100) -> np.ndarray:
    """RMS of (..., n) per 1 / hz s, over channels."""
    mono = np.atleast_2d(x)
    step = RATE // hz
    frames = mono[:, : mono.shape[1] // step * step].reshape(len(mono), -1, step)
    return np.sqrt(np.square(frames).mean(axis=(0, 2)))


def octave_db(x: np.ndarray, hz: float) -> float:
    """Mean power density in the octave around hz over that around 1 kHz, in dB."""
    freqs, power = welch(np.atleast_2d(x).mean(axis=0), RATE, nperseg=4096)
    level = [power[(freqs > f / 2**0.5) & (freqs < f * 2**0.5)].mean() for f in (hz, 1000.0)]
    return float(10 * np.log10(level[0] / level[1]))


@pytest.mark.parametrize("bpm", [100.0, 124.0, 140.0])
def test_beats_of_the_music_are_found(bpm):
    times, clarity = programme.find_beats(beat_music(bpm))
    assert clarity > 4.0
    assert np.diff(times).mean() == pytest.approx(60 / bpm, rel=0.01)
    off = (times - 0.13 + 0.5 * 60 / bpm) % (60 / bpm) - 0.5 * 60 / bpm
    assert np.abs(off).max() < 0.06


def test_noise_has_no_beat():
    noise = np.random.default_rng(3).standard_normal(8 * RATE).astype(np.float32)
    assert len(programme.find_beats(noise)[0]) == 0
    assert len(programme.find_beats(np.zeros(8 * RATE, np.float32))[0]) == 0


def test_clapping_along_follows_the_tempo_of_the_music():
    music = beat_music(110.0)
    params = drawn(clappers=40, on_beat=True, beat_every=1, beat_first=0, applause_db=0.0, spread_m=8.0)
    _, field = scene.render(params, heard(len(music), music=music), np.zeros(len(music), np.float32), Bank())
    found, clarity = programme.find_beats(field.mean(axis=0))
    assert clarity > 4.0 and np.diff(found).mean() == pytest.approx(60 / 110, rel=0.01)
    # A crowd claps a little late: sound takes 3 ms a metre.
    beats = scene.clap_times(params, heard(len(music), music=music))
    late = [envelope(field)[int(b * 100) : int(b * 100) + 20].argmax() for b in beats[1:-1]]
    assert 0 <= np.median(late) <= 6
    half = replace(params, beat_every=2)
    assert len(scene.clap_times(half, heard(len(music), music=music))) in {len(beats) // 2, (len(beats) + 1) // 2}


def test_applause_swells_in_gaps_and_at_the_end_only():
    n = 9 * RATE
    mute = gaps.mute_curve([[5.0, 9.0]], [[0.1, 0.0]], n)
    params = drawn(clappers=60, on_beat=False, applause_db=0.0, gap_boost_db=18.0, drop_boost_db=0.0)
    _, field = scene.render(params, heard(n, mute), np.zeros(n, np.float32), Bank())
    loud = 20 * np.log10(envelope(field, 10) + 1e-9)
    before, after = loud[10:45].mean(), loud[65:].mean()
    assert after - before == pytest.approx(18.0, abs=3.0)
    # It takes a moment to rise, and somebody who claps along applauds in the gap, too.
    assert loud[51] < after - 4.0
    along = replace(params, on_beat=True, beat_hz=2.0)
    _, field = scene.render(along, heard(n, mute), np.zeros(n, np.float32), Bank())
    beats = scene.clap_times(along, heard(n, mute))
    assert beats.max() < 5.1 and envelope(field, 10)[70:].mean() > 0.3


def test_quiet_stretches_bring_out_talk_and_drops_bring_cheers():
    n = 12 * RATE
    music = 0.2 * np.random.default_rng(0).standard_normal(n).astype(np.float32)
    music[4 * RATE : 8 * RATE] *= 0.05
    params = drawn(quiet_boost_db=6.0, drop_boost_db=9.0, gap_boost_db=0.0)
    mood = scene.activity(params, programme.analyse(music, np.ones(n, np.float32)))
    assert mood["talk"][50:180].max() < 0.5 and mood["talk"][300:390].max() > 5.0
    assert mood["cheer"][50:380].max() < 0.5 and mood["cheer"][400:460].max() > 6.0


def test_sing_along_follows_the_vocals_late():
    t = np.arange(4 * RATE) / RATE
    rng = np.random.default_rng(0)
    vocals = (0.1 * rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 0.7 * t) > 0)).astype(np.float32)
    found = {}
    for late_ms in (40.0, 180.0):
        params = drawn(sing_along_voices=10, sing_along_late_ms=late_ms)
        _, field = scene.render(params, heard(len(t)), vocals, Bank())
        a, b = envelope(field), envelope(vocals)
        match = correlate(a - a.mean(), b - b.mean(), mode="full")
        found[late_ms] = (int(match.argmax()) - (len(b) - 1)) * 10.0
        assert match.max() / (len(a) * a.std() * b.std()) > 0.6
    assert 10.0 <= found[40.0] <= 90.0 and 120.0 <= found[180.0] <= 240.0


def test_singers_are_detuned_by_the_cents_asked_for_and_wide():
    t = np.arange(4 * RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    spread = {}
    for cents in (10.0, 60.0):
        y = choir.sing_along(np.random.default_rng(4), tone, 16, 60.0, cents)
        freqs, power = welch(y.mean(axis=0)[RATE // 2 :], RATE, nperseg=1 << 16)
        near = (freqs > 380) & (freqs < 510)
        off = 1200 * np.log2(freqs[near] / 440)
        centre = (power[near] * off).sum() / power[near].sum()
        spread[cents] = np.sqrt((power[near] * np.square(off - centre)).sum() / power[near].sum())
    assert spread[60.0] > 1.4 * spread[10.0] and spread[10.0] < 45.0
    assert np.corrcoef(y)[0, 1] < 0.95
    below = (freqs > 190) & (freqs < 250)
    assert power[below].sum() > 1e-3 * power[near].sum()  # somebody sings an octave lower


def test_babble_has_syllables_pauses_and_the_spectrum_of_speech():
    n = 12 * RATE
    one = speech.talk(np.random.default_rng(2), n)
    level = envelope(sosfilt(butter(2, [300, 3000], "bandpass", fs=RATE, output="sos"), one))
    assert 0.1 < np.mean(level < 0.02 * level.max()) < 0.75  # pauses
    rate, power = welch(level - level.mean(), 100, nperseg=512)
    assert power[(rate > 1.5) & (rate < 8)].sum() > 3 * power[rate > 10].sum()  # syllables
    for people in (6, 40):
        many = voices.babble(np.random.default_rng(5), people, n)
        assert many.shape == (2, n) and np.corrcoef(many)[0, 1] < 0.98
        # Recorded cafes: about +6, -5, -12, -22 dB.
        assert -4 < octave_db(many, 250) < 12 and -16 < octave_db(many, 2000) < 1
        assert -24 < octave_db(many, 4000) < -5 and octave_db(many, 8000) < -11
    pitch = correlate(one, one, mode="full", method="fft")[n - 1 :]
    assert pitch[80:600].max() > 0.3 * pitch[0]  # voiced


def test_cheering_lies_around_one_kilohertz_and_grows_dense_with_people():
    n = 6 * RATE
    few, many = (voices.cheering(np.random.default_rng(3), people, n) for people in (4, 60))
    for sound in (few, many):
        assert octave_db(sound, 125) < -12 and -14 < octave_db(sound, 2000) < 2 and octave_db(sound, 8000) < -15
    depth = [envelope(x).std() / envelope(x).mean() for x in (few, many)]
    assert depth[1] < depth[0]


def test_applause_is_impulsive_for_few_and_smooth_for_many():
    n = 6 * RATE
    crest = []
    for people in (5, 250):
        sound = claps.applause(np.random.default_rng(4), people, n)[0]
        crest.append(float(np.mean(sound**4) / np.mean(sound**2) ** 2))
        assert octave_db(sound, 4000) < 0 and octave_db(sound, 16000) < -20
    assert crest[0] > 3 * crest[1] > 6.0


def test_screams_are_harmonic_rough_and_high_whistles_nearly_pure():
    for seed in range(4):
        scream = voices.event(np.random.default_rng(seed), "scream")
        power = np.square(np.abs(np.fft.rfft(scream * np.hanning(len(scream)))))
        freqs = np.fft.rfftfreq(len(scream), 1 / RATE)
        assert power[(freqs > 500) & (freqs < 5000)].sum() > 0.85 * power.sum()
        assert 0.3 < len(scream) / RATE < 2.1 and np.abs(scream).max() == pytest.approx(1.0)
        whistle = voices.event(np.random.default_rng(seed), "whistle")
        assert octave_db(whistle, 500) < octave_db(whistle, 2800) - 10
    with pytest.raises(ValueError, match="one of"):
        voices.event(np.random.default_rng(0), "sneeze")


def test_a_neighbour_comes_from_one_side_first_and_then_from_around():
    click = np.zeros(4000, np.float32)
    click[100] = 1.0
    where = places.Place(position=-1.0, distance_m=3.0, facing=1.0)
    y = places.place(np.random.default_rng(0), click, where)
    first = [int(np.flatnonzero(np.abs(c) > 0.2)[0]) for c in y]
    assert first[0] == 100 and 10 <= first[1] - first[0] <= 20
    assert np.square(y[0, 100]) > np.square(y[1, first[1]])
    late = np.square(y[:, 100 + 60 :]).sum()
    assert 0.005 < late / np.square(y).sum() < 0.5 and np.abs(y[:, :100]).max() == 0.0
    away = places.place(np.random.default_rng(0), click, where._replace(facing=0.0))
    assert abs(away[0, 100]) < 0.5 * y[0, 100]


def test_events_and_neighbours_are_where_and_when_they_were_put():
    n = 4 * RATE
    talk = crowd.Neighbour(level_db=0.0, position=0.5, distance_m=1.0, effort=0.5, start_s=0.5, end_s=1.5)
    params = drawn(neighbours=[talk], events=[crowd.Event("scream", 2.5, 12.0, -0.5)])
    near, field = scene.render(params, heard(n), np.zeros(n, np.float32), Bank())
    level = envelope(near)
    assert field.max() == 0.0 and level[:50].max() == 0.0 and level[155:249].max() == 0.0
    assert level[50:150].mean() > 0.3 and level[255:280].max() > 1.0


def test_a_part_less_leaves_the_others_as_they_are():
    n = 2 * RATE
    both = drawn(clappers=20, on_beat=False, events=[crowd.Event("whoop", 0.2, 10.0, 0.0)])
    one = replace(both, clappers=0)
    near = [scene.render(p, heard(n), np.zeros(n, np.float32), Bank())[0] for p in (both, one)]
    assert np.array_equal(*near)


def test_recordings_are_used_by_what_they_hold(tmp_path):
    assert crowd.label("crowd/stk_applause.ogg") == "applause"
    assert crowd.label("crowd/a.ogg", "g", "goal in a stadium") == "cheer"
    assert crowd.label("crowd/uh_tavern.ogg") == "talk" == crowd.label("crowd/007.wav")
    n = 6 * RATE
    noise = np.random.default_rng(0).standard_normal((1, 3 * RATE)).astype(np.float32)
    audio.write(tmp_path / "x.wav", 0.1 * noise, RATE)
    head = "file\tkind\tsplit\tgroup\tlicence\tsource\torigin\tsha256\tnote\n"
    (tmp_path / "bank.tsv").write_text(head + "x.wav\tcrowd\ttrain\tx\tCC0\t-\t-\t-\tgoal\n", encoding="utf-8")
    bank = Bank.load(tmp_path)
    assert bank.items("crowd")[0].note == "goal"
    mute = gaps.mute_curve([[3.0, 6.0]], [[0.05, 0.0]], n)
    swell = {}
    for name in ("cheer", "talk"):
        layer = crowd.Layer("x.wav", 0.2, 1.0, 0.0, 0.3, name)
        params = drawn(layers=[layer], gap_boost_db=15.0, quiet_boost_db=0.0, drop_boost_db=0.0)
        level = 20 * np.log10(envelope(scene.render(params, heard(n, mute), np.zeros(n, np.float32), bank)[1], 10))
        swell[name] = level[45:].mean() - level[5:28].mean()
    assert swell["cheer"] == pytest.approx(15.0, abs=1.5) and swell["talk"] == pytest.approx(6.0, abs=1.0)


def test_every_kind_of_person_comes_in_a_hundred_draws():
    scenes = [crowd.sample(np.random.default_rng(s), 0.7, 8.0, {"a.ogg": "talk"}, 0.3) for s in range(100)]
    for name in ("layers", "talkers", "neighbours", "cheerers", "clappers", "events", "sing_along_voices"):
        share = np.mean([bool(getattr(one, name)) for one in scenes])
        assert 0.1 < share < 0.95, name
    assert {e.kind for one in scenes for e in one.events} == set(voices.EVENTS)
    # Nobody there at all is not a crowd: recordings or talkers always are.
    assert all(one.layers or one.talkers for one in scenes)
    empty = [crowd.sample(np.random.default_rng(s), 0.7, 8.0) for s in range(50)]
    assert all(one.talkers and not one.layers for one in empty)


def test_screams_gather_in_the_gaps():
    pause = [[2.0, 4.0]]
    scenes = [crowd.sample(np.random.default_rng(s), 1.0, 20.0, None, 0.0, pause) for s in range(200)]
    times = [event.time_s for one in scenes for event in one.events]
    assert np.mean([1.4 < time < 4.9 for time in times]) > 0.35


def test_a_sound_shorter_than_the_way_between_two_ears_is_still_panned():
    """What the end of an excerpt leaves of a cheer may be a few samples: the farther side hears nothing of it."""
    out = places.pan(np.ones(9, np.float32), 1.0)
    assert out.shape == (2, 9) and not out[0].any() and (out[1] > 1).all()
