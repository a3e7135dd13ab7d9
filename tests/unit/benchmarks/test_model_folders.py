"""Generated model repositories are what the controller publishes: every model valid, every route its own."""

from __future__ import annotations

from pathlib import Path

from benchmarks.model_folders import SOURCE, name_of, number_of, publish, publish_members, route_of
from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from triptych.contract.verification.repository import validate_repository


def test_every_generated_model_is_served_under_a_route_of_its_own(tmp_path: Path) -> None:
    publish(tmp_path / "models", 5)
    scan = Scanner(tmp_path / "models", None).scan(settle=False)
    assert scan is not None
    catalog = build_catalog(scan.folders, scan.documents, Catalog(), undeclared="lowest")
    assert not catalog.faults()
    assert {name: model.route for name, model in catalog.models.items()} == {
        name_of(number): route_of(number) for number in range(5)
    }


def test_copies_of_all_members_have_all_their_versions(tmp_path: Path) -> None:
    members = [folder for folder in SOURCE.iterdir() if folder.is_dir()]
    publish_members(tmp_path / "models", len(members) + 1)
    report = validate_repository(tmp_path / "models")
    assert report.problems == []
    assert len(report.models) == len(members) + 1
    assert max(len(versions) for versions in report.models.values()) == 2


def test_a_name_contains_its_number() -> None:
    assert [number_of(name_of(number)) for number in (0, 7, 4999, 12345)] == [0, 7, 4999, 12345]
