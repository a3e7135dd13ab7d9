"""The programs helm and kubectl: their paths, and what they render without a cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from local.environments import ROOT
from local.programs.found import find_program
from local.programs.go_programs import GO_PROGRAMS

CHART = ROOT / "helm" / "triptych"

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
    """The path of a program: from PATH, the development cluster or the cache; None if it is missing.

    `helm` is of any version, `helm3` and `helm4` of that one.
    """
    found = GO_PROGRAMS[program].find() if program in GO_PROGRAMS else find_program(program)
    return str(found) if found else None


def run(*arguments: str, program: str = "helm") -> str:
    """Run a program that needs no cluster. Returns its standard output. Raises `ProgramFailed`."""
    path = find(program)
    if path is None:
        hint = f", or have Go build it: python3 -m local.programs {program}" if program in GO_PROGRAMS else ""
        raise ProgramFailed(f"{program} is missing: install it and put it on PATH{hint}")
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run([path, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ProgramFailed(done.stderr.strip())
    return done.stdout


def template(
    *options: str,
    release: str = "triptych",
    namespace: str = "triptych",
    apis: Sequence[str] = APIS,
    helm: str = "helm",
) -> str:
    """Render the chart without a cluster, as for one with these APIs, by any Helm, `helm3` or `helm4`."""
    known = [option for api in apis for option in ("--api-versions", api)]
    where = ("--namespace", namespace, "--kube-version", KUBERNETES)
    return run("template", release, str(CHART), *where, *known, *options, program=helm)


def kustomize(folder: Path) -> str:
    """Build a kustomization. Raises `ProgramFailed`."""
    return run("kustomize", str(folder), program="kubectl")
