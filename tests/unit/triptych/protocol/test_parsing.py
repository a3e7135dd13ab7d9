"""Messages that would take many times their bytes in memory are refused before they are parsed, and no others are."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from triptych.errors import InvalidRequest
from triptych.protocol import controller_pb2 as cp
from triptych.protocol import parsing
from triptych.protocol.parsing import MAX_FIELDS, check_parsed_size, parser

COUNT = 1 << 15
LIMIT = 256 << 10
TENSOR = pb.ModelInferRequest.InferInputTensor


@pytest.fixture(autouse=True)
def estimates_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "FREE_BYTES", 0)


def delimited(number: int, inner: bytes) -> bytes:
    """A field of a length and that many bytes."""
    return bytes((number << 3 | 2,)) + varint(len(inner)) + inner


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes(made) + bytes((value,))


def tensor_of(contents: bytes) -> bytes:
    return delimited(5, delimited(5, contents))


def keys(count: int) -> bytes:
    return b"".join(delimited(4, delimited(1, b"%x" % number)) for number in range(count))


# Of a few bytes of the wire each, which take up to 90 in memory; a message of 32 MiB took 1.6 GB (2026-11-29).
BOMBS: dict[str, tuple[type[Message], bytes]] = {
    "inputs": (pb.ModelInferRequest, b"\x2a\0" * COUNT),
    "outputs": (pb.ModelInferRequest, b"\x32\0" * COUNT),
    "raw contents": (pb.ModelInferRequest, b"\x3a\0" * COUNT),
    "parameters": (pb.ModelInferRequest, b"\x22\0" * COUNT),
    "names of parameters": (pb.ModelInferRequest, keys(COUNT)),
    "ids": (pb.ModelInferRequest, b"\x1a\0" * COUNT),
    "parameters of an input": (pb.ModelInferRequest, delimited(5, b"\x22\0" * COUNT)),
    "texts of an input": (pb.ModelInferRequest, tensor_of(b"\x42\0" * COUNT)),
    "numbers of an input": (pb.ModelInferRequest, tensor_of(delimited(3, b"\1" * 2 * COUNT))),
    "numbers of an input, one by one": (pb.ModelInferRequest, tensor_of(b"\x18\1" * COUNT)),
    "sizes of an input": (pb.ModelInferRequest, delimited(5, delimited(3, b"\1" * 2 * COUNT))),
    "fields that are unknown": (pb.ModelInferRequest, b"\xa0\x06\0" * (MAX_FIELDS + 1)),
    "groups that are unknown": (pb.ModelInferRequest, b"\xa3\x06\xa4\x06" * (MAX_FIELDS + 1)),
    "texts of the controller": (cp.EnsureLoadedRequest, b"\x22\0" * COUNT),
    "text that is too long": (cp.GetContractRequest, delimited(1, b"x" * 3 * LIMIT)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_message_that_grows_in_memory_is_refused_before_it_is_parsed(name: str) -> None:
    message, data = BOMBS[name]
    assert message.FromString(data) is not None  # the parser takes it
    with pytest.raises(InvalidRequest, match=rf"this one would take too much memory \({len(data)} bytes before"):
        parser(message, LIMIT)(data)


LARGE: dict[str, dict[str, Any]] = {
    "raw contents": {"raw_input_contents": [bytes(LIMIT - 100)]},
    "pictures": {"inputs": [TENSOR(contents=pb.InferTensorContents(bytes_contents=[bytes(LIMIT // 8)] * 7))]},
    "floats": {"inputs": [TENSOR(contents=pb.InferTensorContents(fp32_contents=[1.5] * (LIMIT // 4 - 100)))]},
    "doubles": {"inputs": [TENSOR(contents=pb.InferTensorContents(fp64_contents=[1.5] * (LIMIT // 8 - 100)))]},
    "large numbers": {"inputs": [TENSOR(contents=pb.InferTensorContents(int64_contents=[1 << 50] * (LIMIT // 9)))]},
    "truths": {"inputs": [TENSOR(contents=pb.InferTensorContents(bool_contents=[True] * (LIMIT - 100)))]},
    "texts": {"inputs": [TENSOR(contents=pb.InferTensorContents(bytes_contents=[b"twenty bytes of text"] * 10_000))]},
}


@pytest.mark.parametrize("name", LARGE)
def test_tensors_up_to_the_limit_of_a_message_are_parsed(name: str) -> None:
    message = pb.ModelInferRequest(**LARGE[name])
    assert LIMIT // 2 < message.ByteSize() <= LIMIT
    assert parser(pb.ModelInferRequest, LIMIT)(message.SerializeToString()) == message


SMALL = st.builds(
    pb.ModelInferRequest,
    model_name=st.text(max_size=5),
    inputs=st.lists(
        st.builds(
            TENSOR,
            name=st.text(max_size=200),
            shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
            contents=st.builds(
                pb.InferTensorContents,
                int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
                bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
            ),
        ),
        max_size=3,
    ),
    raw_input_contents=st.lists(st.binary(max_size=300), max_size=3),
)


@given(message=SMALL)
def test_the_estimate_reads_every_message_to_its_end(message: pb.ModelInferRequest) -> None:
    data = message.SerializeToString()
    check_parsed_size(data, message.DESCRIPTOR, 1 << 20)
    if len(data) > 100:
        with pytest.raises(InvalidRequest):
            check_parsed_size(data * 100, message.DESCRIPTOR, 100)


@settings(max_examples=300)
@given(data=st.binary(max_size=60))
def test_no_bytes_break_the_estimate(data: bytes) -> None:
    try:
        check_parsed_size(data, pb.ModelInferRequest.DESCRIPTOR, 1000)
    except InvalidRequest as error:
        assert "too much memory" in str(error)  # noqa: PT017 - it may pass as well
