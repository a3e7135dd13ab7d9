"""Faults: parts that crash and restart, many callers, and noise. Each test has a new stack."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
from pathlib import Path

import cv2
import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.endpoints import free_endpoints
from local.errors import LocalError
from local.stack import MODEL_REPOSITORY, LocalStack
from tests.integration.conftest import INFER, Caller, MakeStack
from tests.integration.load import Load, answers, until
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales

AWAY = grpc.StatusCode.UNAVAILABLE
GOOD = infer_request("sales_forecast_de", sales())


def caller_of(stack: LocalStack) -> Caller:
    return Caller(stack.address("preprocess"))


@pytest.mark.parametrize(("component", "says"), [("postprocess", ".*postprocess at"), ("predictor", "predictor at")])
def test_a_dead_component_is_named_and_its_return_is_enough(make_stack: MakeStack, component: str, says: str) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    caller.infer(GOOD)
    stack.kill_component(component)
    code, text = caller.refused(GOOD)
    assert code is AWAY
    assert re.match(says, text), text
    stack.start_component(component)
    until(lambda: answers(caller, GOOD))


def test_without_the_controller_known_models_go_on_being_served(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    caller.infer(GOOD)
    stack.kill_component("controller")
    for _ in range(20):
        caller.infer(GOOD)
    code, text = caller.refused(infer_request("sales_forecast_fr", sales()))
    assert code is AWAY
    assert "controller at" in text
    stack.start_component("controller")
    until(lambda: answers(caller, infer_request("sales_forecast_fr", sales())))


def test_a_restarted_preprocess_serves_again(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    caller.infer(GOOD)
    stack.restart_component("preprocess")
    until(lambda: answers(caller, GOOD))


def test_many_requests_for_a_cold_model_cause_one_load(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    request = infer_request("sales_forecast_it", sales()).SerializeToString()
    infer = caller.channel.unary_unary(INFER)
    waiting = [infer.future(request, timeout=30) for _ in range(100)]
    assert all(pb.ModelInferResponse.FromString(future.result()).outputs for future in waiting)
    log = stack.log("predictor").read_text()
    assert log.count("loading: sales_forecast_it") == 1


def mutated(random_: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(random_.choice(seeds))
    for _ in range(random_.randint(1, 12)):
        at = random_.randrange(len(data))
        match random_.randrange(4):
            case 0:
                data[at] = random_.randrange(256)
            case 1:
                del data[at : at + random_.randint(1, 20)]
            case 2:
                data[at:at] = random_.randbytes(random_.randint(1, 20))
            case _:
                data[at] ^= 1 << random_.randrange(8)
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


PERMITTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.mark.timeout(300)
def test_ten_thousand_malformed_requests_leave_no_trace(make_stack: MakeStack) -> None:
    stack = make_stack()
    picture = infer_request("digits_de", {"image": objects(noise_picture())}, top_k=3)
    raw = infer_request("digits_de", {"image": objects(noise_picture())})
    bare = pb.ModelInferRequest(model_name="sales_forecast_de", id="x")
    bare.inputs.add(name="history", datatype="FP32", shape=[1, 28]).contents.fp32_contents.extend([1.0] * 28)
    seeds = [message.SerializeToString() for message in (GOOD, picture, raw, bare)]
    to_postprocess = pb.ModelInferRequest(model_name="digits_de", model_version="1")
    to_postprocess.inputs.add(name="logits", datatype="FP32", shape=[1, 10])
    to_postprocess.raw_input_contents.append(bytes(40))
    stages = {"preprocess": seeds, "postprocess": [to_postprocess.SerializeToString()]}
    callers = {stage: Caller(stack.address(stage)) for stage in stages}
    callers["preprocess"].infer(GOOD)
    callers["preprocess"].infer(picture)
    random_ = random.Random(20)
    codes: set[grpc.StatusCode] = set()
    memory: dict[str, list[int]] = {part: [] for part in stack.pids()}
    for count in range(10_000):
        stage = "postprocess" if count % 5 == 0 else "preprocess"
        try:
            callers[stage].infer(mutated(random_, stages[stage]))
        except grpc.RpcError as error:
            codes.add(error.code())
        if count % 2_500 == 2_499:
            for part, pid in stack.pids().items():
                memory[part].append(psutil.Process(pid).memory_info().rss)
    assert codes <= PERMITTED
    assert answers(callers["preprocess"], GOOD)
    assert answers(callers["preprocess"], picture)
    for part, sizes in memory.items():
        assert sizes[-1] - sizes[1] < 8 << 20, (part, sizes)


def test_a_request_of_many_large_pictures_needs_the_memory_of_one(make_stack: MakeStack) -> None:
    """Decoded together the pictures take 576 MiB; the chart gives preprocess 1 GiB."""
    stack = make_stack()
    caller = caller_of(stack)
    caller.infer(infer_request("digits_de", {"image": objects(noise_picture())}))
    photograph = bytes(cv2.imencode(".jpg", np.full((3000, 4000, 3), 90, np.uint8))[1])
    before = peak_bytes(stack)
    caller.infer(infer_request("digits_de", {"image": objects(*[photograph] * 16)}))
    assert peak_bytes(stack) - before < 256 << 20


def peak_bytes(stack: LocalStack) -> int:
    """Peak memory of preprocess in bytes."""
    status = Path(f"/proc/{stack.pids()['preprocess']}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("server", ["http2", "grpcio"])
def test_more_bytes_than_the_limit_are_refused_and_the_first_is_answered(make_stack: MakeStack, server: str) -> None:
    stack = make_stack(variables={"PREPROCESS_MAX_BYTES_IN_FLIGHT": "1", "PREPROCESS_SERVER": server})
    caller = caller_of(stack)
    data = GOOD.SerializeToString()
    infer = caller.channel.unary_unary(INFER)
    waiting = [infer.future(data, timeout=30) for _ in range(20)]  # the model is cold: the first one waits for it
    codes = [future.code() for future in waiting]
    assert codes.count(grpc.StatusCode.OK) >= 1
    refused = [future for future in waiting if future.code() is not grpc.StatusCode.OK]
    assert refused
    for future in refused:
        assert future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert re.search("bytes are in flight here|too many calls are open here", future.details())
    assert answers(caller, GOOD)


def test_a_port_in_use_is_one_clear_line(make_stack: MakeStack, tmp_path: Path, predictor_python: Path) -> None:
    first = make_stack()
    with pytest.raises(LocalError, match="in use"):
        LocalStack(first.endpoints, tmp_path / "second", predictor_python).start()


FR = infer_request("sales_forecast_fr", sales())
ON_TWO = """\
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {name: sales-forecast-de}
spec:
  model: sales_forecast_de
  traffic: [{version: 1, percent: 100}]
  placement: {minReplicas: 2}
