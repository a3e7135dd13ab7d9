"""The chart as a dependency of a parent chart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.chart.objects import Objects, Render
from tests.chart.test_names import assert_valid
from tools.chart.program import APIS, CHART, KUBERNETES, ProgramFailed, run

DEPENDENCY = {"name": "triptych", "version": "0.x.x", "condition": "triptych.enabled"}
Parent = Any


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    """Render a parent chart with these defaults, values of the user and dependencies."""
    chart = tmp_path / "parent"
    shutil.copytree(CHART, chart / "charts/triptych")
    (chart / "templates").mkdir()

    def rendered(
        defaults: dict[str, Any], given: dict[str, Any] | None = None, aliases: tuple[str, ...] = ()
    ) -> Objects:
        dependencies = [DEPENDENCY | {"alias": alias, "condition": f"{alias}.enabled"} for alias in aliases]
        described: dict[str, Any] = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "appVersion": "2.0.0"}
        described |= {"dependencies": dependencies or [DEPENDENCY]}
        (chart / "Chart.yaml").write_text(json.dumps(described))
        (chart / "values.yaml").write_text(json.dumps(defaults))
        user = tmp_path / "user.yaml"
        user.write_text(json.dumps(given or {}))
        known = [option for api in APIS for option in ("--api-versions", api)]
        where = ("--namespace", "triptych", "--kube-version", KUBERNETES, "--values", str(user))
        return Objects(run("template", "triptych", str(chart), *where, *known))

    return rendered


def names(made: Objects) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in made.all}


def test_a_parent_chart_gets_the_same_objects(parent: Parent, render: Render) -> None:
    values = {"mode": "Deployment", "backend": {"enabled": True}}
    made, alone = parent({"triptych": values}), render(values)
    without_key = [
        {name: value for name, value in each.items() if name != "data"} for each in made.all if each["kind"] != "Secret"
    ]
    assert without_key == [
        {name: value for name, value in each.items() if name != "data"}
        for each in alone.all
        if each["kind"] != "Secret"
    ]


def test_a_condition_of_the_parent_switches_it_off_and_on(parent: Parent) -> None:
    assert not parent({"triptych": {"enabled": False}}).all
    assert parent({"triptych": {"enabled": True}}).all


def test_a_parent_chart_gives_all_its_charts_a_registry_and_pull_secrets(parent: Parent) -> None:
    shared = {
        "imageRegistry": "registry.example.com/mirror",
        "imagePullSecrets": ["first", {"name": "second"}],
        "team": {"anything": [1]},
    }
    made = parent({"global": shared, "triptych": {"imagePullSecrets": [{"name": "own"}, {"name": "first"}]}})
    wanted = [{"name": "first"}, {"name": "second"}, {"name": "own"}]
    assert all(pod["imagePullSecrets"] == wanted for _, pod in made.pods())
    assert {container["image"].rpartition("/triptych/")[0] for _, container in made.containers()} == {
        "registry.example.com/mirror"
    }


def test_the_chart_s_own_registry_wins(parent: Parent) -> None:
    made = parent({"global": {"imageRegistry": "theirs"}, "triptych": {"registry": "ours", "mode": "Deployment"}})
    assert all(container["image"].startswith("ours/") for _, container in made.containers())


def test_two_of_it_in_one_parent_share_no_name_and_no_pod(parent: Parent) -> None:
    values = {colour: {"fullnameOverride": colour, "mode": "Deployment"} for colour in ("blue", "green")}
    made = parent(values, aliases=("blue", "green"))
    assert len(names(made)) == len(made.all)
    selectors = [json.dumps(each["spec"]["selector"]["matchLabels"]) for each in made.of("Deployment").values()]
    assert len(set(selectors)) == len(selectors) == 8
    labels = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
        for each in made.of("Deployment").values()
    }
    assert labels == {"blue", "green"}


def test_an_unknown_value_is_refused_within_a_parent_too(parent: Parent) -> None:
    with pytest.raises(ProgramFailed, match="additional properties 'replicas' not allowed"):
        parent({"triptych": {"replicas": 2}})


def test_empty_means_empty_within_a_parent(parent: Parent) -> None:
    """Some versions of Helm ignore a null in the values.yaml of a parent; an empty text has no such fault."""
    values = {"preprocess": {"maxUnavailable": ""}, "topologySpreadKey": ""}
    for made in (parent({"triptych": values}), parent({}, {"triptych": values})):
        assert "preprocess" not in made.of("PodDisruptionBudget")
        assert "topologySpreadConstraints" not in made.text


def test_null_of_the_user_means_empty_within_a_parent(parent: Parent) -> None:
    made = parent({}, {"triptych": {"preprocess": {"maxUnavailable": None}, "topologySpreadKey": None}})
    assert "preprocess" not in made.of("PodDisruptionBudget")
    assert "topologySpreadConstraints" not in made.text


def test_null_without_a_meaning_is_refused_within_a_parent(parent: Parent) -> None:
    with pytest.raises(ProgramFailed, match="missing property 'replicas'"):
        parent({}, {"triptych": {"preprocess": {"replicas": None}}})


@pytest.mark.parametrize("suffix", ["+build.7", "+2de6d3f0", "-rc.1+" + "f" * 70])
def test_build_metadata_of_the_version_makes_valid_labels(tmp_path: Path, suffix: str) -> None:
    """Flux appends the revision of its source behind a plus, which no label may have."""
    chart = tmp_path / "triptych"
    shutil.copytree(CHART, chart)
    described = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(described.replace("ersion: 0.1.0", f"ersion: 0.1.0{suffix}"))
    where = ("--namespace", "triptych", "--kube-version", KUBERNETES, "--set", "mode=Deployment")
    made = Objects(run("template", "triptych", str(chart), *where))
    assert_valid(made)
    assert all(each["metadata"]["labels"]["helm.sh/chart"].startswith("triptych-0.1.0") for each in made.all)
    assert all("+" not in container["image"] for _, container in made.containers())
