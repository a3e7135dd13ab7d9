"""Bodies of REST requests and answers, without a server."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from preprocess.rest.codec import RestRequest, decode_body, encode_answer
from triptych.errors import InvalidInput, InvalidRequest
from triptych.protocol.infer_request import RequestLimits
from triptych.protocol.tensors import decode_request, encode_response

LIMITS = RequestLimits(items=8, text=100)
MANY = 1 << 20
X = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2.5]}


def decoded(document: Any, tail: bytes = b"", model: str = "m", version: str = "") -> RestRequest:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_body(head + tail, len(head) if tail else None, model, version, LIMITS)


def arrays(document: Any, tail: bytes = b"") -> dict[str, Any]:
    return {name: array.tolist() for name, array in decode_request(decoded(document, tail).message).items()}


@pytest.mark.parametrize(
    ("datatype", "data", "values"),
    [
        ("BOOL", [True, False], [True, False]),
        ("INT8", [-128, 127], [-128, 127]),
        ("UINT64", [0, 2**64 - 1], [0, 2**64 - 1]),
        ("INT64", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
        ("FP64", [1, 0.1], [1.0, 0.1]),
        ("FP32", [[1], [2]], [1.0, 2.0]),
        ("BYTES", ["ä", ""], ["ä".encode(), b""]),
    ],
)
def test_values_of_each_datatype_come_from_json(datatype: str, data: list[Any], values: list[Any]) -> None:
    assert arrays({"inputs": [{"name": "x", "datatype": datatype, "shape": [2], "data": data}]}) == {"x": values}


def test_nan_and_infinity_are_taken_as_python_and_triton_write_them() -> None:
    document = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [NaN, Infinity, -Infinity]}]}'
    (values,) = arrays(document).values()
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("number", ["3.5e38", "-1e39", "1" + "0" * 39, "1" + "0" * 400])
def test_a_number_that_fp32_does_not_hold_is_refused(number: str) -> None:
    """It became infinity, which a contract with `finite: false` takes."""
    document = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1], "data": [{number}]}}]}}'
    with pytest.raises(InvalidInput, match="input 'x': want"):
        decoded(document.encode())
    assert arrays(document.replace(number, "3.4e38").encode())["x"] == [pytest.approx(3.4e38)]


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_number_that_no_datatype_holds_is_refused(datatype: str) -> None:
    document = f'{{"inputs": [{{"name": "x", "datatype": "{datatype}", "shape": [1], "data": [-1e400]}}]}}'
    with pytest.raises(InvalidRequest, match="the number -1e400 is larger than FP64 holds"):
        decoded(document.encode())
    with pytest.raises(InvalidRequest, match="the number 1e400 is larger"):
        decoded(b'{"parameters": {"share": 1e400}}')


def test_half_of_a_surrogate_pair_is_in_no_sentence() -> None:
    for document in ({"\ud800": 1}, {"inputs": [{"\ud800": 1}]}, {"outputs": [{"\ud800": 1}]}):
        with pytest.raises(InvalidRequest) as caught:
            decoded(document)
        assert str(caught.value).encode()


def test_binary_tensors_follow_the_json_and_may_stand_beside_values() -> None:
    binary = {"name": "b", "datatype": "INT16", "shape": [2], "parameters": {"binary_data_size": 4}}
    tail = np.array([3, -4], np.int16).tobytes()
    assert arrays({"inputs": [X, binary]}, tail) == {"x": [[1.0], [2.5]], "b": [3, -4]}


def test_the_head_of_the_request_is_that_of_grpc() -> None:
    document = {
        "id": "7",
        "model_name": "m",
        "parameters": {"route": "DE", "n": 1, "f": 0.5, "flag": True},
        "inputs": [X],
        "outputs": [{"name": "y"}],
    }
    message = decoded(document).message
    assert (message.model_name, message.id, message.outputs[0].name) == ("m", "7", "y")
    kinds = {name: each.WhichOneof("parameter_choice") for name, each in message.parameters.items()}
    assert kinds == {"route": "string_param", "n": "int64_param", "f": "double_param", "flag": "bool_param"}


REFUSED = {
    "no JSON": (b"{", "want a body of JSON"),
    "no UTF-8": (b'{"id": "\xff"}', "want a body of JSON"),
    "a list": ([], "the body: want an object, got a value of type list"),
    "deeply nested": (b'{"inputs": ' + b"[" * 100_000, "want a body of JSON"),
    "an unknown field": ({"input": []}, "the body: unknown field 'input'"),
    "another model": ({"model_name": "n", "inputs": []}, "model_name: want 'm' as in the path"),
    "another version": ({"model_version": "2", "inputs": []}, "model_version: want ''"),
    "an id that is a number": ({"id": 7}, "id: want a string, got a value of type whole number"),
    "half a surrogate pair": ({"id": "\ud800"}, "id: want valid Unicode"),
    "half a surrogate pair as a parameter": ({"parameters": {"p": "\ud800"}}, "parameter 'p'"),
    "a parameter of 65 bits": ({"parameters": {"p": 2**64}}, "parameter 'p'"),
    "a parameter that is null": ({"parameters": {"p": None}}, "parameter 'p': want a string"),
    "inputs that are no list": ({"inputs": {}}, "inputs: want a list"),
    "an input without a name": ({"inputs": [{}]}, r"inputs\[0\].name: want a string"),
    "an unknown field of an input": ({"inputs": [X | {"dtype": "FP32"}]}, r"inputs\[0\]: unknown field 'dtype'"),
    "a shape of floats": ({"inputs": [X | {"shape": [2.5]}]}, "input 'x': want shape"),
    "a shape over 64 bits": ({"inputs": [X | {"shape": [2**64]}]}, "input 'x': want shape"),
    "a string for a number": ({"inputs": [X | {"data": ["1", 2]}]}, "input 'x': want numbers, got .* type string"),
    "true for a number": ({"inputs": [X | {"data": [True, 2]}]}, "input 'x': want numbers"),
    "null for a number": ({"inputs": [X | {"data": [None, 2]}]}, "input 'x': want numbers"),
    "a fraction for an integer": (
        {"inputs": [X | {"datatype": "INT32", "data": [1.5, 2]}]},
        "input 'x': want whole numbers",
    ),
    "an integer out of range": ({"inputs": [X | {"datatype": "INT32", "data": [2**31, 2]}]}, "input 'x': want data"),
    "lists and numbers mixed": ({"inputs": [X | {"data": [[1], 2]}]}, "input 'x': want lists of the same depth"),
    "numbers and lists mixed": ({"inputs": [X | {"data": [1, [2]]}]}, "input 'x': want numbers"),
    "half floats as JSON": ({"inputs": [X | {"datatype": "FP16"}]}, "input 'x': want a datatype with values in JSON"),
    "no data": ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, "either data or .*, got none"),
    "a name twice": (b'{"id": "1", "inputs": [], "id": "2"}', "want a body of JSON: an object has the name 'id' twice"),
    "a name of half a pair twice": (b'{"\\ud800": 1, "\\ud800": 2}', "an object has the name '[?]' twice"),
    "too many inputs": ({"inputs": [{}] * 9}, "want at most 8 inputs, got 9"),
    "too many outputs": ({"outputs": [{}] * 9}, "want at most 8 outputs, got 9"),
    "too many parameters": ({"parameters": {str(at): [] for at in range(9)}}, "want at most 8 parameters, got 9"),
    "too many parameters of an input": (
        {"inputs": [X | {"parameters": {str(at): [] for at in range(9)}}]},
        "want at most 8 parameters, got 9",
    ),
    "data twice": ({"inputs": [X | {"parameters": {"binary_data_size": 8}}]}, "either data or .*, got both"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_body_is_refused_with_a_sentence(name: str) -> None:
    document, text = REFUSED[name]
    with pytest.raises(InvalidRequest, match=text):
        decoded(document)


@pytest.mark.parametrize(
    ("size", "tail", "text"),
    [
        (9, b"12345678", "binary_data_size of at most the 8 bytes that follow"),
        (-1, b"12345678", "of at most the 8 bytes"),
        (True, b"12345678", "of at most the 8 bytes"),
        (4, b"12345678", "want no bytes behind the last binary tensor, got 4"),
    ],
)
def test_the_sizes_of_binary_tensors_add_up(size: Any, tail: bytes, text: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": size}}
    with pytest.raises(InvalidRequest, match=text):
        decoded({"inputs": [tensor]}, tail)


def test_json_is_not_longer_than_the_body() -> None:
    with pytest.raises(InvalidRequest, match="Inference-Header-Content-Length: want at most 2"):
        decode_body(b"{}", 3, "m", "", LIMITS)


def answer(**tensors: Any) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(model_name="m", model_version="3", id="7")
    response.parameters["triptych_preprocess_revision"].string_param = "r"
    return encode_response(response, {name: np.array(value) for name, value in tensors.items()})


def test_an_answer_is_json_or_binary_by_output() -> None:
    made = answer(y=np.array([[1.5, 2]], np.float32), label=np.array([b"Dog"], object))
    whole = json.loads(encode_answer(made, lambda name: False, MANY).body)
    assert whole == {
        "model_name": "m",
        "model_version": "3",
        "id": "7",
        "parameters": {"triptych_preprocess_revision": "r"},
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["Dog"]},
        ],
    }
    body, json_bytes = encode_answer(made, lambda name: name == "y", MANY)
    assert json_bytes is not None
    head = json.loads(body[:json_bytes])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert body[json_bytes:] == np.array([1.5, 2], np.float32).tobytes()
    assert head["outputs"][1]["data"] == ["Dog"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.array([np.nan], np.float32), "NaN or Infinity"), (np.array([b"\xff"], object), "output 'y' is not UTF-8")],
)
def test_what_json_cannot_express_is_refused_and_binary_works(value: Any, text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{text}.*binary_data"):
        encode_answer(answer(y=value), lambda name: False, MANY)
    assert encode_answer(answer(y=value), lambda name: True, MANY).json_bytes


@pytest.mark.parametrize(
    "value",
    [np.arange(20_000), np.arange(20_000, dtype=np.float32), np.array([b"x" * 5_000, b""], object)],
    ids=["integers", "floats", "text"],
)
def test_an_answer_of_more_json_than_the_limit_is_refused_and_binary_works(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="output 'y' makes the answer's JSON longer .*binary_data"):
        encode_answer(answer(y=value), lambda name: False, 4_000)
    assert encode_answer(answer(y=value), lambda name: True, 4_000).json_bytes


def test_an_answer_of_many_values_is_whole() -> None:
    made = answer(y=np.arange(10_000).reshape(2, 5_000), empty=np.empty((0, 3), np.float32))
    outputs = json.loads(encode_answer(made, lambda name: False, MANY).body)["outputs"]
    assert [output["data"] for output in outputs] == [list(range(10_000)), []]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "name", "datatype", "shape", "data", "parameters", "binary_data_size", "outputs"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(json_values, st.binary(max_size=8))
def test_any_json_is_a_request_or_a_sentence(document: Any, tail: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decoded(document, tail)
