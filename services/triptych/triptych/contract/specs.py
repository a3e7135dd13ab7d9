"""Declarations of tensors and parameters. This module knows no steps."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from triptych.datatypes import FLOATS, Datatype, describe
from triptych.runtime.faults import in_words

# Any name that a model file may have, such as `387` or `sepal length (cm)`, but for control characters.
NAME_PATTERN: Final = in_words(r"^[^\x00-\x1f\x7f-\x9f]{1,128}$", "1 to 128 characters without control characters")

DEFAULT_ROUTE: Final = "DEFAULT"  # of the only member of a family, which is called without a route

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Scalar = bool | int | float | str


def _number(value: object) -> str:
    return "(whole)" if isinstance(value, int) else "(number)"


def _scalar(value: object) -> Scalar:
    if isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("want a number, text, true or false")


# A tag in brackets selects the alternative, so that a wrong value has one fault and not one for each. The loader leaves
# the tag out of the location of the fault.
Number = Annotated[
    Annotated[int, Tag("(whole)")] | Annotated[float, Tag("(number)")],
    Discriminator(_number),
    WithJsonSchema({"type": "number"}),
]
AnyScalar = Annotated[
    Scalar,
    PlainValidator(_scalar),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]}),
]
ParameterType = Literal["int64", "double", "bool", "string"]

# Request parameters of the stages and of the protocol, which no contract may declare. `triptych.protocol.infer_request`
# serves or refuses each. Triton's own clients add `triton_...` parameters by themselves.
RESERVED_PARAMETERS: Final = frozenset(
    {"route", "alias", "traffic_key", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
RESERVED_PREFIXES: Final = ("triptych_", "triton_")

_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "int64": (int,),
    "double": (int, float),
    "bool": (bool,),
    "string": (str,),
}
_INT64: Final = range(-(2**63), 2**63)


def reserved(name: str) -> bool:
    """Whether a request parameter is reserved for the stages."""
    return name in RESERVED_PARAMETERS or name.startswith(RESERVED_PREFIXES)


class StrictModel(BaseModel):
    """Base of all parts of a contract: closed, immutable, without silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TensorSpec(StrictModel):
    """Tensor by name, datatype and shape. The first dimension is the rows, always -1."""

    name: Name
    datatype: Datatype
    shape: Annotated[tuple[int, ...], Field(strict=False, min_length=1, max_length=8)]
    description: str = ""

    @model_validator(mode="after")
    def _shape_is_rows_first(self) -> Self:
        if self.shape[0] != -1:
            raise ValueError(f"shape must start with -1, the rows; got {list(self.shape)}")
        if any(dim != -1 and dim < 1 for dim in self.shape[1:]):
            raise ValueError(f"dimensions are positive, or -1 for any; got {list(self.shape)}")
        return self

    @property
    def text(self) -> str:
        """`FP32[n,28]`."""
        return describe(self.datatype, self.shape)


class ModelTensorSpec(TensorSpec):
    """Tensor of the model. The contract has its rows first, the model may have them in another dimension."""

    rows_axis: Annotated[
        int | None,
        Field(
            ge=1,
            le=7,
            description="dimension of the model that has the rows, where it is not the first: of [-1, 2, 64] with 1 "
            "the model takes [2, rows, 64]",
        ),
    ] = None

    @model_validator(mode="after")
    def _has_the_axis(self) -> Self:
        if self.rows_axis is not None and self.rows_axis >= len(self.shape):
            raise ValueError(f"rows_axis: want 1 to {len(self.shape) - 1} for {list(self.shape)}, got {self.rows_axis}")
        return self

    @property
    def model_shape(self) -> tuple[int, ...]:
        """The shape as the model has it, with the rows in their dimension."""
        axis = self.rows_axis or 0
        return (*self.shape[1 : axis + 1], self.shape[0], *self.shape[axis + 1 :])


class ModelOutputSpec(ModelTensorSpec):
    """Output tensor of the model."""

    finite: Annotated[
        bool | None,
        Field(
            description="false: NaN and infinity are answers; otherwise the warm-up refuses a version that gives them"
        ),
    ] = None

    @model_validator(mode="after")
    def _only_floats_are_infinite(self) -> Self:
        if self.finite and self.datatype not in FLOATS:
            raise ValueError(f"finite: only floating datatypes can be infinite, not {self.datatype}")
        return self


