"""The engines by their names on the command line."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from jobs.batch.engines.engine import Engine

# Module and class; imported only when it is named, because both take seconds.
_ENGINES: Final = {
    "ray": ("jobs.batch.engines.ray_data", "RayEngine"),
    "spark": ("jobs.batch.engines.spark", "SparkEngine"),
}
NAMES: Final = tuple(_ENGINES)


def engine_of(name: str) -> Engine:
    """The engine of that name. Raises `BatchError` if its package is missing."""
    module, kind = _ENGINES[name]
    engine: Engine = getattr(import_module(module), kind)()
    return engine
