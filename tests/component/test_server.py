"""Each server in a process as in production: status, streams, limits, health, reflection, drain."""

from __future__ import annotations

import json
import queue
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc import service_pb2 as pb

from tests.fakes.scripted.process import COMMAND, ScriptedStage, request, scripted, variables
from tests.fakes.scripted.samples import ERRORS, SAMPLES
from triptych.protocol.status import CODES, INTERNAL_TEXT, RETRY_AFTER, STAGE_ERROR
from triptych.server import SERVERS

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
STATES = health_pb2.HealthCheckResponse


@pytest.fixture(params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=sorted(SERVERS))
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedStage]:
    """A stage shared by tests that leave it intact."""
    with scripted(request.param, tmp_path_factory.mktemp("stage")) as running:
        yield running


def refusal(stage: ScriptedStage, data: bytes = b"", path: str = INFER, **options: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        stage.channel.unary_unary(path)(data, **{"timeout": 10, **options})
    return caught.value


def code_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    raised: Any = caught.value
    code: grpc.StatusCode = raised.code()
    return code


def trailers(raised: Any) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in raised.trailing_metadata()]


def test_the_samples_cover_the_table() -> None:
    assert SAMPLES.keys() == CODES.keys()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_error_reaches_the_caller_as_its_row_in_the_table(stage: ScriptedStage, error: Exception) -> None:
    raised = refusal(stage, request("raise", error=type(error).__name__).SerializeToString())
    code = {**CODES, ValueError: grpc.StatusCode.INTERNAL}[type(error)]
    assert raised.code() is code
    sentence = INTERNAL_TEXT if code is grpc.StatusCode.INTERNAL else str(error)
    assert raised.details() == f"{sentence} (request 1)"
    assert (STAGE_ERROR, "1") in trailers(raised)


def test_a_request_without_an_id_gets_one_that_its_error_and_the_log_name(stage: ScriptedStage) -> None:
    sent = request("raise", error="ValueError")
    sent.id = ""
    first, second = (refusal(stage, sent.SerializeToString()).details() for _ in range(2))
    pattern = re.compile(re.escape(INTERNAL_TEXT) + r" \(request ([0-9a-f]{8}-\d+)\)")
    made = [found[1] for text in (first, second) if (found := pattern.fullmatch(text))]
    assert len(set(made)) == 2
    for name in made:
        lines = [json.loads(line) for line in stage.part.log.read_text().splitlines() if f'"{name}"' in line]
        assert [line["message"] for line in lines] == ["request refused", "internal error"]


def test_a_setting_shows_the_cause_of_an_internal_error(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, show_internal_errors="true") as stage:
        sent = request("raise", error="ValueError").SerializeToString()
        assert refusal(stage, sent).details().startswith("internal error: ValueError: ")
        stream: Any = stage.channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
        (answer,) = stream(iter([sent]), timeout=10)
        assert answer.error_message.startswith("INTERNAL: internal error: ValueError: ")


def test_an_answer_has_the_id_that_its_caller_sent_or_none(stage: ScriptedStage) -> None:
    sent = request()
    assert stage.oip.ModelInfer(sent, timeout=10).id == "1"
    sent.id = ""
    assert stage.oip.ModelInfer(sent, timeout=10).id == ""


def test_a_hint_when_to_come_back_is_in_the_trailers(stage: ScriptedStage) -> None:
    raised = refusal(stage, request("raise", error="LaterPlease").SerializeToString())
    assert (RETRY_AFTER, "1500") in trailers(raised)


def test_bytes_that_are_no_message_are_the_callers_fault(stage: ScriptedStage) -> None:
    raised = refusal(stage, b"\xff\xff\xff")
    assert raised.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.details() == "want an encoded inference.ModelInferRequest, got 3 bytes that are none"


def test_a_message_over_the_limit_is_refused_and_the_next_one_served(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, max_message_bytes=100_000) as stage:
        raised = refusal(stage, bytes(3_000_000))
        assert raised.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "(3000000 vs. 100000)" in raised.details()
        with pytest.raises(grpc.RpcError, match="larger than max") as large:
            stage.infer("large", bytes="200000")
        assert code_of(large) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stage.infer().id == "1"


def test_a_message_of_megabytes_passes(stage: ScriptedStage) -> None:
    sent = request()
    sent.raw_input_contents.append(bytes(range(256)) * 40_000)
    assert stage.oip.ModelInfer(sent, timeout=20).raw_output_contents[0] == sent.raw_input_contents[0]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_understood(stage: ScriptedStage, compression: grpc.Compression) -> None:
    sent = request()
    sent.raw_input_contents.append(bytes(100_000))
    assert stage.oip.ModelInfer(sent, timeout=10, compression=compression).parameters["bytes"].int64_param == 100_000


