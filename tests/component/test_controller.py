"""The controller over a socket, with a fake Triton behind a real gRPC server."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from tests.component.running_controller import RunningController, running
from tests.model_folders import declare, publish, publish_with_vocabulary
from triptych.contract import Contract, StepFile
from triptych.protocol import controller_pb2 as cp
from triptych.server.lifecycle import shut_down


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "models").mkdir()
    publish(tmp_path / "models", "sales_de", 1)
    publish(tmp_path / "models", "sales_de", 2)
    publish(tmp_path / "models", "sales_fr", 1)
    declare(tmp_path / "served", "sales_de", {1: 100, 2: 0})
    return tmp_path


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def shares(update: cp.CatalogUpdate) -> list[tuple[int, int]]:
    """Percent of each version of the first model in an update."""
    return [(version.version, version.percent) for version in update.models[0].versions]


async def test_a_watcher_sees_the_catalog_then_a_load_then_a_new_version(folder: Path) -> None:
    async with running(folder) as system:
        updates = system.updates()
        first = await anext(updates)
        assert first.full
        assert [(m.name, m.family, m.route) for m in first.models] == [
            ("sales_de", "sales", "DE"),
            ("sales_fr", "sales", "FR"),
        ]
        assert [(v.version, v.percent) for v in first.models[0].versions] == [(1, 100), (2, 0)]
        reply = await system.ensure("sales_fr")
        assert list(reply.predictors) == [system.predictor]
        loaded = await anext(updates)
        assert list(loaded.models[0].versions[0].predictors) == [system.predictor]
        system.triton.may_finish.clear()
        publish(folder / "models", "sales_fr", 2)
        published = await anext(updates)
        assert not published.full
        assert shares(published) == [(1, 100), (2, 0)]  # a version that no document names stays dark
        declare(folder / "served", "sales_fr", {2: 100})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(next_update := asyncio.ensure_future(anext(updates))), 0.5)
        system.triton.may_finish.set()  # it gets its share once it has been loaded
        published = await next_update
        while shares(published) != [(1, 0), (2, 100)]:
            published = await anext(updates)
        assert list(published.models[0].versions[1].predictors) == [system.predictor]


async def test_a_change_of_traffic_needs_no_restart(folder: Path) -> None:
    async with running(folder) as system:
        updates = system.updates()
        await anext(updates)
        declare(folder / "served", "sales_de", {1: 50, 2: 50})
        while shares(await anext(updates)) != [(1, 50), (2, 50)]:
            pass
        assert ("sales_de", "2") in system.triton.ready
        (folder / "served" / "sales_de.yaml").unlink()
        while shares(await anext(updates)) != [(1, 100), (2, 0)]:
            pass


async def test_a_removed_model_is_reported(folder: Path) -> None:
    async with running(folder) as system:
        updates = system.updates()
        await anext(updates)
        shutil.rmtree(folder / "models" / "sales_fr")
        assert list((await anext(updates)).removed) == ["sales_fr"]


async def test_a_contract_travels_as_json_with_its_digest(folder: Path) -> None:
    async with running(folder) as system:
        reply = await system.own.GetContract(cp.GetContractRequest(model="sales_de", version=2), timeout=5)
        assert Contract.model_validate_json(reply.contract_json).route == "DE"
        assert hashlib.sha256(reply.contract_json).hexdigest() == reply.digest


async def test_files_that_steps_read_travel_and_no_others(folder: Path) -> None:
    publish_with_vocabulary(folder / "models", "churn_de", b"Bonn\nUlm\n", family="churn")
    async with running(folder) as system:
        reply = await system.own.GetContract(cp.GetContractRequest(model="churn_de", version=1), timeout=5)
        assert dict(reply.step_files) == {"cities.txt": StepFile.of(b"Bonn\nUlm\n").digest}
        request = cp.GetStepFileRequest(model="churn_de", version=1, path="cities.txt")
        assert (await system.own.GetStepFile(request, timeout=5)).content == b"Bonn\nUlm\n"
        other = cp.GetStepFileRequest(model="churn_de", version=1, path="model.onnx")
        text = "no step of churn_de version 1 reads 'model.onnx'; known: cities.txt"
        assert await refusal(system.own.GetStepFile(other, timeout=5)) == (grpc.StatusCode.INVALID_ARGUMENT, text)


async def test_the_warm_up_has_the_files_that_steps_read(folder: Path) -> None:
    publish_with_vocabulary(folder / "models", "churn_de", b"Bonn\nUlm\n", family="churn")
    async with running(folder) as system:
        assert list((await system.ensure("churn_de", 1)).predictors) == [system.predictor]


@pytest.mark.parametrize(
    ("model", "version", "text"),
    [
        ("sales_zz", 1, "unknown model or family 'sales_zz'; known: sales_de, sales_fr"),
        ("sales_de", 9, "model 'sales_de' has no version '9'; known: 1, 2"),
        ("m" * 10_240, 1, f"unknown model or family '{'m' * 128}... (10240 characters)'; known: sales_de, sales_fr"),
    ],
    ids=["a model", "a version", "a name of 10 KiB"],
)
async def test_what_is_unknown_is_not_found(folder: Path, model: str, version: int, text: str) -> None:
    async with running(folder) as system:
        contract = cp.GetContractRequest(model=model, version=version)
        metadata = pb.ModelMetadataRequest(name=model, version=str(version))
        for call in (
            system.own.GetContract(contract, timeout=5),
            system.ensure(model, version),
            system.oip.ModelMetadata(metadata, timeout=5),
            system.oip.ModelReady(pb.ModelReadyRequest(name=model, version=str(version)), timeout=5),
            system.oip.ModelConfig(pb.ModelConfigRequest(name=model, version=str(version)), timeout=5),
        ):
            assert await refusal(call) == (grpc.StatusCode.NOT_FOUND, text)
        assert system.triton.loads == []


async def test_a_load_that_triton_refuses_is_a_failed_precondition_with_its_reason(folder: Path) -> None:
    publish(folder / "models", "broken_it")
    async with running(folder) as system:
        code, text = await refusal(system.ensure("broken_it"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "'broken_it' could not be loaded: Triton refuses to load it" in text
        assert await refusal(system.ensure("broken_it")) == (code, text)
        assert system.triton.loads == ["broken_it"]
        index = await system.oip.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=5)
        (entry,) = (model for model in index.models if model.name == "broken_it")
        assert (entry.state, "no version is available" in entry.reason) == ("UNAVAILABLE", True)


async def test_the_controller_is_ready_without_triton_and_finds_it_later(folder: Path) -> None:
    async with running(folder, triton=False) as system:
        health: Any = health_pb2_grpc.HealthStub(system.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        code, text = await refusal(system.ensure("sales_fr"))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert text.startswith(f"predictor at {system.predictor} does not answer")
        await system.server.open()
        await system.until(lambda _update: True)
        while True:  # the channel tries again within its back-off
            try:
                reply = await system.ensure("sales_fr")
                break
            except aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
        assert list(reply.predictors) == [system.predictor]


async def test_a_restarted_triton_is_seen_in_the_placement_and_pins_come_back(folder: Path) -> None:
    declare(folder / "served", "sales_fr", {1: 100}, pin=True)

    def placed(update: cp.CatalogUpdate) -> bool:
        return any(model.name == "sales_fr" and model.versions[0].predictors for model in update.models)

    async with running(folder) as system:
        await system.until(placed)
        updates = system.updates()
        assert placed(await anext(updates))
        await system.server.close(0)
        assert not placed(await anext(updates))
        system.triton.ready.clear()
        system.server = system.triton_server()
        await system.server.open()
        assert placed(await anext(updates))
        assert system.triton.loads == ["sales_fr", "sales_fr"]


async def test_the_index_lists_every_version_with_its_state_and_reason(folder: Path) -> None:
    (publish(folder / "models", "sales_it") / "contract.yaml").write_text("kind: Contract")
    async with running(folder) as system:
        await system.ensure("sales_fr")
        index = await system.oip.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=5)
        states = {(model.name, model.version): model.state for model in index.models}
        assert states == {
            ("sales_de", "1"): "UNAVAILABLE",
            ("sales_de", "2"): "UNAVAILABLE",
            ("sales_fr", "1"): "READY",
            ("sales_it", "1"): "UNAVAILABLE",
            ("sales_it", ""): "UNAVAILABLE",
        }
        reasons = {(model.name, model.version): model.reason for model in index.models}
        assert reasons["sales_de", "1"] == "not loaded; it is when asked for"
        assert "1/contract.yaml:1: family: is missing" in reasons["sales_it", "1"]
        ready = await system.oip.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=5)
        assert [model.name for model in ready.models] == ["sales_fr"]


async def test_the_open_inference_protocol_shows_the_contract_and_tritons_configuration(folder: Path) -> None:
    async with running(folder) as system:
        server = await system.oip.ServerMetadata(pb.ServerMetadataRequest(), timeout=5)
        assert (server.name, "model_repository" in server.extensions) == ("triptych-controller", True)
        assert (await system.oip.ServerLive(pb.ServerLiveRequest(), timeout=5)).live
        assert (await system.oip.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
        model = await system.oip.ModelMetadata(pb.ModelMetadataRequest(name="sales_de"), timeout=5)
        assert (model.versions, model.inputs[0].name, model.inputs[0].shape) == (["1", "2"], "x", [-1, 2])
        answer = await system.oip.ModelConfig(pb.ModelConfigRequest(name="sales_de"), timeout=5)
        assert (answer.config.backend, answer.config.max_batch_size) == ("onnxruntime", 4)


async def test_a_load_by_tritons_own_method_makes_the_model_ready(folder: Path) -> None:
    async with running(folder) as system:
        asked = pb.ModelReadyRequest(name="sales_de")
        assert not (await system.oip.ModelReady(asked, timeout=5)).ready
        await system.oip.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sales_de"), timeout=5)
        assert (await system.oip.ModelReady(asked, timeout=5)).ready
        assert system.triton.loads == ["sales_de"]


async def test_a_method_that_the_controller_does_not_serve_is_refused_by_name(folder: Path) -> None:
    async with running(folder) as system:
        infer = system.oip.ModelInfer(pb.ModelInferRequest(model_name="sales_de"), timeout=5)
        code, text = await refusal(infer)
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert "call preprocess" in text
        unload = system.oip.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(), timeout=5)
        assert (await refusal(unload))[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("version", ["01", " 1", "-1", "latest", "9" * 30, "١"])
async def test_a_version_has_one_spelling(folder: Path, version: str) -> None:
    async with running(folder) as system:
        code, text = await refusal(
            system.oip.ModelMetadata(pb.ModelMetadataRequest(name="sales_de", version=version), timeout=5)
        )
        assert (code, "as in '1'" in text) == (grpc.StatusCode.NOT_FOUND, True)


async def test_a_request_is_bounded_and_its_fields_are_served_or_refused(folder: Path) -> None:
    async with running(folder) as system:
        oip, long = system.oip, "m" * 1_000_000
        for call, code, words in (
            (oip.ModelMetadata(pb.ModelMetadataRequest(name=long)), "INVALID_ARGUMENT", "at most 16384"),
            (oip.ModelConfig(pb.ModelConfigRequest(name="m", version=long)), "INVALID_ARGUMENT", "at most 16384"),
            (
                oip.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=long)),
                "INVALID_ARGUMENT",
                "at most 16384",
            ),
            (oip.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="r")), "UNIMPLEMENTED", "want no repo"),
            (
                oip.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="r")),
                "UNIMPLEMENTED",
                "want no repository_name",
            ),
            (
                oip.RepositoryIndex(pb.RepositoryIndexRequest.FromString(b"\xf8\x07\x01")),
                "INVALID_ARGUMENT",
                "field 127",
            ),
            (system.own.GetContract(cp.GetContractRequest(model=long, version=1)), "NOT_FOUND", "(1000000 char"),
            (system.own.GetContract(cp.GetContractRequest(model="sales_de", version=-1)), "NOT_FOUND", "'-1'"),
            (system.own.EnsureLoaded(cp.EnsureLoadedRequest(model=long)), "NOT_FOUND", "(1000000 characters)"),
        ):
            got, text = await refusal(call)
            assert (got.name, words in text) == (code, True), text


async def test_nothing_is_published_before_the_catalog_was_read(folder: Path) -> None:
    system = RunningController(folder)
    await system.controller.server.open()
    code, text = await refusal(system.ensure("sales_de"))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "has not read its models yet" in text
    assert not (await system.oip.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
    await system.channel.close()
    await shut_down(system.controller, system.settings)


async def test_leaving_ends_the_watchers_and_does_not_wait_for_them(folder: Path) -> None:
    async with running(folder, grace_s=3600) as system:
        updates = system.updates()
        await anext(updates)
        leaving = asyncio.create_task(shut_down(system.controller, system.settings))
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(updates)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await leaving


async def test_one_host_has_a_limit_of_watchers_and_gets_a_slot_back_when_one_leaves(folder: Path) -> None:
    async with running(folder, max_watchers_per_peer=2) as system:
        streams = [system.updates() for _ in range(2)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(system.updates())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        reported = str(caught.value.details())
        assert "2 watchers follow the catalog from 127.0.0.1, the limit for one peer" in reported
        await streams.pop().aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while True:  # the server notices it a moment later
                try:
                    await anext(system.updates())
                    break
                except aio.AioRpcError:
                    await asyncio.sleep(0.01)


async def test_a_missing_folder_is_one_sentence_with_the_setting_to_change(folder: Path) -> None:
    shutil.rmtree(folder / "models")
    system = RunningController(folder)
    with pytest.raises(OSError, match="cannot read .*/models: No such file.*CONTROLLER_MODEL_REPOSITORY"):
        await system.controller.start()
    await system.controller.close()
    await system.channel.close()
