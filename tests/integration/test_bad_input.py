"""Invalid inputs to the real stack, one row each: status, and the names in the error text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, noise_picture, objects, png_header, sales
from triptych.datatypes import Array

BAD, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PNG = noise_picture()


def sales_with(**changes: Array) -> pb.ModelInferRequest:
    return infer_request("sales_forecast_de", sales(2) | changes)


def sales_without(name: str) -> pb.ModelInferRequest:
    return infer_request("sales_forecast_de", {key: value for key, value in sales(2).items() if key != name})


def changed(name: str, row: int, value: float) -> pb.ModelInferRequest:
    tensors = sales(3)
    tensors[name][row, 1] = value
    return infer_request("sales_forecast_de", tensors)


def digits(*pictures: bytes, **more: Any) -> pb.ModelInferRequest:
    tensors = {"image": objects(*pictures)}
    if "box" in more:
        tensors["box"] = np.array(more.pop("box"), np.int32)
    return infer_request("digits_de", tensors, **more)


def doubled() -> pb.ModelInferRequest:
    request = sales_with()
    request.inputs.add().CopyFrom(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])
    return request


def short_of_bytes() -> pb.ModelInferRequest:
    request = sales_with()
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    return request


def unknown_output() -> pb.ModelInferRequest:
    request = sales_with()
    request.outputs.add(name="unit")
    return request


ROWS: dict[str, tuple[Callable[[], pb.ModelInferRequest], grpc.StatusCode, list[str]]] = {
    "unknown model": (lambda: infer_request("sales_zz", sales()), MISSING, ["'sales_zz'", "known:"]),
    "unknown family": (
        lambda: infer_request("weather", sales(), route="DE"),
        MISSING,
        ["'weather'", "known:"],
    ),
    "unknown route": (
        lambda: infer_request("sales_forecast", sales(), route="ZZ"),
        MISSING,
        ["'sales_forecast'", "'ZZ'", "48 in all"],
    ),
    "family without a route": (
        lambda: infer_request("sales_forecast", sales()),
        BAD,
        ["'route'", "got none"],
    ),
    "route of the wrong type": (
        lambda: infer_request("sales_forecast", sales(), route=7),
        BAD,
        ["'route'", "want a string", "got a int"],
    ),
    "route that contradicts the model": (
        lambda: infer_request("sales_forecast_de", sales(), route="FR"),
        BAD,
        ["'route'", "'DE'", "'FR'"],
    ),
    "unknown version": (
        lambda: infer_request("sales_forecast_de", sales(), version="9"),
        MISSING,
        ["no version '9'", "known: 1"],
    ),
    "version that is no number": (
        lambda: infer_request("sales_forecast_de", sales(), version="new"),
        MISSING,
        ["no version 'new'"],
    ),
    "missing input": (lambda: sales_without("price"), BAD, ["'price'"]),
    "extra input": (lambda: sales_with(weather=np.zeros((2, 7), np.float32)), BAD, ["'weather'"]),
    "doubled input": (doubled, BAD, ["'history'", "a second one"]),
    "wrong datatype": (
        lambda: sales_with(history=np.ones((2, 28), np.float64)),
        BAD,
        ["'history'", "FP32[n,28]", "FP64[2,28]"],
    ),
    "wrong rank": (lambda: sales_with(history=np.ones(28, np.float32)), BAD, ["'history'", "FP32[28]"]),
    "wrong shape": (
        lambda: sales_with(history=np.ones((2, 27), np.float32)),
        BAD,
        ["'history'", "FP32[2,27]"],
    ),
    "no dimension at all": (lambda: sales_with(history=np.ones((), np.float32)), BAD, ["'history'"]),
    "wrong byte count": (short_of_bytes, BAD, ["'history'", "224 bytes", "223"]),
    "rows that differ": (lambda: sales_with(price=np.ones((3, 7), np.float32)), BAD, ["rows", "3", "2"]),
    "zero rows": (lambda: infer_request("sales_forecast_de", sales(0)), BAD, ["1 to 256 rows", "got none"]),
    "too many rows": (lambda: infer_request("sales_forecast_de", sales(257)), BAD, ["256", "257"]),
    "NaN": (lambda: changed("history", 2, float("nan")), BAD, ["'history'", "row 2"]),
    "infinity": (lambda: changed("history", 1, float("inf")), BAD, ["'history'", "row 1"]),
    "below the range": (lambda: changed("history", 0, -1), BAD, ["'history'", "row 0", "-1"]),
    "at the open end of the range": (lambda: changed("price", 0, 0), BAD, ["'price'", "row 0"]),
    "unknown output": (unknown_output, BAD, ["'unit'", "units"]),
    "empty picture": (lambda: digits(PNG, b""), BAD, ["'image'", "row 1"]),
    "truncated PNG": (lambda: digits(PNG[:-40]), BAD, ["'image'", "row 0"]),
    "truncated JPEG": (lambda: digits(noise_picture(format=".jpg")[:-200]), BAD, ["'image'", "row 0"]),
    "no picture": (lambda: digits(PNG, PNG, b"hello, world"), BAD, ["'image'", "row 2", "PNG"]),
    "wrong format": (lambda: digits(b"GIF89a" + bytes(100)), BAD, ["'image'", "row 0", "JPEG"]),
    "too many pixels": (lambda: digits(png_header(65_000, 65_000)), BAD, ["'image'", "row 0", "65000"]),
    "too many bytes": (lambda: digits(PNG + bytes(11 << 20)), BAD, ["'image'", "row 0", "bytes"]),
    "box outside": (lambda: digits(PNG, box=[[30, 0, 20, 10]]), BAD, ["'box'", "row 0", "40"]),
    "box of no size": (lambda: digits(PNG, box=[[0, 0, 0, 10]]), BAD, ["'box'", "row 0"]),
    "box of negative size": (lambda: digits(PNG, box=[[5, 5, -1, 10]]), BAD, ["'box'", "row 0"]),
    "box at a negative place": (lambda: digits(PNG, box=[[-1, 0, 5, 10]]), BAD, ["'box'", "row 0"]),
    "box that overflows": (lambda: digits(PNG, box=[[2**31 - 1, 0, 2**31 - 1, 1]]), BAD, ["'box'", "row 0"]),
    "parameter of the wrong type": (lambda: digits(PNG, top_k="three"), BAD, ["'top_k'", "three"]),
    "parameter over its limit": (lambda: digits(PNG, top_k=11), BAD, ["'top_k'", "11"]),
    "parameter that nobody knows": (lambda: digits(PNG, topk=3), BAD, ["'topk'"]),
}


@pytest.mark.parametrize("row", ROWS)
def test_bad_input_is_named(caller: Caller, row: str) -> None:
    make, code, words = ROWS[row]
    got, text = caller.refused(make())
    assert got is code, text
    assert all(word in text for word in words), text


def test_bytes_that_are_no_message(caller: Caller) -> None:
    code, text = caller.refused(b"\xff\xff\xff")
    assert code is BAD
    assert "inference.ModelInferRequest" in text


def test_a_message_over_the_limit(caller: Caller) -> None:
    code, text = caller.refused(bytes((64 << 20) + 1))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(64 << 20) in text


@pytest.mark.parametrize("timeout_s", [0.0, 0.0001])
def test_a_deadline_that_is_too_short(caller: Caller, timeout_s: float) -> None:
    code, _ = caller.refused(infer_request("sales_forecast_de", sales()), timeout_s)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_after_all_of_it_a_good_request_is_answered(caller: Caller) -> None:
    for make, _, _ in ROWS.values():
        caller.refused(make())
    assert caller.infer(infer_request("sales_forecast_de", sales())).model_name == "sales_forecast_de"
