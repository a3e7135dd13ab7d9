"""Fuzzer of a server's HTTP/2: recorded and mutated conversations of grpcio's client on many connections.

    python -m tests.fuzz.http2 --seconds 60 --server http2                a scripted stage behind that server
    python -m tests.fuzz.http2 --replay fuzz-found/http2-1.hex          a saved finding

The exit status is 1 if a good call beside is not answered, the process ends, its memory or log grows, or it sends
invalid HTTP/2. The seed is printed; the last conversations are saved in `--keep`.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

from tests.fakes.scripted.process import ScriptedStage, scripted
from tests.fuzz.http2_frames import changed, recorded, split
from triptych.server import SERVERS

OPEN = 64  # connections at once
EVERY = 25  # conversations, between good calls
WARM_UP = 2_000  # conversations, after which memory stays flat
GROWTH_BYTES = 96 << 20
LOG_BYTES = 2_048  # for one conversation
WAIT_S = 0.002
# Lines of log that are not ours to mend: all those of grpc.aio.
KNOWN = {"grpcio": b""}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that is a reset


class Finding(Exception):
    """A fault of the server; `conversations` are those before it."""

    conversations: tuple[bytes, ...] = ()


@dataclass
class Fuzzer:
    """Sends conversations to one stage and monitors it."""

    stage: ScriptedStage
    rng: random.Random
    sent: int = 0
    good: int = 0
    memory_bytes: int = 0
    last: deque[bytes] = field(default_factory=lambda: deque(maxlen=2 * OPEN))
    _open: deque[socket.socket] = field(default_factory=deque)
    _log_bytes: int = 0

    def send(self, data: bytes) -> None:
        """Send one conversation in pieces, with reads in between, on a connection that stays open for a while."""
        self.last.append(data)
        self.sent += 1
        try:
            connection = self.stage.connect(20)
        except OSError as error:
            raise Finding(f"no connection: {error}") from error
        connection.settimeout(0.2)
        self._open.append(connection)
        step = self.rng.choice((1 << 20, 1 << 20, 1_000, 100))
        with suppress(OSError):
            for at in range(0, len(data), step):
                connection.sendall(data[at : at + step])
        if self.rng.random() < 0.5:
            self._read(connection)
        if self.rng.random() < 0.2:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        while len(self._open) > OPEN:
            self._close(self._open.popleft())

    def look(self) -> None:
        """Check a good call, the process, its memory and its log."""
        try:
            self.stage.infer(timeout=30)
        except grpc.RpcError as error:
            raise Finding(f"a good call was not answered: {error}") from error
        self.good += 1
        if not psutil.pid_exists(self.stage.part.pid):
            raise Finding("the process has ended")
        self._look_at_log()
        if self.sent >= WARM_UP:
            used_bytes = self.stage.resident_bytes()
            self.memory_bytes = self.memory_bytes or used_bytes
            if used_bytes > self.memory_bytes + GROWTH_BYTES:
                raise Finding(f"memory grew from {self.memory_bytes >> 20} to {used_bytes >> 20} MiB")

    def close(self) -> None:
        while self._open:
            self._open.popleft().close()

    def _look_at_log(self) -> None:
        with self.stage.part.log.open("rb") as log:
            log.seek(self._log_bytes)
            new = log.read()
        self._log_bytes += len(new)
        known = KNOWN.get(self.stage.server)
        new = b"".join(line for line in new.splitlines(keepends=True) if known is None or known not in line)
        if b"Traceback" in new:
            raise Finding(f"a traceback in the log: {new.decode(errors='replace')[-2_000:]}")
        if len(new) > EVERY * LOG_BYTES:
            raise Finding(f"{len(new)} bytes of log for {EVERY} conversations")

    def _read(self, connection: socket.socket) -> None:
        connection.settimeout(WAIT_S)
        got = b""
        with suppress(OSError):
            while piece := connection.recv(1 << 16):
                got += piece
        try:
            split(got)
        except ValueError as error:
            if not got.startswith(b"HTTP/1."):  # what some servers say to one that does not speak HTTP/2
                raise Finding(f"sent by the server: {error}") from error

    def _close(self, connection: socket.socket) -> None:
        if self.rng.random() < 0.3:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()


def fuzz(stage: ScriptedStage, seed: int, seconds: float, most: int = sys.maxsize) -> Fuzzer:
    """Send conversations until the time is over. Raises `Finding`."""
    rng = random.Random(seed)
    corpus = recorded(stage.part.address)
    fuzzer, until = Fuzzer(stage, rng), time.monotonic() + seconds
    try:
        while time.monotonic() < until and fuzzer.sent < most:
            fuzzer.send(changed(rng, corpus))
            if fuzzer.sent % EVERY == 0:
                fuzzer.look()
        fuzzer.look()
    except Finding as finding:
        finding.conversations = tuple(fuzzer.last)
        raise
    finally:
        fuzzer.close()
    return fuzzer


def replay(stage: ScriptedStage, conversations: list[bytes]) -> Fuzzer:
    """Send the conversations of a saved finding again."""
    fuzzer = Fuzzer(stage, random.Random(0))
    for data in conversations:
        fuzzer.send(data)
        fuzzer.look()
    fuzzer.close()
    return fuzzer


def keep(finding: Finding, file: Path) -> str:
    """Write the conversations to a file and print its name."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{data.hex()}\n" for data in finding.conversations))
    return f"the last {len(finding.conversations)} conversations are in {file}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--server", choices=sorted(SERVERS), action="append", help="the server; all of them by default")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="folder for what was sent last")
    parser.add_argument("--replay", type=Path, help="conversations in hexadecimal, one a line")
    chosen = parser.parse_args()
    for server in chosen.server or sorted(SERVERS):
        with tempfile.TemporaryDirectory() as folder, scripted(server, Path(folder), connection_age_s=0) as stage:
            print(f"{server}: seed {chosen.seed}", flush=True)
            try:
                if chosen.replay:
                    done = replay(stage, [bytes.fromhex(line) for line in chosen.replay.read_text().split()])
                else:
                    done = fuzz(stage, chosen.seed, chosen.seconds)
            except Finding as finding:
                print(f"{finding}; {keep(finding, chosen.keep / f'http2-{server}-{chosen.seed}.hex')}")
                return 1
            counted = f"{done.sent} conversations, {done.good} good calls"
            print(f"{server}: {counted}, {done.memory_bytes >> 20} MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
