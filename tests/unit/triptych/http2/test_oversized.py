"""Header fields that libnghttp2 does not accept are left out; all others pass, and the tables of HPACK stay equal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st
from ngh2 import Configuration, Connection, NGH2Error, RequestReceived, Role

from tests.fakes.scripted.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame
from triptych.http2.oversized import FRAME_BYTES, MAX_FRAMES, STRING_BYTES, HeaderFilter

PING, GOAWAY, CONTINUATION = 6, 7, 9
PADDED, PRIORITY = 0x8, 0x20
LIMIT = 1 << 16

Fields = Sequence[HeaderTuple]
REQUEST: list[HeaderTuple] = [
    HeaderTuple(b":method", b"POST"),
    HeaderTuple(b":scheme", b"http"),
    HeaderTuple(b":path", b"/service/Method"),
    HeaderTuple(b":authority", b"x"),
]


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at += size
        turn += 1


def block_frames(block: bytes, stream: int = 1, size: int = FRAME_BYTES, flags: int = END_STREAM) -> bytes:
    """A header block as frames of at most `size`."""
    pieces = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
    made = b""
    for number, piece in enumerate(pieces):
        last = END_HEADERS if number == len(pieces) - 1 else 0
        made += frame(CONTINUATION, last, stream, piece) if number else frame(HEADERS, flags | last, stream, piece)
    return made


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found, at = [], 0
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        found.append((data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9 : end]))
        at = end
    return found


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Streams and header blocks, of frames without padding and priority that HTTP/2 allows."""
    found: list[tuple[int, bytes]] = []
    open_stream = 0
    for kind, flags, stream, payload in frames(data):
        assert len(payload) <= FRAME_BYTES
        if open_stream:
            assert (kind, stream) == (CONTINUATION, open_stream)
            found[-1] = (stream, found[-1][1] + payload)
        elif kind == HEADERS:
            found.append((stream, payload))
        if kind in (HEADERS, CONTINUATION):
            open_stream = 0 if flags & END_HEADERS else stream
    assert not open_stream
    return found


def filtered(data: bytes, sizes: Sequence[int] = (1 << 16,), limit_bytes: int = LIMIT) -> tuple[bytes, dict[int, int]]:
    """Bytes for libnghttp2 without the preface, and the bytes that were left out by stream."""
    made = HeaderFilter(limit_bytes)
    given = b"".join(bytes(made.feed(memoryview(piece))) for piece in cut(PREFACE + data, sizes))
    assert given.startswith(PREFACE)
    return given[len(PREFACE) :], made.removed_bytes


def others(data: bytes) -> list[tuple[int, int, int, bytes]]:
    return [each for each in frames(data) if each[0] not in (HEADERS, CONTINUATION)]


def integer(value: int, bits: int, first: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    made, value = [first | most], value - most
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def string(text: bytes) -> bytes:
    return integer(len(text), 7, 0) + text


names = st.sampled_from([b"a", b"te", b"user-agent", b"x-request-id", b"k-bin"])
short = st.one_of(st.integers(0, 40), st.integers(0, 6000))
long = st.sampled_from([STRING_BYTES, STRING_BYTES + 1, 70 << 10, 200 << 10])
reads = st.lists(st.sampled_from([1, 8, 9, 10, 100, FRAME_BYTES, FRAME_BYTES + 9, 1 << 16]), min_size=1, max_size=6)
quick_reads = reads.filter(lambda sizes: max(sizes) > 100)


def fields_of(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[bytes, int, bool]]]:
    """Names, sizes of values, and whether they are in no table."""
    return st.lists(st.tuples(names, sizes, st.booleans()), max_size=6)


def request(fields: Sequence[tuple[bytes, int, bool]]) -> list[HeaderTuple]:
    kinds = (HeaderTuple, NeverIndexedHeaderTuple)
    return [*REQUEST, *(kinds[never](name, b"v" * size) for name, size, never in fields)]


ordinary = st.tuples(fields_of(short), st.sampled_from([1, 5, 100, 4000, FRAME_BYTES]), st.integers(0, 3000))


