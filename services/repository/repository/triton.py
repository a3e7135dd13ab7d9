"""All calls to Triton. Each has a deadline; Triton itself has none for a load that hangs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as mc
from tritonclient.grpc import service_pb2 as pb

from triptych.call import Call
from triptych.client import Upstream
from triptych.errors import DeadlineExceeded, Internal, LoadFailed
from triptych.oip import SERVICE

INDEX_S = 5.0
MAX_REASON = 1000  # a refusal travels in HTTP/2 trailers, which clients limit to 8 KiB

_VERSION_FAILED = re.compile(r"version (\d+) is at UNAVAILABLE state: (.*?);\s*(?=version \d+ is at |$)")

Ready = frozenset[tuple[str, int]]  # models and versions


class Predictor(Protocol):
    """One Triton, as residency sees it."""

    address: str

    async def ready(self) -> Ready:
        """What it has ready. Raises `StageUnavailable` or `DeadlineExceeded`."""
        ...

    async def reason(self, model: str, version: int) -> str:
        """Why a version is not ready, in Triton's words; empty when it gives none."""
        ...

    async def load(self, model: str, timeout_s: float, config: mc.ModelConfig | None = None) -> None:
        """Loads a model as its config.pbtxt says, or as `config` does. Raises `LoadFailed` or `StageUnavailable`."""
        ...

    async def close(self) -> None: ...


class Triton:
    """A Triton by its gRPC address, host:port."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._upstream = Upstream("triton", address, SERVICE, relays=False)

    async def ready(self) -> Ready:
        index = await self._index(only_ready=True)
        return frozenset((m.name, int(m.version)) for m in index.models if m.state == "READY")

    async def reason(self, model: str, version: int) -> str:
        index = await self._index(only_ready=False)  # makes Triton look at its disk, so only after a failure
        named = (m for m in index.models if m.name == model and m.version in (str(version), ""))
        return next((m.reason for m in named if m.reason), "")

    async def load(self, model: str, timeout_s: float, config: mc.ModelConfig | None = None) -> None:
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            text = json_format.MessageToJson(config, preserving_proto_field_name=True)
            request.parameters["config"].string_param = text
        try:
            await self._upstream.call("RepositoryModelLoad", request, Call.within(timeout_s))
        except DeadlineExceeded as error:
            raise LoadFailed(model, f"Triton did not finish within {timeout_s:g} s") from error
        except Internal as error:
            raise LoadFailed(model, _triton_says(error)) from error

    async def close(self) -> None:
        await self._upstream.close()

    async def _index(self, *, only_ready: bool) -> pb.RepositoryIndexResponse:
        request = pb.RepositoryIndexRequest(ready=only_ready)
        response: pb.RepositoryIndexResponse = await self._upstream.call(
            "RepositoryIndex", request, Call.within(INDEX_S)
        )
        return response


def failed_versions(reason: str) -> dict[int, str]:
    """The versions that Triton names when it refuses a load, each with its reason.

    It refuses the whole model for one of them: `load failed for model 'm': version 4 is at UNAVAILABLE state: ...;`
    """
    return {int(version): text.strip() for version, text in _VERSION_FAILED.findall(reason)}


def only(config: mc.ModelConfig, versions: Iterable[int]) -> mc.ModelConfig:
    """The same configuration for some of the versions."""
    narrowed = mc.ModelConfig()
    narrowed.CopyFrom(config)
    narrowed.version_policy.specific.versions[:] = sorted(versions)
    return narrowed


def _triton_says(error: Internal) -> str:
    """Triton's own words, without ours around them, as one line."""
    details = getattr(error.__cause__, "details", None)
    return " ".join(str(details() if details else error).split())[:MAX_REASON]
