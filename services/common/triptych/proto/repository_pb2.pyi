from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CatalogueUpdate(_message.Message):
    __slots__ = ("revision", "full", "models", "removed")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    full: bool
    models: _containers.RepeatedCompositeFieldContainer[Model]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, revision: int | None = ..., full: bool | None = ..., models: _Iterable[Model | _Mapping] | None = ..., removed: _Iterable[str] | None = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "family", "route", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    family: str
    route: str
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, name: str | None = ..., family: str | None = ..., route: str | None = ..., versions: _Iterable[Version | _Mapping] | None = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version", "percent", "predictors")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTORS_FIELD_NUMBER: _ClassVar[int]
    version: int
    percent: int
    predictors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: int | None = ..., percent: int | None = ..., predictors: _Iterable[str] | None = ...) -> None: ...

class GetContractRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: str | None = ..., version: int | None = ...) -> None: ...

class GetContractReply(_message.Message):
    __slots__ = ("contract_json", "digest")
    CONTRACT_JSON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    contract_json: bytes
    digest: str
    def __init__(self, contract_json: bytes | None = ..., digest: str | None = ...) -> None: ...

class EnsureLoadedRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: str | None = ..., version: int | None = ...) -> None: ...

class EnsureLoadedReply(_message.Message):
    __slots__ = ("predictors",)
    PREDICTORS_FIELD_NUMBER: _ClassVar[int]
    predictors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predictors: _Iterable[str] | None = ...) -> None: ...
