"""Training of one small network for each country, and of one of the same shape for all countries.

level    = 1 + mean of the history                      (units; makes big and small countries alike)
x        = (history / level, price, promotion), standardised
forecast = level * exp(clip(W2 tanh(W1 x + b1) + b2, -6, 3))
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from examples.models import adam
from examples.models.countries import FEATURES, HISTORY_DAYS, HORIZON_DAYS
from examples.models.sales.data import Windows

HIDDEN: Final = 32
LOG_RANGE: Final = (-6.0, 3.0)
_EPOCHS: Final = 80
_BATCH_ROWS: Final = 128
_RATE: Final = 4e-3
_DECAY: Final = 0.1

Weights = dict[str, jax.Array]
Carry = tuple[Weights, adam.AdamState]
Floats = NDArray[np.float32]


class Network(NamedTuple):
    """Trained weights; the standardisation of x is folded into the first layer."""

    w1: Floats  # [42, hidden]
    b1: Floats  # [hidden]
    w2: Floats  # [hidden, 7]
    b2: Floats  # [7]


def forecast(network: Network, features: Floats) -> Floats:
    """Forecast units of seven days, [n, 7]; the reference for the ONNX file."""
    level, x = _relative(features)
    log = np.tanh(x @ network.w1 + network.b1) @ network.w2 + network.b2
    return (level * np.exp(np.clip(log, *LOG_RANGE))).astype(np.float32)


def error(network: Network, data: Windows) -> float:
    """wMAPE: the sum of absolute errors over the sum of units."""
    missed = np.abs(forecast(network, data.features) - data.target).sum(dtype=np.float64)
    return float(missed / data.target.sum(dtype=np.float64))


def train_each(data: Mapping[str, Windows]) -> dict[str, Network]:
    """Train a network for each country, all at once and each on its own rows."""
    sets = [data[code] for code in sorted(data)]
    stacked = _train_many(np.stack([s.features for s in sets]), np.stack([s.target for s in sets]), HIDDEN)
    return dict(zip(sorted(data), stacked, strict=True))


def train_global(data: Mapping[str, Windows], hidden: int = HIDDEN) -> Network:
    """Train one network on the rows of all countries, with the same settings."""
    features = np.concatenate([data[code].features for code in sorted(data)])
    target = np.concatenate([data[code].target for code in sorted(data)])
    return _train_many(features[None], target[None], hidden, batch_rows=8 * _BATCH_ROWS)[0]


def _relative(features: Floats) -> tuple[Floats, Floats]:
    level = 1 + features[:, :HISTORY_DAYS].mean(axis=1, keepdims=True)
    return level, np.concatenate([features[:, :HISTORY_DAYS] / level, features[:, HISTORY_DAYS:]], axis=1)


def _train_many(features: Floats, target: Floats, hidden: int, batch_rows: int = _BATCH_ROWS) -> list[Network]:
    """Run m independent trainings: features [m, n, 42], target [m, n, 7]."""
    xs, ys, folds = [], [], []
    for one_features, one_target in zip(features, target, strict=True):
        level, x = _relative(one_features)
        mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
        xs.append((x - mean) / spread)
        ys.append(one_target / level)
        folds.append((mean, spread))
    key = jax.random.key(20_260_101)
    weights = jax.vmap(partial(_initial, hidden=hidden))(jax.random.split(key, len(xs)))
    order = _batches(len(xs[0]), batch_rows)
    trained = jax.vmap(_fit, in_axes=(0, 0, 0, None))(weights, jnp.array(xs), jnp.array(ys), order)
    return [_fold(jax.tree.map(lambda w, i=i: np.asarray(w[i]), trained), *fold) for i, fold in enumerate(folds)]


def _initial(key: jax.Array, hidden: int) -> Weights:
    one, two = jax.random.split(key)
    return {
        "w1": jax.random.normal(one, (FEATURES, hidden)) * FEATURES**-0.5,
        "b1": jnp.zeros(hidden),
        "w2": jax.random.normal(two, (hidden, HORIZON_DAYS)) * 0.1 * hidden**-0.5,
        "b2": jnp.zeros(HORIZON_DAYS),
    }


def _batches(rows: int, batch_rows: int) -> jax.Array:
    """[steps, batch_rows] row numbers; every epoch in its own order, the remainder left out."""
    draw = np.random.default_rng(7)
    per_epoch = rows // batch_rows
    epochs = [draw.permutation(rows)[: per_epoch * batch_rows] for _ in range(_EPOCHS)]
    return jnp.array(np.concatenate(epochs).reshape(-1, batch_rows), dtype=jnp.int32)


def _loss(weights: Weights, x: jax.Array, y: jax.Array) -> jax.Array:
    log = jnp.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]
    return jnp.abs(jnp.exp(jnp.clip(log, *LOG_RANGE)) - y).mean()


@jax.jit
def _fit(weights: Weights, x: jax.Array, y: jax.Array, order: jax.Array) -> Weights:
    steps = len(order)

    def step(carry: Carry, now: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        (w, state), (number, rows) = carry, now
        rate = _RATE * 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
        return adam.update(w, jax.grad(_loss)(w, x[rows], y[rows]), state, rate, _DECAY), None

    (weights, _), _ = jax.lax.scan(step, (weights, adam.start(weights)), (jnp.arange(steps), order))
    return weights


def _fold(weights: dict[str, Floats], mean: Floats, spread: Floats) -> Network:
    w1 = weights["w1"] / spread[:, None]
    return Network(w1, weights["b1"] - mean @ w1, weights["w2"], weights["b2"])
