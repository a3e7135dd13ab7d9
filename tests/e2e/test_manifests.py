"""Committed manifests and renders of the chart's options, checked against a cluster's schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.kubectl import Kubectl
from tools.chart.program import APIS, find, kustomize, template
from tools.chart.render import MANIFESTS, OVERLAYS, RENDERS
from tools.chart.schemas import built, check, cluster_openapi, manifests

DRY_RUN = ("apply", "--dry-run=server", "--filename=-")
OPTIONS = (
    "backend.enabled=true,backend.autoscaling.maxReplicas=2,preprocess.autoscaling.maxReplicas=2",
    "gateway.enabled=true,gateway.parents[0].name=public,gateway.hostnames[0]=a.example.com,gateway.retries=2",
    "servedModels[0].model=digits_gb,servedModels[0].traffic[0].version=1,servedModels[0].traffic[0].percent=100",
    "nodeSelector.disk=ssd,tolerations[0].key=gpu,tolerations[0].operator=Exists,podLabels.team=red,podAnnotations.note=a",
    "extraEnv[0].name=PROXY,extraEnv[0].value=http://proxy,extraVolumes[0].name=extra,extraVolumes[0].emptyDir.medium=Memory",
    "extraVolumeMounts[0].name=extra,extraVolumeMounts[0].mountPath=/extra,imagePullSecrets[0].name=registry",
    "serviceAccount.annotations.note=a,models.mirror.resources.limits.cpu=1",
    "models.store=s3,models.uri=s3://bucket/models,predictor.gpus=1,predictor.image=nvcr.io/nvidia/tritonserver:25.10-py3",
)


@pytest.fixture(autouse=True)
def _kserve(kubeconfig: Path, definition: Path) -> None:
    kubectl = Kubectl(kubeconfig, "default")
    for kind in ("inferenceservices.serving.kserve.io", "grpcroutes.gateway.networking.k8s.io"):
        if kubectl.run("get", kind, check=False).returncode:
            pytest.skip(f"needs {kind}, which the cluster does not have")


@pytest.fixture
def openapi(kubeconfig: Path) -> dict[str, Any]:
    if find("kubeconform") is None:
        pytest.skip("needs kubeconform: python3 -m local.programs kubeconform")
    return cluster_openapi()


def in_namespace(text: str, namespace: str) -> list[dict[str, Any]]:
    """Manifests with another namespace."""
    beyond = ("Namespace", "CustomResourceDefinition")
    found = [each for each in YAML(typ="safe", pure=True).load_all(text) if each and each["kind"] not in beyond]
    return [each | {"metadata": each["metadata"] | {"namespace": namespace}} for each in found]


def would_be_taken(kubectl: Kubectl, text: str) -> str:
    """Output of a server-side dry run, one line per object."""
    objects = in_namespace(text, kubectl.namespace)
    said = kubectl(*DRY_RUN, given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    assert said.count("(server dry run)") == len(objects)
    return said


def test_the_schemas_of_the_cluster_know_every_field_of_every_committed_object(
    openapi: dict[str, Any], tmp_path: Path
) -> None:
    assert check([*manifests(), *built(tmp_path)], openapi) == ""


def test_a_field_that_they_do_not_know_would_be_found(openapi: dict[str, Any], tmp_path: Path) -> None:
    text = (MANIFESTS / "standard/triptych.yaml").read_text()
    (tmp_path / "typo.yaml").write_text(text.replace("deploymentStrategy:", "deployStrategy:"))
    assert "additional properties 'deployStrategy' not allowed" in check([tmp_path / "typo.yaml"], openapi)


@pytest.mark.parametrize("folder", [*RENDERS, *OVERLAYS])
def test_the_api_server_would_take_each_folder(kubectl: Kubectl, folder: str) -> None:
    said = would_be_taken(kubectl, kustomize(MANIFESTS / folder))
    assert "controller" in said


def test_the_api_server_would_take_what_the_options_make(kubectl: Kubectl) -> None:
    if find() is None:
        pytest.skip("needs helm on the PATH")
    options = [word for option in OPTIONS for word in ("--set", option)]
    said = would_be_taken(kubectl, template(*options, "--skip-tests", apis=APIS))
    for kind in ("deployment.apps/backend", "servedmodel.triptych.dev/digits-gb", "backendtrafficpolicy"):
        assert kind in said
