"""The client library against a server whose answers the test chooses: retries, halves, limits, TLS, odd answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb

from tests.fakes.inference_server import INFO, Fails, Reply, X, inference_server, sums
from triptych.protocol.tensors import decode_request, encode_response
from triptych_client import Ask, InvalidColumns, InvalidOptions, RefusedRow, RequestFailed, Tls


def pairs(rows: int) -> Any:
    return pa.table({"x": pa.array([[row, 1.0] for row in range(rows)], pa.list_(pa.float32()))})


def first(count: int, error: Fails) -> Reply:
    """Fails so many times, then answers."""
    left, lock = [error] * count, threading.Lock()

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        with lock:
            failing = left.pop() if left else None
        if failing is not None:
            raise Fails(failing.code.name, str(failing), failing.hint, failing.is_of_stage)
        return sums(request)

    return reply


def without(bad: Callable[[Any], bool], error: Fails) -> Reply:
    """Fails if a row is bad."""

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        if any(bad(row) for row in decode_request(request)["x"]):
            raise error
        return sums(request)

    return reply


@pytest.mark.parametrize(
    "error",
    [
        Fails("RESOURCE_EXHAUSTED", "full", hint="20"),
        Fails("RESOURCE_EXHAUSTED", "full"),
        Fails("RESOURCE_EXHAUSTED", "the wait for a thread is 3 s; send less, wait longer or add replicas", hint="20"),
        Fails("UNAVAILABLE", "draining"),
        Fails("UNAVAILABLE", "GOAWAY", is_of_stage=False),
        Fails("INTERNAL", "RST_STREAM", is_of_stage=False),
        Fails("UNKNOWN", "Stream removed", is_of_stage=False),
    ],
    ids=lambda error: f"{error.code.name}-{error!s:.9}",
)
def test_a_request_that_may_succeed_later_is_tried_again(error: Fails) -> None:
    with inference_server(first(3, error)) as server, Ask("m", address=server.address) as ask:
        assert ask(pairs(9))["y"].to_pylist() == [row + 1.0 for row in range(9)]
        assert len(server.requests) == 3 + 3
        assert set(server.rows) == {4, 1}  # none in halves


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (Fails("RESOURCE_EXHAUSTED", "never", hint="-1"), 1),
        (Fails("RESOURCE_EXHAUSTED", "much later", hint="999999"), 1),
        (Fails("NOT_FOUND", "gone"), 1),
        (Fails("FAILED_PRECONDITION", "broken"), 1),
        (Fails("UNAUTHENTICATED", "who?", is_of_stage=False), 1),
        (Fails("INVALID_ARGUMENT", "parameter 'k': want int64, got 'x'"), 1),
    ],
    ids=lambda value: str(value),
)
def test_a_request_that_cannot_succeed_is_not_tried_again(error: Fails, tries: int) -> None:
    with (
        inference_server(first(99, error)) as server,
        Ask("m", address=server.address, on_bad_rows="keep") as ask,
        pytest.raises(RequestFailed) as caught,
    ):
        ask(pairs(4))
    assert (caught.value.code, len(server.requests)) == (error.code.name, tries)


def test_the_time_for_tries_is_limited() -> None:
    with (
        inference_server(first(10**6, Fails("UNAVAILABLE", "away", hint="10"))) as server,
        Ask("m", address=server.address, retry_s=0.2) as ask,
        pytest.raises(RequestFailed, match=r"away \(given up after \d+ tries") as caught,
    ):
        ask(pairs(1))
    assert caught.value.code == "UNAVAILABLE"
    assert len(server.requests) >= 2


def test_closing_ends_the_wait_for_another_try() -> None:
    asked = threading.Event()

    def reply(_request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        asked.set()
        raise Fails("UNAVAILABLE", "away", hint="100000")

    with inference_server(reply) as server:
        ask = Ask("m", address=server.address, retry_s=1000)
        failed = list[RequestFailed]()

        def work() -> None:
            try:
                ask(pairs(1))
            except RequestFailed as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert asked.wait(60)
        ask.close()
        thread.join(60)
        assert {error.code for error in failed} <= {"UNAVAILABLE", "CANCELLED"}  # if the call was still open
        assert len(failed) == 1


def test_an_iteration_that_is_left_tries_nothing_again() -> None:
    """Its threads are free for the next rows, although the wait for another try would be long."""
    is_away = True

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        if is_away and request.inputs[0].shape[0] > 1:
            raise Fails("UNAVAILABLE", "away", hint="100000")
        return sums(request)

    with inference_server(reply) as server, Ask("m", address=server.address, retry_s=1000, in_flight=2) as ask:
        answers = ask.over([pairs(1), pairs(4)])
        assert next(answers).num_rows == 1
        answers.close()
        is_away = False
        assert ask(pairs(8)).num_rows == 8


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL"])
def test_a_refused_request_is_halved_until_the_bad_rows_stand_alone(code: str) -> None:
    bad = without(lambda row: row[0] in (1, 6), Fails(code, "bad row"))
    with inference_server(bad) as server:
        with Ask("m", address=server.address, on_bad_rows="keep", in_flight=1) as ask:
            answers = ask(pairs(8)).to_pylist()
        assert server.rows == [4, 2, 1, 1, 2, 4, 2, 2, 1, 1]
        with Ask("m", address=server.address) as ask, pytest.raises(RefusedRow, match=f"row 1: {code}: bad row"):
            ask(pairs(8))
    assert [answer["y"] for answer in answers] == [1, None, 3, 4, 5, 6, None, 8]
    assert [row for row, answer in enumerate(answers) if answer["error"]] == [1, 6]


def test_rows_that_fit_only_apart_are_all_answered() -> None:
    """Limits of a request, such as the pixels of all its pictures: no row of it is bad."""

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        if request.inputs[0].shape[0] > 1:
            raise Fails("INVALID_ARGUMENT", "too much together")
        return sums(request)

    with inference_server(reply) as server, Ask("m", address=server.address) as ask:
        assert ask(pairs(8))["y"].to_pylist() == [row + 1.0 for row in range(8)]


WIDE = replace(INFO, inputs=[replace(X, shape=(-1, -1))])
MESSAGE_LIMIT = [("grpc.max_receive_message_length", 1000)]


def wide(*sizes: int) -> Any:
    return pa.table({"x": pa.array([[1.0] * size for size in sizes], pa.list_(pa.float32()))})


def test_a_request_over_the_limit_of_a_message_is_split_and_not_tried_again() -> None:
    with inference_server(info=WIDE, options=MESSAGE_LIMIT) as server, Ask("m", address=server.address) as ask:
        assert ask(wide(100, 100, 100, 100))["y"].to_pylist() == [100] * 4
        assert server.rows == [2, 2]


def test_a_row_over_the_limit_of_a_message_is_a_bad_row() -> None:
    with (
        inference_server(info=WIDE, options=MESSAGE_LIMIT) as server,
        Ask("m", address=server.address, on_bad_rows="keep") as ask,
    ):
        answers = ask(wide(2, 300, 3)).to_pylist()
    assert [answer["y"] for answer in answers] == [2, None, 3]
    assert answers[1]["error"]["code"] == "RESOURCE_EXHAUSTED"


def test_an_answer_over_the_limit_of_the_caller_is_asked_in_parts() -> None:
    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        answer = sums(request)
        answer.parameters["padding"].string_param = "x" * 300 * request.inputs[0].shape[0]
        return answer

    with inference_server(reply) as server, Ask("m", address=server.address, max_answer_bytes=1000) as ask:
        assert ask(pairs(4))["y"].to_pylist() == [1, 2, 3, 4]
        assert server.rows == [4, 2, 2]


@pytest.mark.parametrize(("max_rows", "rows"), [(None, [4, 4, 1]), (50, [4, 4, 1]), (3, [3, 3, 3])])
def test_a_request_to_a_server_has_at_most_the_rows_of_the_contract(max_rows: int | None, rows: list[int]) -> None:
    with inference_server() as server, Ask("m", address=server.address, max_rows=max_rows, in_flight=1) as ask:
        assert ask(pairs(9)).num_rows == 9
        assert server.rows == rows


def test_no_more_requests_are_in_flight_than_wanted() -> None:
    together = threading.Barrier(3)  # answers come in threes

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        together.wait(60)
        return sums(request)

    with inference_server(reply) as server, Ask("m", address=server.address, max_rows=1, in_flight=3) as ask:
        assert ask(pairs(12)).num_rows == 12
        assert len(list(ask.over([pairs(1)] * 12))) == 12
        assert server.most_open == 3


def test_a_request_that_takes_too_long_fails_once() -> None:
    until = threading.Event()

    def reply(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        until.wait(60)
        return sums(request)

    with inference_server(reply) as server, Ask("m", address=server.address, timeout_s=0.3) as ask:
        with pytest.raises(RequestFailed) as caught:
            ask(pairs(1))
        until.set()
        assert caught.value.code == "DEADLINE_EXCEEDED"
        assert len(server.requests) == 1


def answered(name: str, array: Any) -> pb.ModelInferResponse:
    return encode_response(pb.ModelInferResponse(model_name="m", model_version="1"), {name: array})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"\xff\xff", "no answer of the protocol"),
        (pb.ModelInferResponse(), r"output 'y': want FP32\[n\], got nothing"),
        (answered("z", np.zeros(2, np.float32)), "got nothing"),
        (answered("y", np.zeros(3, np.float32)), r"with n = 2, got FP32\[3\]"),
        (answered("y", np.zeros(2, np.float64)), r"got FP64\[2\]"),
        (answered("y", np.zeros((2, 1), np.float32)), r"got FP32\[2,1\]"),
    ],
)
def test_an_answer_that_is_not_what_the_model_declares_is_refused(answer: Any, text: str) -> None:
    with (
        inference_server(lambda _request: answer) as server,
        Ask("m", address=server.address, on_bad_rows="keep") as ask,
        pytest.raises(RequestFailed, match=text) as caught,
    ):
        ask(pairs(2))
    assert caught.value.code == "DATA_LOSS"
    assert len(server.requests) == 1


def test_each_request_has_its_version_parameters_outputs_and_id() -> None:
    with inference_server() as server:
        with Ask("m", address=server.address, parameters={"k": 2, "s": 0.5}, outputs=["y"], max_rows=1) as ask:
            ask(pairs(3))
        requests = server.requests
    assert {request.model_version for request in requests} == {"1"}
    assert len({request.id for request in requests}) == 3
    for request in requests:
        assert request.parameters["k"].int64_param == 2
        assert request.parameters["s"].double_param == 0.5
        assert [output.name for output in request.outputs] == ["y"]


def test_metadata_goes_with_each_call_and_may_change() -> None:
    tokens = iter("abcdefgh")
    with inference_server() as server:
        with Ask("m", address=server.address, metadata=lambda: {"authorization": next(tokens)}, in_flight=1) as ask:
            ask(pairs(8))
        with Ask("m", address=server.address, metadata={"authorization": "z"}) as ask:
            ask(pairs(1))
        assert [each["authorization"] for each in server.metadata] == ["b", "c", "z"]  # `a` asked for the model


def test_a_family_of_several_models_is_not_pinned() -> None:
    family = replace(INFO, version="", contract="")
    with inference_server(info=family) as server:
        with Ask("m", address=server.address) as ask, pytest.raises(InvalidOptions, match="is a family"):
            ask(pairs(1))
        with Ask("m", address=server.address, pin=False, parameters={"route": "DE"}, version="production") as ask:
            ask(pairs(1))
        assert server.requests[0].model_version == "production"


def test_one_of_several_optional_inputs_is_needed() -> None:
    optional = replace(INFO, inputs=[replace(X, optional=True), replace(X, name="z", optional=True)])
    with inference_server(info=optional) as server, Ask("m", address=server.address, ignore_others=True) as ask:
        assert ask(pairs(2)).num_rows == 2
        with pytest.raises(InvalidColumns, match="want a column for one of the inputs x, z, got none"):
            ask(pairs(2).rename_columns(["y"]))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """A server of HTTP/1.1."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("server", ["silent", "web"])
