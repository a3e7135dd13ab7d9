"""The outcomes of a load that did not succeed: refusals for want of room, and what each counts as."""

from __future__ import annotations

import math

from controller.placement.predictor import Pod
from triptych.client.triton_errors import SHARED_MEMORY_HINT
from triptych.errors import LoadFailed, Overloaded, TriptychError

MAX_REASON = 1000  # characters: a refusal travels in HTTP/2 trailers, which clients limit to 8 KiB


def full(pod: Pod, wait_s: float) -> Overloaded:
    """The refusal of a load for which there is no room and will not be for a while."""
    if math.isinf(wait_s):
        text = f"predictor {pod.address} is full of models that are to stay loaded; give it more room or add one"
        return Overloaded(text)
    text = f"predictor {pod.address} is full of models that are in use; try again in {math.ceil(wait_s)} s, or add one"
    return Overloaded(text, retry_after_s=wait_s)


def hung(reason: str) -> bool:
    """Whether a load failed for want of an answer, which another Triton may give."""
    return reason.startswith(("Triton did not finish", "Triton has been loading"))


def no_shared_memory(pod: Pod, wait_s: float) -> Overloaded:
    """The refusal of a load for which there is no shared memory, when no other model may make room."""
    again_s = 0.0 if math.isinf(wait_s) else wait_s
    return Overloaded(f"predictor {pod.address} has no room for another model: {SHARED_MEMORY_HINT}", again_s)


def outcome_of(error: TriptychError | None) -> str:
    """The label of a load in `triptych_model_loads`."""
    if error is None:
        return "ok"
    if isinstance(error, LoadFailed):
        return "failed"
    return "refused" if isinstance(error, Overloaded) else "unavailable"
