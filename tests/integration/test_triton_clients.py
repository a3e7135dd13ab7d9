"""Every row of docs/guides/triton-clients.md, against preprocess and against a real Triton beside it."""

from __future__ import annotations

import asyncio
import queue
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.grpc.auth import BasicAuth
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from local.environments import ROOT
from local.stack import LocalStack
from tests.integration.messages import sales
from tests.integration.tiny_triton import copied, running
from triptych.datatypes import Array

PAGE = ROOT / "docs/guides/triton-clients.md"


@dataclass(frozen=True)
class Target:
    """A server with a request that it answers."""

    address: str
    model: str
    tensors: dict[str, Array]
    outputs: tuple[str, ...]
    client: Any

    def inputs(self) -> list[Any]:
        made = []
        for name, array in self.tensors.items():
            tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            made.append(tensor)
        return made

    def infer(self, **more: Any) -> Any:
        return self.client.infer(self.model, more.pop("inputs", None) or self.inputs(), **more)

    def message(self) -> pb.ModelInferRequest:
        """The request that `infer` sends."""
        request = pb.ModelInferRequest(model_name=self.model)
        for name, array in self.tensors.items():
            request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        return request

    def send(self, change: Callable[[pb.ModelInferRequest], object]) -> Any:
        """Send a message through tritonclient's stubs that its client does not support."""
        request = self.message()
        change(request)
        with grpc.insecure_channel(self.address) as channel:
            stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            return stub.ModelInfer(request, timeout=10)

    def requested(self, change: Callable[[Any], object], **more: Any) -> Any:
        output = triton.InferRequestedOutput(self.outputs[0], **more)
        change(output)
        return self.infer(outputs=[output])


@pytest.fixture(scope="module")
def own(stack: LocalStack) -> Iterator[Target]:
    address = stack.address("preprocess")
    with triton.InferenceServerClient(address) as client:
        yield Target(address, "sales_forecast_de", sales(1), ("units", "total"), client)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, predictor_python: Path) -> Iterator[Target]:
    models = copied(tmp_path_factory.mktemp("triton") / "models", "scale")
    with running(models, predictor_python) as part, triton.InferenceServerClient(part.address) as client:
        client.load_model("scale", client_timeout=60)
        yield Target(part.address, "scale", {"features": np.ones((1, 4), np.float32)}, ("output",), client)


def streamed(target: Target, *models: str, **more: Any) -> list[tuple[Any, str]]:
    """Answers of a stream: message and error of each."""
    got: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(target.address) as client:
        client.start_stream(lambda result, error: got.put((result, error)))
        for model in models or (target.model,):
            client.async_stream_infer(model, target.inputs(), request_id="7", **more)
        answers = [got.get(timeout=20) for _ in models or (target.model,)]
        client.stop_stream()
    return [(None if result is None else result.get_response(), str(error or "")) for result, error in answers]


def is_final(target: Target, **more: Any) -> bool:
    ((response, _),) = streamed(target, **more)
    return bool(response.parameters["triton_final_response"].bool_param)


def called_back(target: Target) -> Any:
    got: queue.Queue[tuple[Any, Any]] = queue.Queue()
    target.client.async_infer(target.model, target.inputs(), lambda result, error: got.put((result, error)))
    result, error = got.get(timeout=20)
    return error or result


def in_asyncio(target: Target) -> Any:
    async def call() -> Any:
        async with triton_aio.InferenceServerClient(target.address) as client:
            await client.is_server_live()
            return await client.infer(target.model, target.inputs())

    return asyncio.run(call())


def stream_in_asyncio(target: Target) -> list[str]:
    async def call() -> list[str]:
        async def requests() -> Any:
            for model in (target.model, "nobody"):
                yield {"model_name": model, "inputs": target.inputs()}

        async with triton_aio.InferenceServerClient(target.address) as client:
            return [str(error or "answered") async for _, error in client.stream_infer(requests())]

    return asyncio.run(call())


