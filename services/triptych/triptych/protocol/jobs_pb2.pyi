from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("request_id", "document", "uploads", "keep_s", "deadline_s", "background", "validate_only")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    KEEP_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    document: str
    uploads: _containers.RepeatedScalarFieldContainer[str]
    keep_s: float
    deadline_s: float
    background: bool
    validate_only: bool
    def __init__(self, request_id: _Optional[str] = ..., document: _Optional[str] = ..., uploads: _Optional[_Iterable[str]] = ..., keep_s: _Optional[float] = ..., deadline_s: _Optional[float] = ..., background: _Optional[bool] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("upload", "offset", "content", "crc32c", "end")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    upload: str
    offset: int
    content: bytes
    crc32c: int
    end: bool
    def __init__(self, upload: _Optional[str] = ..., offset: _Optional[int] = ..., content: _Optional[bytes] = ..., crc32c: _Optional[int] = ..., end: _Optional[bool] = ...) -> None: ...

class GetUploadRequest(_message.Message):
    __slots__ = ("upload",)
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    upload: str
    def __init__(self, upload: _Optional[str] = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("upload", "bytes", "complete")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    upload: str
    bytes: int
    complete: bool
    def __init__(self, upload: _Optional[str] = ..., bytes: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("name", "position", "in_order")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    IN_ORDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: int
    in_order: bool
    def __init__(self, name: _Optional[str] = ..., position: _Optional[int] = ..., in_order: _Optional[bool] = ...) -> None: ...

class FollowReply(_message.Message):
    __slots__ = ("position", "part", "rows", "bad_rows", "content", "more", "state", "error", "summary_json")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    position: int
    part: int
    rows: int
    bad_rows: int
    content: bytes
    more: bool
    state: str
    error: str
    summary_json: str
    def __init__(self, position: _Optional[int] = ..., part: _Optional[int] = ..., rows: _Optional[int] = ..., bad_rows: _Optional[int] = ..., content: _Optional[bytes] = ..., more: _Optional[bool] = ..., state: _Optional[str] = ..., error: _Optional[str] = ..., summary_json: _Optional[str] = ...) -> None: ...

class JobMetadata(_message.Message):
    __slots__ = ("request_id", "state", "model", "version", "parts", "committed", "rows", "bad_rows", "created_s", "started_s", "ended_s", "expires_s", "background", "summary_json")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    CREATED_S_FIELD_NUMBER: _ClassVar[int]
    STARTED_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    state: str
    model: str
    version: int
    parts: int
    committed: int
    rows: int
    bad_rows: int
    created_s: float
    started_s: float
    ended_s: float
    expires_s: float
    background: bool
    summary_json: str
    def __init__(self, request_id: _Optional[str] = ..., state: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., parts: _Optional[int] = ..., committed: _Optional[int] = ..., rows: _Optional[int] = ..., bad_rows: _Optional[int] = ..., created_s: _Optional[float] = ..., started_s: _Optional[float] = ..., ended_s: _Optional[float] = ..., expires_s: _Optional[float] = ..., background: _Optional[bool] = ..., summary_json: _Optional[str] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("manifest", "rows", "bad_rows")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    manifest: str
    rows: int
    bad_rows: int
    def __init__(self, manifest: _Optional[str] = ..., rows: _Optional[int] = ..., bad_rows: _Optional[int] = ...) -> None: ...
