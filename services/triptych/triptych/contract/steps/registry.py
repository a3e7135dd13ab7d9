"""Registry of steps: those of this package, and those of installed packages.

A package adds steps with entry points of the group `triptych.steps`, each naming a subclass of Step:

    [project.entry-points."triptych.steps"]
    blur = "acme_steps:Blur"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from triptych.contract.steps import (
    answers,
    arrays,
    audio,
    boxes,
    categories,
    dates,
    files,
    masks,
    numbers,
    sequences,
    tables,
    tokenize,
)
from triptych.contract.steps.base import Step
from triptych.contract.steps.pictures import decode_image, geometry, padding, pixels

GROUP: Final = "triptych.steps"
_MODULES: Final = (
    decode_image, geometry, padding, pixels, files, audio, tokenize, tables, categories, dates, numbers, arrays,
    answers, boxes, masks, sequences
)  # fmt: skip
BUILT_IN: Final[tuple[type[Step], ...]] = tuple(step for module in _MODULES for step in module.STEPS)


class StepConflict(TypeError):
    """An entry point of an installed package is not a step, or has the name of another."""


@cache
def built_in_steps() -> Mapping[str, type[Step]]:
    """The steps of this package by their op."""
    return MappingProxyType({op_of(step): step for step in BUILT_IN})


@cache
def vocabulary() -> Mapping[str, type[Step]]:
    """Every known step by its op. Read at first use, because a package with steps imports this one."""
    steps = dict(built_in_steps())
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        step = _load(entry)
        if steps.setdefault(op_of(step), step) is not step:
            raise StepConflict(f"entry point '{entry.name}' ({entry.value}): there is a step '{op_of(step)}'")
    return MappingProxyType(steps)


def op_of(step: type[Step]) -> str:
    """Name of a step, from its `op: Literal["..."]`."""
    words = get_args(step.model_fields["op"].annotation)
    if len(words) != 1 or not isinstance(words[0], str):
        raise StepConflict(f'{step.__module__}.{step.__qualname__}: op must be Literal["one_name"]')
    return words[0]


def _load(entry: EntryPoint) -> type[Step]:
    step = entry.load()
    if not (isinstance(step, type) and issubclass(step, Step)):
        raise StepConflict(f"entry point '{entry.name}' ({entry.value}) is no subclass of Step")
    return step


def parse_step(value: Any) -> Step:
    """Parse a step from its fields, by `op`. Faults have their location within the step."""
    if isinstance(value, Step):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a step is a mapping with an 'op'")
    op = value.get("op")
    if op is None:
        raise _fault(f"is missing; known: {', '.join(sorted(vocabulary()))}", value)
    if not isinstance(op, str) or op not in vocabulary():
        raise _fault(f"unknown step {op!r}; known: {', '.join(sorted(vocabulary()))}", op)
    return vocabulary()[op].model_validate(value)


def _fault(text: str, value: Any) -> ValidationError:
    error = PydanticCustomError("step", "{text}", {"text": text})
    return ValidationError.from_exception_data("Step", [InitErrorDetails(type=error, loc=("op",), input=value)])
