"""The committed schema and table of steps agree with the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from triptych.contract.schema.json_schema import contract_schema, contract_schema_text, steps_table
from triptych_cli.__main__ import main

DOCS = Path(__file__).parents[5] / "docs"


def test_the_committed_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--built-in"]) == 0
    assert capsys.readouterr().out == contract_schema_text(built_in=True)
    assert (DOCS / "contract.schema.json").read_text(encoding="utf-8") == contract_schema_text(built_in=True)


def test_the_documented_steps_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", "--built-in"]) == 0
    assert capsys.readouterr().out == steps_table(built_in=True)
    text = (DOCS / "reference/contract-steps.md").read_text(encoding="utf-8")
    between = text.split("<!-- steps: begin -->\n")[1].split("<!-- steps: end -->")[0]
    assert between.strip() == steps_table(built_in=True).strip()


def test_the_documented_example_is_a_contract(data: Path) -> None:
    text = (DOCS / "guides/contracts.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    jsonschema.validate(YAML(typ="safe", pure=True).load(example), contract_schema())


@pytest.mark.parametrize("name", ["digits_de.yaml", "sales_forecast_no.yaml"])
def test_good_contracts_pass_the_json_schema(data: Path, name: str) -> None:
    document = YAML(typ="safe", pure=True).load((data / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(contract_schema())
    jsonschema.validate(document, contract_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "crop", "input": "picture", "box": 3}, {"op": "foo", "input": "picture"}, {"input": "picture"},
        {"op": "resize", "input": "picture", "width": "32", "height": 32},
        {"op": "resize", "input": "picture", "width": 32, "height": 32, "size": 1},
    ],
)  # fmt: skip
def test_an_editor_with_the_schema_finds_a_wrong_step(digits_document: Any, wrong: dict[str, Any]) -> None:
    digits_document["preprocess"][1] = wrong
    errors = list(jsonschema.Draft202012Validator(contract_schema()).iter_errors(digits_document))
    assert errors
    assert all(list(error.absolute_path)[:2] == ["preprocess", 1] for error in errors)


def test_the_schema_refers_to_nothing_that_is_missing() -> None:
    schema = contract_schema()
    for part in json.dumps(schema).split('"$ref": "#/$defs/')[1:]:
        assert part.split('"')[0] in schema["$defs"]
