"""All calls to the Kubernetes API. Each call has a deadline and returns plain JSON.

Errors, named for what the caller should do:

    ApiError
    ├── ApiUnavailable  no valid answer: try again later
    ├── ApiConflict     another writer was first: read again
    ├── ApiNotFound     there is no such object, or the cluster does not know the kind
    ├── ApiRejected     every try would fail: missing permission, an invalid object
    └── ApiExpired      the revision of a watch is too old: list again
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, ApiException, Configuration, CustomObjectsApi

CALL_S = 10.0
PAGE = 500  # objects of one answer, as kubectl asks: 100,000 at once would take 0.6 GiB
MAX_PAGE_BYTES = 8 << 20  # 500 objects may have 750 MiB; a smaller page is asked for instead
MAX_EVENT_BYTES = 8 << 20  # etcd keeps objects of 1.5 MiB at most
WATCH_S = 60  # a watch that died silently is noticed after that long; the next one continues from its revision
FIELD_MANAGER = "triptych-controller"
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Json = dict[str, Any]

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A call that failed."""


class ApiUnavailable(ApiError):
    """The API server does not answer, or cannot now."""


class ApiConflict(ApiError):
    """The object exists already, or changed since it was read."""


class ApiNotFound(ApiError):
    """No such object or kind."""


class ApiRejected(ApiError):
    """The API server refused a valid request."""


class ApiExpired(ApiError):
    """A watch cannot continue from its revision: list again."""


@dataclass(frozen=True)
class Kind:
    """One kind of object in one namespace."""

    group: str
    version: str
    namespace: str
    plural: str

    def path(self) -> dict[str, str]:
        return {"group": self.group, "version": self.version, "namespace": self.namespace, "plural": self.plural}


