"""The protocol's tensors: round trips and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import TO_NUMPY, Array
from triptych.errors import InvalidInput, InvalidParameter, InvalidRequest
from triptych.protocol.infer_request import wanted_outputs
from triptych.protocol.parameters import decode_parameters, encode_parameter
from triptych.protocol.tensor_layout import MAX_CACHED_BYTES, _read_cached
from triptych.protocol.tensors import (
    CONTENTS_FIELDS,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    encoded_request,
    encoded_response,
    joined,
    request_head,
    request_tensors,
)


def sample(datatype: str) -> Array:
    if datatype == "BYTES":
        array = np.empty(4, np.object_)
        array[:] = [b"one", b"", b"nul at the end\x00", b"\xff" * 300]
        return array.reshape(2, 2)
    return np.array([[0, 1], [1, 0]]).astype(TO_NUMPY[datatype])


@pytest.mark.parametrize("datatype", TO_NUMPY)
def test_raw_tensors_survive_the_round_trip(datatype: str) -> None:
    array = sample(datatype)
    request = pb.ModelInferRequest.FromString(encode_request(pb.ModelInferRequest(), {"t": array}).SerializeToString())
    assert request.inputs[0].datatype == datatype
    decoded = decode_request(request)["t"]
    assert decoded.dtype == array.dtype
    assert decoded.tolist() == array.tolist()
    response = encode_response(pb.ModelInferResponse(), {"t": array})
    assert decode_response(response)["t"].tolist() == array.tolist()


@pytest.mark.parametrize("datatype", CONTENTS_FIELDS)
def test_typed_tensors_mean_the_same_as_raw_ones(datatype: str) -> None:
    array = sample(datatype)
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="t", datatype=datatype, shape=array.shape)
    getattr(tensor.contents, CONTENTS_FIELDS[datatype]).extend(array.ravel().tolist())
    decoded = decode_request(request)["t"]
    assert decoded.dtype == array.dtype
    assert decoded.tolist() == array.tolist()


def tensor(datatype: str, shape: list[int], raw: bytes | None = None, name: str = "t") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest()
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (tensor("FP31", [1], b"0000"), "got 'FP31'"),
        (tensor("FP32", [-1], b"0000"), r"got \[-1\]"),
        (tensor("FP32", [1] * 9, b"0000"), "at most 8 sizes"),
        (tensor("FP32", [2], b"0000"), "want 8 bytes for FP32"),
        (tensor("FP32", [2**40, 2**40], b"0000"), "want 4835703278458516698824704 bytes"),
        (tensor("BOOL", [2], b"\x00\x02"), "0 or 1"),
        (tensor("BYTES", [1], b"\x05\x00\x00\x00abc"), "want 5 bytes in element 0, got 3"),
        (tensor("BYTES", [2], b"\x01\x00\x00\x00aXY"), "want 2 elements"),
        (tensor("BYTES", [1], b"\x01\x00\x00\x00aXY"), "2 bytes more"),
        (tensor("BYTES", [2**40], b""), "1099511627776 elements"),
        (tensor("FP32", [1]), "want 1 values in fp32_contents"),
        (tensor("FP16", [1]), "want raw contents for FP16"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_named(request_: pb.ModelInferRequest, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"input 't': .*{says}"):
        decode_request(request_)


def test_the_rows_of_many_messages_are_joined_in_order() -> None:
    parts = [
        {"x": np.full((rows, 2), rows, np.float32), "word": np.array([[b"w%d" % rows]] * rows, np.object_)}
        for rows in (1, 3, 2)
    ]
    tensors = [request_tensors(encode_request(pb.ModelInferRequest(), part)) for part in parts]
    assert [each.rows for each in tensors] == [1, 3, 2]
    assert [each.size_bytes for each in tensors] == [8 + 2, 3 * (8 + 2), 2 * (8 + 2)]
    assert len({each.row_signature for each in tensors}) == 1
    for name, array in joined(tensors).items():
        assert array.tolist() == np.concatenate([part[name] for part in parts]).tolist()
    assert joined(tensors[:1])["x"].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    "other", [tensor("FP32", [2, 3], bytes(24)), tensor("INT32", [2, 2], bytes(16)), tensor("FP32", [4], bytes(16))]
)
def test_tensors_are_alike_when_they_differ_in_rows_alone(other: pb.ModelInferRequest) -> None:
    own = request_tensors(tensor("FP32", [2, 2], bytes(16)))
    assert own.row_signature == request_tensors(tensor("FP32", [9, 2], bytes(72))).row_signature
    assert own.row_signature != request_tensors(other).row_signature


def test_rows_are_those_of_all_tensors() -> None:
    request = encode_request(pb.ModelInferRequest(), {"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
    assert request_tensors(request).rows == 0
    assert request_tensors(pb.ModelInferRequest()).rows == 0
    assert request_tensors(tensor("FP32", [], bytes(4))).rows == 0


def test_what_is_too_long_to_be_cached_is_read_all_the_same() -> None:
    response = encode_response(pb.ModelInferResponse(), {"t": np.zeros(1, np.float32)})
    response.outputs[0].parameters["note"].string_param = "x" * MAX_CACHED_BYTES
    kept = _read_cached.cache_info().currsize
    assert decode_response(response)["t"].tolist() == [0.0]
    assert _read_cached.cache_info().currsize == kept


def test_a_typed_value_outside_of_its_type_is_refused() -> None:
    request = tensor("INT8", [1])
    request.inputs[0].contents.int_contents.append(300)
    with pytest.raises(InvalidInput, match="within INT8"):
        decode_request(request)


def test_a_doubled_input_is_refused() -> None:
    request = tensor("BOOL", [1], b"\x01")
    request.MergeFrom(tensor("BOOL", [1], b"\x01"))
    with pytest.raises(InvalidInput, match="a second one"):
        decode_request(request)


def test_raw_contents_for_some_inputs_only_are_refused() -> None:
    request = tensor("BOOL", [1], b"\x01")
    request.inputs.add(name="u", datatype="BOOL", shape=[1])
    with pytest.raises(InvalidRequest, match="each of the 2 inputs"):
        decode_request(request)


def test_shared_memory_is_refused_by_name() -> None:
    request = tensor("BOOL", [1], b"\x01")
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(InvalidInput, match="shared memory"):
        decode_request(request)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for name in draw(st.lists(st.text(max_size=200), max_size=4, unique=True)):
        dtype, shape = TO_NUMPY[draw(st.sampled_from(sorted(TO_NUMPY)))], draw(st.lists(st.integers(0, 9), max_size=4))
        if dtype == np.object_:
            made[name] = np.empty(shape, np.object_)
            made[name][...] = b"x" * draw(st.sampled_from([0, 1, 127, 128, 20_000]))
        else:
            count = math.prod(shape)
            made[name] = np.resize(np.frombuffer(draw(st.binary(min_size=8, max_size=64)), np.uint8), count).astype(
                dtype
            )
            made[name] = made[name].reshape(shape)
    return made


@given(tensors(), st.text(max_size=200), st.text(max_size=3), st.dictionaries(st.text(max_size=9), st.integers(0, 1)))
def test_a_request_of_bytes_is_the_one_that_protobuf_encodes(
    given_: dict[str, Array], model: str, version: str, parameters: dict[str, int]
) -> None:
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    details = pb.ModelInferRequest(parameters=request.parameters).SerializeToString()
    for _ in range(2):  # made, and from the cache
        encoded = encoded_request(request_head(model, version) + details, given_)
        want = pb.ModelInferRequest()
        want.CopyFrom(request)
        assert pb.ModelInferRequest.FromString(encoded) == encode_request(want, given_)


@given(tensors(), st.text(max_size=200), st.dictionaries(st.text(max_size=9), st.text(max_size=200)))
def test_a_response_of_bytes_is_the_one_that_protobuf_encodes(
    given_: dict[str, Array], model: str, parameters: dict[str, str]
) -> None:
    head = pb.ModelInferResponse(model_name=model)
    for name, value in parameters.items():
        head.parameters[name].string_param = value
    for _ in range(2):  # made, and from the cache
        encoded = encoded_response(head.SerializeToString(), given_)
        want = pb.ModelInferResponse()
        want.CopyFrom(head)
        assert pb.ModelInferResponse.FromString(encoded) == encode_response(want, given_)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_fail_otherwise(data: bytes) -> None:
    for datatype in ("BYTES", "FP32", "BOOL"):
        try:
            decode_request(tensor(datatype, [2], data))
        except InvalidRequest as error:
            assert "input 't'" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("value", [True, 3, 2.5, "DE"])
def test_parameters_survive_the_round_trip(value: int | float | bool | str) -> None:
    decoded = decode_parameters({"p": encode_parameter(value)})
    assert decoded == {"p": value}
    assert type(decoded["p"]) is type(value)


def test_a_parameter_without_a_value_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="'p': want a value"):
        decode_parameters({"p": pb.InferParameter()})


def test_outputs_can_be_chosen_and_a_wrong_one_is_named() -> None:
    request = pb.ModelInferRequest()
    assert wanted_outputs(request, ["a", "b"]) == ["a", "b"]
    request.outputs.add(name="b")
    assert wanted_outputs(request, ["a", "b"]) == ["b"]
    request.outputs.add(name="c")
    with pytest.raises(InvalidRequest, match="unknown output 'c'; there are: a, b"):
        wanted_outputs(request, ["a", "b"])
