"""Nearly valid ModelInferRequests: valid ones, mutated by structure and by byte, from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.integration.messages import infer_request, noise_picture, objects, sales
from triptych.datatypes import TO_NUMPY
from triptych.protocol.tensors import encode_request

DATATYPES = [*TO_NUMPY, "BF16", "STRING", "fp32", "", "FP32\0", "é" * 300]
SIZES = [-(2**63), -1, 0, 1, 2, 7, 28, 256, 257, 65_536, 2**31, 2**32, 2**40, 2**62, 2**63 - 1]
WORDS = [
    *("", "1", "01", " 1", "-1", "latest", "９", "99999999999999999999", "DE", "FR", "zz", "units", "score"),
    *("sales_forecast", "sales_forecast_de", "digits_de", "history", "image", "\0", "a\nb", "é", "\U0001f600" * 40),
    *("production", "gone"),
]
PARAMETERS = [
    *("route", "alias", "traffic_key", "top_k", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"),
    *("triton_enable_empty_final_response", "triton_x", "triptych_x", "classification", "shared_memory_region"),
    *("shared_memory_byte_size", "binary_data_size", "headers", "content_type", "", "x" * 200),
]
NUMBERS = [0, 1, -1, 2, 3, 10, 11, 2**31, -(2**63), 2**63 - 1]
DOUBLES = [0.0, -0.0, 1.5, float("nan"), float("inf"), 1e308]
MAX_BYTES = 1 << 20  # of a message, about
CONTENTS = [field.name for field in pb.InferTensorContents.DESCRIPTOR.fields]

Change = Callable[[random.Random, pb.ModelInferRequest], None]


def valid(rng: random.Random) -> pb.ModelInferRequest:
    """A valid request; it is for postprocess if it names a version and a model output."""
    rows = rng.choice([1, 1, 1, 2, 5])
    match rng.randrange(4):
        case 0:
            return infer_request("digits_de", {"image": objects(*[_PICTURE] * rows)}, top_k=rng.randrange(1, 10))
        case 1:
            return infer_request("sales_forecast", sales(rows), route=rng.choice(["DE", "FR"]), id="id")
        case 2:
            return _typed(infer_request("sales_forecast_de", {}), rows)
        case _:
            return infer_request("sales_forecast_de", sales(rows), version="1", traffic_key="k")


def for_postprocess(rng: random.Random) -> pb.ModelInferRequest:
    """A request with a model's outputs, as preprocess sends it."""
    rows = rng.choice([1, 2, 5])
    if rng.random() < 0.5:
        return infer_request("digits_de", {"logits": np.ones((rows, 10), np.float32)}, version="1", top_k=3)
    return infer_request("sales_forecast_de", {"units": np.ones((rows, 7), np.float32)}, version="1")


def changed(rng: random.Random, request: pb.ModelInferRequest) -> bytes:
    """Serialised request with some mutations."""
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6])):
        rng.choice(CHANGES)(rng, request)
        if request.ByteSize() > MAX_BYTES:
            break
    data: bytes = request.SerializeToString()
    if rng.random() < 0.25:
        data = _bytes_changed(rng, data)
    if rng.random() < 0.05:
        data += rng.choice([b"\xf8\x07\x01", b"\xfa\x7f\x03abc", b"\x8b\x80"])
    return data


def _typed(request: pb.ModelInferRequest, rows: int) -> pb.ModelInferRequest:
    for name, array in sales(rows).items():
        datatype, field = ("BOOL", "bool_contents") if array.dtype == np.bool_ else ("FP32", "fp32_contents")
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        getattr(tensor.contents, field).extend(array.ravel().tolist())
    return request


def _bytes_changed(rng: random.Random, data: bytes) -> bytes:
    held = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(held) + 1)
        match rng.randrange(4):
            case 0 if held:
                held[at % len(held)] ^= 1 << rng.randrange(8)
            case 1:
                held[at:at] = rng.randbytes(rng.choice([1, 4, 16]))
            case 2:
                del held[at : at + rng.choice([1, 4, 16])]
            case _:
                start = rng.randrange(len(held) + 1)
                held[at:at] = held[start : start + rng.choice([8, 64, 256])]
    return bytes(held)


def _word(rng: random.Random) -> str:
    word: str = rng.choice(WORDS)
    return word * rng.choice([1, 1, 1, 1, 10, 1_000, 20_000]) if rng.random() < 0.2 else word


def _parameter(rng: random.Random, parameter: Any) -> None:
    match rng.randrange(6):
        case 0:
            parameter.bool_param = rng.random() < 0.5
        case 1:
            parameter.int64_param = rng.choice(NUMBERS)
        case 2:
            parameter.string_param = _word(rng)
        case 3:
            parameter.double_param = rng.choice(DOUBLES)
        case 4:
            parameter.uint64_param = rng.choice([0, 1, 2**64 - 1])
        case _:
            parameter.SetInParent()


