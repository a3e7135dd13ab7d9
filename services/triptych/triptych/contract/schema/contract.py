"""Contract of a model version: its interface for callers, and its pre- and postprocessing."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from triptych.contract.schema.consistency import problems
from triptych.contract.schema.declarations import Declarations, ModelSpec

__all__ = ["Contract", "ModelSpec"]


class Contract(Declarations):
    """`model-repository/<model>/<version>/contract.yaml`. Never changes once published."""

    model_config = ConfigDict(**Declarations.model_config, title="Triptych contract")

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if found := problems(self):
            errors = [
                InitErrorDetails(
                    type=PydanticCustomError("contract", "{text}", {"text": problem.text}),
                    loc=problem.location,
                    input=None,
                )
                for problem in found
            ]
            raise ValidationError.from_exception_data("Contract", errors)
        return self

    def canonical_json(self) -> bytes:
        """Canonical JSON: sorted keys, defaults written out, unset fields left out."""
        document = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    def digest(self) -> str:
        """sha256 of the canonical JSON, in hex, as the controller names the contract."""
        return hashlib.sha256(self.canonical_json()).hexdigest()

    def signature(self) -> str:
        """Interface for callers of the family, as a line: equal for all of its models and versions.

        Optional inputs are no part of it: a version may have one that others do not know.
        """
        inputs = [f"{spec.name} {spec.text}" for spec in self.inputs if spec.required]
        parameters = [f"{spec.name} {spec.type}" for spec in self.parameters]
        outputs = [f"{spec.name} {spec.text}" for spec in self.outputs]
        parts = (("inputs", inputs), ("parameters", parameters), ("outputs", outputs))
        return "; ".join(f"{name}: {', '.join(sorted(items))}" for name, items in parts if items)
