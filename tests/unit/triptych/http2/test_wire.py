"""gRPC's framing, in arbitrary pieces."""

from __future__ import annotations

import gzip
import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.errors import InvalidRequest, NotSupported, Overloaded, TriptychError
from triptych.http2.framing import FREE_BYTES, MessageLimits, framed, status_headers, timeout_s
from triptych.http2.message_deframer import MessageDeframer
from triptych.runtime.in_flight import InFlightBytes

LIMIT, RATIO = 1000, 100
IN_FLIGHT_BYTES, DECOMPRESSION = InFlightBytes(1 << 20), ThreadPoolExecutor(1)


async def read(pieces: list[bytes], encoding: str = "identity") -> list[bytes]:
    deframer = MessageDeframer(MessageLimits(LIMIT, encoding, RATIO), IN_FLIGHT_BYTES, DECOMPRESSION)
    messages = []
    for piece in pieces:
        deframer.feed(piece)
        while deframer.waiting:
            messages.append(await deframer.next_message())
    deframer.check_end()
    return messages


def packed(message: bytes) -> bytes:
    data = gzip.compress(message, mtime=0)
    return b"\1" + len(data).to_bytes(4, "big") + data


@given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.integers(1, 40), min_size=1))
async def test_messages_come_whole_however_they_were_cut(sent: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(framed, sent))
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert await read(pieces) == sent


async def test_packed_and_plain_messages_may_be_mixed() -> None:
    assert await read([packed(b"a" * 500) + framed(b"b")], "gzip") == [b"a" * 500, b"b"]


@pytest.mark.parametrize(
    ("data", "encoding", "error", "said"),
    [
        (framed(b"abc")[:-1], "identity", InvalidRequest, "ended within a message, after 7 bytes"),
        (framed(bytes(LIMIT + 1))[:5], "identity", Overloaded, "larger than max (1001 vs. 1000)"),
        (packed(bytes(LIMIT + 1)), "gzip", Overloaded, "when unpacked"),
        (packed(b"a"), "snappy", NotSupported, "want one of identity,deflate,gzip, got 'snappy'"),
        (packed(b"a"), "deflate", InvalidRequest, "does not match its grpc-encoding, deflate"),
    ],
)
async def test_what_is_wrong_is_named(data: bytes, encoding: str, error: type[TriptychError], said: str) -> None:
    with pytest.raises(error) as caught:
        await read([data], encoding)
    assert said in str(caught.value)


def compressed(data: bytes) -> bytes:
    return b"\1" + len(data).to_bytes(4, "big") + data


WHOLE = gzip.compress(b"a" * 500, mtime=0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (WHOLE[:-1], "ends too early"),
        (WHOLE[:-8], "ends too early"),
        (b"", "ends too early"),
        (WHOLE + WHOLE, "more bytes follow its end"),
        (WHOLE + b"x", "more bytes follow its end"),
        (WHOLE[:-8] + bytes(8), "incorrect data check"),
    ],
    ids=["one byte less", "no checksum", "nothing", "two members", "one byte more", "wrong checksum"],
)
async def test_a_compressed_message_is_all_of_one_member(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await read([compressed(data)], "gzip")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_too_tightly_is_refused_before_it_is_unpacked(encoding: str) -> None:
    limits = MessageLimits(64 << 20, encoding, 100)
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    for size in (FREE_BYTES, 3000):
        assert b"".join(limits.pieces(pack(bytes(size)))) == bytes(size)
    mixed = random.Random(1).randbytes(200_000) + bytes(5 << 20)
    assert b"".join(limits.pieces(pack(mixed))) == mixed
    pieces = limits.pieces(pack(bytes(32 << 20)))
    for _ in range(3):
        next(pieces)  # within 100 times, or within what is free
    with pytest.raises(InvalidRequest, match="at most 100 times as large when unpacked"):
        list(pieces)


async def test_all_but_the_first_piece_is_unpacked_on_a_thread() -> None:
    class Counted(ThreadPoolExecutor):
        pieces = 0

        def submit(self, *arguments: Any, **named: Any) -> Any:
            self.pieces += 1
            return super().submit(*arguments, **named)

    async def submitted(data: bytes) -> int:
        with Counted(1) as threads:
            deframer = MessageDeframer(MessageLimits(64 << 20, "gzip", 100), InFlightBytes(8 << 20), threads)
            deframer.feed(packed(data))
            assert await deframer.next_message() == data
            return threads.pieces

    noise = random.Random(1).randbytes(100_000)
    assert await submitted(noise + bytes(3 << 20)) >= 3
    assert await submitted(noise[:1_000]) <= 1  # a look for the next piece


async def test_what_is_unpacked_counts_while_it_is_and_no_longer() -> None:
    data = random.Random(1).randbytes(200_000) + bytes(3 << 20)
    in_flight_bytes = InFlightBytes(1 << 20)
    in_flight_bytes.acquire(1)
    deframer = MessageDeframer(MessageLimits(64 << 20, "gzip", 100), in_flight_bytes, DECOMPRESSION)
    deframer.feed(packed(data))
    with pytest.raises(Overloaded, match="in flight here"):
        await deframer.next_message()
    assert in_flight_bytes.used_bytes == 1
    in_flight_bytes.release(1)
    deframer.feed(packed(data))
    assert await deframer.next_message() == data
    assert in_flight_bytes.used_bytes == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("250m", 0.25), ("5u", 5e-6), ("99999999n", 0.099999999)],
)
def test_a_timeout_has_a_unit(text: str, seconds: float) -> None:
    assert timeout_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "1", "-1S", "1.5S", "123456789S", "1s"])
def test_a_timeout_that_is_none_is_the_callers_fault(text: str) -> None:
    with pytest.raises(InvalidRequest, match="grpc-timeout"):
        timeout_s(text)


@given(st.text())
def test_any_sentence_passes_through_a_header(text: str) -> None:
    headers = dict(status_headers(grpc.StatusCode.NOT_FOUND, text, [("triptych-said", "1")]))
    assert headers[b"grpc-status"] == b"5"
    assert headers[b"triptych-said"] == b"1"
    assert all(0x20 <= byte <= 0x7E for byte in headers[b"grpc-message"])
    assert unquote(headers[b"grpc-message"].decode()) == text
