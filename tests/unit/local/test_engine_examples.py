"""The manifests of examples/engines: their form, and the document in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.batch.document import read_document
from local.environments import ROOT
from triptych_cli.batch.run import parser

FOLDER = ROOT / "examples/engines"


def manifests(file: str) -> dict[str, Any]:
    """The objects of a file by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((FOLDER / file).read_text("utf-8"))}


@pytest.mark.parametrize("file", ["rayjob.yaml", "spark-job.yaml"])
def test_the_document_of_a_manifest_is_the_one_beside_it(file: str, tmp_path: Path) -> None:
    copy = tmp_path / "nightly.yaml"
    copy.write_text(manifests(file)["ConfigMap"]["data"]["nightly.yaml"])
    assert read_document(copy) == read_document(FOLDER / "nightly.yaml")


def test_the_commands_of_the_manifests_are_those_of_the_command_line() -> None:
    (container,) = (spark := manifests("spark-job.yaml"))["Job"]["spec"]["template"]["spec"]["containers"]
    for words, engine in (
        (manifests("rayjob.yaml")["RayJob"]["spec"]["entrypoint"].split(), "ray"),
        (container["command"], "spark"),
    ):
        assert words[:3] == ["triptych", "batch", "run"]
        given = parser().parse_args(words[3:])
        assert (str(given.document), given.engine) == ("/etc/triptych/nightly.yaml", engine)
    assert spark["Service"]["spec"]["selector"] == spark["Job"]["spec"]["template"]["metadata"]["labels"]
    assert f"spark.driver.host={spark['Service']['metadata']['name']}" in container["env"][0]["value"]


def test_all_pods_of_ray_have_one_image_and_the_volume_of_the_document() -> None:
    cluster = manifests("rayjob.yaml")["RayJob"]["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [container for pod in pods for container in pod["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all({"name": "data", "mountPath": "/data"} in container["volumeMounts"] for container in containers)
    (ray,) = (
        line
        for line in (ROOT / "services/jobs/requirements-ray.txt").read_text().splitlines()
        if line.startswith("ray")
    )
    assert ray == f"ray[data]=={cluster['rayVersion']}"
