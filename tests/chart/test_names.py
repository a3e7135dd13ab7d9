"""Names and labels of any length are valid, or are refused with a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.objects import Objects, Render
from tests.chart.test_pod_options import LAYOUTS
from tests.chart.test_policies import JOBS
from tools.chart.program import ProgramFailed

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LONGEST = {"release": "r" * 53, "fullnameOverride": "f" * 21, "nameOverride": "n" * 63}
# The longest name that KServe makes of that of an InferenceService. Knative shortens names of its own.
OF_KSERVE = {"Standard": "{}-predictor", "Knative": "latest-{}-predictor"}
NAMESPACES = {"Standard": 41, "Knative": 43, "Grouped": 45}  # longest namespace, without a prefix
EVERYTHING: dict[str, Any] = {
    "backend": {"enabled": True},
    "readinessHook": {"enabled": True},
    "metrics": {"serviceMonitor": {"enabled": True}},
} | JOBS


def label_values(node: Any) -> Iterator[str]:
    """The values of all labels and selectors."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("labels", "matchLabels") or (name == "selector" and "matchLabels" not in value):
                yield from value.values()
            else:
                yield from label_values(value)
    elif isinstance(node, list):
        for each in node:
            yield from label_values(each)


def assert_valid(made: Objects) -> None:
    for each in made.all:
        assert DNS_LABEL.fullmatch(each["metadata"]["name"]), each["metadata"]["name"]
        if each["kind"] == "CronJob":
            assert len(each["metadata"]["name"]) <= 52, "Kubernetes adds the time to it"
        if each["kind"] == "InferenceService":
            mode = each["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
            assert DNS_LABEL.fullmatch(OF_KSERVE[mode].format(each["metadata"]["name"]))
    assert not [value for value in label_values(made.all) if not LABEL_VALUE.fullmatch(value)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_longest_names_make_valid_objects(render: Render, layout: str) -> None:
    overrides = {name: text for name, text in LONGEST.items() if name != "release"}
    assert_valid(render(LAYOUTS[layout] | EVERYTHING | overrides, release=LONGEST["release"], namespace="n" * 10))


def test_a_longer_prefix_is_refused(render: Render) -> None:
    with pytest.raises(ProgramFailed, match="at '/fullnameOverride'"):
        render({"fullnameOverride": "f" * 22})


@pytest.mark.parametrize("mode", NAMESPACES)
def test_a_namespace_for_which_kserve_makes_no_pod_is_refused(render: Render, mode: str) -> None:
    longest = NAMESPACES[mode]
    assert_valid(render({"mode": mode}, namespace="n" * longest))
    with pytest.raises(ProgramFailed) as refused:
        render({"mode": mode}, namespace="n" * (longest + 6))
    assert "has 69 characters; more than 63 are not allowed" in str(refused.value)
    assert "a name that is shorter by 6" in str(refused.value)
    assert "use mode: Deployment" in str(refused.value)


def test_the_prefix_counts_too(render: Render) -> None:
    render({"fullnameOverride": "f" * 21}, namespace="n" * 19)
    with pytest.raises(ProgramFailed, match="has 64 characters"):
        render({"fullnameOverride": "f" * 21}, namespace="n" * 20)


def test_the_canary_counts_too(render: Render) -> None:
    values = LAYOUTS["Standard, canary"]
    render(values, namespace="n" * 34)
    with pytest.raises(ProgramFailed, match="postprocess-canary-predictor-n+, which has 64 characters"):
        render(values, namespace="n" * 35)


def test_without_kserve_a_namespace_may_have_any_length(render: Render) -> None:
    assert_valid(render({"mode": "Deployment"} | EVERYTHING, namespace="n" * 63))


def test_another_template_of_host_names_allows_other_lengths(render: Render) -> None:
    template = "{{ .Name }}.{{ .Namespace }}.{{ .IngressDomain }}"
    assert_valid(render({"kserve": {"domainTemplate": template}}, namespace="n" * 63))
    with pytest.raises(ProgramFailed, match="has 67 characters"):
        render({"kserve": {"domainTemplate": "team-{{ .Name }}-{{ .Namespace }}"}}, namespace="n" * 40)