def _text(rng: random.Random, request: pb.ModelInferRequest) -> None:
    setattr(request, rng.choice(["model_name", "model_version", "id"]), _word(rng))


def _tensor(rng: random.Random, request: pb.ModelInferRequest) -> Any:
    return rng.choice(request.inputs) if request.inputs else request.inputs.add()


def _shape(rng: random.Random, request: pb.ModelInferRequest) -> None:
    tensor = _tensor(rng, request)
    if rng.random() < 0.5 and tensor.shape:
        tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(SIZES)
    else:
        tensor.shape[:] = [rng.choice(SIZES) for _ in range(rng.choice([0, 1, 2, 3, 8, 9, 500]))]


def _zeros(rng: random.Random, request: pb.ModelInferRequest) -> None:
    tensor = _tensor(rng, request)
    tensor.shape[:] = [0, *[rng.choice(SIZES) for _ in range(rng.randrange(4))]]
    if request.raw_input_contents:
        request.raw_input_contents[0] = b""


def _datatype(rng: random.Random, request: pb.ModelInferRequest) -> None:
    _tensor(rng, request).datatype = rng.choice(DATATYPES)


def _name(rng: random.Random, request: pb.ModelInferRequest) -> None:
    _tensor(rng, request).name = _word(rng)


def _raw(rng: random.Random, request: pb.ModelInferRequest) -> None:
    raw = request.raw_input_contents
    match rng.randrange(5):
        case 0:
            raw.append(rng.randbytes(rng.choice([0, 1, 4, 28, 112])))
        case 1 if raw:
            del raw[rng.randrange(len(raw))]
        case 2 if raw:
            at = rng.randrange(len(raw))
            raw[at] = raw[at][: rng.randrange(len(raw[at]) + 1)]
        case 3 if raw:
            at = rng.randrange(len(raw))
            raw[at] = _bytes_changed(rng, raw[at])
        case _:
            del raw[:]


def _contents(rng: random.Random, request: pb.ModelInferRequest) -> None:
    field = rng.choice(CONTENTS)
    values: list[Any] = [rng.choice([0, 1]) for _ in range(rng.choice([1, 7, 28, 2_000]))]
    if field == "bytes_contents":
        values = [rng.choice([b"", b"\0", b"a\0b", _PICTURE]) for _ in values]
    getattr(_tensor(rng, request).contents, field).extend(values)


def _inputs(rng: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs and rng.random() < 0.5:
        del request.inputs[rng.randrange(len(request.inputs))]
        return
    source = _tensor(rng, request)
    copies = min(rng.choice([1, 1, 3, 2_000]), 1 + MAX_BYTES // (1 + source.ByteSize() + len(request.inputs)))
    for _ in range(copies):
        request.inputs.add().CopyFrom(source)
        if request.raw_input_contents and rng.random() < 0.9:
            request.raw_input_contents.append(request.raw_input_contents[0])


def _request_parameter(rng: random.Random, request: pb.ModelInferRequest) -> None:
    for _ in range(rng.choice([1, 1, 2, 2_000]) if rng.random() < 0.1 else 1):
        _parameter(rng, request.parameters[rng.choice(PARAMETERS) + rng.choice(["", "", "", str(rng.random())])])


def _input_parameter(rng: random.Random, request: pb.ModelInferRequest) -> None:
    _parameter(rng, _tensor(rng, request).parameters[rng.choice(PARAMETERS)])


def _output(rng: random.Random, request: pb.ModelInferRequest) -> None:
    for _ in range(rng.choice([1, 1, 2, 1_500]) if rng.random() < 0.1 else 1):
        output = request.outputs.add(name=rng.choice(["units", "total", "label", "score", _word(rng)]))
    if rng.random() < 0.5:
        _parameter(rng, output.parameters[rng.choice(PARAMETERS)])


def _odd_values(rng: random.Random, request: pb.ModelInferRequest) -> None:
    """Special values: NaN, infinities, negative zero, the largest and the smallest."""
    request.ClearField("inputs")
    request.ClearField("raw_input_contents")
    tensors = sales(2)
    array = tensors[rng.choice(["history", "price"])]
    array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -0.0, 3.4e38, 1e-45, -1])
    encode_request(request, tensors)


_PICTURE = noise_picture(12, 8)
CHANGES: list[Change] = [
    *(_text, _shape, _zeros, _datatype, _name, _raw, _contents, _inputs),
    *(_request_parameter, _input_parameter, _output, _odd_values),
]
