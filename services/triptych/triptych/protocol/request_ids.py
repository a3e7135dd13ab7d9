"""Ids of requests, by which the sentence of an error and the log of a stage are found from each other.

An id that the caller sends is kept as it is. Without one, an id is made once an error or a log line needs it, so that a
request that succeeds pays nothing. It is not added to an answer, whose `id` is the caller's by the protocol.
"""

from __future__ import annotations

import itertools
import secrets

from triptych.errors import clipped

_PROCESS = secrets.token_hex(4)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other request of any replica has: `3f9a1c07-12`, the process and its 12th such request."""
    return f"{_PROCESS}-{next(_numbers)}"


def request_suffix(request_id: str) -> str:
    """End of an error's sentence: ` (request 3f9a1c07-12)`; nothing for a call that is no request."""
    return f" (request {clipped(request_id)})" if request_id else ""
