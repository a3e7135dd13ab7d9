"""`triptych verify` and the controller find the same faults, for both call the same validator.

Before they did not: of each check below only one of the two knew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog, Reason
from controller.catalog.scanner import Scanner
from tests.model_folders import declare
from tests.onnx_files import linear
from tests.unit.controller.placement.harness import read
from triptych_cli.__main__ import main

Publish = Callable[..., Path]
Break = Callable[[Path], None]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rename_the_output(models: Path) -> None:
    replace(models / "sales_fr/1/contract.yaml", "name: y", "name: z")
    replace(models / "sales_fr/config.pbtxt", '"y"', '"z"')
    (models / "sales_fr/1/model.onnx").write_bytes(linear(names=("x", "z")))


def cut_the_model_file(models: Path) -> None:
    (models / "sales_fr/1/model.onnx").write_bytes(linear()[:-3])


def empty_the_model(models: Path) -> None:
    (models / "sales_fr/1").rename(models / "elsewhere")


def add_a_folder(models: Path) -> None:
    (models / "sales_fr/assets").mkdir()


def add_a_file(models: Path) -> None:
    (models / "sales_fr/2").write_text("a version would be a folder")


def name_a_link_as_step(models: Path) -> None:
    (models / "outside").symlink_to("/")
    step = 'ensemble_scheduling { step [{ model_name: "outside" model_version: -1 }] }'
    replace(models / "sales_fr/config.pbtxt", 'backend: "onnxruntime"', f'platform: "ensemble" {step}')


LEFT_OUT: dict[str, tuple[Break, str]] = {
    "another signature than its family": (rename_the_output, "family 'sales' must look alike to callers: here [inputs"),
    "a model file that is not whole": (cut_the_model_file, "is no ONNX model, or not whole"),
    "a model without a version": (empty_the_model, "has no version; a version is a folder with a whole number"),
    "a step that is no model": (name_a_link_as_step, "the model repository has no model 'outside'"),
}
NAMED: dict[str, tuple[Break, str]] = {
    "a folder that is no version": (add_a_folder, "sales_fr/assets: is no version; want a whole number from 1"),
    "a file that is no version": (add_a_file, "sales_fr/2: is no folder; a version is a folder with a whole number"),
}


def verified(models: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of `triptych verify`; none if it finds no fault."""
    status = main(["verify", str(models)])
    lines = capsys.readouterr().out.splitlines()
    return lines if status else []


def has(lines: object, sentence: str) -> bool:
    assert isinstance(lines, list | set)
    return any(sentence in line for line in lines)


