"""The commands of docs/guides/operations.md, unchanged but for names of the cluster, one section after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.kubernetes.api import Json, part
from local.environments import ROOT
from tests.e2e.conftest import kubeconfig_of
from tests.e2e.documented_commands import blocks
from tests.e2e.kubectl import wait_for
from tests.e2e.release import GATEWAY, START_S, Release
from tools.chart import program

PAGE = ROOT / "docs/guides/operations.md"
TEAM = "team"
COMPONENTS = ("preprocess", "predictor", "postprocess", "controller")
BUSY_S = "5m"  # in place of the times of the page, on a machine with other work
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class OperatorCommands:
    """A folder laid out like the checkout, where the chart has the images of the cluster as its defaults."""

    def __init__(self, release: Release, folder: Path, kubeconfig: Path | None = None) -> None:
        self._release, self._folder = release, folder
        shutil.copytree(program.CHART, folder / "helm/triptych")
        shutil.copytree(ROOT / "manifests", folder / "manifests")
        about = folder / "helm/triptych/Chart.yaml"
        about.write_text(re.sub(r"(?m)^appVersion: .*", f"appVersion: {release.tag}", about.read_text()))
        self._kubeconfig = kubeconfig or release.kubectl.kubeconfig

    def run(self, label: str, helm: str = "helm") -> str:
        """Run the commands of a code block by its label, with any Helm, `helm3` or `helm4`, and return their output."""
        command = self._own(blocks(PAGE)[label])
        shell = ["bash", "-euo", "pipefail", "-c", command]
        path = f"{Path(str(program.find(helm))).parent}:{os.environ['PATH']}"
        environment = os.environ | {"KUBECONFIG": str(self._kubeconfig), "PATH": path}
        done = subprocess.run(shell, cwd=self._folder, env=environment, capture_output=True, text=True, timeout=600)
        assert not done.returncode, f"{label}:\n{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _own(self, text: str) -> str:
        namespace = self._release.kubectl.namespace
        text = re.sub(r"(-n|--namespace) (triptych|team)\b", rf"\1 {namespace}", text)
        text = text.replace("namespace: triptych,", f"namespace: {namespace},")
        text = re.sub(r"rollout status \S+", rf"\g<0> --timeout={BUSY_S}", text)
        text = text.replace("--timeout=1m", f"--timeout={BUSY_S}")
        text = text.replace("triptych.example.com", self._release.host)
        text = text.replace("name=public", f"name={GATEWAY['name']}")
        return text.replace("namespace=gateways", f"namespace={GATEWAY['namespace']}")


Commands = Callable[[str, str], tuple[Release, OperatorCommands]]


@pytest.fixture
def commands(new_release: Callable[[str, str], Release], tmp_path: Path) -> Iterator[Commands]:
    """Factory of a namespace and of the page's commands in it. Its pods are ended after the test."""
    made: list[Release] = []

    def new(name: str, mode: str) -> tuple[Release, OperatorCommands]:
        made.append(new_release(f"page-{name}", mode))
        return made[-1], OperatorCommands(made[-1], tmp_path / "page")

    yield new
    for release in made:
        release.kubectl("delete", "inferenceservices,deployments", "--all", "--wait=false")


def is_accepted(route: Json) -> bool:
    conditions = [each for parent in part(route, "status").get("parents", ()) for each in parent["conditions"]]
    return ("Accepted", "True") in {(each["type"], each["status"]) for each in conditions}


def test_install_upgrade_gateway_autoscaling_and_rotation(commands: Commands) -> None:
    release, page = commands("install", "Standard")
    assert "Phase:          Succeeded" in page.run("install")
    page.run("upgrade")
    release.wait_until_settled("preprocess", 2)
    page.run("upgrade-with-the-hook", "helm3")
    release.wait_until_settled("preprocess", 2)
    page.run("upgrade-with-the-hook-helm-4", "helm4")
    release.wait_until_settled("preprocess", 2)
    page.run("gateway")
    wait_for(lambda: is_accepted(release.kubectl.get("grpcroute", "preprocess")), "the route is accepted")
    page.run("autoscaling")
    key = release.kubectl.get("secret", "model-control")["data"]["key"]
    predictors = release.uids("predictor")
    page.run("rotate-key")
    assert release.kubectl.get("secret", "model-control")["data"]["key"] != key
    release.wait_until_settled("predictor", without=predictors)
    page.run("uninstall")
    wait_for(lambda: not release.objects(), "nothing is left", START_S)


def test_a_team_installs_as_admin_of_its_namespace(commands: Commands, kubeconfig: Path, tmp_path: Path) -> None:
    release, _ = commands(TEAM, "Deployment")
    kubectl = release.kubectl
    OperatorCommands(release, tmp_path / "platform").run("cluster-objects")
    kubectl("create", "serviceaccount", TEAM)
    kubectl("create", "rolebinding", TEAM, "--clusterrole=admin", f"--serviceaccount={kubectl.namespace}:{TEAM}")
    account = kubeconfig_of(kubectl, TEAM, tmp_path)
    page = OperatorCommands(replace(release, kubectl=replace(kubectl, kubeconfig=account)), tmp_path / TEAM)
    assert "Phase:          Succeeded" in page.run("install-as-a-team")


def test_two_releases_in_one_namespace(commands: Commands) -> None:
    release, page = commands("two", "Deployment")
    listed = page.run("two-releases")
    assert "blue-digits-gb" in listed
    release.wait_until_settled("preprocess")
    wait_for(lambda: not [name for name in release.objects() if "blue" in name], "nothing of blue is left", START_S)


def test_a_render_that_is_applied_has_no_difference(commands: Commands, tmp_path: Path) -> None:
    release, page = commands("gitops", "Standard")
    assert page.run("gitops", "helm3").endswith("no difference\n")
    page.run("kustomize", "helm3")
    done = release.kubectl.run("diff", "--server-side", f"--filename={tmp_path / 'page/triptych.yaml'}", check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for component in COMPONENTS:
        release.wait_until_settled(component)
    pods = {component: release.uids(component) for component in COMPONENTS}
    page.run("take-over", "helm3")
    assert "deployed" in release.helm("status", release.name).stdout
    for component in ("preprocess", "predictor", "postprocess"):
        release.wait_until_settled(component, without=pods[component])  # KServe puts Helm's annotations into them
    assert release.uids("controller") == pods["controller"]


def test_certificates_of_ones_own_authority(commands: Commands) -> None:
    release, page = commands("tls", "Deployment")
    page.run("tls-own-secret")
    for component in COMPONENTS:
        release.wait_until_settled(component)
    release.helm_test()


def test_the_values_for_a_quota(commands: Commands) -> None:
    release, page = commands("quota", "Standard")
    release.kubectl("create", "quota", TEAM, "--hard=limits.cpu=2,limits.memory=6Gi,requests.cpu=2")
    assert "limits.cpu" in page.run("quota")
    for component in COMPONENTS:
        release.wait_until_settled(component)


def test_every_label_of_the_page_is_run_by_a_test() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert {label for label in blocks(PAGE) if f'"{label}"' not in text and not label.startswith("hand-over-")} == set()
