"""Every method and every field of the protocol is decided on: served, or refused by name.

The tables are held against the protobuf descriptors: a field of a newer tritonclient fails here until it is in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from tests.fuzz.wire_stages import Stages
from tests.integration.messages import infer_request, sales
from triptych.errors import TriptychError
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.protocol.status import status_of
from triptych.server.inference_servicer import SERVICE

SERVED_METHODS = {
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStreamInfer"),
    *("ModelConfig", "ModelStatistics"),
}
REFUSED_METHODS = {
    "RepositoryIndex": "model repository",
    "RepositoryModelLoad": "model repository",
    "RepositoryModelUnload": "model repository",
    "SystemSharedMemoryStatus": "shared memory",
    "SystemSharedMemoryRegister": "shared memory",
    "SystemSharedMemoryUnregister": "shared memory",
    "CudaSharedMemoryStatus": "shared memory",
    "CudaSharedMemoryRegister": "shared memory",
    "CudaSharedMemoryUnregister": "shared memory",
    "TraceSetting": "otlp_endpoint",
    "LogSettings": "log_level",
}

Make = Callable[[pb.ModelInferRequest], Any]


@dataclass(frozen=True)
class Case:
    """A request that differs from a good one in this field, with the text of its refusal or a check of its answer."""

    change: Make
    refused: str = ""
    answered: Callable[[pb.ModelInferResponse], bool] = lambda answer: True


def put(**fields: Any) -> Make:
    def change(request: pb.ModelInferRequest) -> None:
        for name, value in fields.items():
            setattr(request, name, value)

    return change


def route(kind: str, value: Any) -> Make:
    return lambda request: setattr(request.parameters["route"], kind, value)


def typed(datatype: str, field: str, value: Any) -> Make:
    """Replace raw inputs by typed ones, `history` by these."""

    def change(request: pb.ModelInferRequest) -> None:
        del request.raw_input_contents[:]
        for tensor, array in zip(request.inputs, sales(1).values(), strict=True):
            own = "bool_contents" if array.dtype == np.bool_ else "fp32_contents"
            getattr(tensor.contents, own).extend(array.ravel().tolist())
        request.inputs[0].datatype = datatype
        request.inputs[0].contents.Clear()
        getattr(request.inputs[0].contents, field).extend([value] * 28)

    return change


def contents_of(datatype: str, field: str, value: Any = 1) -> Case:
    """The values are read, and the contract refuses the datatype."""
    return Case(typed(datatype, field, value), f"'history': want FP32[n,28], got {datatype}[1,28]")


INPUT, OUTPUT = "ModelInferRequest.InferInputTensor", "ModelInferRequest.InferRequestedOutputTensor"
FIELDS: dict[str, Case] = {
    "ModelInferRequest.model_name": Case(put(model_name="nobody"), "'nobody'"),
    "ModelInferRequest.model_version": Case(put(model_version="9"), "no version '9'"),
    "ModelInferRequest.id": Case(put(id="own"), answered=lambda answer: answer.id == "own"),
    "ModelInferRequest.parameters": Case(route("string_param", "FR"), "'FR'"),
    "ModelInferRequest.inputs": Case(lambda request: request.inputs.pop(), "each of the 2 inputs"),
    "ModelInferRequest.outputs": Case(
        lambda request: request.outputs.add(name="total"),
        answered=lambda answer: [output.name for output in answer.outputs] == ["total"],
    ),
    "ModelInferRequest.raw_input_contents": Case(lambda request: request.raw_input_contents.pop(), "got 2"),
    f"{INPUT}.name": Case(lambda request: setattr(request.inputs[0], "name", "x"), "'history'"),
    f"{INPUT}.datatype": Case(lambda request: setattr(request.inputs[0], "datatype", "INT32"), "got INT32[1,28]"),
    f"{INPUT}.shape": Case(lambda request: request.inputs[0].shape.append(1), "got FP32[1,28,1]"),
    f"{INPUT}.parameters": Case(
        lambda request: setattr(request.inputs[0].parameters["binary_data_size"], "int64_param", 113),
        "input 'history': want 113 bytes, as in its binary_data_size, got 112 bytes",
    ),
    f"{INPUT}.contents": Case(
        lambda request: request.inputs[0].contents.fp32_contents.append(1), "want typed contents or raw ones, got both"
    ),
    f"{OUTPUT}.name": Case(lambda request: request.outputs.add(name="nothing"), "unknown output 'nothing'"),
    f"{OUTPUT}.parameters": Case(
        lambda request: setattr(request.outputs.add(name="units").parameters["x"], "int64_param", 1),
        "output 'units', parameter 'x': want no parameters",
    ),
    "InferParameter.bool_param": Case(route("bool_param", True), "'True'"),
    "InferParameter.int64_param": Case(route("int64_param", 77), "'77'"),
    "InferParameter.string_param": Case(route("string_param", "XX"), "'XX'"),
    "InferParameter.double_param": Case(route("double_param", 1.5), "'1.5'"),
    "InferParameter.uint64_param": Case(route("uint64_param", 2**64 - 1), f"'{2**64 - 1}'"),
    "InferTensorContents.bool_contents": contents_of("BOOL", "bool_contents", True),
    "InferTensorContents.int_contents": contents_of("INT16", "int_contents"),
    "InferTensorContents.int64_contents": contents_of("INT64", "int64_contents"),
    "InferTensorContents.uint_contents": contents_of("UINT8", "uint_contents"),
    "InferTensorContents.uint64_contents": contents_of("UINT64", "uint64_contents"),
    "InferTensorContents.fp32_contents": Case(typed("FP32", "fp32_contents", float("nan")), "'history': want finite"),
    "InferTensorContents.fp64_contents": contents_of("FP64", "fp64_contents"),
    "InferTensorContents.bytes_contents": contents_of("BYTES", "bytes_contents", b"x"),
}

# The other methods: their requests by the method that takes them; `name` and `version` mean a model in each.
OTHER_FIELDS = {
    **{f"{request}.name": "nobody" for request in ("ModelMetadataRequest", "ModelConfigRequest")},
    **{f"{request}.version": "9" for request in ("ModelMetadataRequest", "ModelConfigRequest")},
    "ModelStatisticsRequest.name": "nobody",
    "ModelStatisticsRequest.version": "9",
    "ModelReadyRequest.name": "nobody",
    "ModelReadyRequest.version": "9",
}


def good() -> pb.ModelInferRequest:
    return infer_request("sales_forecast_de", sales(1))


async def infer(
    request: pb.ModelInferRequest | bytes, stage: str = "preprocess"
) -> tuple[str, str, pb.ModelInferResponse]:
    """The code, the sentence, the answer."""
    stages = Stages()
    try:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        code, text, answer = await stages.infer(getattr(stages, stage), data)
    finally:
        stages.close()
    return code, text, pb.ModelInferResponse.FromString(answer)


def fields_of(message: Descriptor, seen: set[str]) -> Iterator[str]:
    """All fields of a message and of those in it; a map's entries are not messages of their own."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        inner = field.message_type
        if not message.GetOptions().map_entry:
            yield field.full_name.removeprefix("inference.")
        if field.type == FieldDescriptor.TYPE_MESSAGE and inner is not None:
            yield from fields_of(inner, seen)


