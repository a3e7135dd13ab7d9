"""The objects of a render, and queries on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML

Object = dict[str, Any]
Render = Callable[..., "Objects"]


def with_process(mode: str, stages: Iterable[str]) -> list[str]:
    """Stages with a container in a mode. In Grouped, preprocess does the work of postprocess."""
    return [stage for stage in stages if (mode, stage) != ("Grouped", "postprocess")]


def backend(name: str, weight: int = 1) -> Object:
    """A backend of a GRPCRoute, with the defaults that the API server would add."""
    return {"group": "", "kind": "Service", "name": name, "port": 9000, "weight": weight}


class Objects:
    """Objects of one render."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def all(self) -> list[Object]:
        """All objects, parsed on first use, since that takes ten times as long as rendering."""
        return [each for each in YAML(typ="safe", pure=True).load_all(self.text) if each]

    def of(self, kind: str) -> dict[str, Object]:
        """Objects of a kind by name."""
        return {each["metadata"]["name"]: each for each in self.all if each["kind"] == kind}

    def one(self, kind: str, name: str) -> Object:
        found = self.of(kind)
        assert name in found, f"no {kind} {name}, but {sorted(found)}"
        return found[name]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every pod spec with the name of its owner."""
        for each in self.all:
            name = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] in ("Deployment", "Job"):
                yield name, each["spec"]["template"]["spec"]
            elif each["kind"] == "InferenceService":
                yield name, each["spec"]["predictor"]
            elif each["kind"] == "CronJob":
                yield name, each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            elif each["kind"] == "Pod":
                yield name, each["spec"]

    def containers(self) -> Iterator[tuple[str, Object]]:
        """Every container with its path."""
        for name, pod in self.pods():
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                yield f"{name}/{container['name']}", container

    def container(self, stage: str) -> Object:
        """The container that runs a stage."""
        port = {"preprocess": 9000, "postprocess": 9001, "controller": 9002, "predictor": 8001}[stage]
        found = [
            each for _, each in self.containers() if any(p["containerPort"] == port for p in each.get("ports", ()))
        ]
        assert len(found) == 1
        return found[0]

    def environment(self, stage: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.container(stage)["env"] if "value" in each}
