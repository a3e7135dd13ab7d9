"""All calls of the controller to Triton. Each has a deadline; Triton itself has none for a load that hangs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as mc
from tritonclient.grpc import service_pb2 as pb

from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.gpu_memory import GpuMemory, gpu_memory
from triptych.client.transport import Transport
from triptych.client.upstream import InFlightInferences, Upstream
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, Internal, LoadFailed, is_version
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response, encode_request
from triptych.runtime.addresses import split
from triptych.server.inference_servicer import SERVICE

CALL_TIMEOUT_S = 2.0
MAX_BATCHED = 8  # a request of more rows is one large one rather than many small ones: a report, not popularity
YIELD_EVERY = 500  # entries of an index
KEY_HEADER = "triton-grpc-protocol-key"  # --grpc-restricted-protocol=model-repository:key=...

_VERSION_FAILED = re.compile(r"version (\d+) is at UNAVAILABLE state: (.*?);\s*(?=version \d+ is at |$)")


@dataclass(frozen=True)
class Index:
    """The versions in a Triton's memory by their state."""

    ready: frozenset[VersionKey] = frozenset()
    loading: frozenset[VersionKey] = frozenset()
    unloading: frozenset[VersionKey] = frozenset()


@dataclass(frozen=True)
class Count:
    """Statistics of a version since it was loaded; durations are sums over its requests.

    A request of preprocess may stand for several of its callers' (adaptive batching); `rows` are those of all.
    """

    requests: int = 0
    queue_ns: int = 0
    total_ns: int = 0
    rows: int = 0
    failures: int = 0  # of the requests

    def use_since(self, before: Count) -> int:
        """About how many requests of callers came since then."""
        requests = self.requests - before.requests
        return max(requests, min(self.rows - before.rows, requests * MAX_BATCHED))


class TritonApi(Protocol):
    """The calls of placement to one Triton. Every method raises `StageUnavailable` or `DeadlineExceeded`."""

    address: str

    async def index(self, *, whole: bool) -> Index:
        """Versions by Triton's index. `whole` adds those that load or unload, for which Triton lists its folder."""
        ...

    async def counts(self) -> Mapping[VersionKey, Count]:
        """Statistics of the loaded versions."""
        ...

    async def gpu_memory(self) -> GpuMemory | None:
        """None where there is no GPU, or no metrics."""
        ...

    async def is_ready(self, model: str, version: int) -> bool:
        """Whether it answers requests for the version."""
        ...

    async def reason(self, model: str, version: int) -> str:
        """Triton's reason for a version that is not ready; empty without one."""
        ...

    async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
        """Make exactly these versions of the model ready. Raises `LoadFailed` too."""
        ...

    async def unload(self, model: str) -> None:
        """Begin to unload all versions. Triton answers accepted requests and refuses new ones."""
        ...

    async def infer(self, model: str, version: int, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        """The outputs of a version. Raises what `Upstream.call` raises; `InvalidInput` for one that cannot be read."""
        ...

    async def close(self) -> None: ...


class TritonClient:
    """A Triton by its gRPC address, host:port. `metrics_port` is that of its Prometheus endpoint, 0 for none.

    `key` is what a Triton wants from who loads and unloads; one that wants nothing ignores it.
    """

    def __init__(self, address: str, metrics_port: int = 0, key: str = "", transport: Transport | None = None) -> None:
        self.address = address
        metadata = ((KEY_HEADER, key),) if key else ()
        self._upstream = Upstream("predictor", address, SERVICE, relays=False, transport=transport, metadata=metadata)
        self._inferences = InFlightInferences(self._upstream)
        self._metrics_host, self._metrics_port = split(address)[0], metrics_port

    async def index(self, *, whole: bool) -> Index:
        states: dict[str, set[VersionKey]] = {"READY": set(), "LOADING": set(), "UNLOADING": set()}
        for number, model in enumerate((await self._index(only_ready=not whole)).models, start=1):
            if model.state in states and is_version(model.version):
                states[model.state].add((model.name, int(model.version)))
            if not number % YIELD_EVERY:  # 5,000 models are 5 ms, too long for other tasks
                await asyncio.sleep(0)
        return Index(*(frozenset(keys) for keys in states.values()))

    async def counts(self) -> Mapping[VersionKey, Count]:
        response: pb.ModelStatisticsResponse = await self._upstream.call(
            "ModelStatistics", pb.ModelStatisticsRequest(), Call.within(CALL_TIMEOUT_S)
        )
        return {
            (model.name, int(model.version)): _count(model)
            for model in response.model_stats
            if is_version(model.version)
        }

    async def gpu_memory(self) -> GpuMemory | None:
        return await gpu_memory(self._metrics_host, self._metrics_port) if self._metrics_port else None

    async def is_ready(self, model: str, version: int) -> bool:
        request = pb.ModelReadyRequest(name=model, version=str(version))
        response: pb.ModelReadyResponse = await self._upstream.call("ModelReady", request, Call.within(CALL_TIMEOUT_S))
        return bool(response.ready)

    async def reason(self, model: str, version: int) -> str:
        index = await self._index(only_ready=False)
        named = [m.reason for m in index.models if m.name == model and m.version in (str(version), "") and m.reason]
        return str(named[0]) if named else ""

    async def load(self, model: str, config: mc.ModelConfig, versions: Iterable[int], timeout_s: float) -> None:
        request = pb.RepositoryModelLoadRequest(model_name=model)
        text = json_format.MessageToJson(only(config, versions), preserving_proto_field_name=True, indent=None)
        request.parameters["config"].string_param = text
        try:
            await self._upstream.call("RepositoryModelLoad", request, Call.within(timeout_s))
        except DeadlineExceeded as error:
            raise LoadFailed(model, f"Triton did not finish within {timeout_s:g} s") from error
        except Internal as error:
            raise LoadFailed(model, _one_line(error.details)) from error

    async def unload(self, model: str) -> None:
        request = pb.RepositoryModelUnloadRequest(model_name=model)
        await self._upstream.call("RepositoryModelUnload", request, Call.within(CALL_TIMEOUT_S))

    async def infer(self, model: str, version: int, tensors: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        request = encode_request(pb.ModelInferRequest(model_name=model, model_version=str(version)), tensors)
        return decode_response(await self._inferences.infer(request, Call.within(timeout_s), timeout_s))

    async def close(self) -> None:
        await self._upstream.close()

    async def _index(self, *, only_ready: bool) -> pb.RepositoryIndexResponse:
        request = pb.RepositoryIndexRequest(ready=only_ready)
        response: pb.RepositoryIndexResponse = await self._upstream.call(
            "RepositoryIndex", request, Call.within(CALL_TIMEOUT_S)
        )
        return response


def version_reason(reason: str, version: int) -> str:
    """The part of Triton's refusal of a load that is about one version; all of it if it names none.

    `load failed for model 'm': version 4 is at UNAVAILABLE state: Internal: ...;`
    """
    named: dict[int, str] = {int(number): text.strip() for number, text in _VERSION_FAILED.findall(reason)}
    return named.get(version, reason)


def only(config: mc.ModelConfig, versions: Iterable[int]) -> mc.ModelConfig:
    """The same configuration for some of the versions."""
    narrowed = mc.ModelConfig()
    narrowed.CopyFrom(config)
    narrowed.version_policy.specific.versions[:] = sorted(versions)
    return narrowed


def _count(model: pb.ModelStatistics) -> Count:
    good, bad = model.inference_stats.success, model.inference_stats.fail
    return Count(
        good.count + bad.count, model.inference_stats.queue.ns, good.ns + bad.ns, model.inference_count, bad.count
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