@pytest.mark.parametrize(("break_it", "sentence"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_both_refuse_the_model_and_the_controller_serves_the_others(
    models: Path, publish: Publish, capsys: pytest.CaptureFixture[str], break_it: Break, sentence: str
) -> None:
    publish("sales_de")
    publish("sales_fr")
    assert verified(models, capsys) == []
    break_it(models)
    catalog = read(models)
    assert has(verified(models, capsys), sentence)
    assert has(catalog.faults(), sentence)
    assert set(catalog.models) == {"sales_de"}
    assert any(name == "sales_fr" for name, _ in catalog.invalid)


@pytest.mark.parametrize(("break_it", "sentence"), NAMED.values(), ids=NAMED)
def test_both_name_what_is_no_version_and_the_controller_serves_the_model(
    models: Path, publish: Publish, capsys: pytest.CaptureFixture[str], break_it: Break, sentence: str
) -> None:
    publish("sales_de")
    publish("sales_fr")
    break_it(models)
    catalog = read(models)
    assert has(verified(models, capsys), sentence)
    assert has(catalog.faults(), sentence)
    assert set(catalog.models) == {"sales_de", "sales_fr"}


def test_a_version_that_is_invalid_claims_no_route(
    models: Path, publish: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("sales_de")
    publish("sales_fr", route="DE")
    (models / "sales_de/1/model.onnx").unlink()
    found = verified(models, capsys)
    assert has(found, "1/model.onnx: no such file")
    assert not has(found, "belongs to model")
    assert set(read(models).models) == {"sales_fr"}


def test_the_status_of_a_document_says_why_its_version_does_not_look_alike(
    models: Path, publish: Publish, documents: Path
) -> None:
    publish("sales_de")
    publish("sales_fr")
    rename_the_output(models)
    declare(documents, "sales_fr", {1: 100})
    result = read(models, documents).document_results[f"{documents}/sales_fr.yaml:1"]
    ((reason, text),) = result.problems
    assert reason is Reason.CONTRACT_INVALID
    assert "must look alike to callers" in text


def test_a_version_that_does_not_look_like_the_others_is_left_out_alone(models: Path, publish: Publish) -> None:
    publish("sales_de")
    second = publish("sales_de", 2)
    replace(second / "contract.yaml", "model:\n", "parameters: [{name: level, type: double, default: 1.0}]\nmodel:\n")
    catalog = read(models)
    assert set(catalog.models["sales_de"].versions) == {1}
    assert "must look alike to callers" in catalog.invalid["sales_de", 2]


@pytest.mark.parametrize("required", [False, True])
def test_an_input_that_others_do_not_know_is_a_fault_only_if_it_is_required(
    models: Path, publish: Publish, required: bool
) -> None:
    publish("sales_de")
    second = publish("sales_de", 2)
    publish("sales_fr")
    more = f"  - {{name: more, datatype: FP32, shape: [-1, 2], required: {str(required).lower()}}}\nmodel:\n"
    replace(second / "contract.yaml", "model:\n", more)
    catalog = read(models)
    assert set(catalog.models["sales_de"].versions) == ({1} if required else {1, 2})
    assert set(catalog.models["sales_fr"].versions) == {1}
    assert required == ("must look alike to callers" in catalog.invalid.get(("sales_de", 2), ""))


# The signature in force


def signature_models(models: Path, publish: Publish) -> Scanner:
    publish("sales_de")
    publish("sales_fr")
    return Scanner(models, None)


def scanned(scanner: Scanner, previous: Catalog) -> Catalog:
    scan = scanner.scan(settle=False)
    assert scan is not None
    return build_catalog(scan.folders, (), previous, undeclared="lowest")


def test_the_signature_that_is_served_stays_when_an_earlier_model_comes_with_another(
    models: Path, publish: Publish
) -> None:
    scanner = signature_models(models, publish)
    catalog = scanned(scanner, Catalog())
    publish("sales_fr2", route="AT").parent.rename(models / "aaa")
    replace(models / "aaa/config.pbtxt", "sales_fr2", "aaa")
    replace(models / "aaa/config.pbtxt", '"y"', '"z"')
    replace(models / "aaa/1/contract.yaml", "name: y", "name: z")
    (models / "aaa/1/model.onnx").write_bytes(linear(names=("x", "z")))
    catalog = scanned(scanner, catalog)
    assert set(catalog.models) == {"sales_de", "sales_fr"}
    assert "must look alike" in catalog.invalid["aaa", 1]
    assert set(read(models).models) == {"aaa"}, "after a restart the first by name"


def test_a_family_that_is_replaced_as_a_whole_may_look_different(models: Path, publish: Publish) -> None:
    scanner = signature_models(models, publish)
    catalog = scanned(scanner, Catalog())
    for name in ("sales_de", "sales_fr"):
        new = publish(name, 2)
        replace(new / "contract.yaml", "name: y", "name: z")
        replace(models / name / "config.pbtxt", '"y"', '"z"')
        (new / "model.onnx").write_bytes(linear(names=("x", "z")))
        (models / name / "1").rename(models.parent / f"old_{name}")
    catalog = scanned(scanner, catalog)
    assert {name: set(model.versions) for name, model in catalog.models.items()} == {"sales_de": {2}, "sales_fr": {2}}