class Api:
    """A connection to the API server, by the account of the pod or by a kubeconfig."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._objects = CustomObjectsApi(client)

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None, field_manager: str = FIELD_MANAGER) -> Api:
        """Connect without a call. Raises `OSError` without the account of a pod and without a kubeconfig.

        Kubernetes notes `field_manager` at each field that is written.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        except config.ConfigException as error:
            raise OSError(f"cannot reach the Kubernetes API: {error}") from error
        if kubeconfig is None or _is_in_no_proxy(str(configuration.host)):
            configuration.client_session_kwargs = {"trust_env": False}  # call directly, whatever the environment says
        client = ApiClient(configuration)
        client.user_agent = field_manager
        return cls(client)

    async def close(self) -> None:
        await self._client.close()

    async def pages(self, kind: Kind) -> AsyncGenerator[tuple[list[Json], str], None]:
        """All objects by pages, each with the revision from which a watch continues after the last one."""
        token, limit = "", PAGE
        while True:
            data = await self._page(kind, limit, token)
            if data is None:
                if limit == 1:
                    raise ApiUnavailable(f"one object of {kind.plural} has more than {MAX_PAGE_BYTES} bytes")
                limit = max(1, limit // 8)
                continue
            try:
                answer = json.loads(data)
                items, metadata = answer.get("items"), answer["metadata"]
                revision, token = str(metadata["resourceVersion"]), metadata.get("continue")
            except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
                raise ApiUnavailable(f"the answer is no list of {kind.plural}") from None
            yield list(items) if isinstance(items, list) else [], revision  # an empty list may be null
            if not token:
                return

    async def _page(self, kind: Kind, limit: int, token: str) -> bytes | None:
        """At most `limit` objects as JSON; None if they are more than `MAX_PAGE_BYTES`."""
        paging = {"limit": limit, "_continue": token} if token else {"limit": limit}
        method = self._objects.list_namespaced_custom_object_without_preload_content
        response, data = await self._call(method, **kind.path(), **paging), bytearray()
        try:
            async with asyncio.timeout(CALL_S):
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > MAX_PAGE_BYTES:
                        return None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiUnavailable(_words(error)) from error
        finally:
            response.close()
        return bytes(data)

    async def watch(self, kind: Kind, revision: str) -> AsyncGenerator[tuple[str, Json], None]:
        """Events after a revision, as type and object, until the API server ends the watch. Raises `ApiExpired` too.

        BOOKMARK events only carry a newer revision.
        """
        response = await self._call(
            self._objects.list_namespaced_custom_object_without_preload_content,
            **kind.path(),
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=revision,
            timeout_seconds=WATCH_S,
            _request_timeout=WATCH_S + CALL_S,
        )
        try:
            async for line in _lines(response.content.iter_any()):
                event, content = _event(json.loads(line))
                if event == "ERROR":
                    code = content.get("code")
                    raise _error(code if isinstance(code, int) else 0, str(content.get("message", "")), watching=True)
                if event:
                    yield event, content
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            raise ApiUnavailable(f"the watch broke: {_words(error)}") from error
        finally:
            response.close()

    async def get(self, kind: Kind, name: str) -> Json:
        answer: Json = await self._call(self._objects.get_namespaced_custom_object, **kind.path(), name=name)
        return answer

    async def create(self, kind: Kind, body: Json) -> Json:
        answer: Json = await self._call(self._objects.create_namespaced_custom_object, **kind.path(), body=body)
        return answer

    async def replace(self, kind: Kind, name: str, body: Json) -> Json:
        """Replace an object. Raises `ApiConflict` if it has another revision than the body."""
        answer: Json = await self._call(
            self._objects.replace_namespaced_custom_object, **kind.path(), name=name, body=body
        )
        return answer

    async def patch(self, kind: Kind, name: str, body: Json) -> Json:
        """Apply a merge patch."""
        answer: Json = await self._patch(self._objects.patch_namespaced_custom_object, kind, name, body)
        return answer

    async def patch_status(self, kind: Kind, name: str, body: Json) -> Json:
        """Apply a merge patch to the status alone."""
        answer: Json = await self._patch(self._objects.patch_namespaced_custom_object_status, kind, name, body)
        return answer

    async def text(self, path: str, query: Sequence[tuple[str, str]] = ()) -> str:
        """The answer to a GET of any path: a list of another kind, or a page of a pod through the API server."""

        async def fetch(_request_timeout: float) -> str:
            request = await self._client.param_serialize(
                "GET", path, query_params=list(query), auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*request, _request_timeout=_request_timeout)
            text: str = (await response.read()).decode(errors="replace")
            if response.status >= 400:
                raise ApiException(status=response.status, reason=response.reason, body=text)
            return text

        answer: str = await self._call(fetch)
        return answer

    async def _patch(self, method: Callable[..., Awaitable[Any]], kind: Kind, name: str, body: Json) -> Json:
        merge = "application/merge-patch+json"
        answer: Json = await self._call(method, **kind.path(), name=name, body=body, _content_type=merge)
        return answer

    async def _call(self, method: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        arguments.setdefault("_request_timeout", CALL_S)
        try:
            async with asyncio.timeout(CALL_S):  # until a watch is open; its duration has a limit of its own
                response = await method(**arguments)
        except ApiException as error:
            raise _error(error.status or 0, _message(error)) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnavailable(_words(error)) from error
        if isinstance(getattr(response, "status", None), int) and response.status >= 400:
            raise _error(response.status, _said(await response.text()), watching=True)
        return response


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines up to `MAX_EVENT_BYTES`: the lines of aiohttp end a watch at 128 KiB. Raises `ValueError`."""
    rest = bytearray()
    async for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for part in whole:
            line, rest = bytes(rest + part), bytearray()
            if line:
                yield line
        rest += last
        if len(rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
    if rest:
        yield bytes(rest)


def _event(event: Any) -> tuple[str, Json]:
    """Type and object of an event. An invalid event is logged, and its type is ''."""
    kind, content = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
    if isinstance(kind, str) and isinstance(content, dict):
        return kind, content
    log.warning("invalid watch event skipped", extra={"event": repr(event)[:200]})
    return "", {}


def _is_in_no_proxy(url: str) -> bool:
    """Whether a network of NO_PROXY has the address of a URL. aiohttp compares only names and single addresses."""
    names = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    with suppress(ValueError):
        address = ip_address(urlsplit(url).hostname or "")
        for text in names.split(","):
            with suppress(ValueError):
                if address in ip_network(text.strip(), strict=False):
                    return True
    return False


def part(content: Any, name: str) -> Json:
    """A part of an object; empty if it is no object itself."""
    found = content.get(name) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _error(code: int, message: str, *, watching: bool = False) -> ApiError:
    match code:
        case 410 if watching:
            return ApiExpired(message)
        case 404:
            return ApiNotFound(message)
        case 409:
            return ApiConflict(message)
        case 400 | 401 | 403 | 405 | 413 | 422:
            return ApiRejected(message)
        case 500 if "request is too large" in message:  # for etcd: an object near its limit, without the new status
            return ApiRejected(message)
    return ApiUnavailable(f"{code}: {message}")


def _message(error: ApiException) -> str:
    return _said(error.body or "") or str(error.reason or error.status)


def _said(body: str) -> str:
    """The message of the API server, or the beginning of what is none."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:500]


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
