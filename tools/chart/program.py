"""The programs helm and kubectl: their paths, and what they render without a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "triptych"
CLUSTER = ROOT / "tools" / "cluster.sh"

# The oldest Kubernetes of the chart, for which it is rendered without a cluster.
KUBERNETES = "1.30"
APIS = (
    "serving.kserve.io/v1beta1",
    "serving.knative.dev/v1",
    "gateway.networking.k8s.io/v1",
    "gateway.envoyproxy.io/v1alpha1",
    "monitoring.coreos.com/v1",
    "keda.sh/v1alpha1",
    "cert-manager.io/v1",
)


class ProgramFailed(Exception):
    """A program failed or is missing; the text is its standard error."""


@cache
def find(program: str = "helm") -> str | None:
    """The path of a program: from PATH, else from the development cluster; None if it is missing."""
    if found := shutil.which(program):
        return found
    if subprocess.run([CLUSTER, "exists"]).returncode:
        return None
    lines = subprocess.run([CLUSTER, "env"], capture_output=True, text=True).stdout
    printed = subprocess.run(["bash", "-c", f'{lines}\nprintf %s "$PATH"'], capture_output=True, text=True, check=True)
    return shutil.which(program, path=printed.stdout)


def run(*arguments: str, program: str = "helm") -> str:
    """Run a program that needs no cluster. Returns its standard output. Raises `ProgramFailed`."""
    path = find(program)
    if path is None:
        raise ProgramFailed(f"{program} is missing: install it and put it on PATH")
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run([path, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ProgramFailed(done.stderr.strip())
    return done.stdout


def template(*options: str, release: str = "triptych", namespace: str = "triptych", apis: Sequence[str] = APIS) -> str:
    """Render the chart without a cluster, as for one with these APIs."""
    known = [option for api in apis for option in ("--api-versions", api)]
    where = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return run("template", release, str(CHART), *where, *known, *options)


def kustomize(folder: Path) -> str:
    """Build a kustomization. Raises `ProgramFailed`."""
    return run("kustomize", str(folder), program="kubectl")
