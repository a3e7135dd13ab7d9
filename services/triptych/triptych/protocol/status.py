"""Table from errors to gRPC status, and back for a stage that calls another.

A stage never answers UNKNOWN: an error without a row is a bug, answered as INTERNAL with a fixed text and logged whole.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

import grpc

from triptych import errors
from triptych.protocol.call import Call
from triptych.protocol.request_ids import request_suffix

INTERNAL_TEXT = "internal error; the stage's log has the cause under this request's id"

# Trailing metadata of every error that a stage answers. An error made by a connection or a proxy lacks it.
STAGE_ERROR = "triptych-error"

# Milliseconds until the caller should retry: gRPC's own key, which its retry policies understand (gRFC A6).
RETRY_AFTER = "grpc-retry-pushback-ms"

# gRPC's clients accept 8 KiB of metadata by default, and a byte that is not ASCII takes three in a status. A longer
# text would turn every code into RESOURCE_EXHAUSTED.
MAX_TEXT_BYTES = 2_000

CODES: dict[type[errors.TriptychError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidParameter: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownTarget: grpc.StatusCode.NOT_FOUND,
    errors.UnknownModel: grpc.StatusCode.NOT_FOUND,
    errors.RefusedTarget: grpc.StatusCode.NOT_FOUND,
    errors.UnknownRoute: grpc.StatusCode.NOT_FOUND,
    errors.UnknownVersion: grpc.StatusCode.NOT_FOUND,
    errors.UnknownAlias: grpc.StatusCode.NOT_FOUND,
    errors.NotSupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StageUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ModelFailing: grpc.StatusCode.UNAVAILABLE,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.LoadFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnreachableDeadline: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.AnswerTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
    errors.ContractViolation: grpc.StatusCode.INTERNAL,
    errors.NotLoaded: grpc.StatusCode.INTERNAL,
}


class Relayed(errors.TriptychError):
    """Error of another stage: its code and sentence are passed on to the caller."""

    def __init__(self, code: grpc.StatusCode, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.code, self.retry_after_s = code, retry_after_s


def status_of(error: BaseException, request_id: str = "", *, shows_cause: bool = False) -> tuple[grpc.StatusCode, str]:
    """Code and text of an error for the caller, the text cut to `MAX_TEXT_BYTES`. It ends with the request's id.

    `shows_cause`: an internal error has its cause in place of a fixed text, which may name files and options.
    """
    suffix = request_suffix(request_id)
    if isinstance(error, Relayed):
        return error.code, _cut(str(error), suffix)
    code = CODES.get(type(error)) if isinstance(error, errors.TriptychError) else None
    if code is None or code is grpc.StatusCode.INTERNAL:
        return grpc.StatusCode.INTERNAL, _cut(_cause(error), suffix) if shows_cause else INTERNAL_TEXT + suffix
    return code, _cut(str(error), suffix)


def _cause(error: BaseException) -> str:
    """The sentence of an error of ours; of any other the class as well."""
    text = str(error) if isinstance(error, errors.TriptychError) else f"{type(error).__name__}: {error}"
    return f"internal error: {text}"


def _cut(text: str, suffix: str) -> str:
    limit = MAX_TEXT_BYTES - len(suffix.encode())
    if len(text) * 4 <= limit or len(encoded := text.encode(errors="replace")) <= limit:
        return text + suffix
    return encoded[:limit].decode(errors="ignore") + "..." + suffix


def outcome_code(error: BaseException, call: Call) -> str:
    """Name of the code that a call is counted with. A cancelled task was late, or its caller has gone."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return (grpc.StatusCode.DEADLINE_EXCEEDED if call.is_late else grpc.StatusCode.CANCELLED).name
    return status_of(error)[0].name


def trailers_of(error: BaseException) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of an error."""
    after_s = getattr(error, "retry_after_s", 0.0)
    hint = ((RETRY_AFTER, str(math.ceil(after_s * 1000))),) if after_s else ()
    return ((STAGE_ERROR, "1"), *hint)


def pushback_s(trailers: Mapping[str, str]) -> float | None:
    """Seconds until a retry, as the server asks; None if it does not ask.

    Anything but a number means never (gRFC A6): infinity.
    """
    text = trailers.get(RETRY_AFTER)
    if not text:
        return None
    return int(text) / 1000 if text.isdecimal() and len(text) < 10 else math.inf


def retry_after_of(trailers: Mapping[str, str]) -> float:
    """Retry hint in seconds for our own caller; 0 for none."""
    after_s = pushback_s(trailers)
    return after_s if after_s is not None and math.isfinite(after_s) else 0.0
