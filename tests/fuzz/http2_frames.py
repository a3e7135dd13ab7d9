"""Conversations of real clients as HTTP/2 frames, and their mutations."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import grpc

from tests.fakes.scripted.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    integer,
    literal,
)
from tests.fakes.scripted.process import request

HEAD_BYTES = 9
KINDS = 10
EDGES = (0, 1, 2, 127, 128, 255, 16_383, 16_384, 16_385, 65_535, 1 << 20, (1 << 24) - 1, (1 << 31) - 1, (1 << 32) - 1)
TEXTS = ("", "a", "A", " ", ":path", ":status", "te", "connection", "content-length", "grpc-timeout", "x\r\ny", "\0")
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass(frozen=True)
class Frame:
    """One frame; `length` is the length in its header, None for the real one."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    length: int | None = None

    def encoded(self) -> bytes:
        length = len(self.payload) if self.length is None else self.length
        head = length.to_bytes(3, "big") + bytes((self.kind, self.flags)) + self.stream.to_bytes(4, "big")
        return head + self.payload


def split(data: bytes) -> list[Frame]:
    """Complete frames after the preface. Raises `ValueError` for an invalid frame."""
    at, found = len(PREFACE) if data.startswith(PREFACE) else 0, []
    while at + HEAD_BYTES <= len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        end = at + HEAD_BYTES + length
        frame = Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : end])
        if frame.kind >= KINDS:
            raise ValueError(f"a frame of kind {frame.kind} and {length} bytes")
        if end > len(data):
            break
        found.append(frame)
        at = end
    return found


Frames = list[Frame]
Change = Callable[[random.Random, Frames], None]