def test_every_method_is_decided_on() -> None:
    assert {method.name for method in SERVICE.methods} == SERVED_METHODS | set(REFUSED_METHODS)


def test_every_field_of_a_served_method_is_decided_on() -> None:
    seen: set[str] = set()
    fields = {
        field
        for method in SERVICE.methods
        if method.name in SERVED_METHODS
        for field in fields_of(method.input_type, seen)
    }
    assert fields == set(FIELDS) | set(OTHER_FIELDS)


@pytest.mark.parametrize("field", FIELDS)
async def test_a_field_of_an_infer_request_is_served_or_refused_by_name(field: str) -> None:
    request, case = good(), FIELDS[field]
    case.change(request)
    assert request != good()
    code, text, answer = await infer(request)
    if case.refused:
        assert code in ("INVALID_ARGUMENT", "NOT_FOUND")
        assert case.refused in text
    else:
        assert code == "OK", text
        assert case.answered(answer)
        assert not case.answered((await infer(good()))[2])


async def ask(method: str, data: bytes, stage: str = "preprocess") -> tuple[str, str, Any]:
    """The code, the sentence, the answer of any unary method."""
    stages = Stages()
    stages.close()
    table = {each.name: each for each in methods_of(SERVICE, getattr(stages, stage)).methods}
    try:
        return "OK", "", await table[method].answer(table[method].request.FromString(data), Call.within(5))
    except TriptychError as error:
        code, text = status_of(error)
        return code.name, text, None


@pytest.mark.parametrize("field", OTHER_FIELDS)
async def test_a_field_of_another_method_is_served(field: str) -> None:
    name, _, field_name = field.partition(".")
    method = next(each for each in SERVICE.methods if each.input_type.name == name)
    fields = {"name": "sales_forecast_de", field_name: OTHER_FIELDS[field]}
    code, text, answer = await ask(method.name, GetMessageClass(method.input_type)(**fields).SerializeToString())
    if method.name == "ModelReady":
        assert not answer.ready
    else:
        assert (code, OTHER_FIELDS[field] in text) == ("NOT_FOUND", True), text


@pytest.mark.parametrize("method", REFUSED_METHODS)
@pytest.mark.parametrize("stage", ["preprocess", "postprocess"])
async def test_a_method_that_is_not_offered_says_what_to_do_instead(stage: str, method: str) -> None:
    code, text, _ = await ask(method, b"", stage)
    assert code == "UNIMPLEMENTED"
    assert f"{method} is not offered here: " in text
    assert REFUSED_METHODS[method] in text


UNKNOWN = b"\xf8\x07\x01"  # field 127, a number


def unknown_in(place: str) -> bytes:
    request = good()
    match place:
        case "request":
            return bytes(request.SerializeToString() + UNKNOWN)
        case "input":
            request.inputs[0].MergeFromString(UNKNOWN)
        case "contents":
            typed("FP32", "fp32_contents", 1)(request)
            request.inputs[0].contents.MergeFromString(UNKNOWN)
        case "output":
            request.outputs.add(name="units").MergeFromString(UNKNOWN)
        case "parameter":
            request.parameters["route"].MergeFromString(UNKNOWN)
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("place", ["request", "input", "contents", "output", "parameter"])
async def test_a_field_that_the_protocol_does_not_have_yet_is_refused(place: str) -> None:
    code, text, _ = await infer(unknown_in(place))
    assert code == "INVALID_ARGUMENT"
    assert ("want a value, got none" if place == "parameter" else "field 127") in text


@pytest.mark.parametrize("method", sorted(SERVED_METHODS - {"ModelInfer", "ModelStreamInfer"}))
async def test_so_it_is_in_the_other_methods(method: str) -> None:
    code, text, _ = await ask(method, UNKNOWN)
    assert (code, "field 127" in text) == ("INVALID_ARGUMENT", True)