"""


def processes_of(stack: LocalStack, model: str, predictor: str = "predictor") -> list[psutil.Process]:
    """Processes in which Triton runs a model, without the script that starts each."""
    found = []
    for process in psutil.Process(stack.pids()[predictor]).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ends at this moment, or has ended and nobody has waited for it
            program, *words = process.cmdline() or [""]
            if program.endswith("/triton_python_backend_stub") and any(f"/{model}/" in word for word in words):
                found.append(process)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_a_model_whose_process_crashes_or_hangs_comes_back_and_no_other_is_affected(
    make_stack: MakeStack, number: signal.Signals
) -> None:
    """triton#5381: every request failed with INTERNAL, while the model's state stayed READY."""
    stack = make_stack()
    caller = caller_of(stack)
    right = outputs_of(caller.infer(GOOD))
    triton = stack.pids()["predictor"]
    with Load(caller_of(stack), FR) as neighbours, Load(caller_of(stack), GOOD, callers=16) as callers:
        for process in processes_of(stack, "sales_forecast_de"):
            process.send_signal(number)
        callers.wait_for_answers(200)
        neighbours.wait_for_answers(50)
    assert neighbours.refusals == []
    assert {code for code, _ in callers.refusals} <= {AWAY}
    assert all(answer["units"] == right["units"] for answer in callers.answers)
    assert stack.pids()["predictor"] == triton


