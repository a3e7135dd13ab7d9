"""Fixtures for tests on the cluster of KUBECONFIG: a namespace per test, and evidence of failed tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from ruamel.yaml import YAML

from local.environments import ROOT, locked
from tests import model_folders
from tests.e2e import images
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import Release
from tests.fakes.tcp_relay import Relay
from tools.chart import program

HERE = Path(__file__).parent
DEFINITION = ROOT / "helm/triptych/crds/servedmodels.yaml"
REPORT = pytest.StashKey[pytest.TestReport]()
FIGURE = "figure"

StartReplica = Callable[..., "subprocess.Popen[bytes]"]
Figure = Callable[[str], None]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call":
        item.stash[REPORT] = report
    for value in getattr(item, "funcargs", {}).values():
        release = getattr(value, "release", value)  # of a fixture with more than a release
        if report.failed and isinstance(release, Release):
            report.sections.append(("evidence", _evidence_of(release)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the figures that tests have measured, from all workers."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, ())]
    lines = [
        text for report in reports if report.when == "call" for name, text in report.user_properties if name == FIGURE
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write("\n".join([*lines, ""]))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Record a sentence with a measurement for the end of the run; it is not asserted."""
    name = request.node.name.removeprefix("test_")
    return lambda text: request.node.user_properties.append((FIGURE, f"{name}: {text}"))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """Kubeconfig of a cluster in which the tests may create namespaces and definitions."""
    path = os.environ.get("KUBECONFIG", "")
    if not path or not Path(path).exists():
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG")
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl on the PATH")
    return Path(path)


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> str:
    """The name of one Helm; a test runs with each."""
    name = str(request.param)
    if program.find(name) is None:
        pytest.skip(f"needs {name}: python3 -m local.programs {name}")
    return name


@pytest.fixture(scope="session")
def definition(kubeconfig: Path) -> Path:
    """Apply the definition of ServedModel to the cluster."""
    kubectl = Kubectl(kubeconfig, "default")
    with locked("e2e-definition"):  # kubectl looks before it creates, so of two workers one would fail
        kubectl("apply", f"--filename={DEFINITION}")  # as docs/guides/operations.md says
    wait_for(
        lambda: kubectl.run("get", "servedmodels", check=False).returncode == 0, "the API server serves ServedModels"
    )
    return DEFINITION


def _new_namespace(kubeconfig: Path, name: str) -> Kubectl:
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")
    kubectl = Kubectl(kubeconfig, f"e2e-{words}-{uuid.uuid4().hex[:6]}")
    kubectl("create", "namespace", kubectl.namespace)
    return kubectl


@pytest.fixture(scope="session")
def images_tag(kubeconfig: Path, definition: Path) -> str:
    """Tag of the images of this checkout in the node."""
    if program.find() is None:
        pytest.skip("needs helm on the PATH")
    return images.ensure(Kubectl(kubeconfig, "default"))


@pytest.fixture(scope="session")
def next_tag(kubeconfig: Path, images_tag: str) -> str:
    """A second tag of preprocess and postprocess."""
    return images.ensure_next(Kubectl(kubeconfig, "default"), images_tag)


@pytest.fixture(scope="module")
def new_release(kubeconfig: Path, images_tag: str) -> Iterator[Callable[[str, str], Release]]:
    """Factory of releases by name and mode, each in a new namespace that is deleted after the module."""
    made: list[Release] = []

    def new(name: str, mode: str) -> Release:
        kinds = {"Deployment": "deployments.apps", "Knative": "services.serving.knative.dev"}
        kind = kinds.get(mode, "inferenceservices.serving.kserve.io")
        kubectl = Kubectl(kubeconfig, "default")
        if kubectl.run("get", kind, check=False).returncode:
            pytest.skip(f"mode {mode} needs {kind}, which the cluster does not have")
        made.append(Release(_new_namespace(kubeconfig, name), images_tag, mode))
        return made[-1]

    yield new
    for release in made:
        release.kubectl("delete", "namespace", release.kubectl.namespace, "--wait=false")


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, kubeconfig: Path, definition: Path, tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl in a new namespace for the test."""
    # KServe's longest host label is postprocess-canary-predictor-NAMESPACE, of at most 63 characters.
    kubectl = _new_namespace(kubeconfig, request.node.name.removeprefix("test_")[:23])
    yield kubectl
    report = request.node.stash.get(REPORT, None)
    if report is not None and report.failed:
        report.sections.append(("evidence", _evidence(kubectl, tmp_path)))
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture
def account(kubectl: Kubectl, tmp_path: Path) -> Path:
    """A kubeconfig of the controller's service account with its limited rights."""
    kubectl("apply", f"--filename={HERE / 'rbac.yaml'}")
    return kubeconfig_of(kubectl, "controller", tmp_path)


