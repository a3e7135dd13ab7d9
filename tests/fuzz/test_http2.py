"""Short run of the HTTP/2 fuzzer, and a check that it finds planted faults."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.fakes.scripted.process import scripted
from tests.fuzz.http2 import EVERY, Finding, Fuzzer, fuzz
from tests.fuzz.http2_frames import changed, recorded, split
from triptych.server import SERVERS

MOST = 1_000  # conversations


@pytest.mark.parametrize("server", sorted(SERVERS))
def test_nearly_right_conversations_cost_nobody_else_a_call(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, connection_age_s=0) as stage:
        done = fuzz(stage, seed=7, seconds=60, most=MOST)
    assert done.good >= done.sent // EVERY > 0


def test_recorded_conversations_are_whole_and_change_in_many_ways(tmp_path: Path) -> None:
    with scripted("grpcio", tmp_path) as stage:
        corpus = recorded(stage.part.address)
    assert all(len(frames) >= 3 for frames in corpus)
    made = {changed(random.Random(seed), corpus) for seed in range(200)}
    assert len(made) > 150


def test_the_fuzzer_finds_a_process_that_has_ended(tmp_path: Path) -> None:
    with scripted("grpcio", tmp_path) as stage:
        fuzzer = Fuzzer(stage, random.Random(1))
        fuzzer.look()
        os.kill(stage.part.pid, signal.SIGKILL)
        with pytest.raises(Finding, match="was not answered"):
            fuzzer.look()


def test_the_fuzzer_finds_a_traceback_and_a_log_that_grows(tmp_path: Path) -> None:
    with scripted("http2", tmp_path) as stage:
        fuzzer = Fuzzer(stage, random.Random(1))
        for line in ("Traceback (most recent call last):\n", "x" * 100_000 + "\n"):
            with stage.part.log.open("a") as log:
                log.write(line)
            with pytest.raises(Finding, match="log"):
                fuzzer.look()


def test_bytes_that_are_no_http2_are_found() -> None:
    with pytest.raises(ValueError, match="kind 99"):
        split(b"\0\0\1" + bytes((99, 0)) + bytes(4) + b"x")
