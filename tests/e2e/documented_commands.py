"""The commands of the guides, unchanged, in the namespace of a test."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from local.environments import ROOT
from tests.e2e.release import GATEWAY, Release
from tools.chart import program

PAGE = ROOT / "docs/guides/canary.md"
BLOCK = re.compile(r"^```sh (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path = PAGE) -> dict[str, str]:
    """Commands of a page by the label of their code block."""
    return dict(BLOCK.findall(page.read_text("utf-8")))


def run_block(release: Release, page: Path, label: str, **variables: str) -> str:
    """Run the commands of a page in the namespace of a release, with these variables, and return their output."""
    command = re.sub(r"(-n|--namespace) triptych\b", rf"\1 {release.kubectl.namespace}", blocks(page)[label])
    environment = os.environ | {"KUBECONFIG": str(release.kubectl.kubeconfig)} | variables
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=60)
    assert not done.returncode, f"{label}:\n{command}\n{done.stdout}{done.stderr}"
    return done.stdout


class DocumentedCommands:
    """A folder laid out like the checkout, in which the commands of docs/guides/canary.md act on one release."""

    def __init__(self, release: Release, next_tag: str, folder: Path) -> None:
        self._release, self._next_tag, self._folder = release, next_tag, folder
        self._blocks = blocks()
        (folder / "helm").symlink_to(ROOT / "helm")
        self._copy_manifests()
        kubeconfig = folder / "kubeconfig"
        self._write_kubeconfig(kubeconfig)
        path = f"{Path(str(program.find())).parent}:{os.environ['PATH']}"
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig), "PATH": path}

    def set(self, values: Mapping[str, Any], name: str = "mine.yaml") -> None:
        """Write the values file that `VALUES`, or a file name in the page, refers to."""
        (self._folder / name).write_text(json.dumps(values))

    def run(self, label: str) -> str:
        """Run the commands with the images of the cluster, and return their output."""
        text = self._blocks[label].replace("VALUES", "-f mine.yaml")
        command = re.sub(r"(triptych/[^\s:']+):2\b", rf"\1:{self._next_tag}", text)
        shell = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            shell, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=400
        )
        assert not done.returncode, f"{label}:\n{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _copy_manifests(self) -> None:
        """Copy the manifests with the namespace, images and Gateway of the cluster, as a kustomization would."""
        for file in (ROOT / "manifests").rglob("*.yaml"):
            copy = self._folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(self._own(file.read_text("utf-8")))

    def _own(self, text: str) -> str:
        release, parent = self._release, f'"name":"{GATEWAY["name"]}","namespace":"{GATEWAY["namespace"]}"'
        text = re.sub(r"(kind: Namespace\nmetadata:\n  name: )triptych", rf"\1{release.kubectl.namespace}", text)
        text = re.sub(r'namespace: ("?)triptych\b', rf"namespace: \1{release.kubectl.namespace}", text)
        text = re.sub(r'(NAMESPACE, value: )"triptych"', rf'\1"{release.kubectl.namespace}"', text)
        text = re.sub(r"(triptych/[a-z-]+):0\.1\.0\b", rf"\1:{release.tag}", text)
        text = re.sub(r"(triptych/[a-z-]+):2\b", rf"\1:{self._next_tag}", text)
        text = text.replace("triptych.example.com", release.host)
        text = text.replace('"name":"public","namespace":"gateways"', parent)
        assert '"public"' not in text, "the manifests name their Gateway in another way"
        return text

    def _write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig whose current context has the namespace of the test."""
        config = YAML(typ="safe").load(self._release.kubectl.kubeconfig.read_text())
        current = next(each for each in config["contexts"] if each["name"] == config["current-context"])
        current["context"]["namespace"] = self._release.kubectl.namespace
        with path.open("w") as file:
            YAML().dump(config, file)