class InputSpec(TensorSpec):
    """Input tensor of the caller, with the limits of its values."""

    required: bool = True
    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: Number | None = None
    exclusive_maximum: Number | None = None
    finite: bool = Field(
        default_factory=lambda fields: fields.get("datatype") in FLOATS,
        description="refuse NaN and infinity; by default true for floating datatypes",
    )
    max_bytes: Annotated[int | None, Field(ge=1, description="limit of each element; BYTES only")] = None
    utf8: Annotated[
        bool, Field(description="refuse elements that are not text in UTF-8, or have a zero byte; BYTES only")
    ] = False

    @property
    def limits(self) -> dict[str, int | float]:
        """Limits that are set, by field name."""
        names = ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _limits_fit_the_datatype(self) -> Self:
        if self.limits and self.datatype in ("BOOL", "BYTES"):
            limit = next(iter(self.limits))
            raise ValueError(f"{limit}: a range needs a numeric datatype, not {self.datatype}")
        if self.finite and self.datatype not in FLOATS:
            raise ValueError(f"finite: only floating datatypes can be infinite, not {self.datatype}")
        if self.max_bytes is not None and self.datatype != "BYTES":
            raise ValueError(f"max_bytes: only BYTES elements have a length, not {self.datatype}")
        if self.utf8 and self.datatype != "BYTES":
            raise ValueError(f"utf8: only BYTES elements can be text, not {self.datatype}")
        check_interval(self.limits)
        return self


class ParameterSpec(StrictModel):
    """Request parameter that the caller may send."""

    name: Name
    type: ParameterType
    default: AnyScalar
    minimum: Number | None = None
    maximum: Number | None = None
    choices: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None
    description: str = ""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if reserved(self.name):
            raise ValueError(f"name: '{self.name}' is reserved for the stages")
        if self.type not in ("int64", "double") and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"minimum and maximum need type int64 or double, not {self.type}")
        if self.choices is not None and self.type != "string":
            raise ValueError(f"choices need type string, not {self.type}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        if (refusal := self.refusal(self.default)) is not None:
            raise ValueError(f"default: want {self.want}, got {refusal}")
        return self

    @property
    def want(self) -> str:
        """`int64 from 1 to 10`, `string, one of de, en`."""
        text: str = self.type
        if self.minimum is not None:
            text += f" from {self.minimum}"
        if self.maximum is not None:
            text += f" to {self.maximum}" if self.minimum is not None else f" up to {self.maximum}"
        if self.choices is not None:
            text += f", one of {', '.join(self.choices)}"
        return text

    def refusal(self, value: object) -> str | None:
        """Text of a value that does not fit; None if it fits."""
        is_bool = isinstance(value, bool)  # which Python counts as an int
        if not isinstance(value, _PYTHON_TYPES[self.type]) or is_bool != (self.type == "bool"):
            return f"{value!r:.80}"
        if isinstance(value, (int, float)) and not is_bool and not self._in_range(value):
            return str(value)
        if self.choices is not None and value not in self.choices:
            return f"{value!r:.80}"
        return None

    def _in_range(self, value: int | float) -> bool:
        if not (value in _INT64 if isinstance(value, int) else math.isfinite(value)):
            return False
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


def check_interval(limits: dict[str, int | float]) -> None:
    """Raises ValueError if a limit is given twice, or if no value lies between the limits."""
    for end in ("minimum", "maximum"):
        if end in limits and f"exclusive_{end}" in limits:
            raise ValueError(f"{end} and exclusive_{end} exclude each other")
    low = limits.get("minimum", limits.get("exclusive_minimum"))
    high = limits.get("maximum", limits.get("exclusive_maximum"))
    if low is None or high is None:
        return
    open_end = "exclusive_minimum" in limits or "exclusive_maximum" in limits
    if low > high or (open_end and low == high):
        raise ValueError(f"nothing lies between {low} and {high}")


def interval_text(limits: dict[str, int | float]) -> str:
    """`>= 0 and < 10`."""
    signs = {"minimum": ">=", "exclusive_minimum": ">", "maximum": "<=", "exclusive_maximum": "<"}
    return " and ".join(f"{signs[name]} {value:g}" for name, value in limits.items())
