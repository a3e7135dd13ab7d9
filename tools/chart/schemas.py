"""Committed manifests against the schemas of a cluster, by kubeconform: `python -m tools.chart.schemas` (make schemas).

The schemas are those that the cluster of KUBECONFIG serves, KServe's, Knative's and the Gateway API's among them, and
those of the chart's own CRDs; a field that they do not know is an error.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tools.chart.program import CHART
from tools.chart.render import MANIFESTS

Json = dict[str, Any]

KEPT = ("type", "enum", "required", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
PREFIX = "#/definitions/"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OBJECT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"$ref": PREFIX + META}}
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


class NotChecked(Exception):
    """The text says what is missing."""


def file_name(kind: str, api_version: str) -> str:
    """What kubeconform makes of `LOCATION`."""
    group, _, version = api_version.rpartition("/")
    words = [kind, group.partition(".")[0], version]
    return "-".join(word.lower() for word in words if word) + ".json"


def kinds(openapi: Json) -> dict[str, str]:
    """The definition of each kind of an OpenAPI v2 document, by the name of its schema's file."""
    made = {}
    for name, definition in openapi["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            version = "/".join(part for part in (kind["group"], kind["version"]) if part)
            made[file_name(kind["kind"], version)] = name
    return made


def schema(openapi: Json, definition: str) -> Json:
    """The JSON Schema of a definition, which takes no field that it does not know."""
    return _closed(openapi["definitions"][definition], openapi["definitions"], (definition,))


def _closed(node: Json, definitions: dict[str, Json], inside: tuple[str, ...]) -> Json:
    """Without references; objects that name their properties have no others."""
    if "$ref" in node:
        name = node["$ref"].removeprefix(PREFIX)
        if name == QUANTITY:
            return {"type": ["string", "number"]}
        return {} if name in inside else _closed(definitions[name], definitions, (*inside, name))
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    made: Json = {key: node[key] for key in KEPT if key in node}
    if "properties" in node:
        made["properties"] = {name: _closed(each, definitions, inside) for name, each in node["properties"].items()}
        made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            made[key] = _closed(node[key], definitions, inside)
    return made


def manifests(folder: Path = MANIFESTS) -> Iterator[Path]:
    """The files of objects: no kustomizations, and no patches."""
    for file in sorted(folder.rglob("*.yaml")):
        if file.name != "kustomization.yaml" and all("kind" in each for each in _documents(file)):
            yield file


def check(files: Iterable[Path], openapi: Json) -> str:
    """What kubeconform says of them; empty when nothing is wrong. Raises `NotChecked`."""
    program = shutil.which("kubeconform")
    if program is None:
        raise NotChecked("kubeconform is not on the PATH")
    files, known = list(files), kinds(openapi)
    with tempfile.TemporaryDirectory() as folder:
        for name in {file_name(each["kind"], each["apiVersion"]) for file in files for each in _documents(file)}:
            if name in known:
                (Path(folder) / name).write_text(json.dumps(schema(openapi, known[name])))
        command = [program, "-strict", "-schema-location", f"{folder}/{LOCATION}", *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    return said if done.returncode else ""


def of_cluster() -> Json:
    """What the cluster serves. Raises `NotChecked`."""
    if shutil.which("kubectl") is None:
        raise NotChecked("kubectl is not on the PATH")
    done = subprocess.run(["kubectl", "get", "--raw", "/openapi/v2"], capture_output=True, text=True)
    if done.returncode:
        raise NotChecked(f"no cluster tells its schemas: {done.stderr.strip().splitlines()[-1]}")
    found: Json = json.loads(done.stdout)
    return found


def with_own(openapi: Json, crds: Path = CHART / "crds") -> Json:
    """The same with the kinds that the chart brings, which a cluster knows only once the chart was installed."""
    definitions = dict(openapi["definitions"])
    for crd in (each["spec"] for file in sorted(crds.glob("*.yaml")) for each in _documents(file)):
        group, kind = crd["group"], crd["names"]["kind"]
        for version in crd["versions"]:
            name = ".".join([*reversed(group.split(".")), version["name"], kind])
            node = version["schema"]["openAPIV3Schema"]
            definitions[name] = node | {
                "properties": OBJECT | node["properties"],
                "x-kubernetes-group-version-kind": [{"group": group, "version": version["name"], "kind": kind}],
            }
    return openapi | {"definitions": definitions}


def _documents(file: Path) -> list[Json]:
    return [each for each in YAML(typ="safe", pure=True).load_all(file.read_text("utf-8")) if each]


def main() -> int:
    files = list(manifests())
    try:
        wrong = check(files, with_own(of_cluster()))
    except NotChecked as error:
        sys.stderr.write(f"NOT CHECKED: {error}\n")
        return 2
    sys.stdout.write(wrong or f"{len(files)} files are as the schemas of the cluster want them\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
