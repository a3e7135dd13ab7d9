"""Images of this checkout in the cluster's node, tagged by a digest of their sources."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from local.environments import ROOT, locked
from local.programs.found import CLUSTER
from tests.e2e.kubectl import Kubectl
from tools.chart.program import CHART

NAMES = ("preprocess", "postprocess", "controller", "jobs", "triton-cpu", "models", "backend")
STAGES = ("preprocess", "postprocess")


def ensure(kubectl: Kubectl) -> str:
    """The tag to install. Missing images are built into the node of a development cluster.

    Other clusters must have them already, under TRIPTYCH_TAG or the version of the chart.
    """
    if tag := os.environ.get("TRIPTYCH_TAG"):
        return tag
    if not is_development_cluster():
        return _version()
    tag = f"e2e-{_digest()}"
    with locked("e2e-images"):
        names = [name for name in NAMES if name != "jobs" or has_keda(kubectl)]
        if not _names(names, tag) <= _in_the_node(kubectl):
            variables = {"TAG": tag, "BUILD": f"{CLUSTER} build", "IMAGES": " ".join(names)}
            _run([str(ROOT / "tools/images.sh")], os.environ | variables)
    return tag


def has_keda(kubectl: Kubectl) -> bool:
    """Whether the cluster has KEDA, without which jobs are not tested."""
    return not kubectl.run("get", "crd", "scaledobjects.keda.sh", check=False).returncode


def ensure_next(kubectl: Kubectl, tag: str) -> str:
    """A second tag of preprocess and postprocess, for updates; on another cluster TRIPTYCH_NEXT_TAG."""
    if given := os.environ.get("TRIPTYCH_NEXT_TAG"):
        return given
    if not is_development_cluster() or os.environ.get("TRIPTYCH_TAG"):
        pytest.skip("needs preprocess and postprocess under a second tag: TRIPTYCH_NEXT_TAG")
    following = f"{tag}-next"
    with locked("e2e-images"):
        if not _names(STAGES, following) <= _in_the_node(kubectl):
            for name in STAGES:
                file = f"services/{name}/Dockerfile"
                _run([str(CLUSTER), "build", "-t", f"triptych/{name}:{following}", "-f", file, "."], os.environ)
    return following


def is_development_cluster() -> bool:
    """Whether TRIPTYCH_CLUSTER, or its default, is a command that builds images into a node."""
    return subprocess.run([str(CLUSTER), "exists"], capture_output=True).returncode == 0


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not done.returncode, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


def _names(images: Iterable[str], tag: str) -> set[str]:
    return {f"docker.io/triptych/{name}:{tag}" for name in images}


def _version() -> str:
    lines = (CHART / "Chart.yaml").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("version:"))


def _in_the_node(kubectl: Kubectl) -> set[str]:
    """Image names that the kubelet has reported."""
    nodes = kubectl.get("nodes")["items"]
    return {name for node in nodes for image in node["status"].get("images", ()) for name in image["names"] or ()}


def _digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(sources()):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:10]


def sources() -> Iterator[Path]:
    """Files of the build context, which .dockerignore lists, and the one Dockerfile that is not in it."""
    yield ROOT / "examples/models/Dockerfile"
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    for top in (ROOT / line[1:] for line in lines if line.startswith("!")):
        for path in top.rglob("*") if top.is_dir() else [top]:
            left_out = {"__pycache__", "build"} & set(path.parts) or ".egg-info" in str(path)
            if path.is_file() and not left_out and path.name != "README.md":
                yield path


if __name__ == "__main__":
    path = os.environ.get("KUBECONFIG", "")
    if path and is_development_cluster():
        cluster = Kubectl(Path(path), "default")
        ensure_next(cluster, ensure(cluster))
