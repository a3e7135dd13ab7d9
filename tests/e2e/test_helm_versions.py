"""Helm 3 and Helm 4, which applies on the server: definitions, and fields that someone else has written since.

The releases have no running pods: images are not pulled.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from controller.kubernetes.blocking import BlockingApi
from tests.e2e.canaries import served
from tests.e2e.conftest import DEFINITION
from tests.e2e.documented_commands import blocks
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import GATEWAY, NAME, Release
from tools.chart import program
from triptych_cli.rollout.components import FIELD_MANAGER
from triptych_cli.rollout.targets.inference_service import FIELD
from triptych_cli.rollout.targets.served_model_object import ServedModelObject

STABLE, SPLIT = [served((1, 100))], [served((1, 95), (2, 5))]
UPDATED = "Folder of the model."  # in place of a description: a definition of another version of the chart


@dataclass(frozen=True)
class Definitions:
    """A chart that has the CRD of ServedModel alone, under names of its own, and the cluster's copy."""

    kubectl: Kubectl
    folder: Path
    plural: str

    @property
    def file(self) -> Path:
        return self.folder / "crds/servedmodels.yaml"

    def change(self) -> None:
        text = self.file.read_text()
        assert "Folder in the model repository." in text
        self.file.write_text(text.replace("Folder in the model repository.", UPDATED))

    def install(self, helm: str, name: str) -> None:
        Release(self.kubectl, "none", program=helm).helm("install", name, str(self.folder))

    def stored(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kubectl.get("crd", f"{self.plural}.triptych.dev")["spec"]
        return found

    def written(self) -> dict[str, Any]:
        found: dict[str, Any] = YAML(typ="safe").load(self.file.read_text())["spec"]
        return found


@pytest.fixture
def definitions(kubectl: Kubectl, tmp_path: Path) -> Iterator[Definitions]:
    name = f"copy{uuid.uuid4().hex[:8]}"
    kind = name.capitalize()
    made = Definitions(kubectl, tmp_path / "chart", f"{name}s")
    made.file.parent.mkdir(parents=True)
    text = DEFINITION.read_text().replace("servedmodel", name).replace("- sm\n", f"- s{name}\n")
    text = text.replace("kind: ServedModel\n", f"kind: {kind}\n").replace("Kind: ServedModelList", f"Kind: {kind}List")
    made.file.write_text(text)
    shutil.copy(program.CHART / "Chart.yaml", made.folder)
    yield made
    kubectl("delete", "crd", f"{made.plural}.triptych.dev", "--ignore-not-found", "--wait=false")


def test_the_definition_is_stored_as_it_is_written(definitions: Definitions, helm: str) -> None:
    definitions.install(helm, "first")
    assert definitions.stored() == definitions.written()
    kubectl = definitions.kubectl
    assert kubectl("diff", f"--filename={definitions.file}") == ""
    kubectl("apply", "--server-side", f"--filename={definitions.file}")  # another manager of the same fields


def test_the_documented_command_updates_a_definition_that_helm_made(definitions: Definitions, helm: str) -> None:
    definitions.install(helm, "first")
    definitions.change()
    for _ in range(2):
        definitions.kubectl("apply", f"--filename={definitions.file.parent}")
        assert definitions.stored() == definitions.written()
    assert UPDATED in json.dumps(definitions.stored())
    definitions.install(helm, "second")
    assert definitions.stored() == definitions.written()


@pytest.fixture
def release(kubectl: Kubectl, helm: str) -> Iterator[Release]:
    """A release that has never a running pod."""
    release = Release(kubectl, "none", "Deployment", program=helm)
    yield release
    release.helm("uninstall", NAME, check=False)


def upgrade(release: Release, *options: str, check: bool = True, **values: Any) -> str:
    """Install or upgrade to these values. Returns what Helm says about a failure."""
    given = json.dumps({"mode": release.mode, "tag": "none", "imagePullPolicy": "Never"} | values)
    words = ("upgrade", "--install", NAME, str(program.CHART), "--skip-crds", "--values=-", *options)
    return release.helm(*words, given=given, check=check).stderr


def traffic(release: Release) -> dict[int, int]:
    shares = release.kubectl.get("servedmodel", "digits-gb")["spec"]["traffic"]
    return {share["version"]: share["percent"] for share in shares}


def roll_out(release: Release, shares: dict[str, int]) -> None:
    """Write the traffic as `triptych rollout` does."""
    api = BlockingApi.connect(release.kubectl.kubeconfig, FIELD_MANAGER)
    target = ServedModelObject(api, release.kubectl.namespace, "digits_gb")
    target.write(shares)
    target.close()


def assert_said(release: Release, said: str, field: str, manager: str) -> None:
    """Helm 4 names the field and its writer, and Helm 3 says nothing."""
    if release.program == "helm3":
        assert not said
    else:
        assert f'conflict with "{manager}"' in said, said
        assert field in said


def test_an_upgrade_with_old_values_never_resets_a_rollout(release: Release) -> None:
    upgrade(release, servedModels=STABLE)
    roll_out(release, {"1": 95, "2": 5})
    said = upgrade(release, check=False, servedModels=STABLE, preprocess={"replicas": 2})
    assert_said(release, said, ".spec.traffic", FIELD_MANAGER)
    assert traffic(release) == {1: 95, 2: 5}
    assert release.kubectl.get("deployment", "preprocess")["spec"]["replicas"] == 2  # other objects are upgraded


def test_an_upgrade_with_the_traffic_in_force_works_and_the_rollout_goes_on(release: Release) -> None:
    upgrade(release, servedModels=STABLE)
    roll_out(release, {"1": 95, "2": 5})
    assert upgrade(release, servedModels=SPLIT) == ""
    roll_out(release, {"2": 100})
    assert upgrade(release, servedModels=[served((2, 100))]) == ""
    assert traffic(release) == {2: 100}


def test_other_values_win_over_a_rollout_where_they_are_meant_to(release: Release) -> None:
    upgrade(release, servedModels=STABLE)
    roll_out(release, {"1": 95, "2": 5})
    upgrade(release, servedModels=SPLIT)
    force = ["--force-conflicts"] if release.program == "helm4" else []
    upgrade(release, *force, servedModels=[served((1, 70), (2, 30))])
    assert traffic(release) == {1: 70, 2: 30}
    upgrade(release, servedModels=STABLE)  # Helm is the only writer again
    assert traffic(release) == {1: 100}


def test_helm_4_without_server_side_apply_compares_renders_as_helm_3_does(kubectl: Kubectl) -> None:
    if program.find("helm4") is None:
        pytest.skip("needs helm4: python3 -m local.programs helm4")
    release = Release(kubectl, "none", "Deployment", program="helm4")
    upgrade(release, servedModels=STABLE)
    roll_out(release, {"1": 95, "2": 5})
    assert upgrade(release, "--server-side=false", servedModels=STABLE, preprocess={"replicas": 2}) == ""
    assert upgrade(release, servedModels=STABLE) == ""  # the release remembers it
    assert traffic(release) == {1: 95, 2: 5}
    release.helm("rollback", NAME)
    assert traffic(release) == {1: 95, 2: 5}
    upgrade(release, servedModels=[served((2, 100))])
    assert traffic(release) == {2: 100}
    release.helm("uninstall", NAME)


def test_a_model_that_was_applied_is_taken_over_by_the_values(release: Release) -> None:
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "digits-gb"}}
    release.kubectl.apply(json.dumps(head | {"spec": SPLIT[0]}))
    upgrade(release)
    upgrade(release, "--take-ownership", servedModels=SPLIT)
    force = ["--force-conflicts"] if release.program == "helm4" else []
    upgrade(release, *force, servedModels=[served((1, 70), (2, 30))])
    upgrade(release, servedModels=[served((2, 100))])
    assert traffic(release) == {2: 100}


