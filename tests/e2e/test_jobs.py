"""Jobs on the cluster: Postgres and S3 behind an API and workers that KEDA scales, and batches on a schedule."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.bucket import Bucket, new_bucket
from tests.e2e.conftest import Figure
from tests.e2e.images import has_keda
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.node_postgres import NodePostgres, node_postgres
from tests.e2e.release import START_S, Release, is_ready
from tests.tables import sales_table
from triptych_client.jobs import Jobs

ROWS, PART_ROWS, MOST = 42_000, 60, 3
LEASE_S = 5
JOB_S = 240.0  # on a busy machine
QUESTION: dict[str, Any] = {"model": "sales_forecast_de", "keep": ["shop"]}


@pytest.fixture(scope="module")
def bucket(kubeconfig: Path) -> Iterator[Bucket]:
    with new_bucket(kubeconfig) as made:
        yield made


@pytest.fixture(scope="module")
def postgres(kubeconfig: Path) -> Iterator[NodePostgres]:
    with node_postgres(Kubectl(kubeconfig, "default")) as made:
        yield made


@pytest.fixture(scope="module")
def release(
    new_release: Callable[[str, str], Release], bucket: Bucket, postgres: NodePostgres, kubeconfig: Path
) -> Release:
    """Stack and jobs, with no worker yet, 42,000 rows in the bucket, and two batches that wait for their time."""
    if not has_keda(Kubectl(kubeconfig, "default")):
        pytest.skip("needs KEDA: cluster up --with keda")
    bucket.store.put("in/sales.parquet", _sales(ROWS))
    bucket.store.put("in/few.parquet", _sales(50))
    made = new_release("jobs", "Deployment")
    for name, content in (("ledger", {"url": postgres.url}), ("store", bucket.keys)):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        made.kubectl.apply(json.dumps(secret))
    made.apply(_values(bucket))
    for component in ("preprocess", "predictor", "controller", "jobs"):
        made.wait_until_settled(component)
    return made


@pytest.mark.timeout(600)
def test_workers_come_from_zero_and_go_and_kills_of_workers_and_api_cost_no_row(
    release: Release, bucket: Bucket, postgres: NodePostgres, figure: Figure
) -> None:
    wait_for(lambda: not release.pods("jobs-worker"), "KEDA has removed the worker without work", START_S)
    limits = {"partRows": PART_ROWS}
    document = QUESTION | {"read": {"uri": f"{bucket.uri}/in/sales.parquet"}, "limits": limits}
    started_s = time.monotonic()
    jobs = _jobs(release)
    name = jobs.submit(_text(document), request_id="kills")
    wait_for(lambda: jobs.get(name).committed, "a worker has committed a part", START_S)
    figure(f"the first part {time.monotonic() - started_s:.0f} s after the job was submitted to no worker")
    for pod in filter(is_ready, (*release.pods("jobs-worker"), *release.pods("jobs"))):
        _kill(pod)
    assert jobs.submit(_text(document), request_id="kills") == name, "the same request id is the same job"
    release.wait_for_event(f"New size: {MOST}")
    release.wait_until_settled("jobs-worker", MOST)
    figure(f"{MOST} workers after {time.monotonic() - started_s:.0f} s")
    removed, *killed = release.pods("jobs-worker")
    for pod in killed:
        _kill(pod)
    release.kubectl("delete", "pod", removed["metadata"]["name"], "--wait=false")  # as an autoscaler does
    assert not jobs.get(name).has_ended, "the kills come amid the job"
    assert jobs.wait(name, JOB_S).state == "succeeded"
    again = postgres.execute("SELECT count(*) FILTER (WHERE fence > 1), max(attempts) FROM triptych_parts")
    figure(f"parts that were leased more than once, and most tries of one: {again}")
    figure(f"{ROWS:,} rows in {ROWS // PART_ROWS} parts done {time.monotonic() - started_s:.0f} s after the submission")
    assert sorted(shop for part in jobs.follow(name) for shop in part.table["shop"].to_pylist()) == list(range(ROWS))
    jobs.close()
    ended_s = time.monotonic()
    wait_for(lambda: not release.pods("jobs-worker"), "KEDA has removed all workers", START_S)
    figure(f"no worker {time.monotonic() - ended_s:.0f} s after the job was read")


@pytest.mark.timeout(400)
def test_a_batch_on_a_schedule_is_a_job_with_the_name_of_its_run(release: Release) -> None:
    log = _run_now(release, "batch-few", "now-1")
    assert "has succeeded: 50 rows" in log
    with _jobs(release) as jobs:
        assert next(jobs.list()).request_id == f"{release.kubectl.namespace}/now-1"


@pytest.mark.timeout(400)
def test_a_batch_on_a_schedule_writes_to_postgres_by_itself(release: Release, postgres: NodePostgres) -> None:
    postgres.execute("CREATE TABLE totals (shop bigint PRIMARY KEY, units bigint[], total bigint)")
    _run_now(release, "batch-totals", "now-2")
    assert postgres.execute("SELECT count(*), count(total), min(shop), max(shop) FROM totals") == "50|50|0|49"


def _kill(pod: dict[str, Any]) -> None:
    """SIGKILL to the process of a pod, on the node: from inside of the pod it would have no effect."""
    names = [f"pod{mark}" for uid in [pod["metadata"]["uid"]] for mark in (uid, uid.replace("-", "_"))]
    groups = {file: file.read_text() for file in Path("/proc").glob("[0-9]*/cgroup") if file.exists()}
    found = [file.parent for file, text in groups.items() if any(name in text for name in names)]
    services = [folder for folder in found if b"\0-m\0jobs" in (folder / "cmdline").read_bytes()]
    assert len(services) == 1, f"processes of {pod['metadata']['name']} on this machine: {found}"
    os.kill(int(services[0].name), signal.SIGKILL)


def _values(bucket: Bucket) -> dict[str, Any]:
    few = {"read": {"uri": f"{bucket.uri}/in/few.parquet"}}
    table = {"write": {"postgres": {"table": "totals", "key": ["shop"]}}}
    never = "0 0 30 2 *"  # February has no 30th
    url = {"name": "BATCH_POSTGRES", "valueFrom": {"secretKeyRef": {"name": "ledger", "key": "url"}}}
    small = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    return {
        "postprocess": {"mode": "InProcess"},
        "jobs": {
            "enabled": True,
            "ledger": {"secret": "ledger"},
            "objects": f"{bucket.uri}/jobs",
            "sources": [bucket.uri],
            "s3": {"endpoint": bucket.endpoint, "region": "us-east-1", "secret": "store"},
            "settings": {"lease_s": LEASE_S},
            "workers": {
                "autoscaling": {"maxReplicas": MOST, "scaleDownAfterSeconds": 5},
                "settings": {"parallel_parts": 1},
                "resources": small,
            },
        },
        "batches": [
            {"name": "few", "schedule": never, "document": QUESTION | few},
            {"name": "totals", "schedule": never, "document": QUESTION | few | table},
        ],
        "batch": {"extraEnv": [url], "resources": small},
    }


def _run_now(release: Release, cronjob: str, name: str) -> str:
    """The log of a run of a CronJob. Fails if its first pod fails."""
    release.kubectl("create", "job", f"--from=cronjob/{cronjob}", name)

    def ended() -> dict[str, Any] | None:
        status: dict[str, Any] = release.kubectl.get("job", name).get("status", {})
        return status if {"succeeded", "failed"} & status.keys() else None

    status = wait_for(ended, f"a pod of {name} has ended", JOB_S)
    log = release.kubectl("logs", f"job/{name}")
    assert status.get("succeeded") == 1, log
    return log


def _sales(rows: int) -> bytes:
    """Parquet of sales_forecast_de, with numbers as shops."""
    file = io.BytesIO()
    pq.write_table(sales_table(rows).set_column(0, "shop", pa.array(range(rows))), file)
    return file.getvalue()


def _text(document: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "triptych.dev/v1", "kind": "Job"} | document)


def _jobs(release: Release) -> Jobs:
    return Jobs(f"{release.kubectl.get('service', 'jobs')['spec']['clusterIP']}:9003", retry_s=JOB_S)
