"""Errors, named for what the caller should do about them.

    TriptychError
    ├── InvalidRequest        change the request
    │   ├── InvalidInput      ... this tensor of it
    │   └── InvalidParameter  ... this parameter of it
    ├── UnknownTarget         ask for something that exists
    │   ├── UnknownModel
    │   ├── UnknownRoute
    │   ├── UnknownVersion
    │   └── UnknownAlias
    ├── NotSupported          do not call this method here
    ├── Unavailable           try again later
    │   ├── StageUnavailable  ... a stage or Triton does not answer
    │   ├── ModelFailing      ... a loaded model cannot run: its process died, or its GPU has a fault
    │   └── Draining          ... on another replica
    ├── LoadFailed            mend the model; trying again does not help
    ├── UnreachableDeadline   ask for a later one
    ├── DeadlineExceeded      allow more time
    ├── Overloaded            send less, or later
    │   └── AnswerTooLarge    ... ask for less: fewer rows, or fewer outputs
    └── Internal              report it: a fault of the system
        └── ContractViolation
            └── NotLoaded

`triptych.protocol.status` holds the table from these classes to gRPC status codes.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from itertools import islice

MAX_WORD = 128  # characters of a caller's word in a sentence, as in a contract's names
MAX_GOT = 512  # characters of what a caller sent, where a sentence shows it


class TriptychError(Exception):
    """The root. `str(error)` is the sentence that the caller reads."""


class InvalidRequest(TriptychError):
    """The request cannot be answered as it is."""


class InvalidInput(InvalidRequest):
    """One input tensor is wrong: `input 'history': want FP32[n,28], got FP64[3,27]`."""

    def __init__(self, name: str, want: str, got: str) -> None:
        name, got = clipped(name), clipped(got, MAX_GOT)
        super().__init__(f"input '{name}': want {want}, got {got}")
        self.name, self.want, self.got = name, want, got


class InvalidParameter(InvalidRequest):
    """One request parameter is wrong."""

    def __init__(self, name: str, want: str, got: str) -> None:
        name, got = clipped(name), clipped(got, MAX_GOT)
        super().__init__(f"parameter '{name}': want {want}, got {got}")
        self.name, self.want, self.got = name, want, got


class UnknownTarget(TriptychError):
    """The request names a target that does not exist."""


class UnknownModel(UnknownTarget):
    """No model or family of that name is in the catalog."""

    def __init__(self, name: str, *known: Collection[str]) -> None:
        super().__init__(f"unknown model or family '{clipped(name)}'" + _known(*known))


class UnknownRoute(UnknownTarget):
    """The family exists, but has no model for that route."""

    def __init__(self, family: str, route: str, known: Collection[str] = ()) -> None:
        super().__init__(f"family '{clipped(family)}' has no route '{clipped(route)}'" + _known(known))


class UnknownVersion(UnknownTarget):
    """The model exists, but not in that version."""

    def __init__(self, model: str, version: str, known: Collection[object] = (), aliases: Collection[str] = ()) -> None:
        wanted = "" if is_version(version) else "; a version is a number as in '1', in digits without zeros before it"
        if aliases and wanted:
            wanted += ", or an alias of one"
            known = [*known, *aliases]
        super().__init__(f"model '{clipped(model)}' has no version '{clipped(version)}'" + wanted + _known(known))


class UnknownAlias(UnknownTarget):
    """The model exists, but no version of it has that alias."""

    def __init__(self, model: str, alias: str, known: Collection[str] = ()) -> None:
        super().__init__(f"model '{clipped(model)}' has no alias '{clipped(alias)}'" + _known(known))


class RefusedTarget(UnknownTarget):
    """The model repository has the target, but the controller does not serve it."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} is not served: {reason}")


class NotSupported(TriptychError):
    """This server does not offer the method."""


class Unavailable(TriptychError):
    """Temporarily not possible; the same call may succeed later."""


class StageUnavailable(Unavailable):
    """Another stage, or Triton, does not answer."""

    def __init__(self, stage: str, address: str, reason: str) -> None:
        super().__init__(f"{stage} at {address} does not answer: {reason}")
        self.stage, self.address = stage, address


class ModelFailing(Unavailable):
    """A loaded model cannot run for any request. `retry_after_s` is the time until a retry may succeed; 0: unknown."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Draining(Unavailable):
    """This process is stopping."""


class LoadFailed(TriptychError):
    """Triton refused to load the model. The text has Triton's reason."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"model '{model}' could not be loaded: {reason}")
        self.model, self.reason = model, reason


class UnreachableDeadline(TriptychError):
    """The deadline of a job cannot be met. The text has the time in which the job could be done.

    `reachable_s` is that time, in seconds from now.
    """

    def __init__(self, text: str, reachable_s: float) -> None:
        super().__init__(text)
        self.reachable_s = reachable_s


class DeadlineExceeded(TriptychError):
    """The deadline of the call has passed."""


class Overloaded(TriptychError):
    """A limit of queued or in-flight work is reached. `retry_after_s` is a retry hint; 0: unknown."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class AnswerTooLarge(Overloaded):
    """Another service's answer is larger than the limit of this one."""


class Internal(TriptychError):
    """Fault of the system. The caller gets a fixed text, the log gets this one.

    `details` is the original message of another process.
    """

    def __init__(self, text: str, details: str = "") -> None:
        super().__init__(text)
        self.details = details or text


class ContractViolation(Internal):
    """Model and contract disagree at run time, although the checks at publication passed."""


class NotLoaded(ContractViolation):
    """An upstream lacks what the catalog lists for it: Triton has unloaded the model."""


def clipped(text: str, limit: int = MAX_WORD) -> str:
    """Text of at most `limit` characters, with the whole length added if it is cut."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def is_version(text: str) -> bool:
    """Whether a text is a version number such as "1"; not "01", " 1", "-1" or "latest"."""
    return len(text) <= MAX_VERSION_DIGITS and text.isascii() and text.isdecimal() and text[0] != "0"


MAX_VERSION_DIGITS = 18  # so that any fits an int64
_SHOWN = 8
_READ = 100  # names of each kind: to sort those of 100,000 models took 2.8 ms for each wrong request


def _known(*names: Collection[object]) -> str:
    """`; known: a, b, ... (48 in all)`, or nothing. They are the first in order of the first `_READ`."""
    read = {str(name) for each in names for name in islice(each, _READ)}  # a model may have the name of its family
    if not read:
        return ""
    count = sum(map(len, names)) if any(len(each) > _READ for each in names) else len(read)
    more = f", ... ({count} in all)" if count > _SHOWN else ""
    return "; known: " + ", ".join(heapq.nsmallest(_SHOWN, read)) + more
