"""numpy's warnings about arithmetic: off wherever steps run, because the contract's checks find NaN and infinity.

`np.errstate` around the steps of a request takes 10,000 instructions, a fiftieth of a stage's own work (2026-11-30).
So a process that serves turns the warnings off once. Other users of a plan keep theirs.
"""

from __future__ import annotations

from contextvars import ContextVar

import numpy as np

# Set together with numpy's own state, which is a context variable too: a context has both or neither.
ARE_OFF: ContextVar[bool] = ContextVar("numpy_warnings_are_off", default=False)


def turn_off() -> None:
    """Turn the warnings off in this context and in all that are copied from it: those of a loop that starts later."""
    np.seterr(all="ignore")
    ARE_OFF.set(True)
