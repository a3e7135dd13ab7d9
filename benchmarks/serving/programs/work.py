"""Pre- and postprocessing of the two example models, written by hand. Every peer uses it.

The constants are those of the contracts of `sales_forecast_de` and `digits_de`. Inputs are not checked, as in most
services of this kind. Triptych checks every request against its contract, and that time is part of its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

WORDS = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
LABELS = np.array([word.encode() for word in WORDS], np.object_)
SCALE = np.array([0.0111111111, 0.0078431373, 0.0078431373], np.float32)
OFFSET = np.array([-1.0, -1.0, -1.0], np.float32)
SIDE = 32
TOP = 3


def sales_before(history: Array, price: Array, promotion: Array) -> Array:
    """Convert FP32 [n,28], FP32 [n,7], BOOL [n,7] to the model's FP32 [n,42]."""
    return np.concatenate([history, price, promotion.astype(np.float32)], axis=1)


def sales_after(forecast: Array) -> tuple[Array, Array]:
    """Convert the model's FP32 [n,7] to units INT64 [n,7] and their total INT64 [n]."""
    units = np.rint(np.clip(forecast, 0, None)).astype(np.int64)
    return units, units.sum(axis=1)


def digits_before(images: Sequence[bytes], boxes: Array) -> Array:
    """Convert files and INT32 [n,4] (x, y, width, height) to the model's pixels FP32 [n,3,32,32], in HSV."""
    import cv2

    cv2.setNumThreads(1)
    small = np.empty((len(images), SIDE, SIDE, 3), np.uint8)
    for row, (data, (x, y, width, height)) in enumerate(zip(images, boxes.tolist(), strict=True)):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is None:
            raise ValueError(f"row {row}: not a picture")
        hsv = cv2.cvtColor(picture[y : y + height, x : x + width], cv2.COLOR_RGB2HSV)
        cv2.resize(hsv, (SIDE, SIDE), dst=small[row], interpolation=cv2.INTER_AREA)
    pixels = np.multiply(small, SCALE, dtype=np.float32)
    pixels += OFFSET
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def digits_after(logits: Array) -> tuple[Array, Array, Array]:
    """Convert logits FP32 [n,10] to words BYTES [n,3], scores FP32 [n,3], classes INT32 [n,3], the likeliest first."""
    probability = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probability /= probability.sum(axis=-1, keepdims=True)
    order = np.argsort(-probability, axis=-1, kind="stable")[..., :TOP]
    return LABELS[order], np.take_along_axis(probability, order, axis=-1), order.astype(np.int32)


def before(kind: str, inputs: dict[str, Array]) -> dict[str, Array]:
    """Convert a caller's tensors to the model's, both by name."""
    if kind == "sales":
        return {"features": sales_before(inputs["history"], inputs["price"], inputs["promotion"])}
    return {"pixels": digits_before(inputs["image"].ravel().tolist(), inputs["box"])}


def after(kind: str, outputs: dict[str, Array]) -> dict[str, Array]:
    """Convert the model's tensors to the answer's, both by name."""
    if kind == "sales":
        return dict(zip(("units", "total"), sales_after(outputs["forecast"]), strict=True))
    return dict(zip(("label", "score", "class_id"), digits_after(outputs["logits"]), strict=True))


def kind_of(model: str) -> str:
    """Kind of a model by its name: `sales` or `digits`."""
    return "digits" if model.startswith("digits") else "sales"
