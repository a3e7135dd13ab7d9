"""The program helm: its path, and the chart rendered by it."""

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


class HelmFailed(Exception):
    """An error of helm; the text is its standard error."""


@cache
def find() -> str | None:
    """The path of helm: from PATH, else from the development cluster; None if there is none."""
    if found := shutil.which("helm"):
        return found
    if subprocess.run([CLUSTER, "exists"]).returncode:
        return None
    lines = subprocess.run([CLUSTER, "env"], capture_output=True, text=True).stdout
    printed = subprocess.run(["bash", "-c", f'{lines}\nprintf %s "$PATH"'], capture_output=True, text=True, check=True)
    return shutil.which("helm", path=printed.stdout)


def run(*arguments: str) -> str:
    """Run helm. Returns its standard output. Raises `HelmFailed`."""
    program = find()
    if program is None:
        raise HelmFailed("helm is missing: install it from helm.sh and put it on PATH")
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise HelmFailed(done.stderr.strip())
    return done.stdout


def template(*options: str, release: str = "triptych", namespace: str = "triptych", apis: Sequence[str] = APIS) -> str:
    """Render the chart without a cluster, as for one with these APIs."""
    known = [option for api in apis for option in ("--api-versions", api)]
    where = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return run("template", release, str(CHART), *where, *known, *options)
