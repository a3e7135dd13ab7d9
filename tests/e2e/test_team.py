"""A team that is `admin` of its namespace, on a cluster where manifests/cluster was applied once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from local.environments import ROOT
from tests.e2e.canaries import apply_traffic, small
from tests.e2e.conftest import kubeconfig_of
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import NAME, START_S, Release
from tools.chart import program

TEAM = "team"
# What `admin` may do in a namespace, without a right to ServedModels.
OTHERS = ("", "apps", "autoscaling", "coordination.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io")


@pytest.fixture(autouse=True)
def _cluster_objects(kubeconfig: Path, definition: Path) -> None:
    Kubectl(kubeconfig, "default")("apply", f"--kustomize={ROOT / 'manifests/cluster'}")


def as_team(kubectl: Kubectl, role: str, folder: Path) -> Kubectl:
    """kubectl of an account that has one role in the namespace."""
    kubectl("create", "serviceaccount", TEAM)
    kubectl("create", "rolebinding", TEAM, f"--{role}", f"--serviceaccount={kubectl.namespace}:{TEAM}")
    return replace(kubectl, kubeconfig=kubeconfig_of(kubectl, TEAM, folder))


def drift(release: Release) -> str:
    """Differences of the cluster from the release, as Flux finds them, while its pods run."""
    manifest = release.helm("get", "manifest", NAME).stdout
    words = ("diff", "--server-side", "--force-conflicts", "--field-manager=helm-controller", "--filename=-")
    return release.kubectl.run(*words, given=manifest, check=False).stdout


def helm_objects(release: Release) -> list[str]:
    """Names of all objects except those of the account."""
    return [name for name in release.objects() if not name.endswith(f"/{TEAM}")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_admin_of_a_namespace_installs_upgrades_tests_and_uninstalls(
    new_release: Callable[[str, str], Release], helm: str, tmp_path: Path
) -> None:
    release = new_release(f"team-{helm}", "Deployment")
    team = replace(release, kubectl=as_team(release.kubectl, "clusterrole=admin", tmp_path), program=helm)
    given = json.dumps(team.values(small()))
    team.helm("install", NAME, str(program.CHART), "--skip-crds", "--values=-", given=given)
    team.apply(small(preprocess={"settings": {"log_level": "DEBUG"}}))
    for component in ("preprocess", "predictor", "postprocess", "controller"):
        team.wait_until_settled(component)
    assert "Succeeded" in team.helm_test()
    # The controller renews its Lease between the two looks of kubectl, now and then. A drift that stays is one.
    wait_for(lambda: not drift(team), "nothing differs from the release")
    apply_traffic(team, (2, 100))
    team.kubectl("delete", "servedmodel", "digits-gb")
    team.uninstall()
    wait_for(lambda: not helm_objects(release), "nothing is left", START_S)


def test_without_a_right_to_served_models_nothing_is_made(kubectl: Kubectl, helm: str, tmp_path: Path) -> None:
    rule = {"apiGroups": OTHERS, "resources": ["*"], "verbs": ["*"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": TEAM}, "rules": [rule]}
    kubectl.apply(json.dumps(role))
    team = Release(as_team(kubectl, f"role={TEAM}", tmp_path), "none", "Deployment", program=helm)
    given = json.dumps({"mode": "Deployment", "tag": "none"})
    done = team.helm("install", NAME, str(program.CHART), "--skip-crds", "--values=-", given=given, check=False)
    assert done.returncode
    assert 'cannot get resource "servedmodels"' in done.stderr
    assert not helm_objects(Release(kubectl, "none"))