def test_what_grows_over_the_limit_when_unpacked_is_refused(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, max_message_bytes=100_000) as stage:
        raised = refusal(stage, bytes(3_000_000), compression=grpc.Compression.Gzip)
        assert raised.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_more_requests_than_the_limit_are_refused_at_once(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, max_in_flight=1) as stage:
        first = stage.oip.ModelInfer.future(request("hold"), timeout=20)
        stage.until("held", 1)
        raised = refusal(stage)
        assert raised.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "its limit" in raised.details()
        stage.release()
        first.result()


def test_the_callers_deadline_and_metadata_reach_the_servicer(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, request_timeout_s=7) as stage:
        seen = stage.seen(timeout=3, metadata=(("traceparent", "00-1-2-03"), ("b-bin", b"\xff"), ("x", "y")))
        assert 0 < seen["remaining_s"] < 4  # gRPC rounds deadlines up a little
        assert seen["metadata"]["traceparent"] == "00-1-2-03"
        assert "b-bin" not in seen["metadata"]
        assert 4 < stage.seen(timeout=None)["remaining_s"] <= 7


@pytest.mark.parametrize("leaves", ["cancels", "has no time left"])
def test_a_call_ends_when_its_caller(stage: ScriptedStage, leaves: str) -> None:
    before = stage.seen()
    call = stage.oip.ModelInfer.future(request("hold"), timeout=20 if leaves == "cancels" else 0.5)
    stage.until("held", before["held"] + 1)
    if leaves == "cancels":
        call.cancel()
    stage.until("cancelled", before["cancelled"] + 1)


def test_callers_without_retries_do_not_cost_others_their_connection(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, connection_age_s=0) as stage:
        persistent = stage.oip.ModelInfer.future(request("hold"), timeout=60)
        for _wave in range(15):
            impatient = [stage.oip.ModelInfer.future(request("hold"), timeout=0.05) for _ in range(100)]
            assert {call.code() for call in impatient} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        stage.release()
        assert persistent.result().model_name == "hold"


def test_a_stream_that_is_silent_ends_when_its_caller_cancels(stage: ScriptedStage) -> None:
    before = stage.seen()
    stream = stage.watch(b"", timeout=20)
    assert next(stream).revision == 1
    stream.cancel()
    stage.until("watches_cancelled", before["watches_cancelled"] + 1)


def test_a_stream_answers_in_order_and_outlives_a_bad_request(stage: ScriptedStage) -> None:
    def requests() -> Iterator[bytes]:
        for number in range(40):
            one = request("sleep", seconds="0.05" if number == 0 else "0")
            if number == 3:
                one = request("raise", error="UnknownModel")
            one.id = str(number)
            yield one.SerializeToString()
            if number == 5:
                yield b"\xff\xff"

    stream: Any = stage.channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
    answers = list(stream(requests(), timeout=10))
    garbage = answers.pop(6)
    assert "got 2 bytes that are none" in garbage.error_message
    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(40)]
    assert answers[3].error_message == "NOT_FOUND: unknown model or family 'x' (request 3)"
    assert not any(answer.error_message for answer in answers if answer.infer_response.id != "3")


def test_a_stream_answers_before_its_caller_has_sent_all(stage: ScriptedStage) -> None:
    sent: queue.Queue[str | None] = queue.Queue()

    def requests() -> Iterator[bytes]:
        while (name := sent.get()) is not None:
            yield pb.ModelInferRequest(id=name).SerializeToString()

    stream: Any = stage.channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
    answers = stream(requests(), timeout=10)
    for name in "abc":
        sent.put(name)
        assert next(answers).infer_response.id == name
    sent.put(None)
    assert list(answers) == []


def test_a_method_that_a_stage_does_not_offer_says_so(stage: ScriptedStage) -> None:
    raised = refusal(stage, path="/inference.GRPCInferenceService/RepositoryModelUnload")
    assert raised.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "RepositoryModelUnload is not offered here" in raised.details()
    assert refusal(stage, path="/no.Such/Method").code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_answers_liveness_and_readiness(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, start_s=6) as stage:
        assert stage.state("live") == STATES.SERVING
        watched = stage.health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        unknown = stage.health.Watch(health_pb2.HealthCheckRequest(service="x"), timeout=20)
        assert next(unknown).status == STATES.SERVICE_UNKNOWN
        assert [next(watched).status, next(watched).status] == [STATES.NOT_SERVING, STATES.SERVING]
        assert stage.state("inference.GRPCInferenceService") == stage.state("triptych.v1.Controller") == STATES.SERVING
        with pytest.raises(grpc.RpcError, match="no service 'x' here") as caught:
            stage.state("x")
        assert code_of(caught) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_and_describes_the_services(stage: ScriptedStage, version: str) -> None:
    ask: Any = stage.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    names = [
        *("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"),
        *("grpc.reflection.v1alpha.ServerReflection", "inference.GRPCInferenceService", "triptych.v1.Controller"),
    ]
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names),
    ]
    listed, *described = ask(iter(questions), timeout=10)
    assert [service.name for service in listed.list_services_response.service] == names
    for name, answer in zip(names, described, strict=True):
        files = map(FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
        assert name in {f"{file.package}.{service.name}" for file in files for service in file.service}
    with pytest.raises(grpc.RpcError, match="at most 16384 bytes"):
        list(ask(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol="x" * 100_000)]), timeout=10))


