"""The digits network: three convolutions and two dense layers, trained in JAX on one core.

    pixels [n,3,32,32] -> conv 3x3 /2, 16 -> conv 3x3, 24 -> max pool 2 -> conv 3x3, 32 -> max pool 2
                       -> dense 64 -> dense 10 = logits; a ReLU after all but the last

A base network is trained on pictures of every style. Each country's network starts from it and is trained on pictures
of its own style.
"""

from __future__ import annotations

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from examples.models import adam

CLASSES: Final = 10
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "conv1": (16, 3, 3, 3),  # out, in, height, width: as in ONNX
    "conv2": (24, 16, 3, 3),
    "conv3": (32, 24, 3, 3),
    "dense1": (32 * 4 * 4, 64),
    "dense2": (64, CLASSES),
}
_BATCH_ROWS: Final = 64
_DECAY: Final = 0.05
_SMOOTHING: Final = 0.05
_DROPPED: Final = 0.25  # of the 64 hidden values, while training

Weights = dict[str, jax.Array]
Floats = NDArray[np.float32]
Digits = NDArray[np.uint8]


def initial(seed: int) -> Weights:
    """He initialisation; biases zero."""
    weights = {}
    for key, (name, shape) in zip(jax.random.split(jax.random.key(seed), len(_SHAPES)), _SHAPES.items(), strict=True):
        fan_in = int(np.prod(shape[1:])) if name.startswith("conv") else shape[0]
        weights[f"{name}_w"] = jax.random.normal(key, shape) * (2 / fan_in) ** 0.5
        weights[f"{name}_b"] = jnp.zeros(shape[0] if name.startswith("conv") else shape[1])
    return weights


def logits(weights: Weights, pixels: jax.Array, dropout: jax.Array | None = None) -> jax.Array:
    """[n,3,32,32] -> [n,10]. `dropout` is a random key while training."""
    x = jax.nn.relu(_convolve(pixels, weights, "conv1", 2))
    x = _pool(jax.nn.relu(_convolve(x, weights, "conv2", 1)))
    x = _pool(jax.nn.relu(_convolve(x, weights, "conv3", 1)))
    x = jax.nn.relu(x.reshape(len(x), -1) @ weights["dense1_w"] + weights["dense1_b"])
    if dropout is not None:
        x = x * jax.random.bernoulli(dropout, 1 - _DROPPED, x.shape) / (1 - _DROPPED)
    return x @ weights["dense2_w"] + weights["dense2_b"]


def train(weights: Weights, pixels: Floats, digits: Digits, epochs: int, rate: float, seed: int) -> Weights:
    """Train for `epochs` passes over the pictures; the learning rate falls to zero along a cosine."""
    draw = np.random.default_rng(seed)
    per_epoch = len(digits) // _BATCH_ROWS
    steps, state, key = epochs * per_epoch, adam.start(weights), jax.random.key(seed)
    for epoch in range(epochs):
        order = draw.permutation(len(digits))[: per_epoch * _BATCH_ROWS].reshape(per_epoch, _BATCH_ROWS)
        for number, rows in enumerate(order, start=epoch * per_epoch):
            now = rate * 0.5 * (1 + np.cos(np.pi * number / steps))
            step_key = jax.random.fold_in(key, number)
            weights, state = _step(weights, state, _shifted(pixels[rows], draw), digits[rows], now, step_key)
    return weights


def accuracy(weights: Weights, pixels: Floats, digits: Digits) -> float:
    """Share of pictures whose most probable class is right."""
    predicted = np.asarray(jax.jit(logits)(weights, pixels)).argmax(axis=1)
    return float((predicted == digits).mean())


def _shifted(pixels: Floats, draw: np.random.Generator) -> Floats:
    """Shift each picture by up to three pixels; the edge is repeated."""
    rows, _, height, width = pixels.shape
    down = np.clip(np.arange(height) + draw.integers(-3, 4, (rows, 1)), 0, height - 1)
    right = np.clip(np.arange(width) + draw.integers(-3, 4, (rows, 1)), 0, width - 1)
    row, channels_last = np.arange(rows)[:, None, None], pixels.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(channels_last[row, down[:, :, None], right[:, None, :]].transpose(0, 3, 1, 2))


def _convolve(x: jax.Array, weights: Weights, name: str, stride: int) -> jax.Array:
    padding = ((0, 1), (0, 1)) if stride == 2 else ((1, 1), (1, 1))
    out = jax.lax.conv_general_dilated(x, weights[f"{name}_w"], (stride, stride), padding)
    return out + weights[f"{name}_b"][:, None, None]


def _pool(x: jax.Array) -> jax.Array:
    n, channels, height, width = x.shape
    return x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))


def _loss(weights: Weights, pixels: jax.Array, digits: jax.Array, dropout: jax.Array) -> jax.Array:
    target = jax.nn.one_hot(digits, CLASSES) * (1 - _SMOOTHING) + _SMOOTHING / CLASSES
    return -(target * jax.nn.log_softmax(logits(weights, pixels, dropout))).sum(axis=1).mean()


@jax.jit
def _step(
    weights: Weights, state: adam.AdamState, pixels: jax.Array, digits: jax.Array, rate: jax.Array, key: jax.Array
) -> tuple[Weights, adam.AdamState]:
    gradient = jax.grad(_loss)(weights, pixels, digits, key)
    return adam.update(weights, gradient, state, rate, _DECAY)
