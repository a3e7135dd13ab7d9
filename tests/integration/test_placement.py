"""More models than capacity on a real Triton: loads on request, evictions, and no lost request."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.stack import LocalStack
from tests.integration.conftest import INFER, Caller, MakeStack
from tests.integration.load import Load, answers, until
from tests.integration.messages import infer_request, outputs_of, sales
from tests.model_folders import served_model
from tests.onnx_files import linear, unloadable
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.protocol import controller_pb2 as cp

SALES = sorted(path.name for path in (ROOT / "model-repository").glob("sales_forecast_*"))
NO_HEADROOM = {"CONTROLLER_HEADROOM_PERCENT": "0", "CONTROLLER_HEADROOM_MAX_PERCENT": "0"}

# The kernel kills a process in this way when it takes more memory than there is.
EATS_MEMORY = """\
import os, signal

class TritonPythonModel:
    def initialize(self, args):
        os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, requests):
        return []
"""


def document(model: str, placement: str = "", **traffic: int) -> str:
    """ServedModel document of a model, with traffic as `v1=95, v2=5`."""
    shares = {int(name.removeprefix("v")): percent for name, percent in traffic.items()}
    return served_model(model, shares, placement=placement)


def caller_of(stack: LocalStack) -> Caller:
    return Caller(stack.address("preprocess"))


def describe(stack: LocalStack) -> cp.DescribeReply:
    """Placement by the controller's Describe method."""
    method = CONTROLLER_SERVICE.methods_by_name["Describe"]
    with grpc.insecure_channel(stack.address("controller")) as channel:
        call: Any = channel.unary_unary(
            f"/{CONTROLLER_SERVICE.full_name}/Describe",
            request_serializer=cp.DescribeRequest.SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        reply: cp.DescribeReply = call(cp.DescribeRequest(), timeout=5)
        return reply


def held(stack: LocalStack, part: str = "predictor") -> dict[tuple[str, str], str]:
    """Models in memory by Triton's index, with their states."""
    with grpc.insecure_channel(stack.address(part)) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        key = (("triton-grpc-protocol-key", stack.triton_key),)
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=5, metadata=key)
    states = ("READY", "LOADING", "UNLOADING")
    return {(each.name, each.version): each.state for each in index.models if each.state in states}


def holders(stack: LocalStack, model: str) -> set[str]:
    return {each.predictor for each in describe(stack).loaded_models if each.model == model}


def two_tritons(make_stack: MakeStack, **more: Any) -> tuple[LocalStack, dict[str, str]]:
    """A stack with a second Triton; and the part of each address."""
    stack = make_stack(more_predictors=[free_endpoints()["predictor"]], **more)
    return stack, {stack.address(part): part for part in ("predictor", "predictor-2")}


def test_more_models_than_slots_are_all_answered_and_never_more_are_loaded(make_stack: MakeStack) -> None:
    limits = {"CONTROLLER_MAX_MODELS": "4", "CONTROLLER_BUSY_S": "0", "CONTROLLER_HEADROOM_PERCENT": "25"}
    stack = make_stack(variables=limits)
    caller = caller_of(stack)
    alone = {model: outputs_of(caller.infer(infer_request(model, sales())))["units"] for model in SALES[:8]}
    for model in [*SALES[:8], *SALES[:8]]:
        answer = outputs_of(caller.infer(infer_request(model, sales())))
        assert answer["units"] == alone[model]
        assert len(held(stack)) <= 4
    reply = describe(stack)
    assert reply.predictors[0].max_models == 4
    unloads = [each for each in reply.decisions if each.action == "unload"]
    assert len(unloads) >= 12
    assert {each.outcome for each in unloads} == {"ok"}


