"""Texts and numbers of the values reach the objects as they were written, or are refused with their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.leaves import LEAVES, ROUTED, SHARED_JOBS, STORE, with_value
from tests.chart.objects import Objects, Render
from tools.chart.program import ProgramFailed, template

MODES = ("Standard", "Knative", "Grouped", "Deployment")
STAGES = ("preprocess", "predictor", "postprocess", "controller", "backend")
# Texts that a reader of YAML 1.1 or 1.2 takes for something else if they are not quoted.
AMBIGUOUS = ("1e6", "20261121", "0755", "1_000", "1.10", "0x10", "true", "yes", "null", "2026-11-21")
MARKER = "marker"
LARGE = 20261121

IMAGES = ("registry", *(f"{stage}.image" for stage in STAGES), "models.image")
# Values beside which texts have an effect, and these texts.
TEXTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Deployment, store": (
        {
            "mode": "Deployment",
            "gateway": ROUTED,
            "canary": {"enabled": True, "postprocess": {"replicas": 1}},
            "backend": {"enabled": True, "features": {"store": "redis"}},
            "predictor": {"autoscaling": {"maxReplicas": 3, "signal": "queue"}},
            **STORE,
        },
        (
            *("nameOverride", "priorityClassName", "runtimeClassName", "topologySpreadKey", "canary.header"),
            "metrics.prometheus",
            *("predictor.modelControl.secret", "predictor.runtimeClassName", "tracing.endpoint"),
            *("models.region", "models.secret", "models.ca.secret", "models.ca.key"),
            *("backend.jwt.secret", "backend.jwt.audience"),
            *("backend.features.secret", *IMAGES[:-1]),
        ),
    ),
    "Standard, store with an authority": (STORE, ("models.ca.configMap",)),
    "Standard, volume, TLS": (
        {"tls": {"mode": "mutual"}, "models": {"store": "pvc"}, "backend": {"enabled": True}},
        ("tls.secret", "models.claim", "models.path"),
    ),
    "Grouped, image, Feast": (
        {
            "mode": "Grouped",
            "backend": {"enabled": True, "features": {"store": "feast", "url": "http://feast"}},
        },
        ("models.image", "backend.features.service"),
    ),
    "Deployment, jobs": (
        {"mode": "Deployment", "jobs": {"enabled": True}},
        (
            *("jobs.image", "jobs.ledger.secret", "jobs.ledger.key", "jobs.claim"),
            *("jobs.s3.region", "jobs.s3.secret"),
        ),
    ),
}
# A suffix of every image, a prefix of every name, a key, and no part of any object.
ELSEWHERE = ("tag", "fullnameOverride", "predictor.gpuResource", "kserve.domainTemplate")


def scalars(node: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every scalar of a document with its place."""
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from scalars(value, (*place, name))
    else:
        yield place, node


def by_place(made: Objects) -> Iterator[dict[tuple[str | int, ...], Any]]:
    """The scalars as readers of YAML 1.2 and of YAML 1.1 find them."""
    yield dict(scalars(made.all))
    yield dict(scalars([each for each in yaml.safe_load_all(made.text) if each]))


def allows(name: str, text: str) -> bool:
    return bool(re.search(LEAVES[name].schema.get("pattern", ""), text))


def assert_same_text(marked: Objects, made: Objects, text: str) -> None:
    """Where one render has the marker, the other has the text, for each reader."""
    for before, after in zip(by_place(marked), by_place(made), strict=True):
        places = [place for place, value in before.items() if isinstance(value, str) and MARKER in value]
        assert places
        assert {place: after.get(place) for place in places} == {
            place: before[place].replace(MARKER, text) for place in places
        }


def test_every_free_text_is_tried() -> None:
    free = {
        name
        for name, leaf in LEAVES.items()
        if isinstance(leaf.default, str) and "enum" not in leaf.schema and allows(name, MARKER)
    }
    assert free == {name for _, names in TEXTS.values() for name in names} | set(ELSEWHERE)