@given(st.lists(ordinary, max_size=5), quick_reads)
@settings(max_examples=60, deadline=None)
def test_ordinary_requests_pass_unchanged(made: list[Any], sizes: list[int]) -> None:
    encoder, sent = Encoder(), frame(SETTINGS, 0, 0, b"")
    for number, (fields, size, body) in enumerate(made):
        stream = 2 * number + 1
        block = encoder.encode(request(fields), huffman=False)
        sent += block_frames(block, stream, max(size, len(block) // MAX_FRAMES + 1), 0)
        sent += frame(PING, 0, 0, bytes(8)) + frame(DATA, END_STREAM, stream, bytes(body))
    given, removed_bytes = filtered(sent, sizes)
    assert blocks(given) == blocks(sent)
    assert others(given) == others(sent)
    assert not removed_bytes


def test_what_is_whole_is_not_even_copied() -> None:
    block = Encoder().encode(REQUEST)
    data = memoryview(PREFACE + block_frames(block, flags=0) + frame(DATA, END_STREAM, 1, b"body"))
    assert HeaderFilter(LIMIT).feed(data) is data


def size_of(fields: Fields) -> int:
    return sum(32 + len(name) + len(value) for name, value in fields)


def decoder() -> Decoder:
    return Decoder(max_header_list_size=64 << 20)


mixed = st.tuples(fields_of(st.one_of(short, long)), st.sampled_from([4000, FRAME_BYTES]))


@given(st.lists(mixed, max_size=4), quick_reads, st.sampled_from([4096, 1 << 16, 1 << 20]))
@settings(max_examples=60, deadline=None)
def test_the_tables_stay_in_step(made: list[Any], sizes: list[int], limit_bytes: int) -> None:
    encoder, sent = Encoder(), b""
    for number, (fields, size) in enumerate(made):
        sent += block_frames(encoder.encode(request(fields), huffman=False), 2 * number + 1, size)
    given, removed_bytes = filtered(sent, sizes, limit_bytes)
    original, seen = decoder(), decoder()
    for (stream, block), (given_stream, given_block) in zip(blocks(sent), blocks(given), strict=True):
        assert given_stream == stream
        wanted, got = list(original.decode(block, raw=True)), list(seen.decode(given_block, raw=True))
        assert seen.header_table.dynamic_entries == original.header_table.dynamic_entries
        unknown = size_of(wanted) - size_of(got) - removed_bytes.get(stream, 0)
        assert 0 <= unknown <= (len(wanted) - len(got)) * len("x-request-id")  # names that only the table has
        assert is_part(got, wanted)
        assert max(len(value) for _, value in got) <= STRING_BYTES
        if stream not in removed_bytes:
            assert got == wanted
        else:
            assert size_of(wanted) > min(limit_bytes, STRING_BYTES)


def is_part(got: Fields, wanted: Fields) -> bool:
    """Whether all of `got` are in `wanted`, in this order; those that are too long have another value."""
    left = iter(wanted)
    return all(
        any(name == other and (value == meant or len(meant) > STRING_BYTES) for other, meant in left)
        for name, value in got
    )


def literal(first: int, name: bytes, value: bytes) -> bytes:
    return bytes((first,)) + name + value


SHORT = string(b"big")
WITHOUT, NEVER, INDEXED = 0x00, 0x10, 0x40
HUFFMAN = 0x80


def huffman(size: int) -> bytes:
    """A string of the letter a, whose code is 00011, that is `size` bytes long as sent."""
    assert not size % 5
    return integer(size, 7, HUFFMAN) + int("00011" * 8, 2).to_bytes(5, "big") * (size // 5)


# Blocks behind a request, and the bytes left out of each.
TOO_LONG: dict[str, tuple[bytes, int]] = {
    "without indexing": (literal(WITHOUT, SHORT, string(b"v" * 70_000)), 70_000 - 4096),
    "never indexed": (literal(NEVER, SHORT, string(b"v" * 70_000)), 70_000 - 4096),
    "indexed": (literal(INDEXED, SHORT, string(b"v" * 70_000)), 70_000 - 4096),
    "one byte too long": (literal(INDEXED, SHORT, string(b"v" * 65_537)), 65_537 - 4096),
    "Huffman": (literal(INDEXED, SHORT, huffman(65_540)), 65_540 - 4096),
    "name": (literal(INDEXED, string(b"n" * 70_000), string(b"v")), 70_000 - 4096),
    "name and value": (literal(INDEXED, string(b"n" * 70_000), string(b"v" * 80_000)), 150_000 - 8192),
    "name of the static table": (integer(58, 6, INDEXED) + string(b"v" * 70_000), 70_000 - 4096),
    "name of the dynamic table": (integer(62, 6, INDEXED) + string(b"v" * 70_000), 70_000 - 4096),
    "two": (literal(INDEXED, SHORT, string(b"v" * 70_000)) * 2, 2 * (70_000 - 4096)),
    "1 MiB": (literal(WITHOUT, SHORT, string(b"v" * (1 << 20))), (1 << 20) - 4096),
    "8 MiB": (literal(WITHOUT, SHORT, string(b"v" * (8 << 20))), (8 << 20) - 4096),
    "many": (literal(WITHOUT, SHORT, string(b"v" * 1000)) * 1100, (1100 - 64) * 1035),
}
EXACT: dict[str, bytes] = {
    "64 KiB": literal(INDEXED, SHORT, string(b"v" * STRING_BYTES)),
    "Huffman of 64 KiB": literal(WITHOUT, SHORT, huffman(65_535)),
    "integers longer than need be": b"\x0f\x80\x80\x00" + b"\x7f\x81\xff\x83\x00" + bytes(STRING_BYTES),
}


def server() -> Connection:
    made = Connection(
        Role.SERVER,
        Configuration(auto_window_update=False, max_inbound_header_list_size=4 * LIMIT, max_continuations=17),
    )
    made.initiate_connection({})
    return made


def received(connection: Connection) -> list[Sequence[tuple[bytes, bytes]]]:
    return [event.headers for event in connection.events() if isinstance(event, RequestReceived)]


@pytest.mark.parametrize("name", TOO_LONG)
@pytest.mark.parametrize("sizes", [[1 << 16], [7000, 1, 1, 9]])
def test_libnghttp2_takes_what_is_left_and_goes_on(name: str, sizes: list[int]) -> None:
    block, size = TOO_LONG[name]
    encoder = Encoder()
    before = encoder.encode([*REQUEST, (b"first", b"1")], huffman=False)
    sent = block_frames(before) + block_frames(encoder.encode(REQUEST, huffman=False) + block, 3)
    plain = b"\x83\x86\x84\x01" + string(b"x")
    sent += block_frames(plain + literal(INDEXED, string(b"x"), string(b"1")), 5)
    sent += block_frames(plain + b"\xbe", 7)  # the field before is the first of the table
    given, removed_bytes = filtered(sent, sizes)
    assert removed_bytes == {3: size}
    connection = server()
    connection.receive_data(PREFACE + frame(SETTINGS, 0, 0, b"") + given)
    calls = received(connection)
    assert len(calls) == 4
    assert calls[3][-1] == (b"x", b"1")


@pytest.mark.parametrize("name", EXACT)
def test_libnghttp2_takes_what_is_left_as_it_is(name: str) -> None:
    sent = block_frames(Encoder().encode(REQUEST, huffman=False) + EXACT[name])
    given, removed_bytes = filtered(sent)
    assert blocks(given) == blocks(sent)
    assert not removed_bytes


def test_padding_and_priority_are_understood() -> None:
    block = Encoder().encode(REQUEST) + literal(WITHOUT, SHORT, string(b"v" * 70_000))
    first = bytes((200,)) + b"prior" + block[:1000] + bytes(200)
    sent = frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, first)
    pieces = [block[at : at + FRAME_BYTES] for at in range(1000, len(block), FRAME_BYTES)]
    for piece in pieces:
        sent += frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece)
    given, removed_bytes = filtered(sent)
    assert removed_bytes == {1: 70_000 - 4096}
    kind, flags, _, payload = frames(given)[0]
    assert (kind, flags, payload[:5]) == (HEADERS, PRIORITY | END_STREAM, b"prior")
    connection = server()
    connection.receive_data(PREFACE + frame(SETTINGS, 0, 0, b"") + given)
    assert len(received(connection)) == 1


def test_no_more_than_a_frame_is_held() -> None:
    sent = PREFACE + block_frames(Encoder().encode(REQUEST) + literal(WITHOUT, SHORT, string(bytes(8 << 20))))
    made, data = HeaderFilter(LIMIT), memoryview(sent)
    tracemalloc.start()
    try:
        for at in range(0, len(data), 1 << 16):
            made.feed(data[at : at + (1 << 16)])
        assert tracemalloc.get_traced_memory()[1] < 1 << 19
    finally:
        tracemalloc.stop()
    assert made.removed_bytes == {1: (8 << 20) - 4096}


def ended(data: bytes) -> tuple[list[str], bytes]:
    """The events of libnghttp2, and its answers."""
    connection, names = server(), []
    try:
        connection.receive_data(PREFACE + frame(SETTINGS, 0, 0, b"") + data)
        names = [repr(event) for event in connection.events()]
        return names, connection.data_to_send()
    except NGH2Error as error:
        return [repr(error)], b""


OPEN = frame(HEADERS, 0, 1, Encoder().encode(REQUEST, huffman=False))
LONG = literal(WITHOUT, SHORT, integer(70_000, 7, 0))
DROPPED = literal(WITHOUT, SHORT, string(b"v" * 1000)) * 80
FORBIDDEN: dict[str, bytes] = {
    "another frame within": OPEN + frame(PING, 0, 0, bytes(8)),
    "another block within": OPEN + OPEN,
    "a whole block within": OPEN + block_frames(b"\x82", 3),
    "another stream": OPEN + frame(CONTINUATION, END_HEADERS, 3, b"\x82"),
    "no block": frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
    "a frame too large": frame(HEADERS, 0, 1, bytes(FRAME_BYTES + 1)),
    "padding alone": frame(HEADERS, PADDED, 1, b""),
    "padding too long": frame(HEADERS, PADDED, 1, b"\x09" + bytes(8)),
    "priority cut": frame(HEADERS, PRIORITY, 1, bytes(4)),
    "stream 0": frame(HEADERS, 0, 0, b"\x82") + frame(CONTINUATION, END_HEADERS, 0, b"\x82"),
    "integer of six bytes": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\xff\x80\x80\x80\x80\x80\x00"),
    "integer over 32 bits": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\x00\x01n\x7f\xff\xff\xff\xff\x7f"),
    "integer cut": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\xff\x80"),
    "string cut": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\x00\x05n"),
    "field cut behind a list over the limit": block_frames(Encoder().encode(REQUEST) + DROPPED + b"\x00"),
    "value cut behind a list over the limit": block_frames(Encoder().encode(REQUEST) + DROPPED + b"\x00\x01n\x05v"),
    "integer cut behind a list over the limit": block_frames(Encoder().encode(REQUEST) + DROPPED + b"\x00\x7f\x80"),
    "size of the table within": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\x3f\xe1\x1f"),
    "no entry": OPEN + frame(CONTINUATION, END_HEADERS, 1, b"\x80"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_forbidden_ends_the_connection_as_before(name: str) -> None:
    sent = FORBIDDEN[name] + frame(PING, 0, 0, b"12345678")
    answer = ended(sent)
    assert b"\x07" in answer[1], "no GOAWAY"
    for sizes in ([1 << 16], [1]):
        given, removed_bytes = filtered(sent, sizes)
        assert ended(given) == answer
        assert "over the limit" in name or not removed_bytes


@pytest.mark.parametrize(
    "end",
    [
        frame(CONTINUATION, END_HEADERS, 1, bytes(100)),
        frame(CONTINUATION, END_HEADERS, 3, b"\x82"),
        frame(PING, 0, 0, bytes(8)),
    ],
    ids=["in the string", "on another stream", "not at all"],
)
def test_a_string_without_end_ends_the_connection(end: bytes) -> None:
    given, _ = filtered(OPEN + frame(CONTINUATION, 0, 1, LONG) + end)
    names, answer = ended(given)
    assert b"\x07" in answer
    assert not any("RequestReceived" in name for name in names)


def test_a_block_without_end_is_ended() -> None:
    sent = OPEN + frame(CONTINUATION, 0, 1, LONG) + frame(CONTINUATION, 0, 1, b"v") * MAX_FRAMES
    given, _ = filtered(sent)
    assert len(given) < len(OPEN) + 100
    assert b"\0\0\0\1" in ended(given)[1]  # GOAWAY with PROTOCOL_ERROR


BASE = (
    block_frames(Encoder().encode([*REQUEST, (b"k", b"v" * 100)], huffman=False), 1, 20, 0)
    + frame(DATA, END_STREAM, 1, b"body")
    + block_frames(Encoder().encode([*REQUEST, (b"k", b"w" * 100)]), 3, 30)
    + frame(HEADERS, PADDED | PRIORITY | END_STREAM, 5, b"\x03prior" + Encoder().encode(REQUEST)[:6] + bytes(3))
    + frame(CONTINUATION, END_HEADERS, 5, Encoder().encode(REQUEST)[6:])
)


@given(st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), max_size=4), reads)
@settings(max_examples=200, deadline=None)
def test_libnghttp2_decides_the_same_on_random_bytes(changed: list[tuple[int, int]], sizes: list[int]) -> None:
    data = bytearray(BASE)
    for at, byte in changed:
        data[at] = byte
    sent = bytes(data) + bytes(2 * FRAME_BYTES)
    assert outcome(filtered(sent, sizes)[0]) == outcome(sent)


def outcome(data: bytes) -> tuple[list[str], list[Any]]:
    """The same without the reason of a GOAWAY: of two faults, another may be the first."""
    names, answer = ended(data)
    return names, [each[:3] if each[0] == GOAWAY else each for each in frames(answer)]


def test_of_a_block_that_ends_within_an_integer_and_on_another_stream_the_end_is_the_same() -> None:
    sent = OPEN + frame(CONTINUATION, 0, 1, b"\x3f") + frame(CONTINUATION, END_HEADERS, 3, b"\x82")
    assert outcome(filtered(sent)[0]) == outcome(sent)


@given(st.binary(max_size=200), reads)
@settings(deadline=None)
def test_random_bytes_pass(garbage: bytes, sizes: list[int]) -> None:
    given, removed_bytes = filtered(garbage + bytes(2 * FRAME_BYTES), sizes)
    assert outcome(given) == outcome(garbage + bytes(2 * FRAME_BYTES))
    assert not removed_bytes
