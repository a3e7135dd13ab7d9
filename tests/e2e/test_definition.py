"""Definition of ServedModel in the API server: admission, kubectl explain, columns."""

from __future__ import annotations

import json

import pytest

from tests.e2e.kubectl import Kubectl
from tests.served_models import BAD, FINE, GOOD, SHARES, UNKNOWN_FIELDS, Json

DRY_RUN = ("apply", "--dry-run=server", "--filename=-")


@pytest.mark.parametrize("case", [*BAD, *SHARES])
def test_what_a_folders_schema_refuses_is_refused_at_admission_with_a_sentence(kubectl: Kubectl, case: str) -> None:
    document, sentence = (BAD | SHARES)[case]
    done = kubectl.run(*DRY_RUN, given=json.dumps(document), check=False)
    assert done.returncode, case
    assert sentence in done.stderr


@pytest.mark.parametrize("case", UNKNOWN_FIELDS)
def test_a_field_that_the_schema_does_not_know_is_refused(kubectl: Kubectl, case: str) -> None:
    done = kubectl.run(*DRY_RUN, given=json.dumps(UNKNOWN_FIELDS[case]), check=False)
    assert done.returncode
    assert "unknown field" in done.stderr


@pytest.mark.parametrize("document", [GOOD, *FINE.values()], ids=["the good one", *FINE])
def test_what_a_folders_schema_takes_is_admitted(kubectl: Kubectl, document: Json) -> None:
    assert "created (server dry run)" in kubectl(*DRY_RUN, given=json.dumps(document))


def test_a_served_model_stays_with_its_model(kubectl: Kubectl) -> None:
    kubectl.apply(json.dumps(GOOD))
    other = GOOD | {"spec": GOOD["spec"] | {"model": "sales_fr"}}
    assert "a ServedModel stays with its model" in kubectl.refused(json.dumps(other))


@pytest.mark.parametrize(("before", "after"), [({}, {"release": "blue"}), ({"release": "blue"}, {})])
def test_a_served_model_stays_with_its_release(kubectl: Kubectl, before: Json, after: Json) -> None:
    kubectl("create", "--filename=-", given=json.dumps(GOOD | {"spec": GOOD["spec"] | before}))
    moved = json.dumps(GOOD | {"spec": GOOD["spec"] | after})
    done = kubectl.run("replace", "--filename=-", given=moved, check=False)
    assert "a ServedModel stays with its release" in done.stderr


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("servedmodel", "its placement"),
        ("servedmodel.spec.traffic", "100 percent in all"),
        ("servedmodel.spec.traffic.percent", "dark launch"),
        ("servedmodel.spec.placement.memory", "as in 300Mi"),
        ("servedmodel.status.conditions", "the traffic of the spec is in force"),
    ],
)
def test_kubectl_explains_each_field(kubectl: Kubectl, field: str, text: str) -> None:
    assert text in " ".join(kubectl("explain", field).split())


def test_the_short_name_and_the_columns_are_there(kubectl: Kubectl) -> None:
    kubectl.apply(json.dumps(GOOD))
    header, row = kubectl("get", "sm").splitlines()
    assert header.split() == ["NAME", "MODEL", "TRAFFIC", "ALIASES", "REPLICAS", "READY", "REASON", "RELEASE", "AGE"]
    assert row.split()[:2] == ["sales-de", "sales_de"]
    kubectl.apply(json.dumps(GOOD | {"metadata": {"name": "blue"}, "spec": GOOD["spec"] | {"release": "two"}}))
    assert kubectl("get", "sm", "blue", "--no-headers").split()[:3] == ["blue", "sales_de", "two"]