def kubeconfig_of(kubectl: Kubectl, account: str, folder: Path) -> Path:
    """A kubeconfig of a service account of the namespace."""
    config = YAML(typ="safe").load(kubectl.kubeconfig.read_text())
    config["users"] = [{"name": account, "user": {"token": kubectl("create", "token", account).strip()}}]
    cluster = config["clusters"][0]["name"]
    config["contexts"] = [{"name": "test", "context": {"cluster": cluster, "user": account}}]
    config["current-context"] = "test"
    path = folder / "kubeconfig"
    with path.open("w") as file:
        YAML().dump(config, file)
    return path


@pytest.fixture
def relay(account: Path) -> Iterator[Relay]:
    """A relay between the controller and the API server, used by the account's kubeconfig."""
    config = YAML(typ="safe").load(account.read_text())
    cluster = config["clusters"][0]["cluster"]
    server = urlsplit(cluster["server"])
    assert server.hostname is not None
    relay = Relay(server.hostname, server.port or 443)
    cluster |= {"server": f"https://127.0.0.1:{relay.port}", "tls-server-name": server.hostname}
    with account.open("w") as file:
        YAML().dump(config, file)
    yield relay
    relay.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "fail").mkdir()
    return folder


@pytest.fixture
def publish(models: Path) -> Callable[..., Path]:
    return partial(model_folders.publish, models)


@pytest.fixture
def replica(kubectl: Kubectl, account: Path, models: Path, tmp_path: Path) -> Iterator[StartReplica]:
    """Start replicas of the controller by name, with their logs in `<name>.log`, and models of another folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str = "controller-0", release: str = "", folder: Path | None = None) -> subprocess.Popen[bytes]:
        arguments = (str(folder or models), kubectl.namespace, name, str(account), release)
        command = [sys.executable, "-m", "tests.e2e.replica", *arguments]
        with (tmp_path / f"{name}.log").open("ab") as log:
            started.append(subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(20)


def _evidence(kubectl: Kubectl, folder: Path) -> str:
    """Save the objects of the namespace and the logs of the replicas, and return them as text."""
    looks = {
        "objects.yaml": ("get", "servedmodels,leases,events", "--output=yaml"),
        "describe.txt": ("describe", "servedmodels"),
        "events.txt": ("get", "events", "--sort-by=.metadata.creationTimestamp"),
    }
    for name, arguments in looks.items():
        done = kubectl.run(*arguments, check=False)
        (folder / name).write_text(done.stdout + done.stderr)
    kept = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".txt", ".log"))
    return "\n".join(f"--- {path}\n{path.read_text()[-4000:]}" for path in kept)


def _evidence_of(release: Release) -> str:
    """Save the objects, events and pod logs of a release, and return an excerpt."""
    folder = Path(tempfile.mkdtemp(prefix=f"{release.kubectl.namespace}-"))
    looks = {
        "objects.yaml": ("get", "all,inferenceservices,servedmodels,leases,horizontalpodautoscalers", "--output=yaml"),
        "pods.txt": ("get", "pods", "--output=wide"),
        "describe.txt": ("describe", "pods"),
        "events.txt": ("get", "events", "--sort-by=.metadata.creationTimestamp"),
    }
    for name, arguments in looks.items():
        done = release.kubectl.run(*arguments, check=False)
        (folder / name).write_text(done.stdout + done.stderr)
    for pod in release.kubectl("get", "pods", "--output=name").split():
        done = release.kubectl.run("logs", pod, "--all-containers", "--tail=300", check=False)
        (folder / f"{pod.removeprefix('pod/')}.log").write_text(done.stdout + done.stderr)
    shown = "\n".join((folder / name).read_text()[-6000:] for name in ("pods.txt", "events.txt"))
    return f"kept in {folder}\n{shown}"
