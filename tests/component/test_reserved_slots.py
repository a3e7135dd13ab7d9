"""With mutual TLS the controller reserves slots for callers whose certificate has the name of a stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from controller.settings import Settings
from tests.component.running_controller import RunningController, Stub, running
from tests.model_folders import declare, publish
from triptych.protocol import controller_pb2 as cp

OUTSIDERS = ("client", "preprocess.elsewhere.example")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("sales_de", "sales_fr"):
        publish(tmp_path / "models", name)
    (tmp_path / "served").mkdir()
    declare(tmp_path / "served", "sales_de", {1: 100})
    return tmp_path


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["http2", "grpcio"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mutual(authority: trustme.CA, folder: Path, **more: Any) -> dict[str, Any]:
    """Settings of a controller that accepts callers with a certificate of the authority."""
    issued = authority.issue_cert("127.0.0.1")
    files = {
        "tls_cert": issued.cert_chain_pems[0],
        "tls_key": issued.private_key_pem,
        "tls_client_ca": authority.cert_pem,
    }
    for name, blob in files.items():
        blob.write_to_path(folder / name)
    return {**{name: str(folder / name) for name in files}, "stage_names": "preprocess", **more}


@asynccontextmanager
async def channel_of(
    system: RunningController, authority: trustme.CA, *names: str, common: str | None = None
) -> AsyncIterator[aio.Channel]:
    """Shows a certificate with these names."""
    issued = authority.issue_cert(*names, common_name=common)
    certificates = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    shown = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), issued.private_key_pem.bytes(), certificates)
    async with aio.secure_channel(system.address, shown) as channel:
        yield channel


async def full(call: Awaitable[Any]) -> str:
    """The text of a refusal because all slots are taken."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return str(caught.value.details())


@pytest.mark.parametrize(
    "shown",
    [{"names": ("preprocess",)}, {"names": ("a", "preprocess")}, {"names": ("a",), "common": "preprocess"}],
    ids=str,
)
async def test_outside_callers_cannot_take_the_reserved_slots_of_watchers(
    folder: Path, authority: trustme.CA, server: str, shown: dict[str, Any]
) -> None:
    async with (
        running(folder, **mutual(authority, folder, server=server, max_watchers=2)) as system,
        AsyncExitStack() as opened,
    ):
        outsider = Stub(await opened.enter_async_context(channel_of(system, authority, *OUTSIDERS)))
        held = outsider.Watch(cp.WatchRequest(), timeout=30)
        await held.read()
        reported = await full(outsider.Watch(cp.WatchRequest(), timeout=30).read())
        assert "1 watchers follow the catalog without a certificate of a stage, the limit for them" in reported
        names, common = shown["names"], shown.get("common")
        stage = Stub(await opened.enter_async_context(channel_of(system, authority, *names, common=common)))
        assert (await stage.Watch(cp.WatchRequest(), timeout=30).read()).full
        held.cancel()


@pytest.mark.parametrize("way", ["EnsureLoaded", "RepositoryModelLoad"])
async def test_outside_callers_cannot_take_the_reserved_slots_of_loads(
    folder: Path, authority: trustme.CA, server: str, way: str
) -> None:
    def load(channel: aio.Channel, model: str) -> Awaitable[Any]:
        if way == "EnsureLoaded":
            asked: Awaitable[Any] = Stub(channel).EnsureLoaded(
                cp.EnsureLoadedRequest(model=model, version=1), timeout=20
            )
            return asked
        oip = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = oip.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=model), timeout=20)
        return asked

    async with (
        running(folder, **mutual(authority, folder, server=server, max_in_flight=2)) as system,
        AsyncExitStack() as opened,
    ):
        outsider = await opened.enter_async_context(channel_of(system, authority, *OUTSIDERS))
        system.triton.may_finish.clear()
        waiting = asyncio.ensure_future(load(outsider, "sales_de"))
        while "sales_de" not in system.triton.loads:
            await asyncio.sleep(0.01)
        reported = await full(load(outsider, "sales_fr"))
        assert "1 calls already wait for loads without a certificate of a stage" in reported
        stage = await opened.enter_async_context(channel_of(system, authority, "preprocess"))
        asked = asyncio.ensure_future(load(stage, "sales_de"))
        system.triton.may_finish.set()
        await asyncio.gather(waiting, asked)


async def test_a_load_by_either_protocol_takes_a_slot(folder: Path) -> None:
    async with running(folder, max_loads_per_peer=1) as system:
        system.triton.may_finish.clear()
        request = pb.RepositoryModelLoadRequest(model_name="sales_de")
        waiting = asyncio.ensure_future(system.oip.RepositoryModelLoad(request, timeout=20))
        while not system.triton.loads:
            await asyncio.sleep(0.01)
        for call in (system.ensure("sales_fr"), system.oip.RepositoryModelLoad(request, timeout=20)):
            assert "1 calls already wait for loads from 127.0.0.1, the limit for one peer" in await full(call)
        system.triton.may_finish.set()
        await waiting


def test_without_names_of_stages_nothing_is_reserved() -> None:
    assert Settings().reservation.slots(1024) == 0
