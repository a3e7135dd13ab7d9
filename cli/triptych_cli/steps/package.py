"""Files of a package with one step, and the names in them. `@NAME@`, `@CLASS@` and `@MODULE@` are replaced."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Final

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME = 40


def step_name(text: str) -> str:
    """The op of a step. Raises `ValueError`."""
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME or keyword.iskeyword(text):
        raise ValueError(f"want small letters, digits and single _, at most {MAX_NAME}, as in clamp, got '{text}'")
    return text


def module_name(name: str) -> str:
    """The module of the step. Packages of two steps have two modules."""
    return f"{name}_step"


def class_name(name: str) -> str:
    """`ClampLog` for `clamp_log`."""
    return "".join(part.capitalize() for part in name.split("_"))


_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "triptych-@MODULE@"
version = "0.1.0"
description = "The step @NAME@ of Triptych's contracts"
requires-python = ">=3.11,<3.13"
dependencies = [] # what the services do not have: numpy, OpenCV and pydantic are there

[project.entry-points."triptych.steps"]
@NAME@ = "@MODULE@:@CLASS@"

[tool.setuptools]
py-modules = ["@MODULE@"]
"""

_MODULE = '''\
"""The step `@NAME@` of a contract. How to write one: docs/guides/contracts.md, "A step of your own"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from triptych.contract import Scope
from triptych.contract.steps.base import ElementwiseStep, first_row
from triptych.datatypes import Array
from triptych.errors import InvalidInput


class @CLASS@(ElementwiseStep):
    """Values of at most `most`; larger ones become that. This docstring is what `triptych steps` prints."""

    op: Literal["@NAME@"]
    most: Annotated[float, Field(description="largest value of the result")] = 1.0

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        name, most = self.input, self.most  # what does not depend on the request is computed once, here

        def run(values: Array) -> Array:
            """All rows of a batch at once. A value that it gets may be the caller's buffer: make a new one."""
            if values.dtype.kind == "f" and (bad := np.isnan(values)).any():
                raise InvalidInput(name, "numbers", f"NaN in row {first_row(bad)}")  # the caller's fault
            result: Array = np.minimum(values, np.asarray(most, values.dtype))
            return result

        return run
'''

_TEST = """\
from __future__ import annotations

import numpy as np
import pytest
from @MODULE@ import @CLASS@

from triptych.contract import Environment, Scope
from triptych.errors import InvalidInput


def applied(values: list[list[float]]) -> list[list[float]]:
    env = Environment({"x": np.array(values, np.float32)}, len(values), {})
    @CLASS@(op="@NAME@", input="x", most=2).compile(Scope())(env)
    result: list[list[float]] = env["x"].tolist()
    return result


def test_values_above_the_most_become_it() -> None:
    assert applied([[1, 2, 3], [0, -1, 9]]) == [[1, 2, 2], [0, -1, 2]]


def test_a_value_that_is_no_number_is_the_callers_fault() -> None:
    with pytest.raises(InvalidInput, match="input 'x': want numbers, got NaN in row 1"):
        applied([[1, 2, 3], [0, -1, np.nan]])
"""

_DOCKERFILE = """\
# pip install --no-deps --target installed .     (and, by name and version, what it needs and the services do not have)
# for image in preprocess postprocess controller; do
#   docker build --build-arg IMAGE=triptych/$image:0.1.0 --tag registry/$image:@NAME@ .; done
ARG IMAGE
FROM ${IMAGE}
COPY installed /app
"""

FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": _PROJECT,
    "@MODULE@.py": _MODULE,
    "test_@NAME@.py": _TEST,
    "Dockerfile": _DOCKERFILE,
    ".dockerignore": "*\n!installed\n",
}
