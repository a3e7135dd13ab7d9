"""Methods of a servicer as one table, for any gRPC server.

`methods_of` reads the descriptor of the service, so that every method of the protocol is present. A method that the
servicer does not define answers UNIMPLEMENTED; the servicer's `not_offered` adds what to do instead.
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
    """One method: its name and message on the wire, and its handler.

    `answer(request, call)` is a coroutine for unary methods and an async generator for streaming ones. With
    `client_streaming` it gets an async iterator of functions that return a request or raise `InvalidRequest`, so that a
    message is parsed only when it is answered: it can take many times its bytes. The generator yields messages, or
    bytes: a message encoded once for many streams. With `begins_at_once` its first step runs in no task
    (`triptych.runtime.first_step`).
    """

    name: str
    request: type[Message]
    answer: Callable[[Any, Call], Any]
    client_streaming: bool
    server_streaming: bool
    begins_at_once: bool = False


@dataclass(frozen=True)
class Service:
    """A service by its full name, with all of its methods."""

    full_name: str
    methods: tuple[Method, ...]


def encoded(message: Message | bytes) -> bytes:
    """A message as bytes, which may be encoded already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def methods_of(descriptor: ServiceDescriptor, servicer: object) -> Service:
    """Service of a descriptor. Its method ModelInfer is answered by `servicer.model_infer`, and so on."""
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
            method.name in getattr(servicer, "begins_at_once", ()),
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
