"""The committed files against the code that writes them, without training."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.models import contracts, triton_config
from examples.models.countries import COUNTRY_CODES
from examples.models.labels import DIGIT_WORDS, versions

MODEL_REPOSITORY = Path(__file__).parents[3] / "model-repository"


def expected() -> dict[str, str]:
    """File -> text, for all models."""
    files = {}
    for code in COUNTRY_CODES:
        name = f"sales_forecast_{code.lower()}"
        files[f"{name}/config.pbtxt"] = triton_config.sales_config(name)
        files[f"{name}/1/contract.yaml"] = contracts.sales(code)
    for code in DIGIT_WORDS:
        name = f"digits_{code.lower()}"
        files[f"{name}/config.pbtxt"] = triton_config.digits_config(name)
        files |= {f"{name}/{v}/contract.yaml": contracts.digits(code, v) for v in versions(code)}
    return files


def test_contracts_and_configurations_are_as_their_templates_write_them() -> None:
    old = [file for file, text in expected().items() if (MODEL_REPOSITORY / file).read_text(encoding="utf-8") != text]
    assert not old, "make models"


def test_every_version_has_a_network_and_no_other_file_lies_there() -> None:
    found = {str(file.relative_to(MODEL_REPOSITORY)) for file in MODEL_REPOSITORY.glob("*/**/*") if file.is_file()}
    networks = {file.replace("contract.yaml", "model.onnx") for file in expected() if file.endswith("contract.yaml")}
    assert found == set(expected()) | networks


@pytest.mark.parametrize("code", ["NO", "DE"])
def test_a_route_stays_text_for_every_yaml_reader(code: str) -> None:
    assert f'\nroute: "{code}"\n' in contracts.sales(code)