def test_a_model_not_used_for_a_while_is_off_loaded_and_comes_back_on_request(make_stack: MakeStack) -> None:
    stack = make_stack(variables={"CONTROLLER_IDLE_TTL_S": "1"})
    caller, request = caller_of(stack), infer_request(SALES[0], sales())
    caller.infer(request)
    until(lambda: not held(stack))
    caller.infer(request)
    loads = [each for each in describe(stack).decisions if each.action == "load"]
    assert [each.reason for each in loads] == ["request", "request"]


def test_requests_for_a_model_are_answered_while_another_is_loaded_and_unloaded(make_stack: MakeStack) -> None:
    limits = {"CONTROLLER_MAX_MODELS": "2", "CONTROLLER_BUSY_S": "0.5", **NO_HEADROOM}
    stack = make_stack(variables=limits)
    caller = caller_of(stack)
    with Load(caller, infer_request(SALES[0], sales()), callers=2) as load:
        for model in SALES[1:6]:
            caller.infer(infer_request(model, sales()))
    assert load.refusals == []
    unloaded = {each.model for each in describe(stack).decisions if each.action == "unload"}
    assert len(unloaded) >= 4
    assert not any(SALES[0] in model for model in unloaded)


def test_hot_models_that_do_not_fit_are_refused_with_a_hint_and_the_others_are_served(make_stack: MakeStack) -> None:
    limits = {"CONTROLLER_MAX_MODELS": "1", "CONTROLLER_CAPACITY_WAIT_S": "0.1", **NO_HEADROOM}
    stack = make_stack(variables=limits)
    caller = caller_of(stack)
    with Load(caller, infer_request(SALES[0], sales()), callers=2) as load, pytest.raises(grpc.RpcError) as caught:
        caller.infer(infer_request(SALES[1], sales()))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "is full of models that are in use; try again in" in error.details()
    assert int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    assert load.refusals == []


def test_a_triton_that_crashes_under_load_loses_no_request_of_a_model_with_two_replicas(make_stack: MakeStack) -> None:
    stack, part_of = two_tritons(make_stack, documents={"a.yaml": document(SALES[0], "minReplicas: 2", v1=100)})
    caller = caller_of(stack)
    until(lambda: len(holders(stack, SALES[0])) == 2)
    with Load(caller, infer_request(SALES[0], sales())) as load:
        stack.kill_component("predictor")
        load.wait_for_answers(200)
        stack.start_component("predictor")
        until(lambda: held(stack).get((SALES[0], "1")) == "READY")  # what the controller says may be of before
        until(lambda: len(holders(stack, SALES[0])) == 2)
        stack.kill_component("predictor-2")
        load.wait_for_answers(200)
    assert load.refusals == []
    assert set(part_of) == {each.address for each in describe(stack).predictors}


def test_a_model_of_a_dead_triton_is_served_by_the_other_without_an_error(make_stack: MakeStack) -> None:
    stack, part_of = two_tritons(make_stack)
    caller, request = caller_of(stack), infer_request(SALES[0], sales())
    caller.infer(request)
    (home,) = holders(stack, SALES[0])
    with Load(caller, request) as load:
        stack.kill_component(part_of[home])
        load.wait_for_answers(200)
    assert load.refusals == []
    assert holders(stack, SALES[0]) == set(part_of) - {home}


def test_a_triton_that_hangs_delays_only_models_without_another_replica(make_stack: MakeStack) -> None:
    stack, part_of = two_tritons(
        make_stack,
        documents={"a.yaml": document(SALES[0], "minReplicas: 2", v1=100)},
        variables={"PREPROCESS_PREDICT_TIMEOUT_S": "1"},
    )
    until(lambda: len(holders(stack, SALES[0])) == 2)
    pid = stack.pids()["predictor"]
    with Load(caller_of(stack), infer_request(SALES[0], sales())) as load:
        os.kill(pid, signal.SIGSTOP)
        try:
            load.wait_for_answers(200)
            until(lambda: stack.address("predictor") not in holders(stack, SALES[0]))
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: len(holders(stack, SALES[0])) == 2)
    assert load.refusals == []


