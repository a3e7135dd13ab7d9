"""Render the chart into manifests/, for installations by `kubectl apply -k`.

python -m tools.chart.render          writes the files
python -m tools.chart.render --check  exits with 1 and prints the difference if a file would change

A folder is either a whole render, or a kustomization over `standard` where patches can express the difference.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from local.environments import ROOT
from tools.chart.overlay import Overlay, kustomization, overlay
from tools.chart.program import APIS, CHART, ProgramFailed, template

MANIFESTS = ROOT / "manifests"
NAMESPACE = "triptych"

# Options of `helm install` by folder. A whole render:
RENDERS: dict[str, tuple[str, ...]] = {
    "standard": (),
    "grouped": ("--set", "mode=Grouped"),
    "deployment": ("--set", "mode=Deployment"),
}
# A kustomization over `standard`:
OVERLAYS: dict[str, tuple[str, ...]] = {
    "knative": (
        *("--set", "mode=Knative"),
        *("--set", "preprocess.replicas=0,preprocess.autoscaling.maxReplicas=4"),
        *("--set", "postprocess.replicas=0,postprocess.autoscaling.maxReplicas=4"),
    ),
    "gpu": ("--values", str(CHART / "values-gpu.yaml")),
    "lane": (
        *("--set", "gateway.enabled=true,gateway.parents[0].name=public,gateway.parents[0].namespace=gateways"),
        *("--set", "gateway.hostnames[0]=triptych.example.com"),
        *("--set", "canary.enabled=true,canary.preprocess.image=triptych/preprocess:2"),
        *("--set", "canary.postprocess.image=triptych/postprocess:2"),
    ),
}

# `kubectl apply` fails on a kind that the cluster lacks, so that nothing is made for one Gateway alone.
PORTABLE = tuple(api for api in APIS if not api.startswith("gateway.envoyproxy.io/"))

# A rendered key would be public. README.md describes how to set one.
WITHOUT_KEY = ("--set", "predictor.modelControl.restricted=false")

GENERATED = "# Generated: make manifests. Do not edit; change it by a kustomization over this folder.\n"
NAMESPACE_OBJECT = """\
apiVersion: v1
kind: Namespace
metadata:
  name: triptych
"""

# Labels that name helm as the owner of an object.
HELM_LABELS = re.compile(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)


def rendered() -> dict[Path, str]:
    """Every generated file with its text. Raises `ProgramFailed`."""
    definitions = sorted((CHART / "crds").glob("*.yaml"))
    files = {MANIFESTS / "crds" / file.name: file.read_text("utf-8") for file in definitions}
    files |= _files("crds", Overlay(), [file.name for file in definitions])
    for folder, options in RENDERS.items():
        files[MANIFESTS / folder / "triptych.yaml"] = GENERATED + NAMESPACE_OBJECT + objects(options)
        files |= _files(folder, Overlay(), ["../crds", "triptych.yaml"])
    standard = objects(RENDERS["standard"])
    for folder, options in OVERLAYS.items():
        difference = overlay(standard, objects(options))
        files |= _files(folder, difference, ["../standard", *(["added.yaml"] if difference.added else [])])
        if difference.added:
            files[MANIFESTS / folder / "added.yaml"] = GENERATED + "---\n".join(difference.added)
    return files


def objects(options: Sequence[str]) -> str:
    """The objects of the chart without those of `helm test`. Raises `ProgramFailed`."""
    return HELM_LABELS.sub("", template(*options, *WITHOUT_KEY, "--skip-tests", namespace=NAMESPACE, apis=PORTABLE))


def _files(folder: str, difference: Overlay, resources: list[str]) -> dict[Path, str]:
    return {MANIFESTS / folder / "kustomization.yaml": GENERATED + kustomization(difference, resources)}


def differences() -> list[str]:
    """The committed files that differ from the rendered ones, as lines of a diff. Raises `ProgramFailed`."""
    lines: list[str] = []
    for file, text in rendered().items():
        old = file.read_text("utf-8") if file.is_file() else ""
        name = str(file.relative_to(ROOT))
        lines += difflib.unified_diff(old.splitlines(), text.splitlines(), name, f"{name}, rendered now", lineterm="")
    return lines


def main() -> int:
    try:
        if "--check" in sys.argv[1:]:
            lines = differences()
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            return bool(lines)
        for file, text in rendered().items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    except ProgramFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
