"""A value that is null or empty has its documented meaning, or is refused with a sentence. No render is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.leaves import LEAVES, PLACES, TOP, beside, with_value
from tests.chart.objects import Objects, Render
from tools.chart.describe import Value
from tools.chart.program import ProgramFailed

pytestmark = pytest.mark.long  # it renders the chart hundreds of times
MODES = ("Standard", "Knative", "Grouped", "Deployment")
EMPTY: dict[type, Any] = {bool: False, int: 0, float: 0, str: "", list: [], dict: {}}


def groups(value: Value = TOP) -> Iterator[Value]:
    for member in value.members.values():
        if member.members:
            yield member
            yield from groups(member)


def dotted(value: Value) -> str:
    return ".".join(value.path)


OPTIONAL = sorted(name for name, leaf in LEAVES.items() if leaf.may_be_null())
REQUIRED = sorted(LEAVES.keys() - set(OPTIONAL)) + [dotted(group) for group in groups()]
# Empty has another meaning than the default.
MEANINGFUL = [name for name in OPTIONAL if LEAVES[name].default != EMPTY[type(LEAVES[name].default)]]
CHANGING = sorted(name for name, leaf in LEAVES.items() if leaf.default != EMPTY[type(leaf.default)])


def assert_whole(made: Objects) -> None:
    """No trace of a missing value, and no field that is null."""
    assert not re.search(r"<nil>|<no value>|%!", made.text)
    for each in made.all:
        assert each["apiVersion"], each
        assert not list(nulls(each, f"{each['kind']}/{each['metadata']['name']}"))


def nulls(node: Any, place: str) -> Iterator[str]:
    """The places of the fields that are null."""
    if node is None:
        yield place
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from nulls(value, f"{place}/{name}")


@pytest.mark.parametrize("name", REQUIRED)
def test_null_without_a_meaning_is_refused_by_name(render: Render, name: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(with_value(beside(name), name, None))
    group, _, last = name.rpartition(".")
    assert re.search(
        rf"at '{'/' + group.replace('.', '/') if group else ''}': missing property '{last}'", str(refused.value)
    )


# One render for a stage's options, which all are empty by default.
@pytest.mark.parametrize("stage", ["", *(f"{each}." for each in PLACES)])
def test_null_for_options_of_pods_is_the_same_as_empty(render: Render, stage: str) -> None:
    inherited = {leaf.schema["$ref"].removeprefix("#/properties/") for leaf in LEAVES.values() if is_option(leaf)}
    values = empty = beside("jobs.workers.nodeSelector") | {
        "backend": {"enabled": True},
        "batches": beside("batch.nodeSelector")["batches"],
    }
    for key in inherited:
        values = with_value(values, stage + key.replace("/properties/", "."), None)
    assert len(inherited) == 9
    assert render(values).text == render(empty).text


def is_option(leaf: Value) -> bool:
    return str(leaf.schema.get("$ref", "")).startswith("#/properties/")


@pytest.mark.parametrize("name", [name for name in OPTIONAL if name not in MEANINGFUL and not is_option(LEAVES[name])])
def test_null_is_the_same_as_empty(render: Render, name: str) -> None:
    values = {} if name.endswith(("secret", "url", "uri", "claim", "path", "issuer")) else beside(name)
    assert outcome(render, with_value(values, name, None)) == outcome(render, with_value(values, name, empty(name)))


def empty(name: str) -> Any:
    """The empty value of a leaf; of a number that may be left out, it is no text."""
    return "" if "string" in LEAVES[name].schema.get("type", "") else EMPTY[type(LEAVES[name].default)]


def outcome(render: Render, values: dict[str, Any]) -> str:
    """The text of a render that is whole, or the sentence of its refusal."""
    try:
        made = render(values)
    except ProgramFailed as refused:
        return sentence(refused)
    assert_whole(made)
    return made.text


def sentence(refused: ProgramFailed) -> str:
    """The text of a refusal by the chart's checks or its schema."""
    text = str(refused)
    assert "nil pointer" not in text, text
    assert "execution error at" in text or "don't meet the specifications of the schema" in text, text
    return text


@pytest.mark.parametrize("name", CHANGING)
def test_an_empty_value_is_whole_or_refused(render: Render, name: str) -> None:
    empty = "" if name in MEANINGFUL and LEAVES[name].default == 1 else EMPTY[type(LEAVES[name].default)]
    assert outcome(render, with_value(beside(name), name, empty))


@pytest.mark.parametrize("name", [name for name in CHANGING if "enum" in LEAVES[name].schema])
def test_an_empty_choice_is_refused_unless_it_is_one(render: Render, name: str) -> None:
    with pytest.raises(ProgramFailed, match="value must be one of"):
        render(with_value(beside(name), name, ""))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("empty", [None, ""])
