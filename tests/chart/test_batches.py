"""Batches on a schedule: one CronJob each, which submits a job or runs the batch, and contradictions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.batch.document import BatchDocument, JobDocument
from tests.chart.objects import Object, Objects, Render
from tools.chart.program import ProgramFailed

QUESTION = {"model": "sales_forecast_de", "read": {"uri": "s3://sales/*.parquet"}, "keep": ["shop"]}
NIGHTLY: dict[str, Any] = {"name": "nightly", "schedule": "0 3 * * *", "document": QUESTION}
REPORT = NIGHTLY | {"name": "report", "claim": "data", "document": QUESTION | {"write": {"parquet": "forecasts"}}}
TABLE = QUESTION | {"write": {"postgres": {"table": "forecasts", "key": ["shop"]}}}


def values(*batches: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "Deployment", "jobs": {"enabled": True}, "batches": list(batches)} | more


def pod(made: Objects, name: str) -> Object:
    found: Object = made.one("CronJob", name)["spec"]["jobTemplate"]["spec"]["template"]
    return found


def document(made: Objects, name: str) -> Any:
    return json.loads(pod(made, name)["metadata"]["annotations"]["triptych.dev/document"])


def test_a_batch_is_a_cronjob_that_submits_a_job_once(render: Render) -> None:
    made = render(values(NIGHTLY | {"timeZone": "Europe/Berlin", "deadlineSeconds": 600}), namespace="shop")
    spec = made.one("CronJob", "batch-nightly")["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Europe/Berlin", "Forbid")
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 660, "the job's deadline comes first"
    (container,) = pod(made, "batch-nightly")["spec"]["containers"]
    assert container["command"] == ["triptych", "jobs", "submit", "nightly.yaml", "--wait"]
    assert container["args"] == [
        "--address=jobs:9003",
        "--request-id=shop/$(JOB_NAME)",
        "--deadline=600",
        "--retry=10m",
    ]
    (variable,) = container["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"


def test_the_document_of_a_job_is_one_that_jobs_take(render: Render) -> None:
    made = render(values(NIGHTLY))
    JobDocument.model_validate(document(made, "batch-nightly"), by_alias=True, by_name=False)


@pytest.mark.parametrize("mode", ["none", "tls", "mutual"])
def test_a_batch_that_writes_runs_in_its_pod_by_the_address_of_preprocess(render: Render, mode: str) -> None:
    tls = {"mode": mode} | ({} if mode == "none" else {"secret": "certificates"})
    made = render(values(REPORT, tls=tls, jobs={"enabled": False, "s3": {"secret": "store"}}))
    found = BatchDocument.model_validate(document(made, "batch-report"), by_alias=True, by_name=False)
    assert found.home.address == "dns:///preprocess-pods:9000"
    assert (found.home.tls is not None) == (mode != "none")
    template = pod(made, "batch-report")["spec"]
    (container,) = template["containers"]
    assert container["command"] == ["triptych", "batch", "run", "report.yaml", "--replace"]
    assert container["workingDir"] == "/data"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in template["volumes"]
    assert [each["name"] for each in container["env"]] == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    if mode != "none":
        assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in container["volumeMounts"]


def test_a_table_of_postgres_needs_no_volume_and_its_url_is_a_variable(render: Render) -> None:
    url = {"name": "BATCH_POSTGRES", "valueFrom": {"secretKeyRef": {"name": "warehouse", "key": "url"}}}
    made = render(values(NIGHTLY | {"document": TABLE}, batch={"extraEnv": [url]}))
    template = pod(made, "batch-nightly")["spec"]
    assert template["containers"][0]["env"] == [url]
    assert {"name": "data", "emptyDir": {}} in template["volumes"]


def test_with_tls_a_submission_trusts_the_authority_and_shows_a_certificate_if_it_has_to(render: Render) -> None:
    made = render(values(NIGHTLY, tls={"mode": "mutual", "secret": "certificates"}))
    arguments = pod(made, "batch-nightly")["spec"]["containers"][0]["args"]
    assert arguments[-3:] == ["--ca=/tls/ca.crt", "--cert=/tls/tls.crt", "--key=/tls/tls.key"]


def test_pods_of_batches_have_options_of_their_own_and_nobody_calls_them(render: Render) -> None:
    options = {"nodeSelector": {"pool": "batch"}, "podLabels": {"team": "shop"}}
    made = render(values(NIGHTLY, batch=options, networkPolicy={"callers": [{"podSelector": {}}]}))
    template = pod(made, "batch-nightly")
    assert template["spec"]["nodeSelector"] == {"pool": "batch"}
    assert template["metadata"]["labels"]["team"] == "shop"
    assert made.one("NetworkPolicy", "batch")["spec"]["ingress"] == []
    callers = made.one("NetworkPolicy", "preprocess")["spec"]["ingress"][0]["from"][1]
    assert "batch" in callers["podSelector"]["matchExpressions"][0]["values"]
    assert "batch" not in render(values()).of("ServiceAccount")


REFUSED: list[tuple[dict[str, Any], str]] = [
    (values(NIGHTLY, NIGHTLY), "batches has nightly more than once"),
    (values(NIGHTLY, jobs={}), "nightly has no document.write and jobs.enabled is false"),
    (values(REPORT | {"claim": ""}), "report writes Parquet to forecasts and has no claim"),
    (values(NIGHTLY | {"claim": "data"}), "nightly has a claim and no document.write"),
    (values(NIGHTLY | {"document": QUESTION | {"home": {"address": "a:1"}}}), "has home, which the chart sets itself"),
    (values(NIGHTLY | {"document": QUESTION | {"kind": "Job"}}), "has kind, which the chart sets itself"),
    (values(NIGHTLY | {"name": "Nightly"}), "name"),
    (values(NIGHTLY | {"name": "n" * 25}), "name"),
    (values(NIGHTLY | {"concurrencyPolicy": "Replace"}), "concurrencyPolicy"),
    (values({"name": "nightly", "schedule": "@daily"}), "document"),
    (values(NIGHTLY, batch={"extraEnv": [{"name": "JOB_NAME", "value": "a"}]}), "extraEnv of batch has JOB_NAME"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_a_contradiction_is_refused_with_a_sentence(render: Render, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProgramFailed) as refused:
        render(wrong)
    assert sentence in str(refused.value)
