"""The definition of ServedModel: structural, and equal to the schema of documents in folders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from controller.catalog.served_model import ServedModel
from controller.kubernetes.crd import definition
from local.environments import ROOT
from tests.served_models import BAD, FINE, GOOD, SHARES, UNKNOWN_FIELDS, Json


@pytest.fixture(scope="module")
def schema() -> Json:
    found: Json = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parts(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every field with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    for more in ("items", "additionalProperties"):
        if more in schema:
            yield from parts(schema[more], f"{path}[]")


@pytest.mark.parametrize("case", BAD)
def test_what_the_definition_refuses_a_folder_refuses(schema: Json, case: str) -> None:
    document, _ = BAD[case]
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(document))
    with pytest.raises(ValidationError):
        ServedModel.model_validate(document)


@pytest.mark.parametrize("case", [*SHARES, *UNKNOWN_FIELDS])
def test_what_only_the_api_server_can_refuse_a_folder_refuses_too(case: str) -> None:
    document = SHARES[case][0] if case in SHARES else UNKNOWN_FIELDS[case]
    with pytest.raises(ValidationError):
        ServedModel.model_validate(document)


@pytest.mark.parametrize("document", [GOOD, *FINE.values()], ids=["the good one", *FINE])
def test_what_the_definition_takes_a_folder_takes(schema: Json, document: Json) -> None:
    jsonschema.Draft202012Validator(schema).validate(document)
    ServedModel.model_validate(document)


def test_every_field_has_a_type_and_says_what_it_is(schema: Json) -> None:
    silent = [path for path, part in parts(schema) if path not in (".metadata", "") and not part.get("description")]
    assert [path for path in silent if not path.endswith("[]")] == []
    assert all(part.get("type") for _, part in parts(schema))


def test_the_schema_has_nothing_that_a_structural_schema_must_not_have(schema: Json) -> None:
    forbidden = {"$ref", "$defs", "anyOf", "title", "exclusiveMaximum", "const", "patternProperties", "propertyNames"}
    assert [(path, sorted(forbidden & part.keys())) for path, part in parts(schema) if forbidden & part.keys()] == []
    maps = [path for path, part in parts(schema) if "additionalProperties" in part]
    assert maps == [".spec.aliases"], "a model is closed by itself"


def test_the_committed_definition_is_the_generated_one() -> None:
    committed: Any = YAML(typ="safe").load((ROOT / "helm/triptych/crds/servedmodels.yaml").read_text())
    assert committed == definition(), "make crd"
