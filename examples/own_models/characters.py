"""A detector whose boxes come back in the picture's own pixels: the characters of a picture, by ddddocr (YOLOX)."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import ddddocr
import numpy as np
from ddddocr.core.detection_engine import DetectionEngine

from examples.own_models.answers import Answered

PICTURES, LETTERS = 20, list("ABCDEFGHKLMNPRSTUVXYZ23456789")


def make(folder: Path) -> list[Answered]:
    """Copy the model of the package, and let its own code find the characters of pictures of many sizes."""
    shutil.copyfile(Path(ddddocr.__file__).with_name("common_det.onnx"), folder / "characters.onnx")
    random, engine = np.random.default_rng(3), DetectionEngine()
    files = [picture(random, ".png" if number % 2 else ".jpg") for number in range(PICTURES)]
    (folder / "characters.jpg").write_bytes(files[0])
    return [Answered({"image": [file]}, {"box": [engine.predict(file)]}) for file in files]


def picture(random: np.random.Generator, format: str) -> bytes:
    """A file of a coloured picture with four characters."""
    height, width = int(random.integers(150, 500)), int(random.integers(250, 800))
    clouds = random.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    pixels = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    for letter in random.choice(LETTERS, 4):
        corner = int(random.integers(10, width - 80)), int(random.integers(60, height - 10))
        colour = random.integers(0, 255, 3)
        for shade, thickness in ((255 - colour, 10), (colour, 5)):
            cv2.putText(pixels, str(letter), corner, cv2.FONT_HERSHEY_DUPLEX, 2, shade.tolist(), thickness)
    return cv2.imencode(format, pixels)[1].tobytes()
