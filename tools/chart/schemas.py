"""Validation of the committed manifests by kubeconform: `python -m tools.chart.schemas` (make schemas).

The schemas are those of the cluster of KUBECONFIG, including KServe, Knative and the Gateway API, and those of the
chart's own CRDs. An unknown field is an error.
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

from tools.chart.program import CHART, ProgramFailed, find, kustomize
from tools.chart.render import MANIFESTS, OVERLAYS

Json = dict[str, Any]

KEPT_KEYWORDS = (
    "type",
    "enum",
    "required",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
)
PREFIX = "#/definitions/"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OBJECT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"$ref": PREFIX + META}}
LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


class NotChecked(Exception):
    """The validation could not run; the text says which program or cluster is missing."""


def file_name(kind: str, api_version: str) -> str:
    """The name of a schema's file, as kubeconform expands `LOCATION`."""
    group, _, version = api_version.rpartition("/")
    words = [kind, group.partition(".")[0], version]
    return "-".join(word.lower() for word in words if word) + ".json"


def kinds(openapi: Json) -> dict[str, str]:
    """Definitions of an OpenAPI v2 document by the name of the schema's file."""
    made = {}
    for name, definition in openapi["definitions"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            version = "/".join(part for part in (kind["group"], kind["version"]) if part)
            made[file_name(kind["kind"], version)] = name
    return made


def schema(openapi: Json, definition: str) -> Json:
    """The JSON Schema of a definition, closed against unknown fields."""
    return _closed(openapi["definitions"][definition], openapi["definitions"], (definition,))


def _closed(node: Json, definitions: dict[str, Json], inside: tuple[str, ...]) -> Json:
    """Resolve references, and close each object that names its properties."""
    if "$ref" in node:
        name = node["$ref"].removeprefix(PREFIX)
        if name == QUANTITY:
            return {"type": ["string", "number"]}
        return {} if name in inside else _closed(definitions[name], definitions, (*inside, name))
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    made: Json = {key: node[key] for key in KEPT_KEYWORDS if key in node}
    if "properties" in node:
        made["properties"] = {name: _closed(each, definitions, inside) for name, each in node["properties"].items()}
        made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            made[key] = _closed(node[key], definitions, inside)
    return made


def manifests(folder: Path = MANIFESTS) -> Iterator[Path]:
    """The files of objects, without kustomizations and patches."""
    for file in sorted(folder.rglob("*.yaml")):
        if file.name != "kustomization.yaml" and all("kind" in each for each in _documents(file)):
            yield file


def built(into: Path) -> list[Path]:
    """Build the kustomizations that patch a render, each into a file of `into`. Raises `ProgramFailed`."""
    files = [into / f"{folder}.yaml" for folder in OVERLAYS]
    for file in files:
        file.write_text(kustomize(MANIFESTS / file.stem), "utf-8")
    return files


def check(files: Iterable[Path], openapi: Json) -> str:
    """Validate files. Returns kubeconform's output, or an empty text without faults. Raises `NotChecked`."""
    program = find("kubeconform")
    if program is None:
        raise NotChecked("kubeconform is missing: install it, or have Go build it: make schemas")
    files, known = list(files), kinds(openapi)
    with tempfile.TemporaryDirectory() as folder:
        for name in {file_name(each["kind"], each["apiVersion"]) for file in files for each in _documents(file)}:
            if name in known:
                (Path(folder) / name).write_text(json.dumps(schema(openapi, known[name])))
        command = [program, "-strict", "-schema-location", f"{folder}/{LOCATION}", *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode else ""


def cluster_openapi() -> Json:
    """The OpenAPI document of the cluster. Raises `NotChecked`."""
    if shutil.which("kubectl") is None:
        raise NotChecked("kubectl is not on the PATH")
    done = subprocess.run(["kubectl", "get", "--raw", "/openapi/v2"], capture_output=True, text=True)
    if done.returncode:
        raise NotChecked(f"no cluster answers with its schemas: {done.stderr.strip().splitlines()[-1]}")
    found: Json = json.loads(done.stdout)
    return found


def with_chart_crds(openapi: Json, crds: Path = CHART / "crds") -> Json:
    """Add the kinds of the chart's CRDs, which a cluster knows only after an install."""
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
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = [*manifests(), *built(Path(folder))]
            wrong = check(files, with_chart_crds(cluster_openapi()))
        except (NotChecked, ProgramFailed) as error:
            sys.stderr.write(f"NOT CHECKED: {error}\n")
            return 2
    sys.stdout.write(wrong or f"{len(files)} files are valid by the schemas of the cluster\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
