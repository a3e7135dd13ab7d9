from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ChooseVersionsRequest(_message.Message):
    __slots__ = ("model", "route", "traffic_keys")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    model: str
    route: str
    traffic_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., route: _Optional[str] = ..., traffic_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class ChooseVersionsReply(_message.Message):
    __slots__ = ("model", "versions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[str] = ..., versions: _Optional[_Iterable[int]] = ...) -> None: ...