def lane(percent: int) -> dict[str, Any]:
    """Values of a canary at a Gateway."""
    canary = {"enabled": True, "percent": percent, "preprocess": {"image": "triptych/preprocess:2"}}
    return {"gateway": {"enabled": True, "parents": [GATEWAY], "hostnames": ["e2e.example.com"]}, "canary": canary}


def test_a_share_that_was_patched_stays_until_the_values_say_otherwise(release: Release) -> None:
    """The command of docs/guides/canary.md for installations without Helm, on a release of Helm."""
    if release.kubectl.run("get", "grpcroutes", check=False).returncode:
        pytest.skip("needs the Gateway API")
    upgrade(release, **lane(0))
    patch = blocks()["kubectl-raise"].split("'")[1]
    release.kubectl("patch", "grpcroute", "preprocess", "--type=json", f"--patch={patch}")
    said = upgrade(release, check=False, **lane(0), podAnnotations={"changed": "yes"})
    assert_said(release, said, ".spec.rules", "kubectl-patch")
    assert weights(release) == [90, 10]
    assert upgrade(release, **lane(10)) == ""
    assert weights(release) == [90, 10]


def weights(release: Release) -> list[int]:
    rule = release.kubectl.get("grpcroute", "preprocess")["spec"]["rules"][0]
    return [backend["weight"] for backend in rule["backendRefs"]]


def test_a_knative_share_is_never_taken_back(release: Release) -> None:
    """KServe would take a promotion back if an upgrade added `canaryTrafficPercent: 0` again."""
    if release.kubectl.run("get", "services.serving.knative.dev", check=False).returncode:
        pytest.skip("needs Knative")
    release = replace(release, mode="Knative")
    canary = {"enabled": True, "percent": 0, "preprocess": {"image": "triptych/preprocess:2"}}
    upgrade(release, canary=canary)
    split(release, "knative-raise")
    said = upgrade(release, check=False, canary=canary, podAnnotations={"changed": "yes"})
    assert_said(release, said, FIELD, "kubectl-patch")
    assert share(release) == 10
    split(release, "knative-back")
    assert upgrade(release, canary=canary) == ""
    split(release, "knative-raise", percent=100, manager=FIELD_MANAGER)
    said = upgrade(release, check=False, canary=canary)
    assert_said(release, said, FIELD, FIELD_MANAGER)
    assert share(release) == 100
    assert upgrade(release, canary=canary | {"percent": 100}) == ""