@pytest.mark.parametrize("text", AMBIGUOUS)
@pytest.mark.parametrize("base", TEXTS)
def test_a_text_that_looks_like_something_else_stays_a_text(render: Render, base: str, text: str) -> None:
    marked = values = TEXTS[base][0]
    for name in TEXTS[base][1]:
        marked = with_value(marked, name, MARKER if allows(name, text) else LEAVES[name].default)
        values = with_value(values, name, text if allows(name, text) else LEAVES[name].default)
    assert_same_text(render(marked), render(values), text)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["1e6", "20261121", "1.10", "true", "null"])
def test_names_of_release_and_namespace_stay_texts(render: Render, mode: str, text: str) -> None:
    values = {"mode": mode, "nameOverride": MARKER, "backend": {"enabled": True}, "readinessHook": {"enabled": True}}
    queue = {"autoscaling": {"maxReplicas": 3, "signal": "queue"}}
    values |= {"predictor": queue, "metrics": {"prometheus": "http://p"}} if mode == "Standard" else {}
    marked = render(values, release=MARKER, namespace=MARKER)
    namespace = MARKER if "." in text else text
    made = render(values | {"nameOverride": text}, release=text, namespace=namespace)
    for before, after in zip(by_place(marked), by_place(made), strict=True):
        lost = {place: after.get(place) for place in before if type(after.get(place)) is not type(before[place])}
        assert not lost


@pytest.mark.parametrize("text", ["true", "null", "yes", "on"])
def test_a_prefix_of_names_stays_a_text(render: Render, text: str) -> None:
    values: dict[str, Any] = {"backend": {"enabled": True}, "tls": {"mode": "mutual", "issuer": {"name": "ca"}}}
    values["servedModels"] = [{"model": "digits_gb", "traffic": [{"version": 1, "percent": 100}]}]
    assert_same_text(render(values | {"fullnameOverride": MARKER}), render(values | {"fullnameOverride": text}), text)


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_texts_within_mappings_and_lists_stay_texts(render: Render, text: str) -> None:
    def values(text: str) -> dict[str, Any]:
        pairs = {"key": text}
        return {
            "mode": "Deployment",
            "backend": {"enabled": True},
            "readinessHook": {"enabled": True},
            "nodeSelector": pairs,
            "commonLabels": {"common": text},
            "podLabels": pairs,
            "podAnnotations": pairs,
            "serviceAccount": {"annotations": pairs},
            "tolerations": [{"key": "a", "value": text}],
            "extraEnv": [{"name": "A", "value": text}],
            "imagePullSecrets": [{"name": text}],
            "preprocess": {"settings": {"revision": text, "log_level": text}},
            "controller": {"settings": {"revision": text}},
            "predictor": {"args": [f"--option={text}"]},
            "metrics": {"serviceMonitor": {"enabled": True, "labels": pairs}},
            "gateway": {"enabled": True, "parents": [{"name": text}], "hostnames": ["host.example.com"]},
        }

    assert_same_text(render(values(MARKER)), render(values(text)), text)


NUMBERS = {
    name: LARGE + index
    for index, (name, leaf) in enumerate(sorted(LEAVES.items()))
    if type(leaf.default) is int and leaf.as_schema().get("maximum", 0) >= LARGE
}
# By mode: the signal of all autoscalers.
SIGNALS = {"Deployment": "cpu", "Knative": "", "Standard": "queue"}


def with_large_numbers(mode: str) -> dict[str, Any]:
    """Values with a different large number for each number."""
    values = {"mode": mode, "metrics": {"prometheus": "http://p:9090"}, **STORE}
    values |= {"backend": {"enabled": True}, "readinessHook": {"enabled": True}, "jobs": SHARED_JOBS}
    values = with_value(values, "predictor.image", "nvcr.io/nvidia/tritonserver:25.10-py3")
    for stage in ("preprocess", "predictor", "postprocess"):
        values = with_value(values, f"{stage}.autoscaling.signal", SIGNALS[mode])
    for name, number in NUMBERS.items():
        high = name.endswith(("terminationGracePeriodSeconds", "maxReplicas"))
        values = with_value(values, name, number * 10 if high else number)
    return values


