"""Adam with decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), for a tree of arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class AdamState(NamedTuple):
    """First and second moment of the gradient, and the number of steps so far."""

    first: Tree
    second: Tree
    step: jax.Array


def start(weights: Tree) -> AdamState:
    """The state before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return AdamState(zeros, zeros, jnp.zeros((), jnp.int32))


def update(weights: Tree, gradient: Tree, state: AdamState, rate: jax.Array, decay: float) -> tuple[Tree, AdamState]:
    """Take one step. Matrices and kernels decay; biases (one dimension) do not."""
    step = state.step + 1
    first = jax.tree.map(lambda m, g: _BETA1 * m + (1 - _BETA1) * g, state.first, gradient)
    second = jax.tree.map(lambda v, g: _BETA2 * v + (1 - _BETA2) * g * g, state.second, gradient)
    m_scale = 1 / (1 - _BETA1**step)
    v_scale = 1 / (1 - _BETA2**step)

    def moved(w: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        pull = decay * w if w.ndim > 1 else 0.0
        return w - rate * (m * m_scale / (jnp.sqrt(v * v_scale) + _EPSILON) + pull)

    return jax.tree.map(moved, weights, first, second), AdamState(first, second, step)