def split(release: Release, label: str, percent: int | None = None, manager: str = "kubectl-patch") -> None:
    """Run a command of docs/guides/canary.md, with another percent if one is given, as this field manager."""
    patch = json.loads(blocks()[label].split("'")[1])
    if percent is not None:
        patch["spec"]["predictor"][FIELD] = percent
    words = ("patch", "inferenceservice", "preprocess", "--type=merge", f"--field-manager={manager}")
    release.kubectl(*words, f"--patch={json.dumps(patch)}")


def share(release: Release) -> int:
    return int(release.kubectl.get("inferenceservice", "preprocess")["spec"]["predictor"][FIELD])


def test_a_release_goes_from_helm_3_to_helm_4_and_back(kubectl: Kubectl) -> None:
    if not (program.find("helm3") and program.find("helm4")):
        pytest.skip("needs both: python3 -m local.programs helm3 helm4")
    three, four = (Release(kubectl, "none", "Deployment", program=name) for name in ("helm3", "helm4"))
    steps = ((three, ""), (four, "auto"), (four, "true"), (four, "auto"), (three, ""))
    key: set[str] = set()
    for replicas, (release, side) in enumerate(steps, start=1):
        options = [f"--server-side={side}"] if side else []
        upgrade(release, *options, servedModels=STABLE, preprocess={"replicas": replicas})
        assert kubectl.get("deployment", "preprocess")["spec"]["replicas"] == replicas
        key.add(kubectl.get("secret", "model-control")["data"]["key"])
    assert len(key) == 1
    four.helm("uninstall", NAME)


def test_what_an_upgrade_adds_the_next_one_may_change(release: Release) -> None:
    upgrade(release)
    for replicas in (1, 2):
        upgrade(release, backend={"enabled": True, "replicas": replicas})
    assert release.kubectl.get("deployment", "backend")["spec"]["replicas"] == 2


@pytest.mark.parametrize("kind", ["client", "server"])
def test_a_dry_run_works_before_and_after_an_install(release: Release, kind: str) -> None:
    upgrade(release, f"--dry-run={kind}", servedModels=STABLE)
    upgrade(release, servedModels=STABLE)
    key = release.kubectl.get("secret", "model-control")["data"]["key"]
    given = json.dumps({"mode": "Deployment", "tag": "none", "servedModels": STABLE})
    words = ("upgrade", NAME, str(program.CHART), "--values=-", f"--dry-run={kind}")
    assert (key in release.helm(*words, given=given).stdout) is (kind == "server")
    assert release.kubectl.get("secret", "model-control")["data"]["key"] == key


def test_what_kubectl_applied_becomes_a_release(release: Release) -> None:
    options = ("--set", "mode=Deployment,tag=none,imagePullPolicy=Never", "--skip-tests")
    release.kubectl.apply(program.template(*options, namespace=release.kubectl.namespace))
    upgrade(release, "--take-ownership")
    force = ["--force-conflicts"] if release.program == "helm4" else []
    upgrade(release, *force, preprocess={"replicas": 2})
    assert release.kubectl.get("deployment", "preprocess")["spec"]["replicas"] == 2


# Kinds and fields that no other test of this module makes.
MORE = (
    "backend.enabled=true,backend.autoscaling.maxReplicas=2,preprocess.autoscaling.maxReplicas=2,preprocess.replicas=1",
    "readinessHook.enabled=true,metrics.dashboard.enabled=true,models.store=pvc,models.claim=models,models.path=eu",
    "gateway.enabled=true,gateway.parents[0].name=public,gateway.hostnames[0]=e2e.example.com,gateway.retries=2",
    "canary.enabled=true,canary.postprocess.replicas=1,canary.models.path=next",
    "servedModels[0].model=digits_gb,servedModels[0].traffic[0].version=1,servedModels[0].traffic[0].percent=100",
)


@pytest.mark.parametrize("mode", ["Deployment", "Standard"])
def test_a_render_is_stored_as_written(kubectl: Kubectl, mode: str) -> None:
    """With another value anywhere, a server-side apply by another manager would be a conflict."""
    for kind in ("inferenceservices", "grpcroutes", "backendtrafficpolicies"):
        if kubectl.run("get", kind, check=False).returncode:
            pytest.skip(f"needs {kind}, which the cluster does not have")
    options = [word for option in MORE for word in ("--set", option)]
    options += ["--set", f"mode={mode},tag=none,imagePullPolicy=Never"]
    text = program.template(*options, "--no-hooks", namespace=kubectl.namespace)
    kubectl("create", "--filename=-", given=text)
    kubectl("apply", "--server-side", "--dry-run=server", "--field-manager=other", "--filename=-", given=text)
