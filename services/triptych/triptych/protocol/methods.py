"""A servicer's methods as one table, for any server that can carry gRPC.

`methods_of` reads the service's own descriptor, so every method of the protocol is there: those that a servicer does
not define answer UNIMPLEMENTED with a sentence, to which its `not_offered` adds what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from triptych.errors import NotSupported
from triptych.protocol.call import Call


@dataclass(frozen=True)
class Method:
    """One method: how it is called on the wire, and what answers it.

    `answer(request, call)` is a coroutine for unary methods and an async generator for streaming ones; with
    `client_streaming` it gets an async iterator in place of the request, in which a message that cannot be parsed
    arrives as an `InvalidRequest` instance.
    """

    name: str
    request: type[Message]
    answer: Callable[[Any, Call], Any]
    client_streaming: bool
    server_streaming: bool


@dataclass(frozen=True)
class Service:
    full_name: str
    methods: tuple[Method, ...]


def methods_of(descriptor: ServiceDescriptor, servicer: object) -> Service:
    """The service as its descriptor names it, answered by `servicer.model_infer` and so on."""
    return Service(descriptor.full_name, tuple(_methods(descriptor, servicer)))


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _methods(descriptor: ServiceDescriptor, servicer: object) -> Iterable[Method]:
    for method in descriptor.methods:
        streams = method.client_streaming or method.server_streaming
        instead = getattr(servicer, "not_offered", {}).get(method.name, "")
        text = f"{method.full_name} is not offered here" + (f": {instead}" if instead else "")
        refuse = _refuse_stream(text) if streams else _refuse(text)
        yield Method(
            method.name,
            GetMessageClass(method.input_type),
            getattr(servicer, snake_case(method.name), refuse),
            method.client_streaming,
            method.server_streaming,
        )


def _refuse(text: str) -> Callable[[Any, Call], Any]:
    async def refuse(_request: Any, _call: Call) -> Any:
        raise NotSupported(text)

    return refuse


def _refuse_stream(text: str) -> Callable[[Any, Call], Any]:
    async def refuse(_request: Any, _call: Call) -> Any:
        raise NotSupported(text)
        yield

    return refuse
