"""What a restoration must not depend on: how many threads compute, and whether there is a network."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from restoring import music, weights_arguments

from resonate import audio
from resonate.restore.command import main


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("machine") / "x.wav"
    audio.write(path, music(1.2, 44100), 44100)
    return path


def test_threads_change_no_byte(recording, tmp_path):
    found = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        words = [str(recording), "-o", str(folder), f"threads={threads}", "device=cpu", *weights_arguments()]
        assert main(words) == 0
        found.append({p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.wav")})
    assert len(found[0]) > 10 and found[0].keys() == found[1].keys()
    assert [name for name, content in found[0].items() if content != found[1][name]] == []


def test_a_restoration_asks_for_no_network(recording, tmp_path, monkeypatch):
    asked = []

    def refuse(*words, **more):
        asked.append(words)
        raise OSError("there is no network")

    for owner, name in (
        (socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "create_connection"),
        (socket, "getaddrinfo"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    assert main([str(recording), "-o", str(tmp_path), "threads=1", "device=cpu", *weights_arguments()]) == 0
    assert (tmp_path / "x" / "report.html").is_file() and not asked