def changed(rng: random.Random, corpus: list[Frames]) -> bytes:
    """One conversation of the corpus with up to 8 mutations; sometimes random bytes."""
    frames = list(rng.choice(corpus))
    if rng.random() < 0.2:
        other = rng.choice(corpus)
        frames[rng.randrange(len(frames) + 1) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        if frames:
            rng.choice(CHANGES)(rng, frames)
    data = bytearray(PREFACE) + b"".join(frame.encoded() for frame in frames)
    if rng.random() < 0.1:
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


def _drop(rng: random.Random, frames: Frames) -> None:
    del frames[rng.randrange(len(frames))]


def _repeat(rng: random.Random, frames: Frames) -> None:
    at = rng.randrange(len(frames))
    frames[at:at] = [frames[at]] * rng.choice((1, 2, 50, 1_000))


def _swap(rng: random.Random, frames: Frames) -> None:
    one, other = rng.randrange(len(frames)), rng.randrange(len(frames))
    frames[one], frames[other] = frames[other], frames[one]


def _head(rng: random.Random, frames: Frames) -> None:
    at = rng.randrange(len(frames))
    what: dict[str, Any] = rng.choice(
        (
            {"kind": rng.randrange(KINDS + 2)},
            {"flags": rng.randrange(256)},
            {"flags": frames[at].flags ^ 1 << rng.randrange(8)},
            {"stream": rng.choice((*EDGES, 3, 5, 7, rng.randrange(64)))},
            {"length": min(rng.choice(EDGES), (1 << 24) - 1)},
        )
    )
    frames[at] = replace(frames[at], **what)


def _payload(rng: random.Random, frames: Frames) -> None:
    at = rng.randrange(len(frames))
    data = bytearray(frames[at].payload)
    match rng.randrange(4):
        case 0:
            data = data[: rng.randrange(len(data) + 1)]
        case 1:
            data += rng.randbytes(rng.choice((1, 4, 300, 16_384)))
        case 2:
            data = bytearray(16_384)
        case _:
            for _ in range(rng.randrange(1, 9) if data else 0):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    frames[at] = replace(frames[at], payload=bytes(data))


def _fields(rng: random.Random, frames: Frames) -> None:
    """Additional HPACK in a header block: invalid fields, references, table sizes, endless integers."""
    of_headers = [at for at, frame in enumerate(frames) if frame.kind in (HEADERS, CONTINUATION)]
    if not of_headers:
        return
    at = rng.choice(of_headers)
    piece = rng.choice(
        (
            literal(rng.choice(TEXTS), rng.choice(TEXTS), indexed=rng.random() < 0.5),
            literal("x", "v" * rng.choice((100, 4_000, 15_000)), indexed=True) + b"\xbe" * rng.choice((1, 100)),
            bytes((rng.randrange(0x80, 0x100),)) * rng.choice((1, 2_000)),
            integer(rng.choice(EDGES), 5, 0x20),
            rng.choice((b"\x7f", b"\xff", b"\x3f")) + b"\xff" * rng.choice((3, 9, 100)),
        )
    )
    payload = frames[at].payload
    where = rng.choice((0, len(payload)))
    frames[at] = replace(frames[at], payload=payload[:where] + piece + payload[where:])


def _continue(rng: random.Random, frames: Frames) -> None:
    """Split a header block into CONTINUATION frames."""
    of_headers = [at for at, frame in enumerate(frames) if frame.kind == HEADERS and frame.payload]
    if not of_headers:
        return
    at = rng.choice(of_headers)
    whole = frames[at]
    cut = rng.randrange(len(whole.payload))
    rest = Frame(CONTINUATION, END_HEADERS, whole.stream, whole.payload[cut:])
    frames[at] = replace(whole, flags=whole.flags & ~END_HEADERS, payload=whole.payload[:cut])
    frames.insert(at + 1, rest)


def _insert(rng: random.Random, frames: Frames) -> None:
    stream = rng.choice((0, 1, 1, 3, 5, 7, 2))
    edge = rng.choice(EDGES).to_bytes(4, "big")
    setting = rng.randrange(12).to_bytes(2, "big") + edge
    made = rng.choice(
        (
            Frame(RST_STREAM, 0, stream, edge),
            Frame(WINDOW_UPDATE, 0, stream, edge),
            Frame(SETTINGS, rng.randrange(2), 0, setting * rng.choice((0, 1, 100))),
            Frame(PING, rng.randrange(2), 0, rng.randbytes(8)),
            Frame(PRIORITY, 0, stream, edge + b"\x10"),
            Frame(DATA, rng.randrange(2), stream, b"\0" + edge + rng.randbytes(rng.randrange(20))),
            Frame(rng.randrange(256), rng.randrange(256), stream, rng.randbytes(rng.randrange(64))),
        )
    )
    at = rng.randrange(len(frames) + 1)
    frames[at:at] = [made] * rng.choice((1, 1, 1, 200))


CHANGES: tuple[Change, ...] = (_drop, _repeat, _swap, _head, _head, _payload, _payload, _fields, _continue, _insert)


def recorded(address: str) -> list[Frames]:
    """Bytes of grpcio's client for calls of several kinds, each on a new connection."""
    return [split(_record(address, talk)) for talk in (_unary, _packed, _large, _streamed, _late, _unknown)]


def _record(address: str, talk: Callable[[grpc.Channel], None]) -> bytes:
    """Record the client's bytes through a relay between it and the stage."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard = bytearray()

        def pass_on(source: socket.socket, target: socket.socket, copy: bytearray | None) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    if copy is not None:
                        copy += data
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        def serve() -> None:
            client, _ = listening.accept()
            with client, socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=pass_on, args=(server, client, None))
                back.start()
                pass_on(client, server, heard)
                back.join()

        between = threading.Thread(target=serve)
        between.start()
        own = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with grpc.insecure_channel(address, options=own) as channel, suppress(grpc.RpcError):
            talk(channel)
        between.join()
    return bytes(heard)


def _unary(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary(INFER)
    for number in range(3):
        call(request().SerializeToString(), timeout=20, metadata=(("x-number", str(number)), ("b-bin", b"\xff\0")))


def _packed(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary(INFER)
    call(request(text="x" * 2_000).SerializeToString(), timeout=20, compression=grpc.Compression.Gzip)


def _large(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary(INFER)
    call(request(text="x" * 10_000).SerializeToString() * 10, timeout=20)


def _streamed(channel: grpc.Channel) -> None:
    call: Any = channel.stream_stream(STREAM)
    list(call(iter([request().SerializeToString()] * 5), timeout=20))


def _late(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary(INFER)
    call(request("sleep", seconds="5").SerializeToString(), timeout=0.2)


def _unknown(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary("/no.Such/Method")
    call(b"", timeout=20)
