"""What a report tells to expect: figures of captures like the recording, with their number."""

import json

import pytest

from resonate.errors import UserError
from resonate.evaluate.expected import summarise
from resonate.restore.expected import EXPECTED, class_of, expected


def suite(gains):
    rows = []
    for n, gain in enumerate(gains):
        facts = {"recording": f"c{n}", "song": "a", "severity": 0.5}
        rows.append(facts | {"system": "input", "values": {"f_sdr": -2.0}})
        rows.append(facts | {"system": "resonate extend", "values": {"f_sdr": -2.0 + gain}})
    return {"rows": rows, "weights": {"restorer.safetensors": "ab"}, "command": "x"}


def capture(snr_db, song="a"):
    return {"song": song, "severity": 0.5, "measures": {"snr_db": snr_db, "c80_db": 8.0}}


def test_the_classes_meet_at_their_bounds():
    assert [class_of("crowd", v) for v in (-5, 0.99, 1, 6.9, 7, 14, 40)] == [0, 0, 1, 1, 2, 3, 3]


def test_median_and_quartiles_of_captures_of_the_class_alone(tmp_path):
    truth = {f"c{n}": capture(3.0 if n < 5 else 20.0) for n in range(8)}
    path = tmp_path / "expected.json"
    path.write_text(json.dumps(summarise(suite([1, 2, 3, 4, 5, 90, 90, 90]), truth)))
    diagnosis = {"silent": False, "clean": False, "music_to_crowd_db": 4.0, "room": {"clarity_db": None}}
    told = expected(diagnosis, "extend", {"restorer": {"sha256": "ab"}}, path)
    assert told["same_weights"] is True and len(told["classes"]) == 1
    assert told["classes"][0]["captures"] == 5
    assert told["classes"][0]["change"]["f_sdr"] == {"median": 3.0, "lower": 2.0, "upper": 4.0}
    assert "5 simulated test captures" in told["words"][0] and "+3.0 dB" in told["words"][0]
    other = expected(diagnosis, "extend", {"restorer": {"sha256": "cd"}}, path)
    assert other["same_weights"] is False and "earlier weights" in other["words"][-1]
    assert expected(diagnosis | {"music_to_crowd_db": 30.0}, "extend", {}, path)["words"][0].count("too few") == 1


def test_nothing_is_promised_where_nothing_was_measured(tmp_path):
    diagnosis = {"silent": False, "clean": False, "music_to_crowd_db": 4.0, "room": {"clarity_db": 3.0}}
    assert expected(diagnosis, "extend", {}, tmp_path / "none.json") is None
    assert expected(diagnosis | {"finished": True}, "extend", {}) is None
    assert expected({"silent": True}, "extend", {}) is None
    with pytest.raises(UserError, match="c0"):
        summarise(suite([1]), {})
    with pytest.raises(UserError, match="c0"):
        summarise(suite([1]), {"c0": capture(3.0, song="another")})


def test_the_shipped_figures_name_their_captures():
    classes = json.loads(EXPECTED.read_text())["classes"]
    for axis in ("crowd", "clarity"):
        assert sum(found["extend"]["captures"] for found in classes[axis] if found) == 24


def test_the_shipped_figures_are_of_the_shipped_weights():
    lines = (EXPECTED.parent / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    measured = json.loads(EXPECTED.read_text())["weights"]
    assert measured == {name: sums[f"{name}.safetensors"] for name in ("separator", "restorer")}
