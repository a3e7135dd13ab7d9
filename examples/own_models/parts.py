"""A picture with a number beside it: the diameter of a part, by its picture and the distance of the camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from examples.own_models.answers import Answered

SIDE, PARTS, ASKED = 16, 600, 20
PIXELS_PER_MM = 600  # of a camera at a distance of 1 cm


def make(folder: Path) -> list[Answered]:
    """Train a model on drawn parts, write parts.onnx, and measure parts that it has not seen."""
    random = np.random.default_rng(0)
    files, distances, diameters = zip(*(part(random) for _ in range(PARTS + ASKED)), strict=True)
    pixels, distance = np.stack([pixels_of(file) for file in files]), np.array(distances, np.float32)[:, None]
    table = np.hstack([pixels, distance])
    columns = ColumnTransformer(
        [("picture", PCA(4, random_state=0), slice(SIDE * SIDE)), ("distance", "passthrough", [SIDE * SIDE])]
    )
    model = make_pipeline(columns, PolynomialFeatures(3), StandardScaler(), Ridge(0.1))
    model.fit(table[:PARTS], diameters[:PARTS])
    inputs = [("pixels", FloatTensorType([None, SIDE * SIDE])), ("distance_cm", FloatTensorType([None, 1]))]
    (folder / "parts.onnx").write_bytes(to_onnx(model, initial_types=inputs).SerializeToString())
    (folder / "part.png").write_bytes(files[PARTS])
    asked = zip(files[PARTS:], distance[PARTS:], model.predict(table[PARTS:]), strict=True)
    return [
        Answered({"image": [file], "distance_cm": [number]}, {"diameter_mm": [[diameter]]})
        for file, number, diameter in asked
    ]


def part(random: np.random.Generator) -> tuple[bytes, float, float]:
    """A picture file of a round part, the distance of the camera in cm, and the diameter in mm."""
    distance, diameter = random.uniform(40, 80), random.uniform(4, 12)
    pixels = np.full((160, 200, 3), random.integers(150, 220), np.uint8)
    centre = (int(random.integers(90, 110)), int(random.integers(70, 90)))
    radius = round(diameter * PIXELS_PER_MM / distance / 2)
    cv2.circle(pixels, centre, radius, (60, 70, 90), -1, cv2.LINE_AA)
    noisy = cv2.add(pixels, random.integers(0, 20, pixels.shape, np.uint8))
    return cv2.imencode(".png", noisy)[1].tobytes(), distance, diameter


def pixels_of(file: bytes) -> Any:
    """The grey picture of 16 by 16 pixels from 0 to 1, row by row."""
    picture: Any = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
