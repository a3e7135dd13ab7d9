"""Errors of refused loads, and the outcome label of each load."""

from __future__ import annotations

import math

from controller.placement.predictors.predictor import Predictor
from triptych.client.triton_errors import SHARED_MEMORY_HINT
from triptych.errors import LoadFailed, Overloaded, TriptychError

MAX_REASON = 1000  # characters: a refusal travels in HTTP/2 trailers, which clients limit to 8 KiB


def full(predictor: Predictor, wait_s: float) -> Overloaded:
    """The refusal of a load that has to wait too long for capacity; `wait_s` is infinite for never."""
    text = f"predictor {predictor.address} is full of models"
    if math.isinf(wait_s):
        return Overloaded(f"{text} that are to stay loaded; give it more memory or add one")
    return Overloaded(f"{text} that are in use; try again in {math.ceil(wait_s)} s, or add one", retry_after_s=wait_s)


def hung(reason: str) -> bool:
    """Whether a load failed for want of an answer, which another predictor may give."""
    return reason.startswith(("Triton did not finish", "Triton has been loading"))


def no_shared_memory(predictor: Predictor, wait_s: float) -> Overloaded:
    """The refusal of a load without shared memory, when no other version may be evicted for it."""
    again_s = 0.0 if math.isinf(wait_s) else wait_s
    return Overloaded(f"predictor {predictor.address} cannot hold another model: {SHARED_MEMORY_HINT}", again_s)


def outcome_of(error: TriptychError | None) -> str:
    """The label of a load in `triptych_model_loads`."""
    if error is None:
        return "ok"
    if isinstance(error, LoadFailed):
        return "failed"
    return "refused" if isinstance(error, Overloaded) else "unavailable"
