"""Soak test of a running stage with good and bad clients: flat memory and descriptors, every good call answered.

    python -m tests.fuzz.soak --seconds 3600 --server http2

It prints a line per minute. The exit status is 1 if a good call was lost, or if memory or descriptors grew.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from tritonclient.grpc import service_pb2 as pb

from tests.fakes.scripted.attacks import FLOODS, MADE_RESETS, Attack
from tests.fakes.scripted.frames import PREFACE
from tests.fakes.scripted.process import ScriptedStage, request, scripted
from tests.fuzz.http2_frames import STREAM, Frames, changed, recorded
from triptych.server import SERVERS

MIB = 1 << 20
WARM_UP = 0.2  # of the time, after which nothing grows
RECOVERY_S = 20.0  # without bad clients, before the first measure and before the last
GROWTH_BYTES = 64 * MIB
GROWTH_DESCRIPTORS = 20
CALL_S = 60.0
ATTACK_S = 1.0
SAMPLE_S = 60.0
PAUSE_S = 0.02
TOO_MUCH = {"grpcio": {"references to one large field", "answers that are never read", "calls without a message"}}


@dataclass
class Soak:
    """State shared by all clients."""

    stage: ScriptedStage
    over: threading.Event = field(default_factory=threading.Event)
    resting: threading.Event = field(default_factory=threading.Event)  # bad clients stay away
    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def good(self, name: str, call: Callable[[ScriptedStage], None]) -> None:
        """Repeat one kind of good client."""
        while not self.over.is_set():
            try:
                call(self.stage)
                self.counts[name] += 1
            except (grpc.RpcError, AssertionError) as error:
                self.lost.append(f"{name}: {error}")
            time.sleep(PAUSE_S)

    def bad(self, name: str, harm: Callable[[ScriptedStage], None]) -> None:
        """Repeat one kind of bad client."""
        while not self.over.is_set():
            if self.resting.wait(PAUSE_S):
                time.sleep(PAUSE_S)
                continue
            with suppress(OSError, grpc.RpcError):
                harm(self.stage)
            self.counts[name] += 1

    def measure(self) -> tuple[int, int]:
        """Resident bytes and descriptors of the stage after a pause."""
        self.resting.set()
        self.over.wait(RECOVERY_S)
        process = psutil.Process(self.stage.part.pid)
        found = int(process.memory_info().rss), int(process.num_fds())
        self.resting.clear()
        return found


def small(stage: ScriptedStage) -> None:
    sent = request()
    sent.raw_input_contents.append(random.randbytes(random.randrange(2_000)))
    assert stage.oip.ModelInfer(sent, timeout=CALL_S).raw_output_contents == sent.raw_input_contents


def large(stage: ScriptedStage) -> None:
    sent = request()
    sent.raw_input_contents.append(random.randbytes(MIB // 16) * 32)
    packed = random.choice((grpc.Compression.NoCompression, grpc.Compression.Gzip))
    assert stage.oip.ModelInfer(sent, timeout=CALL_S, compression=packed).parameters["bytes"].int64_param == 2 * MIB


def streamed(stage: ScriptedStage) -> None:
    call: Any = stage.channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
    answers = list(call((request().SerializeToString() for _ in range(20)), timeout=CALL_S))
    assert [answer.error_message for answer in answers] == [""] * 20


def new_connection(stage: ScriptedStage) -> None:
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(stage.part.address, options=own) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call(request().SerializeToString(), timeout=CALL_S)


def impatient(stage: ScriptedStage) -> None:
    calls = [stage.oip.ModelInfer.future(request("sleep", seconds="5"), timeout=0.1) for _ in range(50)]
    assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}


def refused(stage: ScriptedStage) -> None:
    """Whether a call was refused; a refusal counts as an answer."""
    try:
        stage.infer("raise", error="UnknownModel", timeout=CALL_S)
    except grpc.RpcError as error:
        failure: Any = error
        assert failure.code() is grpc.StatusCode.NOT_FOUND


GOOD = (small, small, large, streamed, new_connection, impatient, refused)


def attack(stage: ScriptedStage, made: Attack) -> None:
    """Attack for a second on one connection."""
    until = time.monotonic() + ATTACK_S
    with stage.connect(ATTACK_S) as connection:
        for piece in made.pieces():
            connection.sendall(piece)
            if made.reads:
                with suppress(BlockingIOError):
                    connection.recv(1 << 16, socket.MSG_DONTWAIT)
            if time.monotonic() > until:
                return
            time.sleep(0.001)


def slow(stage: ScriptedStage) -> None:
    """Open connections that send a byte at a time, or nothing."""
    with ExitStack() as stack:
        made = [stack.enter_context(stage.connect(ATTACK_S)) for _ in range(50)]
        for byte in PREFACE:
            for connection in made[:40]:
                connection.sendall(bytes((byte,)))
            time.sleep(0.1)


def bad_clients(stage: ScriptedStage, corpus: list[Frames]) -> Iterator[tuple[str, Callable[[ScriptedStage], None]]]:
    left_out = TOO_MUCH.get(stage.server, set())
    attacks = [made for name, made in {**FLOODS, **MADE_RESETS}.items() if name not in left_out]

    def fuzz(stage: ScriptedStage) -> None:
        with stage.connect(ATTACK_S) as connection:
            connection.sendall(changed(random.Random(), corpus))

    yield "attack", lambda stage: attack(stage, random.choice(attacks))
    yield "fuzz", fuzz
    yield "slow", slow


def soak(stage: ScriptedStage, seconds: float, say: Callable[[str], None] = print) -> list[str]:
    """Run the soak test and return its faults as sentences."""
    made = Soak(stage)
    end, warm = time.monotonic() + seconds, time.monotonic() + WARM_UP * seconds
    bad = list(bad_clients(stage, recorded(stage.part.address)))
    clients = [threading.Thread(target=made.good, args=(call.__name__, call)) for call in GOOD]
    clients += [threading.Thread(target=made.bad, args=client) for client in bad]
    for client in clients:
        client.start()
    try:
        made.over.wait(warm - time.monotonic())
        first = made.measure()
        while time.monotonic() < end - RECOVERY_S and not made.lost:
            made.over.wait(min(SAMPLE_S, max(0.0, end - RECOVERY_S - time.monotonic())))
            process = psutil.Process(stage.part.pid)
            say(f"{process.memory_info().rss // MIB} MiB, {process.num_fds()} descriptors, {dict(made.counts)}")
        last = made.measure()
    finally:
        made.over.set()
        for client in clients:
            client.join()
    say(f"{first[0] // MIB} MiB and {first[1]} descriptors, then {last[0] // MIB} MiB and {last[1]}")
    faults = [f"lost: {text}" for text in made.lost[:5]]
    if last[0] > first[0] + GROWTH_BYTES:
        faults.append(f"memory grew from {first[0] // MIB} to {last[0] // MIB} MiB")
    if last[1] > first[1] + GROWTH_DESCRIPTORS:
        faults.append(f"descriptors grew from {first[1]} to {last[1]}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3_600)
    parser.add_argument("--server", choices=sorted(SERVERS), required=True, help="the server")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, scripted(chosen.server, Path(folder)) as stage:
        faults = soak(stage, chosen.seconds, lambda line: print(line, flush=True))
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
