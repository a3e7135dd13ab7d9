"""JPEG files of two sizes, made from one photograph with noise, so that they compress like photographs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from local.environments import ROOT
from local.errors import LocalError

SOURCE = ROOT / "examples/data/seven_640x480.jpg"
SIZES = {"640x480": (640, 480), "12MP": (4000, 3000)}
COUNTS = {"640x480": 8, "12MP": 2}
NOISE, QUALITY = 6.0, 92


def make(size: str) -> Sequence[bytes]:
    """Distinct files of one size."""
    source = cv2.imread(str(SOURCE), cv2.IMREAD_COLOR)
    if source is None:
        raise LocalError(f"{SOURCE}: not a picture")
    scaled = cv2.resize(source, SIZES[size], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return [_jpeg(scaled, np.random.default_rng(seed)) for seed in range(COUNTS[size])]


def _jpeg(picture: np.ndarray, rng: np.random.Generator) -> bytes:
    noise = rng.normal(rng.uniform(-40, 40), NOISE, picture.shape[:2]).astype(np.float32)
    changed = np.clip(picture + noise[..., np.newaxis], 0, 255).astype(np.uint8)
    done, data = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()