def test_two_models_that_crash_at_once_come_back_both(make_stack: MakeStack) -> None:
    stack = make_stack()
    caller = caller_of(stack)
    for request in (GOOD, FR):
        caller.infer(request)
    for name in ("sales_forecast_de", "sales_forecast_fr"):
        for process in processes_of(stack, name):
            process.kill()
    until(lambda: answers(caller, GOOD) and answers(caller, FR))


def test_of_a_model_that_crashed_nothing_stays_in_shared_memory_when_the_stack_has_stopped(
    make_stack: MakeStack,
) -> None:
    """triton#7481: Triton does not free the shared memory of a killed process."""
    stack = make_stack()
    caller_of(stack).infer(GOOD)
    for process in processes_of(stack, "sales_forecast_de"):
        process.kill()
    until(lambda: answers(caller_of(stack), GOOD))
    regions = f"triptych-{stack.address('predictor').rpartition(':')[2]}-*"
    assert len(list(Path("/dev/shm").glob(regions))) == 2
    stack.stop()
    assert list(Path("/dev/shm").glob(regions)) == []


def test_a_model_that_crashes_on_one_of_two_tritons_is_answered_by_the_other(make_stack: MakeStack) -> None:
    stack = make_stack({"de.yaml": ON_TWO}, more_predictors=[free_endpoints()["predictor"]])
    caller = caller_of(stack)
    until(lambda: bool(processes_of(stack, "sales_forecast_de")) and answers(caller, GOOD))
    until(lambda: bool(processes_of(stack, "sales_forecast_de", "predictor-2")))
    with Load(caller, GOOD, persistent=False, callers=16) as callers:
        for process in processes_of(stack, "sales_forecast_de"):
            process.kill()
        callers.wait_for_answers(300)
    assert callers.refusals == []


def test_a_process_killed_while_its_model_is_loaded_is_replaced(make_stack: MakeStack) -> None:
    """Triton 2.51 waits forever for a process that is killed before its first message, with one of its load threads."""
    stack = make_stack()
    caller = caller_of(stack)
    until(lambda: answers(caller, FR))  # the controller has found its Triton
    infer = caller.channel.unary_unary(INFER)
    with Load(caller_of(stack), FR) as neighbours:
        for route in ("pl", "it", "es", "at", "be"):
            name = f"sales_forecast_{route}"
            waiting = infer.future(infer_request(name, sales()).SerializeToString(), timeout=40)
            until(lambda name=name: bool(processes_of(stack, name)))  # type: ignore[misc]
            for process in processes_of(stack, name):
                process.kill()
            assert waiting.code() is grpc.StatusCode.OK, waiting.details()
    assert neighbours.refusals == []


def can_mount() -> bool:
    mount = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_mount(), reason="a /dev/shm of its own for Triton takes the right to mount")
def test_in_a_full_shared_memory_others_cause_an_eviction(tmp_path: Path, predictor_python: Path) -> None:
    """Six models fit. Before the fix, 16 of 30 were loaded and the others refused permanently."""
    small = tmp_path / "python"
    mount = "mount -t tmpfs -o size=6m tmpfs /dev/shm"
    small.write_text(f'#!/bin/sh\nexec unshare -m sh -c \'{mount} && exec {predictor_python} "$@"\' sh "$@"\n')
    small.chmod(0o700)
    served = tmp_path / "served"
    served.mkdir()
    variables = {"CONTROLLER_BUSY_S": "0"}
    names = sorted(path.name for path in MODEL_REPOSITORY.glob("sales_forecast_*"))[:12]
    with LocalStack(free_endpoints(), tmp_path / "run", small, served_models=served, variables=variables) as stack:
        caller = caller_of(stack)
        for name in [*names, names[0]]:
            caller.infer(infer_request(name, sales()), timeout_s=60)
