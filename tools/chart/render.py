"""The renders of the chart in manifests/, for `kubectl apply -k`.

python -m tools.chart.render          write them again
python -m tools.chart.render --check  print the difference to the files, and end with 1 if there is one
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path

from tools.chart.program import CHART, ROOT, HelmFailed, template

MANIFESTS = ROOT / "manifests"
NAMESPACE = "triptych"

# Options of `helm template` by folder.
RENDERS: dict[str, tuple[str, ...]] = {
    "standard": (),
    "knative": (
        *("--set", "mode=Knative"),
        *("--set", "preprocess.replicas=0,preprocess.autoscaling.maxReplicas=4"),
        *("--set", "postprocess.replicas=0,postprocess.autoscaling.maxReplicas=4"),
    ),
    "grouped": ("--set", "mode=Grouped"),
    "gpu": ("--values", str(CHART / "values-gpu.yaml")),
    "deployment": ("--set", "mode=Deployment"),
    "lane": (
        *("--set", "gateway.enabled=true,gateway.parents[0].name=public,gateway.parents[0].namespace=gateways"),
        *("--set", "canary.enabled=true,canary.preprocess.image=triptych/preprocess:2"),
        *("--set", "canary.postprocess.image=triptych/postprocess:2"),
    ),
}

# A rendered key would be public. README.md says how to set one.
WITHOUT_KEY = ("--set", "predictor.modelControl.restricted=false")

HEAD = """\
# The chart rendered: make manifests. Do not edit; a kustomization above it may change what it likes.
apiVersion: v1
kind: Namespace
metadata:
  name: triptych
"""
KUSTOMIZATION = """\
# Generated: make manifests.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - {resource}
"""

# Labels that name helm as the owner of an object.
HELM_LABELS = re.compile(r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n", re.MULTILINE)


def rendered() -> dict[Path, str]:
    """Every generated file with its text. Raises `HelmFailed`."""
    definitions = sorted((CHART / "crds").glob("*.yaml"))
    files = {MANIFESTS / "crds" / file.name: file.read_text("utf-8") for file in definitions}
    names = "\n  - ".join(file.name for file in definitions)
    files[MANIFESTS / "crds" / "kustomization.yaml"] = KUSTOMIZATION.format(resource=names)
    for folder, options in RENDERS.items():
        text = template(*options, *WITHOUT_KEY, "--skip-tests", namespace=NAMESPACE)
        files[MANIFESTS / folder / "triptych.yaml"] = HEAD + HELM_LABELS.sub("", text)
        files[MANIFESTS / folder / "kustomization.yaml"] = KUSTOMIZATION.format(resource="../crds\n  - triptych.yaml")
    return files


def differences() -> list[str]:
    """Lines of a diff from the files to fresh renders. Raises `HelmFailed`."""
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
    except HelmFailed as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
