"""Declarations of a contract, each checked by itself: tensors, parameters, steps, labels, examples."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, GetJsonSchemaHandler, PlainSerializer, PlainValidator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from triptych.contract.errors import Location
from triptych.contract.schema.examples import MAX_EXAMPLES, Example
from triptych.contract.schema.observe import Observe
from triptych.contract.schema.summary import SummaryOp
from triptych.contract.specs import (
    DEFAULT_ROUTE,
    InputSpec,
    ModelOutputSpec,
    ModelTensorSpec,
    Name,
    ParameterSpec,
    StrictModel,
    TensorSpec,
)
from triptych.contract.steps.base import Scope, Step
from triptych.contract.steps.registry import parse_step
from triptych.contract.steps.step_file import StepFile
from triptych.runtime.faults import in_words

MAX_SUMMARIES: Final = 16
STEP_MARK: Final = {"$comment": "a step"}

Stage = Literal["preprocess", "postprocess"]
STAGES: Final[tuple[Stage, ...]] = ("preprocess", "postprocess")


class _StepReference:
    """Stands for a step in JSON Schema; `json_schema` replaces it by a reference."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(STEP_MARK)


def _dump_step(step: Step) -> dict[str, Any]:
    return step.model_dump(mode="json", by_alias=True, exclude_none=True)


AnyStep = Annotated[Step, PlainValidator(parse_step), PlainSerializer(_dump_step), _StepReference()]
Steps = Annotated[tuple[AnyStep, ...], Field(strict=False)]
Digest = Annotated[str, Field(pattern=in_words(r"^sha256:[0-9a-f]{64}$", "sha256: and 64 digits 0 to f"))]
FAMILY: Final = in_words(
    r"^[a-z][a-z0-9_]{0,62}$", "small letters, digits and _, a letter first, at most 63 characters"
)
ROUTE: Final = in_words(r"^[A-Z0-9_-]{1,32}$", "capitals, digits, _ and -, at most 32 characters")
Labels = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class ModelSpec(StrictModel):
    """Tensors of Triton's config.pbtxt, with the rows as first dimension."""

    inputs: Annotated[tuple[ModelTensorSpec, ...], Field(strict=False, min_length=1)]
    outputs: Annotated[tuple[ModelOutputSpec, ...], Field(strict=False, min_length=1)]


class Declarations(StrictModel):
    """Fields of a contract. `Contract` adds the check that they fit together."""

    api_version: Annotated[Literal["triptych.dev/v1"], Field(alias="apiVersion")]
    kind: Literal["Contract"]
    family: Annotated[str, Field(pattern=FAMILY, description="what the model is for: sales_forecast")]
    route: Annotated[
        str,
        Field(
            pattern=ROUTE,
            description="which member of the family this is: DE; may be left out if it is the only one",
        ),
    ] = DEFAULT_ROUTE
    description: str = ""
    max_rows: Annotated[int, Field(ge=1, le=65536, description="most rows of one request")]
    inputs: Annotated[tuple[InputSpec, ...], Field(strict=False, min_length=1, description="what a caller sends")]
    unknown_inputs: Annotated[
        Literal["refuse", "ignore"] | None,
        Field(
            description="what to do with inputs of other names, which newer versions may know: `refuse` (when left "
            "out), or `ignore`, which drops them unread"
        ),
    ] = None  # not a default that is written out: stages of an earlier release read the other contracts
    parameters: Annotated[
        tuple[ParameterSpec, ...], Field(strict=False, description="request parameters a caller may send")
    ] = ()
    preprocess: Annotated[Steps, Field(description="from the inputs to the model's inputs")] = ()
    model: ModelSpec
    postprocess: Annotated[Steps, Field(description="from the model's outputs to the outputs")] = ()
    outputs: Annotated[tuple[TensorSpec, ...], Field(strict=False, min_length=1, description="what the caller gets")]
    labels: Annotated[dict[Name, Labels], Field(description="tables from class id to word")] = {}
    observe: Annotated[
        Observe | None, Field(description="the output whose values are counted, to compare versions by their answers")
    ] = None
    summary: Annotated[
        dict[Name, SummaryOp] | None,
        Field(
            min_length=1,
            max_length=MAX_SUMMARIES,
            description="a value of an output over all rows of a job or batch, which grows with each part: mean, max, "
            "min, sum, count or vote",
        ),
    ] = None
    files: Annotated[
        dict[str, Digest] | None,
        Field(
            min_length=1,
            description="sha256 of every other file of the version, by its path in the version's folder; checked when "
            "the version is published. `triptych digests` prints them",
        ),
    ] = None
    examples: Annotated[
        tuple[Example, ...] | None,
        Field(
            strict=False,
            min_length=1,
            max_length=MAX_EXAMPLES,
            description="requests with the answers expected; a version that misses one takes no traffic",
        ),
    ] = None

    @property
    def scope(self) -> Scope:
        """Names that the steps may refer to, without the content of files."""
        return self.scope_with({})

    def scope_with(self, files: Mapping[str, StepFile]) -> Scope:
        """Names that the steps may refer to, and the files that they read."""
        return Scope(
            inputs={spec.name: spec for spec in self.inputs},
            parameters={spec.name: spec for spec in self.parameters},
            labels=self.labels,
            files=files,
        )

    @property
    def carried(self) -> dict[str, bool]:
        """Values of preprocess that the steps of postprocess read, by name, and whether each has to be there.

        An output of the model, or an earlier result of postprocess, of that name comes first.
        """
        own, carried = {spec.name for spec in self.model.outputs}, dict[str, bool]()
        for step in self.postprocess:
            for _, name, needed in step.reads():
                if name not in own:
                    carried[name] = carried.get(name, False) or needed
            own.update(step.writes())
        return carried

    def step_files(self, stages: Collection[str] = STAGES) -> dict[str, Location]:
        """The files of the version that the steps of these stages read, by path, and where each is named first."""
        files: dict[str, Location] = {}
        for stage in stages:
            for i, step in enumerate(self.preprocess if stage == "preprocess" else self.postprocess):
                for field_, path in step.files():
                    files.setdefault(path, (stage, i, field_))
        return files