def test_a_taken_port_is_one_line_with_its_setting(server: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(COMMAND, env=variables(server, port=port), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert f"cannot listen on 127.0.0.1:{port}" in line
    assert "SCRIPTED_PORT and SCRIPTED_HOST set others" in line
    assert "Traceback" not in ended.stderr


def test_a_connection_is_closed_at_its_age_and_the_next_call_opens_another(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, connection_age_s=0.2) as stage:
        closed: queue.Queue[grpc.ChannelConnectivity] = queue.Queue()
        stage.channel.subscribe(closed.put)
        for _turn in range(2):
            assert stage.infer("sleep", seconds="1").model_name == "sleep"  # older than the connection may be
            while closed.get(timeout=10) is grpc.ChannelConnectivity.READY:
                pass


def test_an_age_of_zero_closes_none(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, connection_age_s=0) as stage:
        states: list[grpc.ChannelConnectivity] = []
        stage.channel.subscribe(states.append)
        for _turn in range(3):
            stage.infer("sleep", seconds="0.5")
        assert set(states) <= {grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.READY}
        assert len(states) <= 2


def until_refused(stage: ScriptedStage) -> Any:
    """Send until the stage refuses, and return the error."""
    while True:
        try:
            stage.infer()
        except grpc.RpcError as error:
            return error


def test_leaving_answers_what_was_taken_and_takes_no_more(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, grace_s=60) as stage:
        taken = [stage.oip.ModelInfer.future(request("sleep", seconds="3"), timeout=60) for _ in range(20)]
        health = stage.health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        while next(health).status != STATES.SERVING:
            pass
        process = psutil.Process(stage.part.pid)
        process.send_signal(signal.SIGTERM)
        assert next(health).status == STATES.NOT_SERVING
        raised = until_refused(stage)  # by the port: a call on an open connection is answered or never begun
        # grpc.aio cancels what comes in the moment of stopping (grpc#41785).
        late = [grpc.StatusCode.CANCELLED] if server == "grpcio" else []
        assert raised.code() in (grpc.StatusCode.UNAVAILABLE, *late)
        assert "this replica is stopping" not in raised.details()
        process.send_signal(signal.SIGTERM)  # a second one changes nothing
        assert [call.result(20).model_name for call in taken] == ["sleep"] * 20
        assert process.wait(20) == 0


def test_when_the_grace_is_over_remaining_calls_are_ended(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, grace_s=0.5) as stage:
        taken = stage.oip.ModelInfer.future(request("hold"), timeout=60)
        stage.until("held", 1)
        process = psutil.Process(stage.part.pid)
        process.send_signal(signal.SIGTERM)
        ended = taken.exception(20)
        assert ended.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        if server == "http2":
            assert ended.details() == "this replica is stopping; send the request again (request 1)"
        assert process.wait(20) == 0


def test_a_stage_that_drains_ends_its_streams_before_the_server_waits_for_them(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, grace_s=3600) as stage:
        stream = stage.watch(b"", timeout=60)
        assert next(stream).revision == 1
        process = psutil.Process(stage.part.pid)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError, match="watch it again"):
            next(stream)
        assert process.wait(20) == 0


def test_leaving_answers_what_a_stream_has_sent_and_then_ends_it(server: str, tmp_path: Path) -> None:
    with scripted(server, tmp_path, grace_s=60) as stage:
        over = threading.Event()

        def open_for_ever() -> Iterator[bytes]:
            for seconds in "133":
                yield request("sleep", seconds=seconds).SerializeToString()
            over.wait(30)

        stream: Any = stage.channel.stream_stream(STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString)
        answers = stream(open_for_ever(), timeout=60)
        assert next(answers).infer_response.model_name == "sleep"
        psutil.Process(stage.part.pid).send_signal(signal.SIGTERM)
        assert [next(answers).infer_response.model_name for _ in range(2)] == ["sleep"] * 2
        with pytest.raises(grpc.RpcError, match="this replica is stopping") as ended:
            next(answers)
        assert code_of(ended) is grpc.StatusCode.UNAVAILABLE
        over.set()
