"""Triton's parameters of a request: served, or refused by name; the order of outputs and the answers of a stream."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.fuzz.wire_stages import Stages
from tests.integration.messages import infer_request, objects, sales
from tests.unit.triptych.protocol.test_fields import good, infer
from triptych.errors import InvalidRequest
from triptych.protocol.status import INTERNAL_TEXT
from triptych.protocol.tensors import decode_request

BAD = "INVALID_ARGUMENT"


def with_parameter(name: str, **value: Any) -> pb.ModelInferRequest:
    request = good()
    for kind, given_value in value.items():
        setattr(request.parameters[name], kind, given_value)
    return request


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (with_parameter("priority", uint64_param=2), "parameter 'priority': want none: requests .* got 2"),
        (with_parameter("sequence_id", int64_param=7), "parameter 'sequence_id': want none: models .* no state"),
        (with_parameter("sequence_id", string_param="a"), "'sequence_id': want none"),
        (with_parameter("sequence_start", bool_param=True), "'sequence_start': want none"),
        (with_parameter("sequence_end", bool_param=True), "'sequence_end': want none"),
        (with_parameter("binary_data_output", bool_param=True), "'binary_data_output': want no parameters"),
        (with_parameter("timeout", string_param="1s"), "'timeout': want microseconds, .* got '1s'"),
        (with_parameter("timeout", bool_param=True), "'timeout': want microseconds, .* got True"),
        (with_parameter("timeout", int64_param=-1), "'timeout': want microseconds"),
        (with_parameter("timeout", uint64_param=2**64 - 1), "'timeout': want microseconds"),
        (with_parameter("triton_final_response", bool_param=True), "'triton_final_response': want none that begins so"),
        (with_parameter("triptych_revision", string_param="x"), "'triptych_revision': want none that begins so"),
        (with_parameter("triton_enable_empty_final_response", string_param="yes"), "want true or false, got 'yes'"),
        (with_parameter("triptych_background", int64_param=1), "want true or false, got 1"),
        (with_parameter("headers", string_param="x"), "parameter 'headers': want no parameters"),
        (with_parameter("route", bool_param=True), "'route'"),
    ],
)
async def test_a_parameter_of_tritons_that_is_not_served_is_refused_by_name(
    request_: pb.ModelInferRequest, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        raise InvalidRequest((await infer(request_))[1])


@pytest.mark.parametrize(
    "request_",
    [
        with_parameter("priority", uint64_param=0),
        with_parameter("sequence_id", int64_param=0),
        with_parameter("sequence_id", string_param=""),
        with_parameter("sequence_start", bool_param=False),
        with_parameter("timeout", int64_param=0),
        with_parameter("timeout", uint64_param=10**10),
        with_parameter("triton_enable_empty_final_response", bool_param=True),
        with_parameter("triptych_background", bool_param=False),
    ],
)
async def test_one_that_means_the_same_as_none_is_taken(request_: pb.ModelInferRequest) -> None:
    assert (await infer(request_))[0] == "OK"


async def test_of_many_requests_those_in_the_background_are_refused_first() -> None:
    stages = Stages()
    background = with_parameter("triptych_background", bool_param=True).SerializeToString()
    assert (await stages.infer(stages.preprocess, background))[0] == "OK"
    stages.preprocess._in_flight = stages.preprocess.settings.max_in_flight // 2
    code, text, _ = await stages.infer(stages.preprocess, background)
    assert (code, text) == (
        "RESOURCE_EXHAUSTED",
        "preprocess already works on 256 requests, its limit; try again later",
    )
    assert (await stages.infer(stages.preprocess, good().SerializeToString()))[0] == "OK"
    stages.close()


async def test_a_timeout_in_microseconds_is_a_deadline() -> None:
    assert (await infer(with_parameter("timeout", int64_param=1)))[0] == "DEADLINE_EXCEEDED"
    assert (await infer(with_parameter("timeout", int64_param=10**9)))[0] == "OK"


async def test_it_ends_a_request_that_is_in_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """triton-inference-server/server#7512: the answer came when the work before it had ended, 80 s late."""

    async def call() -> tuple[str, str, bytes]:
        stages = Stages()

        async def hang(_member: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(stages.preprocess, "_pipeline", SimpleNamespace(infer=hang))
        try:
            return await stages.infer(
                stages.preprocess, with_parameter("timeout", int64_param=50_000).SerializeToString()
            )
        finally:
            stages.close()

    code, text, _ = await call()
    assert (code, text) == ("DEADLINE_EXCEEDED", "the request's timeout of 50000 us has passed")


async def test_outputs_come_in_the_order_in_which_they_are_asked_for() -> None:
    """triton-inference-server/dali_backend#18: names and contents were swapped."""
    request = good()
    request.outputs.add(name="total")
    request.outputs.add(name="units")
    every, chosen = (await infer(good()))[2], (await infer(request))[2]
    assert [output.name for output in chosen.outputs] == ["total", "units"]
    assert list(chosen.raw_output_contents) == list(reversed(every.raw_output_contents))


@pytest.mark.parametrize("elements", [[b""], [b"\0"], [b"a\0\0"], [b"\xff\xfe"], [b"", b"\0" * 5]])
def test_bytes_are_taken_as_they_are(elements: list[bytes]) -> None:
    """triton-inference-server/server#2545, kserve/kserve#3731: trailing zeros were lost, other bytes no text."""
    request = infer_request("m", {"t": objects(*elements)})
    typed = pb.ModelInferRequest()
    typed.inputs.add(name="t", datatype="BYTES", shape=[len(elements)]).contents.bytes_contents.extend(elements)
    assert decode_request(request)["t"].tolist() == decode_request(typed)["t"].tolist() == elements


async def test_each_answer_of_a_stream_is_its_requests_last_one() -> None:
    async def call() -> list[pb.ModelStreamInferResponse]:
        stages = Stages()
        try:
            bad = infer_request("nobody", sales(1), id="2")
            return await stages.stream(stages.preprocess, [m.SerializeToString() for m in (good(), bad)] + [b"\xff"])
        finally:
            stages.close()

    answer, refused, unread = await call()
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    assert refused.infer_response.parameters["triton_final_response"].bool_param
    assert refused.infer_response.id == "2"
    assert refused.error_message.startswith("NOT_FOUND: unknown model")
    assert unread.error_message.startswith("INVALID_ARGUMENT: want an encoded")
    assert "triton_final_response" not in (await infer(good()))[2].parameters


async def test_a_fault_of_ours_in_a_stream_is_logged_whole(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def call() -> list[pb.ModelStreamInferResponse]:
        stages = Stages()
        monkeypatch.setattr(stages.preprocess, "_pipeline", None)
        try:
            return await stages.stream(stages.preprocess, [good().SerializeToString()])
        finally:
            stages.close()

    (answer,) = await call()
    assert answer.error_message.startswith(f"INTERNAL: {INTERNAL_TEXT} (request ")
    assert "'NoneType' object has no attribute 'infer'" in "".join(lines)


async def test_the_size_of_raw_contents_may_be_stated_and_has_to_be_right() -> None:
    """KServe's client sends it unasked."""
    request = good()
    request.inputs[0].parameters["binary_data_size"].int64_param = 112
    assert (await infer(request))[0] == "OK"
    del request.raw_input_contents[:]
    assert "'history': want raw contents beside binary_data_size, got typed contents" in (await infer(request))[1]
    request = good()
    request.inputs[0].parameters["binary_data_size"].string_param = "112"
    assert "'history': want no parameters of an input but binary_data_size" in (await infer(request))[1]


async def test_shared_memory_for_one_of_three_inputs_is_not_about_the_number_of_contents() -> None:
    request = good()
    request.inputs[2].parameters["shared_memory_region"].string_param = "r"
    del request.raw_input_contents[2]
    code, text, _ = await infer(request)
    assert (code, "input 'promotion'" in text, "shared memory" in text) == (BAD, True, True)


def output(parameter: str) -> pb.ModelInferRequest:
    request = good()
    request.outputs.add(name="units").parameters[parameter].int64_param = 2
    return request


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        ("classification", "without class_count"),
        ("shared_memory_region", "shared memory"),
        ("shared_memory_byte_size", "shared memory"),
        ("shared_memory_offset", "shared memory"),
        ("binary_data", "want no parameters of an output"),
    ],
)
@pytest.mark.parametrize("stage", ["preprocess", "postprocess"])
async def test_a_parameter_of_an_output_is_refused_by_name(stage: str, parameter: str, says: str) -> None:
    request = output(parameter)
    request.model_version = "1"
    code, text, _ = await infer(request, stage)
    assert code == BAD
    assert f"output 'units', parameter '{parameter}': want" in text
    assert says in text


async def test_an_output_that_is_asked_for_twice_is_refused() -> None:
    request = good()
    request.outputs.add(name="units")
    request.outputs.add(name="units")
    assert "output 'units': want it asked for once" in (await infer(request))[1]
