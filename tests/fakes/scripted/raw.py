"""HTTP/2 client connection on which a test sends every frame itself, including invalid ones."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hpack import HeaderTuple

from triptych.http2.framing import framed

Headers = list[tuple[str, str]]
TIMEOUT_S = 60.0

INFER: Headers = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


@dataclass
class Answer:
    """Frames received on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> str:
        return self.headers.get("grpc-status", "")

    @property
    def text(self) -> str:
        return self.headers.get("grpc-message", "")


class RawConnection:
    """A client connection; `answers` are by stream."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._http = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # Of a text of 70 KiB Huffman coding takes h2 seconds.
        self._http.encoder.encode = partial(self._http.encoder.encode, huffman=False)  # type: ignore[method-assign]
        # h2 takes nothing after a GOAWAY, behind which HTTP/2 lets a server answer what it has taken.
        machine = self._http.state_machine
        goes_on = {(ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)}
        machine._transitions = {**machine._transitions, **goes_on}
        self._http.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None  # its error code
        self.pings = 0  # that were answered
        self._flush()

    def send(self, headers: Headers, message: bytes, *, end: bool = True) -> Answer:
        """Begin a call."""
        stream = self._http.get_next_available_stream_id()
        self._http.send_headers(stream, _fields(headers))
        self._http.send_data(stream, framed(message), end_stream=end)
        self._flush()
        return self.answers.setdefault(stream, Answer())

    def send_trailers(self, answer: Answer, trailers: Headers) -> None:
        """End a call with trailers."""
        stream = next(stream for stream, each in self.answers.items() if each is answer)
        self._http.send_headers(stream, _fields(trailers), end_stream=True)
        self._flush()

    def ping(self) -> None:
        self._http.ping(b"12345678")
        self._flush()

    def until(self, happened: Callable[[], bool]) -> None:
        """Read until the condition holds. Raises `ConnectionError` if the connection ends first."""
        while not happened():
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the connection was closed")
            for event in self._http.receive_data(data):
                self._take(event)
            self._flush()

    def close(self) -> None:
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._http.data_to_send())

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self.answers[event.stream_id].headers |= {str(name): str(value) for name, value in event.headers}
            case DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.answers[event.stream_id].ended = True
            case StreamReset():
                self.answers[event.stream_id].reset = int(event.error_code or 0)
                self.answers[event.stream_id].ended = True
            case PingAckReceived():
                self.pings += 1
            case ConnectionTerminated():
                self.goaway = int(event.error_code or 0)


def _fields(headers: Headers) -> list[HeaderTuple]:
    return [HeaderTuple(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


@contextmanager
def connected(address: str) -> Iterator[RawConnection]:
    made = RawConnection(int(address.rpartition(":")[2]))
    try:
        yield made
    finally:
        made.close()
