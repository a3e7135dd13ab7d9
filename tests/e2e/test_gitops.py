"""A render without a cluster, applied as GitOps tools apply it: afterwards nothing differs from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import GATEWAY, NAME
from tools.chart.program import find, template

# Nothing of it has to run. The Secret is not part of a render: it would have another key each time.
VALUES: dict[str, Any] = {
    "tag": "none",
    "preprocess": {"autoscaling": {"maxReplicas": 3}},
    "predictor": {"modelControl": {"secret": "model-key"}},
    "backend": {"enabled": True, "jwt": {"secret": "token-key"}},
    "servedModels": [
        {"model": "digits_gb", "traffic": [{"version": 1, "percent": 100}], "aliases": {"production": 1}},
    ],
}
ROUTED = {"gateway": {"enabled": True, "parents": [GATEWAY], "hostnames": ["gitops.example.com"]}}


def created_by_kserve(kubectl: Kubectl, objects: str) -> bool:
    """Whether KServe has acted on every InferenceService."""
    if "kind: InferenceService" not in objects:
        return True
    found = kubectl.get("inferenceservices")["items"]
    return bool(found) and all("conditions" in each.get("status", {}) for each in found)


def changed(written: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Fields of a manifest that the API server stores in another form."""
    if isinstance(written, dict) and isinstance(stored, dict):
        for key, value in written.items():
            yield from changed(value, stored.get(key), f"{path}.{key}")
    elif isinstance(written, list) and isinstance(stored, list) and len(written) == len(stored):
        for number, (one, other) in enumerate(zip(written, stored, strict=True)):
            yield from changed(one, other, f"{path}[{number}]")
    elif written != stored:
        yield f"{path}: {written!r} became {stored!r}"


@pytest.mark.slow
@pytest.mark.skipif(find() is None, reason="helm is not here")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("mode", ["Deployment", "Standard", "Grouped", "Knative"])
def test_renders_stay(kubectl: Kubectl, tmp_path: Path, mode: str, side: str) -> None:
    values = tmp_path / "values.json"
    values.write_text(json.dumps(VALUES | {"mode": mode} | ({} if mode == "Knative" else ROUTED)))
    render = tmp_path / "render.yaml"
    options = ("--values", str(values), "--skip-tests")
    render.write_text(template(*options, release=NAME, namespace=kubectl.namespace))
    given = (f"--server-side={'true' if side == 'server' else 'false'}", f"--filename={render}")
    kubectl("apply", *given)
    wait_for(lambda: created_by_kserve(kubectl, render.read_text()), "KServe has acted", 60)
    done = kubectl.run("diff", *given, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "created" not in kubectl("apply", *given)
    live = json.loads(kubectl("get", f"--filename={render}", "--output=json"))["items"]
    made = [each for each in YAML(typ="safe").load_all(render.read_text()) if each]
    found = [line for written, stored in zip(made, live, strict=True) for line in changed(written, stored)]
    assert not found, "Argo CD compares custom resources as text"