def shared_input(target: Target) -> Any:
    inputs = target.inputs()
    inputs[-1].set_shared_memory("region", 16)
    return target.infer(inputs=inputs)


def wrong_type(target: Target, datatype: str) -> Any:
    return target.send(lambda request: setattr(request.inputs[0], "datatype", datatype))


def typed_too(target: Target) -> Any:
    return target.send(lambda request: request.inputs[0].contents.fp32_contents.append(1))


def doubled(target: Target) -> Any:
    def change(request: pb.ModelInferRequest) -> None:
        request.inputs.append(request.inputs[0])
        request.raw_input_contents.append(request.raw_input_contents[0])

    return target.send(change)


ANSWER = r"^<tritonclient.grpc._infer_result.InferResult"
ANYTHING = ""
NO_SHM, NO_CONTROL = "^UNIMPLEMENTED: .*no shared memory", "^UNIMPLEMENTED: .*model repository defines what is served"
NO_TRACE = "^UNIMPLEMENTED: .*otlp_endpoint"
REFUSED = "^INVALID_ARGUMENT: .*"

Ask = Callable[[Target], Any]
# What is asked: how, what the stack says, what Triton says. The names are the first column of the page.
ROWS: dict[str, tuple[Ask, str, str]] = {
    "`is_server_live()`": (lambda t: t.client.is_server_live(), "^True", "^True"),
    "`is_server_ready()`": (lambda t: t.client.is_server_ready(), "^True", "^True"),
    "`is_model_ready(model)`": (lambda t: t.client.is_model_ready(t.model), "^True", "^True"),
    "`is_model_ready(model, '9')`": (lambda t: t.client.is_model_ready(t.model, "9"), "^False", "^False"),
    "`is_model_ready('nobody')`": (lambda t: t.client.is_model_ready("nobody"), "^False", "^False"),
    "`get_server_metadata()`": (
        lambda t: list(t.client.get_server_metadata().extensions),
        r"^\['model_configuration', 'parameters', 'statistics'\]",
        "'model_configuration'.*'statistics'",
    ),
    "`get_model_metadata(model)`": (lambda t: t.client.get_model_metadata(t.model).inputs, "history", "features"),
    "`get_model_metadata('nobody')`": (
        lambda t: t.client.get_model_metadata("nobody"),
        "^NOT_FOUND: unknown model or family 'nobody'; known: ",
        "^NOT_FOUND",
    ),
    "`get_model_config(model)`": (lambda t: t.client.get_model_config(t.model).config, "max_batch", "max_batch"),
    "`get_inference_statistics(model)`": (
        lambda t: t.client.get_inference_statistics(t.model).model_stats,
        "inference_stats",
        "inference_stats",
    ),
    "`get_inference_statistics()`": (lambda t: t.client.get_inference_statistics(), ANYTHING, "inference_stats"),
    "`get_model_repository_index()`": (lambda t: t.client.get_model_repository_index(), NO_CONTROL, "READY"),
    "`load_model(model)`": (lambda t: t.client.load_model(t.model), NO_CONTROL, "^None"),
    "`load_model(model, config=)`": (lambda t: t.client.load_model(t.model, config="{}"), NO_CONTROL, ANYTHING),
    "`unload_model('nobody')`": (lambda t: t.client.unload_model("nobody"), NO_CONTROL, ANYTHING),
    "`get_system_shared_memory_status()`": (lambda t: t.client.get_system_shared_memory_status(), NO_SHM, ANYTHING),
    "`register_system_shared_memory(...)`": (
        lambda t: t.client.register_system_shared_memory("r", "/nobody", 64),
        NO_SHM,
        "shared memory region",
    ),
    "`unregister_system_shared_memory()`": (lambda t: t.client.unregister_system_shared_memory(), NO_SHM, "^None"),
    "`get_cuda_shared_memory_status()`": (lambda t: t.client.get_cuda_shared_memory_status(), NO_SHM, ANYTHING),
    "`register_cuda_shared_memory(...)`": (
        lambda t: t.client.register_cuda_shared_memory("r", b"eHg=", 0, 64),
        NO_SHM,
        ANYTHING,
    ),
    "`unregister_cuda_shared_memory()`": (lambda t: t.client.unregister_cuda_shared_memory(), NO_SHM, ANYTHING),
    "`get_trace_settings()`": (lambda t: t.client.get_trace_settings(), NO_TRACE, "trace_rate"),
    "`update_trace_settings(...)`": (
        lambda t: t.client.update_trace_settings(settings={"trace_rate": "1000"}),
        NO_TRACE,
        "trace_rate",
    ),
    "`get_log_settings()`": (lambda t: t.client.get_log_settings(), "^UNIMPLEMENTED: .*log_level", "log_info"),
    "`update_log_settings(...)`": (
        lambda t: t.client.update_log_settings({"log_verbose_level": 0}),
        "^UNIMPLEMENTED: .*log_level",
        "log_info",
    ),
    "`infer(model, inputs)`": (lambda t: t.infer(), ANSWER, ANSWER),
    "`infer(request_id='7')`": (lambda t: t.infer(request_id="7").get_response().id, "^7$", "^7$"),
    "`infer(model_version='1')`": (lambda t: t.infer(model_version="1").get_response().model_version, "^1$", "^1$"),
    "`infer(model_version='9')`": (lambda t: t.infer(model_version="9"), "^NOT_FOUND: .*'9'.*known: 1", "^NOT_FOUND"),
    "`infer(model_version='01')`": (
        lambda t: t.infer(model_version="01").get_response().model_version,
        "^NOT_FOUND: .*'01'; a version is a number as in '1'",
        "^1$",
    ),
    "`infer(model_version='-1')`": (lambda t: t.infer(model_version="-1"), "^NOT_FOUND: .*as in '1'", REFUSED),
    "`infer(model_version='latest')`": (lambda t: t.infer(model_version="latest"), "^NOT_FOUND: .*as in '1'", REFUSED),
    "`infer(model_version='nobody')`": (
        lambda t: t.infer(model_version="nobody"),
        "^NOT_FOUND: .*no version 'nobody'",
        REFUSED,
    ),
    "`infer(parameters={'alias': 'nobody'})`": (
        lambda t: t.infer(parameters={"alias": "nobody"}),
        "^NOT_FOUND: .*no alias 'nobody'",
        ANSWER,
    ),
    "`infer(parameters={'alias': 'nobody'}, model_version='1')`": (
        lambda t: t.infer(parameters={"alias": "nobody"}, model_version="1"),
        REFUSED + "an alias or a model_version, not both",
        ANSWER,
    ),
    "`infer(outputs=[...])`": (lambda t: t.requested(lambda output: None), ANSWER, ANSWER),
    "an output twice": (
        lambda t: t.infer(outputs=[triton.InferRequestedOutput(t.outputs[0])] * 2),
        REFUSED + "asked for once",
        ANSWER,
    ),
    "`InferRequestedOutput(name, class_count=2)`": (
        lambda t: t.requested(lambda output: None, class_count=2).get_output(t.outputs[0]).datatype,
        REFUSED + "'classification': want none",
        "^BYTES",
    ),
    "`InferRequestedOutput.set_shared_memory`": (
        lambda t: t.requested(lambda output: output.set_shared_memory("region", 64)),
        REFUSED + "'shared_memory_.*want none: outputs always come in the message",
        "^NOT_FOUND: .*'region'",
    ),
    "`InferInput.set_shared_memory`": (shared_input, REFUSED + "got a shared memory region", "^NOT_FOUND: .*'region'"),
    "typed and raw contents at once": (typed_too, REFUSED + "got both", REFUSED + "must not be specified"),
    "an input twice": (doubled, REFUSED + "a second one", REFUSED + "already exists"),
    "an input as FP64": (lambda t: wrong_type(t, "FP64"), REFUSED + "for FP64", REFUSED),
    "an input as BF16": (lambda t: wrong_type(t, "BF16"), REFUSED + "one of the datatypes", REFUSED),
    "a parameter of an input": (
        lambda t: t.send(lambda r: setattr(r.inputs[0].parameters["x"], "int64_param", 1)).id,
        REFUSED + "no parameters of an input",
        "^$",
    ),
    "a field of a newer protocol": (
        lambda t: t.send(lambda r: r.MergeFromString(b"\xf8\x07\x01")).id,
        REFUSED + "field 127",
        "^$",
    ),
    "`infer(parameters={'unknown': 1})`": (
        lambda t: t.infer(parameters={"unknown": 1}),
        REFUSED + "parameter 'unknown'",
        ANSWER,
    ),
    "`infer(priority=1)`": (lambda t: t.infer(priority=1), REFUSED + "'priority': want none", ANSWER),
    "`infer(sequence_id=3, sequence_start=True)`": (
        lambda t: t.infer(sequence_id=3, sequence_start=True),
        REFUSED + "'sequence_.*keep no state",
        ANSWER,
    ),
    "`infer(timeout=10_000_000)`": (lambda t: t.infer(timeout=10_000_000), ANSWER, ANSWER),
    "`infer(timeout=1)`": (lambda t: t.infer(timeout=1), "^DEADLINE_EXCEEDED", ANSWER),
    "`infer(client_timeout=-1)`": (lambda t: t.infer(client_timeout=-1), "^DEADLINE_EXCEEDED", "^DEADLINE_EXCEEDED"),
    "`infer(headers={...})`": (lambda t: t.infer(headers={"x-own": "1"}), ANSWER, ANSWER),
    "`infer(compression_algorithm='gzip')`": (lambda t: t.infer(compression_algorithm="gzip"), ANSWER, ANSWER),
    "`infer(compression_algorithm='deflate')`": (lambda t: t.infer(compression_algorithm="deflate"), ANSWER, ANSWER),
    "`async_infer(...)`": (called_back, ANSWER, ANSWER),
    "`async_stream_infer(...)`": (lambda t: is_final(t), "^True", "^True"),
    "`async_stream_infer(enable_empty_final_response=True)`": (
        lambda t: is_final(t, enable_empty_final_response=True),
        "^True",
        "^True",
    ),
    "a bad request in a stream": (
        lambda t: [error or answer.id for answer, error in streamed(t, "nobody", t.model)],
        "^..NOT_FOUND: unknown model or family 'nobody'.*, '7'",
        "^..Request for unknown model: 'nobody'.*, '7'",
    ),
    "`async_stream_infer(sequence_id=3)`": (
        lambda t: streamed(t, sequence_id=3)[0][1],
        "INVALID_ARGUMENT: parameter 'sequence_",
        "^$",
    ),
    "`aio`: `infer(...)`": (in_asyncio, ANSWER, ANSWER),
    "`aio`: `stream_infer(...)`": (stream_in_asyncio, "answered.*unknown model", "answered.*unknown model"),
}


def outcome(ask: Ask, target: Target) -> str:
    """The answer, or status and error text."""
    try:
        return str(ask(target))
    except InferenceServerException as error:
        return f"{str(error.status()).removeprefix('StatusCode.')}: {error.message()}"
    except grpc.RpcError as error:
        failure: Any = error
        return f"{failure.code().name}: {failure.details()}"


@pytest.mark.parametrize("row", ROWS)
def test_a_client_of_tritons_gets_what_the_page_describes(own: Target, theirs: Target, row: str) -> None:
    ask, ours, tritons = ROWS[row]
    for target, want in ((own, ours), (theirs, tritons)):
        got = outcome(ask, target)
        assert re.search(want, got, re.DOTALL), f"{target.model}: {got}"


def test_the_page_has_each_row_once() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]] == list(ROWS)


def test_a_plugin_of_the_client_is_no_fault(own: Target) -> None:
    with triton.InferenceServerClient(own.address) as client:
        client.register_plugin(BasicAuth("user", "word"))
        assert client.is_model_ready(own.model)
