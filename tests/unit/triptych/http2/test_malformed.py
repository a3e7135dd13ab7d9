"""The answer to a call that libnghttp2 refuses by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import ngh2
import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.in_memory_connection import Wire, server_of
from tests.fakes.scripted.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    fields,
    frame,
    literal,
    opening,
    window,
)
from triptych.http2.connection import WRITE_BYTES
from triptych.http2.framing import framed
from triptych.http2.malformed import FAULT, block_of, with_answers
from triptych.http2.server import ConnectionManager, ServerConnection
from triptych.http2.server_context import Handler
from triptych.http2.server_stream import ServerStream

PROTOCOL_ERROR, REFUSED = (1).to_bytes(4, "big"), (7).to_bytes(4, "big")
LARGE = bytes(3 * WRITE_BYTES)


def block(**more: str) -> bytes:
    return b"".join(literal(name, value) for name, value in {**fields("/x"), **more}.items())


GOOD, ODD = block(), block(connection="close")


def call(stream: int, headers: bytes = GOOD) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, framed(b"in"))


class Caller:
    """A client: the server's bytes go to libnghttp2, and the test writes its own."""

    def __init__(self, server: ConnectionManager) -> None:
        self.connection: ServerConnection = server.connect()
        self.wire = Wire(self.connection)
        self.connection.connection_made(self.wire)
        self.client = ngh2.Connection(ngh2.Role.CLIENT)
        self.client.initiate_connection({})
        for _ in range(8):  # streams on which libnghttp2 takes answers
            self.client.send_request([(name.encode(), value.encode()) for name, value in fields("/x").items()])
        self.client.data_to_send()
        self.frames: list[tuple[int, int]] = []  # type and stream
        self.answers: dict[int, dict[str, str]] = {}

    async def send(self, *data: bytes) -> None:
        view = self.connection.get_buffer(-1)
        sent = b"".join(data)
        for at in range(0, len(sent), len(view)):
            piece = sent[at : at + len(view)]
            view[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
        for _ in range(5):
            await asyncio.sleep(0)

    def read(self) -> None:
        """Raises the errors of libnghttp2."""
        data = bytes(self.wire.waiting)
        self.wire.waiting.clear()
        at = 0
        while at < len(data):
            self.frames.append((data[at + 3], int.from_bytes(data[at + 5 : at + 9], "big")))
            at += 9 + int.from_bytes(data[at : at + 3], "big")
        self.client.receive_data(data)
        for event in self.client.events():
            if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
                found = {name.decode(): value.decode() for name, value in event.headers}
                self.answers.setdefault(event.stream_id, {}).update(found)

    def status(self, stream: int) -> str:
        return self.answers.get(stream, {}).get("grpc-status", "")


def serve(**more: Any) -> ConnectionManager:
    async def answer(stream: ServerStream) -> None:
        await stream.message()
        stream.finish(LARGE if stream.stream_id == 1 and more else b"out")

    return server_of({b"/x": Handler("x", answer, False)})


async def test_it_comes_before_the_reset_and_the_tables_stay_in_step() -> None:
    caller = Caller(serve())
    await caller.send(opening(), call(1), call(3, ODD), call(5), call(7, ODD), call(9))
    caller.read()
    assert [caller.status(stream) for stream in (1, 3, 5, 7, 9)] == ["0", "3", "0", "3", "0"]
    assert caller.answers[7]["grpc-message"].startswith("the header fields of the call are not those of HTTP/2")
    for stream in (3, 7):
        assert [kind for kind, of in caller.frames if of == stream] == [HEADERS, RST_STREAM]


@pytest.mark.parametrize("cut", [1, 5, 9, 40])
async def test_it_comes_however_the_headers_were_cut(cut: int) -> None:
    caller, odd = Caller(serve()), frame(HEADERS, END_HEADERS, 1, ODD)
    await caller.send(opening(), odd[:cut])
    await caller.send(odd[cut:])
    await caller.send(frame(HEADERS, 0, 3, ODD[:cut]))
    await caller.send(frame(CONTINUATION, END_HEADERS, 3, ODD[cut:]), call(5))
    caller.read()
    assert [caller.status(stream) for stream in (1, 3, 5)] == ["3", "3", "0"]


async def test_a_caller_with_a_smaller_table_gets_the_reset_alone() -> None:
    """Its decoder wants a size update in the first block, which only libnghttp2 can write."""
    caller = Caller(serve())
    await caller.send(opening(HEADER_TABLE_SIZE=0), call(1, ODD), call(3))
    caller.read()
    assert [kind for kind, of in caller.frames if of == 1] == [RST_STREAM]
    assert caller.status(3) == "0"


def drained(caller: Caller) -> bytes:
    """All that the server has to write, as the transport takes it."""
    data = b""
    while caller.wire.waiting:
        data += caller.wire.waiting
        caller.wire.waiting.clear()
        caller.wire.is_paused = False
        caller.connection.resume_writing()
    return data


async def test_within_a_frame_that_waits_for_the_transport_nothing_is_inserted() -> None:
    caller = Caller(serve(large=True))
    await caller.send(opening(INITIAL_WINDOW_SIZE=1 << 22), window(0, 1 << 22), call(1))
    assert caller.connection.is_full
    assert not caller.connection.is_aligned
    await caller.send(call(3, ODD))
    data, kinds = drained(caller), list[int]()
    while data:
        kinds += [data[3]] if data[8] == 3 else []
        data = data[9 + int.from_bytes(data[:3], "big") :]
    assert kinds == [RST_STREAM]


async def test_malformed_trailers_end_their_call_with_a_reset_and_no_second_answer() -> None:
    caller = Caller(serve())
    begun = frame(HEADERS, END_HEADERS, 1, GOOD) + frame(DATA, 0, 1, framed(b"in"))
    await caller.send(opening(), begun, frame(HEADERS, END_HEADERS | END_STREAM, 1, literal("Odd", "x")), call(3))
    caller.read()
    assert (caller.status(1), caller.status(3)) == ("", "0")
    assert [kind for kind, of in caller.frames if of == 1] == [RST_STREAM]


ANSWER = block_of([(b"grpc-message", b"m" * 300), (b"a", b""), (b"b", b"c" * 127), (b"d", b"e" * 126)])
STREAMS = st.sampled_from([1, 3, 5])
BODIES = st.sampled_from([b"", PROTOCOL_ERROR, REFUSED, frame(RST_STREAM, 0, 3, PROTOCOL_ERROR)])
RESETS = st.tuples(st.just(RST_STREAM), STREAMS, st.sampled_from([PROTOCOL_ERROR, REFUSED]))  # of four bytes always
FRAMES = st.lists(RESETS | st.tuples(st.sampled_from([DATA, HEADERS]), STREAMS, BODIES), max_size=6)


@given(frames=FRAMES, malformed=st.sets(st.sampled_from([1, 3, 5, 7])))
def test_frames_stay_whole_and_in_order(frames: list[tuple[int, int, bytes]], malformed: set[int]) -> None:
    want, left = b"", set(malformed)
    for kind, stream, body in frames:
        if kind == RST_STREAM and stream in left:
            left.discard(stream)
            if body[:4] == PROTOCOL_ERROR:
                want += frame(HEADERS, END_HEADERS | END_STREAM, stream, ANSWER)
        want += frame(kind, 0, stream, body)
    waiting = set(malformed)
    assert (
        with_answers(b"".join(frame(kind, 0, stream, body) for kind, stream, body in frames), waiting, ANSWER) == want
    )
    assert waiting == left


def test_a_peer_reads_the_strings_as_they_were() -> None:
    headers = [(b"a" * size, b"b" * size) for size in (0, 1, 126, 127, 128, 254, 255, 256, 16_510, 20_000)]
    decoder = Decoder()
    decoder.max_header_list_size = 1 << 20
    found = decoder.decode(block_of(headers), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in found] == headers
    assert str(FAULT).isascii()
