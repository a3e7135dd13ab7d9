"""The network: PyTorch on a GPU or CPU, or a small stand-in in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SIDE, CLASSES, TOP = 224, 100, 3
LABELS = np.array([f"class {number}".encode() for number in range(CLASSES)], np.object_)

Array = np.ndarray[Any, Any]


def make(parameters: Mapping[str, str]) -> Callable[[Array], Array]:
    """Build the network of a model's parameters: a function from UINT8 [n,224,224,3] to logits FP32 [n,100]."""
    width, depth = int(parameters["width"]), int(parameters["depth"])
    if parameters["network"] == "torch":
        from benchmarks.gpu.programs import torch_network

        return torch_network.make(parameters["device"], width, depth, CLASSES)
    return numpy_network(width, depth)


def numpy_network(width: int, depth: int) -> Callable[[Array], Array]:
    """A perceptron over the means of 8 x 8 fields, as a stand-in without PyTorch."""
    rng = np.random.default_rng(0)
    fields = SIDE // 8
    sizes = [3 * fields * fields, *[width] * depth, CLASSES]
    layers = [
        rng.normal(0, size**-0.5, (size, wide)).astype(np.float32)
        for size, wide in zip(sizes[:-1], sizes[1:], strict=True)
    ]

    def run(pixels: Array) -> Array:
        means = pixels.reshape(len(pixels), fields, 8, fields, 8, 3).mean((2, 4), np.float32)
        x = means.reshape(len(pixels), -1) / 127.5 - 1
        for layer in layers[:-1]:
            x = np.maximum(x @ layer, 0)
        return np.asarray(x @ layers[-1], np.float32)

    return run


def named(logits: Array) -> tuple[Array, Array]:
    """Convert logits to words BYTES [n,3] and scores FP32 [n,3], the likeliest first, like the contract's steps."""
    probability = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probability /= probability.sum(axis=-1, keepdims=True)
    order = np.argsort(-probability, axis=-1, kind="stable")[:, :TOP]
    return LABELS[order], np.take_along_axis(probability, order, axis=-1)
