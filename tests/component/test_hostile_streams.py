"""Attacks of millions of bytes on one connection, beside good calls on another.

Each attack lasts HOSTILE_SECONDS, 2 by default: `make hostile SECONDS=60` takes longer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from select import select
from threading import Event

import pytest

from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.attacks import FLOODS, MADE_RESETS, ON_ALL_LIMITS, Attack
from tests.fakes.scripted.process import CHART_BYTES, ScriptedStage, scripted

MIB = 1 << 20
LEFT_BYTES = 128 * MIB  # more than at first that may stay, a minute after the attack
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "2"))
HELD_S = 0.3  # a server that takes nothing for so long has stopped reading
MAX_HELD = 8  # connections that are not read from

# grpc.aio, the reference, has no setting that would hold these attacks: it counts the metadata of each call and not of
# all (3 GB in 2 s), keeps the answers of 4,096 calls (10 GB), and does not give all of it back.
SERVER = "http2"


class Running:
    """A stage for many attacks, restarted after one that has left its memory large."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._open = folder, ExitStack()
        self._stage: ScriptedStage | None = None

    def stage(self) -> ScriptedStage:
        if self._stage is None or self._stage.resident_bytes() > CHART_BYTES // 2:
            self.close()
            self._stage = self._open.enter_context(scripted(SERVER, self._folder, connection_age_s=0))
            self._stage.infer()
        return self._stage

    def close(self) -> None:
        self._stage = None
        self._open.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


def attack(stage: ScriptedStage, made: Attack, over: Event) -> int:
    """Send until the time is over, and return the number of bytes that the server took.

    A new connection replaces one that was closed, or that the server no longer reads.
    """
    sent = 0
    with ExitStack() as held:
        for _ in range(MAX_HELD):
            while not over.is_set():
                try:
                    connection = held.enter_context(stage.connect(HELD_S))
                    for size in send(connection, made):
                        sent += size
                        if over.is_set():
                            return sent
                except TimeoutError:
                    break
                except OSError:
                    connection.close()
        over.wait()
    return sent


def send(connection: socket.socket, made: Attack) -> Iterator[int]:
    """Size of each piece that the server took. Raises `OSError` if the connection is closed."""
    for piece in made.pieces():
        connection.sendall(piece)
        yield len(piece)
        while made.reads and select([connection], [], [], 0)[0]:
            if not connection.recv(1 << 16):
                raise OSError("closed")


def beside(stage: ScriptedStage, end: float) -> int:
    """Send good calls until the time is over, and return their number. Fail once memory exceeds its limit."""
    good = 0
    while time.monotonic() < end:
        stage.infer(timeout=30)
        assert stage.peak_bytes() < CHART_BYTES
        good += 1
        time.sleep(0.01)
    return good


@pytest.mark.timeout(180 + 2 * SECONDS)
@pytest.mark.parametrize("name", [*FLOODS, *MADE_RESETS])
def test_an_attack_takes_little_memory_and_no_call_of_others(name: str, running: Running) -> None:
    under(running.stage(), name)


@pytest.mark.timeout(180 + 2 * SECONDS)
def test_attacks_on_all_limits_together_take_less_than_a_stage_has(running: Running) -> None:
    under(running.stage(), *ON_ALL_LIMITS)


def under(stage: ScriptedStage, *names: str) -> None:
    """Make good calls while these attacks run."""
    over, end = Event(), time.monotonic() + SECONDS
    Path(f"/proc/{stage.part.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = stage.resident_bytes()
    with ThreadPoolExecutor(len(names)) as attackers:
        attacking = [attackers.submit(attack, stage, {**FLOODS, **MADE_RESETS}[name], over) for name in names]
        try:
            good = beside(stage, end)
        finally:
            over.set()
        sent = [each.result() for each in attacking]
    stage.infer(timeout=30)
    peak = stage.peak_bytes()
    print(f"{stage.server}, {', '.join(names)}: {sum(sent) / MIB:.1f} MiB sent, {good} good calls")
    print(f"{before // MIB} MiB before, peak {peak // MIB} MiB, {stage.resident_bytes() // MIB} MiB at its end")
    assert all(sent)
    assert peak < CHART_BYTES
    wait_for(lambda: stage.resident_bytes() < before + LEFT_BYTES, "memory has come back", timeout_s=60)
    print(f"{stage.resident_bytes() // MIB} MiB left")