def test_a_large_number_is_written_in_full(render: Render) -> None:
    texts = [render(with_large_numbers(mode)).text for mode in SIGNALS]
    assert not [text for text in texts if re.search(r"\de\+\d", text)]
    assert not [name for name, number in NUMBERS.items() if not any(str(number) in text for text in texts)]


@pytest.mark.parametrize("mode", MODES)
def test_a_user_number_of_openshift_is_written_in_full(render: Render, mode: str) -> None:
    made = render({"mode": mode, "runAsUser": 1000650000, "backend": {"enabled": True}})
    assert {container["securityContext"]["runAsUser"] for _, container in made.containers()} == {1000650000}


def test_a_number_that_kubernetes_cannot_hold_is_refused(render: Render) -> None:
    values: dict[str, Any] = {}
    for name in NUMBERS:
        values = with_value(values, name, 2**31)
    with pytest.raises(ProgramFailed) as refused:
        render(values)
    places = [f"at '/{name.replace('.', '/')}': maximum: got " for name in NUMBERS]
    assert not [place for place in places if place not in str(refused.value)]
    assert len(places) > 30


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("20261121", "20261121"),
        ("1000000", "1000000"),
        ("9007199254740991", "9007199254740991"),
        ("0.25", "0.25"),
        ("1.5e3", "1500"),
        ("true", "true"),
        ("0", "0"),
        ('"0755"', "0755"),
        ('"1.10"', "1.10"),
        ('"yes"', "yes"),
        ('"1_000"', "1_000"),
    ],
)
def test_a_setting_is_written_as_in_the_values_file(tmp_path: Path, written: str, wanted: str) -> None:
    made = rendered(tmp_path, f"preprocess: {{settings: {{max_in_flight: {written}}}}}")
    assert made.environment("preprocess")["PREPROCESS_MAX_IN_FLIGHT"] == wanted


@pytest.mark.parametrize("stage", ["preprocess", "postprocess", "controller"])
def test_a_number_as_revision_is_written_as_in_the_values_file(tmp_path: Path, stage: str) -> None:
    made = rendered(tmp_path, f"{stage}: {{settings: {{revision: 20261121}}}}")
    assert made.environment(stage)[f"{stage.upper()}_REVISION"] == "20261121"


def rendered(folder: Path, text: str) -> Objects:
    """The chart with a values file of this text."""
    file = folder / "values.yaml"
    file.write_text(text)
    return Objects(template("--values", str(file)))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("preprocess: {settings: {max_in_flight: 9007199254740993}}", "/preprocess/settings/max_in_flight"),
        ("podLabels: {version: 1.10}", "/podLabels/version"),
        ("podLabels: {release: 20261121}", "/podLabels/release"),
        ("podAnnotations: {on: yes}", "/podAnnotations"),
        ("podAnnotations: {mode: 0755}", "/podAnnotations/mode"),
        ("nodeSelector: {gpu: true}", "/nodeSelector/gpu"),
        ("extraEnv: [{name: LIMIT, value: 1e6}]", "/extraEnv/0/value"),
        ("extraEnv: [{name: LIMIT, value: 1_000}]", "/extraEnv/0/value"),
        ("predictor: {args: [1]}", "/predictor/args/0"),
        ("tag: 1.10", "/tag"),
        ("tag: 20261121", "/tag"),
    ],
)
def test_a_number_where_kubernetes_wants_a_text_is_refused_by_its_place(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ProgramFailed, match=re.escape(f"at '{place}")):
        rendered(tmp_path, text)


ANCHORED = """
x-labels: &labels {team: shop}
.small: &small {requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: "1", memory: 1Gi}}
podLabels: *labels
preprocess: {resources: *small}
"""


def test_anchors_have_a_place_at_the_top(tmp_path: Path) -> None:
    made = rendered(tmp_path, ANCHORED)
    assert made.container("preprocess")["resources"]["requests"]["cpu"] == "10m"
    with pytest.raises(ProgramFailed, match="additional properties 'labels' not allowed"):
        rendered(tmp_path, ANCHORED.replace("x-labels", "labels"))