def test_a_triton_killed_while_it_loads_is_asked_again_when_it_is_back(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller, request = caller_of(stack), infer_request(SALES[0], sales())
    waiting = caller.channel.unary_unary(INFER).future(request.SerializeToString(), timeout=20)
    until(lambda: "LOADING" in held(stack).values() or waiting.done())
    stack.kill_component("predictor")
    until(waiting.done)
    assert waiting.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    stack.start_component("predictor")
    until(lambda: answers(caller, request))


def test_a_controller_killed_in_the_middle_of_a_load_loads_nothing_twice(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    requests = [infer_request(model, sales()) for model in SALES[:3]]
    infer = caller.channel.unary_unary(INFER)
    waiting = [infer.future(request.SerializeToString(), timeout=20) for request in requests]
    until(lambda: bool(held(stack)))
    stack.kill_component("controller")
    for future in waiting:
        until(future.done)
    stack.start_component("controller")
    for request in requests:
        until(partial(answers, caller, request))
    log = stack.log("predictor").read_text()
    for model in SALES[:3]:
        assert log.count(f"successfully loaded '{model}'") == 1, model


def test_a_model_that_the_kernel_kills_while_it_loads_is_named_and_no_other_notices(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    models = copied_models(*SALES[:2])
    config = models / SALES[1] / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
    (models / SALES[1] / "1" / "model.py").write_text(EATS_MEMORY)
    stack = make_stack(model_repository=models)
    with Load(caller_of(stack), infer_request(SALES[0], sales())) as load:
        load.wait_for_answers(50)
        for _ in range(3):
            code, text = caller_of(stack).refused(infer_request(SALES[1], sales()))
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert f"model '{SALES[1]}' could not be loaded" in text
        load.wait_for_answers(200)
    assert load.refusals == []
    # Once more after a process that was killed, and then the failure is remembered for a while.
    assert stack.log("predictor").read_text().count(f"loading: {SALES[1]}") == 2


def test_a_new_version_that_cannot_be_loaded_takes_no_traffic_and_the_reason_is_reported(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    models = copied_models("digits_gb", SALES[0])
    stack = make_stack(model_repository=models, documents={"s.yaml": document(SALES[0], v1=100)})
    with Load(caller_of(stack), infer_request(SALES[0], sales())) as load:
        new = models / "new"
        shutil.copytree(models / SALES[0] / "1", new)
        (new / "model.onnx").write_bytes(unloadable(linear(42, 7, names=("features", "forecast"))))
        new.rename(models / SALES[0] / "2")
        served = models.parent / "stack-0" / "served-models" / "s.yaml"
        served.write_text(document(SALES[0], v1=50, v2=50))
        until(lambda: any(SALES[0] in each.model and each.outcome != "ok" for each in describe(stack).decisions))
        load.wait_for_answers(200)
        reason = next(each.outcome for each in describe(stack).decisions if each.outcome != "ok")
        assert "model.onnx" in reason
        shutil.copy(models / SALES[0] / "1" / "model.onnx", models / SALES[0] / "2" / "model.onnx")
        until(lambda: any(each.action == "traffic" for each in describe(stack).decisions))
        load.wait_for_answers(200)
    assert load.refusals == []
    assert all(answer == load.answers[0] for answer in load.answers)  # both versions are the same model


def test_a_version_whose_files_are_removed_is_served_on(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    models = copied_models("digits_gb", SALES[0])
    stack = make_stack(model_repository=models, documents={"s.yaml": document(SALES[0], v1=100)})
    with Load(caller_of(stack), infer_request(SALES[0], sales()), callers=2) as load:
        shutil.rmtree(models / SALES[0] / "1")
        log = stack.log("controller")
        until(lambda: SALES[0] in log.read_text() and "fault" in log.read_text())
        load.wait_for_answers(300)
    assert load.refusals == []
