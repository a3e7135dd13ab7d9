"""Helm 3 and 4 render the same, and a render is the same each time except for the keys that it makes."""

from __future__ import annotations

import re

import pytest

from tests.chart.objects import Object, Objects
from tools.chart.program import find, template

BATCH = '{"name": "nightly", "schedule": "@daily", "document": {"model": "digits_gb", "read": {"uri": "s3://a"}}}'
OPTIONS = (
    *("--set", "backend.enabled=true,readinessHook.enabled=true"),
    *(
        "--set",
        "jobs.enabled=true,jobs.ledger.secret=ledger,jobs.objects=s3://a/b,jobs.workers.autoscaling.maxReplicas=2",
    ),
    *("--set-json", f"batches=[{BATCH}]"),
)
KEY = re.compile(r"(?<=\n  key: ).*")


def by_name(text: str) -> dict[tuple[str, str], Object]:
    return {(each["kind"], each["metadata"]["name"]): each for each in Objects(text).all}


@pytest.mark.parametrize("mode", ["Standard", "Deployment"])
def test_two_renders_without_a_cluster_differ_in_the_two_keys_alone(mode: str) -> None:
    first, second = (template(*OPTIONS, "--set", f"mode={mode}") for _ in range(2))
    assert len(set(KEY.findall(first)) | set(KEY.findall(second))) == 4
    assert KEY.sub("", first) == KEY.sub("", second)


def test_with_secrets_of_ones_own_two_renders_are_the_same() -> None:
    own = ("--set", "predictor.modelControl.secret=control,backend.jwt.secret=jwt")
    assert template(*OPTIONS, *own) == template(*OPTIONS, *own)


@pytest.mark.parametrize("mode", ["Standard", "Knative", "Grouped", "Deployment"])
def test_helm_4_renders_what_helm_3_renders(mode: str) -> None:
    if not (find("helm3") and find("helm4")):
        pytest.skip("needs both: python3 -m local.programs helm3 helm4")
    options = (*OPTIONS, "--set", f"mode={mode}")
    three, four = (KEY.sub("", template(*options, helm=helm)) for helm in ("helm3", "helm4"))
    assert by_name(three) == by_name(four)