def test_a_server_that_does_not_speak_grpc_is_named(server: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(server)
    with Ask("m", address=address, timeout_s=1, connect_s=0) as ask, pytest.raises(RequestFailed) as caught:
        ask(pairs(1))
    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert address in caught.value.text


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def test_calls_are_encrypted_with_certificates_of_both_sides(authority: trustme.CA, tmp_path: Path) -> None:
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    own = authority.issue_cert("caller@here")
    certificate.write_bytes(own.cert_chain_pems[0].bytes())
    own.private_key_pem.write_to_path(key)
    issued = authority.issue_cert("preprocess.triptych")
    pair = [(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())]
    credentials = grpc.ssl_server_credentials(pair, authority.cert_pem.bytes(), require_client_auth=True)
    tls = Tls(str(ca), str(certificate), str(key), server_name="preprocess.triptych")
    outsider = tmp_path / "outsider.pem"
    trustme.CA().cert_pem.write_to_path(outsider)
    with inference_server(credentials=credentials) as server:
        with Ask("m", address=server.address, tls=tls) as ask:
            assert ask(pairs(2)).num_rows == 2
        none = replace(tls, certificate="", key="")
        for wrong in (None, none, replace(tls, ca=str(outsider)), replace(tls, server_name="")):
            with Ask("m", address=server.address, tls=wrong, connect_s=0) as ask, pytest.raises(RequestFailed):
                ask(pairs(2))


@pytest.mark.parametrize(
    ("tls", "text"),
    [
        (Tls("nowhere.pem"), "cannot use nowhere.pem: No such file"),
        (Tls(__file__), "cannot use "),
        (Tls(certificate="own.pem"), "a certificate and its key"),
        (Tls(key="own.pem"), "a certificate and its key"),
        (Tls(certificate=__file__, key=__file__), "cannot use"),
    ],
)
def test_files_that_are_no_certificates_are_named(tls: Tls, text: str) -> None:
    with Ask("m", address="127.0.0.1:1", tls=tls) as ask, pytest.raises(InvalidOptions, match=text):
        ask(pairs(1))