def test_without_a_maximum_there_is_no_budget(render: Render, mode: str, empty: str | None) -> None:
    stages = ("preprocess", "predictor", "postprocess", "controller", "backend")
    values: dict[str, Any] = {stage: {"maxUnavailable": empty} for stage in stages}
    made = render(values | {"mode": mode, "backend": {"enabled": True, "maxUnavailable": empty}})
    assert not made.of("PodDisruptionBudget")
    assert_whole(made)


@pytest.mark.parametrize("stage", ["preprocess", "predictor", "postprocess", "controller", "backend"])
def test_the_budget_of_one_stage_can_be_left_out(render: Render, stage: str) -> None:
    made = render(with_value({"backend": {"enabled": True}}, f"{stage}.maxUnavailable", None))
    assert len(made.of("PodDisruptionBudget")) == 4
    assert stage not in made.of("PodDisruptionBudget")


@pytest.mark.parametrize("empty", [None, ""])
def test_without_a_key_pods_are_not_spread(render: Render, empty: str | None) -> None:
    assert "topologySpreadConstraints" in render().text
    assert render().text.count("matchLabelKeys: [pod-template-hash]") == render().text.count("maxSkew: 1")
    assert "topologySpreadConstraints" not in render({"topologySpreadKey": empty}).text


@pytest.mark.parametrize("empty", [None, ""])
def test_without_a_name_no_header_chooses_a_lane(render: Render, empty: str | None) -> None:
    values = with_value(beside("canary.header"), "canary.header", empty)
    (rule,) = render(values).one("GRPCRoute", "preprocess")["spec"]["rules"]
    assert "matches" not in rule


RESOURCES = [name for name in OPTIONAL if name.endswith(".resources")]


@pytest.mark.parametrize("mode", MODES)
def test_null_resources_are_none(render: Render, mode: str) -> None:
    values: dict[str, Any] = {"mode": mode, "backend": {"enabled": True}, "readinessHook": {"enabled": True}}
    values |= beside("jobs.workers.resources") | {"batches": beside("batch.resources")["batches"]}
    for name in RESOURCES:
        values = with_value(values, name, None)
    made = render(values)
    assert_whole(made)
    assert len(RESOURCES) == 12
    assert not [name for name, container in made.containers() if "resources" in container]
    store = render(with_value(values, "models", {"store": "s3", "uri": "s3://b/m", "mirror": {"resources": None}}))
    assert not [name for name, container in store.containers() if "resources" in container]


def test_gpus_stay_where_resources_are_null(render: Render) -> None:
    image = "nvcr.io/nvidia/tritonserver:25.10-py3"
    made = render({"predictor": {"image": image, "gpus": 1, "resources": None}})
    assert made.container("predictor")["resources"] == {"limits": {"nvidia.com/gpu": 1}}


def test_a_null_limit_is_left_out(render: Render) -> None:
    made = render({"preprocess": {"resources": {"limits": {"cpu": None}}}})
    assert made.container("preprocess")["resources"]["limits"] == {"memory": "1Gi", "ephemeral-storage": "1Gi"}


def test_an_empty_mapping_changes_nothing(render: Render) -> None:
    for name in (*RESOURCES, "metrics.dashboard.labels"):
        values = beside(name)
        assert render(with_value(values, name, {})).text == render(values).text


def test_null_labels_are_none(render: Render) -> None:
    made = render({"metrics": {"dashboard": {"enabled": True, "labels": None}}})
    assert "grafana_dashboard" not in made.one("ConfigMap", "dashboard")["metadata"]["labels"]


@pytest.mark.parametrize("key", ["preprocess", "predictor", "postprocess", "models", "servedModels"])
def test_null_for_a_difference_of_the_canary_is_no_difference(render: Render, key: str) -> None:
    values = {"gateway": {"enabled": True, "parents": [{"name": "a"}], "hostnames": ["a.example.com"]}}
    canary: dict[str, Any] = {"enabled": True, "preprocess": {"replicas": 2}, "postprocess": {"replicas": 2}}
    without = {name: value for name, value in canary.items() if name != key}
    assert render(values | {"canary": canary | {key: None}}).text == render(values | {"canary": without}).text


def test_null_within_a_difference_of_the_canary_is_refused(render: Render) -> None:
    values = with_value(beside("canary.preprocess"), "canary.preprocess.replicas", None)
    with pytest.raises(ProgramFailed, match="at '/canary/preprocess/replicas': got null, want integer"):
        render(values)
