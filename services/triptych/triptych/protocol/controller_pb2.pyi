from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CatalogUpdate(_message.Message):
    __slots__ = ("revision", "full", "models", "removed", "more", "refused")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    full: bool
    models: _containers.RepeatedCompositeFieldContainer[Model]
    removed: _containers.RepeatedScalarFieldContainer[str]
    more: bool
    refused: _containers.RepeatedCompositeFieldContainer[Refused]
    def __init__(self, revision: _Optional[int] = ..., full: _Optional[bool] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., removed: _Optional[_Iterable[str]] = ..., more: _Optional[bool] = ..., refused: _Optional[_Iterable[_Union[Refused, _Mapping]]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("model", "version", "reason", "family", "route")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    reason: str
    family: str
    route: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., reason: _Optional[str] = ..., family: _Optional[str] = ..., route: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "family", "route", "versions", "aliases")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    family: str
    route: str
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    aliases: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., family: _Optional[str] = ..., route: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version", "percent", "predictors")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTORS_FIELD_NUMBER: _ClassVar[int]
    version: int
    percent: int
    predictors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[int] = ..., percent: _Optional[int] = ..., predictors: _Optional[_Iterable[str]] = ...) -> None: ...

class GetContractRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class GetContractReply(_message.Message):
    __slots__ = ("contract_json", "digest", "step_files")
    class StepFilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTRACT_JSON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STEP_FILES_FIELD_NUMBER: _ClassVar[int]
    contract_json: bytes
    digest: str
    step_files: _containers.ScalarMap[str, str]
    def __init__(self, contract_json: _Optional[bytes] = ..., digest: _Optional[str] = ..., step_files: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetStepFileRequest(_message.Message):
    __slots__ = ("model", "version", "path")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    path: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., path: _Optional[str] = ...) -> None: ...

class GetStepFileReply(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class EnsureLoadedRequest(_message.Message):
    __slots__ = ("model", "version", "forwarded", "failing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    FAILING_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    forwarded: bool
    failing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., forwarded: _Optional[bool] = ..., failing: _Optional[_Iterable[str]] = ...) -> None: ...

class EnsureLoadedReply(_message.Message):
    __slots__ = ("predictors",)
    PREDICTORS_FIELD_NUMBER: _ClassVar[int]
    predictors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, predictors: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("predictors", "loaded_models", "decisions", "store")
    PREDICTORS_FIELD_NUMBER: _ClassVar[int]
    LOADED_MODELS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    predictors: _containers.RepeatedCompositeFieldContainer[Predictor]
    loaded_models: _containers.RepeatedCompositeFieldContainer[LoadedModel]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    store: Store
    def __init__(self, predictors: _Optional[_Iterable[_Union[Predictor, _Mapping]]] = ..., loaded_models: _Optional[_Iterable[_Union[LoadedModel, _Mapping]]] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., store: _Optional[_Union[Store, _Mapping]] = ...) -> None: ...

class Store(_message.Message):
    __slots__ = ("location", "fault", "read_s")
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    READ_S_FIELD_NUMBER: _ClassVar[int]
    location: str
    fault: str
    read_s: float
    def __init__(self, location: _Optional[str] = ..., fault: _Optional[str] = ..., read_s: _Optional[float] = ...) -> None: ...

class Predictor(_message.Message):
    __slots__ = ("address", "answers", "used_bytes", "budget_bytes", "models", "max_models", "loading")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MAX_MODELS_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    address: str
    answers: bool
    used_bytes: int
    budget_bytes: int
    models: int
    max_models: int
    loading: int
    def __init__(self, address: _Optional[str] = ..., answers: _Optional[bool] = ..., used_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ..., models: _Optional[int] = ..., max_models: _Optional[int] = ..., loading: _Optional[int] = ...) -> None: ...

class LoadedModel(_message.Message):
    __slots__ = ("model", "predictor", "versions", "bytes", "bytes_from", "idle_s", "requests_per_s", "pinned", "desired_replicas")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FROM_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_S_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    DESIRED_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    model: str
    predictor: str
    versions: _containers.RepeatedScalarFieldContainer[int]
    bytes: int
    bytes_from: str
    idle_s: float
    requests_per_s: float
    pinned: bool
    desired_replicas: int
    def __init__(self, model: _Optional[str] = ..., predictor: _Optional[str] = ..., versions: _Optional[_Iterable[int]] = ..., bytes: _Optional[int] = ..., bytes_from: _Optional[str] = ..., idle_s: _Optional[float] = ..., requests_per_s: _Optional[float] = ..., pinned: _Optional[bool] = ..., desired_replicas: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("time_s", "action", "model", "predictor", "reason", "seconds", "outcome")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    time_s: float
    action: str
    model: str
    predictor: str
    reason: str
    seconds: float
    outcome: str
    def __init__(self, time_s: _Optional[float] = ..., action: _Optional[str] = ..., model: _Optional[str] = ..., predictor: _Optional[str] = ..., reason: _Optional[str] = ..., seconds: _Optional[float] = ..., outcome: _Optional[str] = ...) -> None: ...
