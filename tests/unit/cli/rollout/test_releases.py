"""Rollouts beside another release in one namespace: each reads and writes its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from controller.kubernetes.blocking import BlockingApi
from triptych_cli.rollout.metrics.pods import model_metrics
from triptych_cli.rollout.metrics.sources import PrometheusSource, release_matchers
from triptych_cli.rollout.targets.served_model_object import ServedModelObject
from triptych_cli.rollout.targets.target import TargetError

Json = dict[str, Any]
PAGE = 'triptych_version_requests_total{stage="preprocess",model="m",version="1",code="OK"} 3\n'


class Namespace:
    """An API server with these ServedModels, and pods by release."""

    def __init__(self, objects: Sequence[Json] = (), pods: Sequence[str] = ()) -> None:
        self._objects, self._pods = objects, pods

    def api(self) -> BlockingApi:
        return cast(BlockingApi, self)

    def list(self, kind: object) -> Sequence[Json]:
        return self._objects

    def get(self, kind: object, name: str) -> Json:
        return next(each for each in self._objects if each["metadata"]["name"] == name)

    def pods(self, namespace: str, selector: str) -> Sequence[Json]:
        wanted = selector.rpartition("triptych.dev/release=")[2] if "!triptych.dev/release" not in selector else ""
        names = [name for name in self._pods if name.partition("preprocess")[0].rstrip("-") == wanted]
        return [{"metadata": {"name": name}, "spec": {"containers": []}} for name in names]

    def page(self, namespace: str, pod: str, port: int, path: str) -> str:
        return PAGE


def served(name: str, model: str, release: str = "") -> Json:
    spec: Json = {"model": model, "traffic": [{"version": 1, "percent": 100}]}
    return {"metadata": {"name": name, "generation": 1}, "spec": spec | ({"release": release} if release else {})}


def test_an_object_is_found_by_its_name_also_if_another_one_serves_a_model_of_that_name() -> None:
    api = Namespace([served("m", "m"), served("blue-m", "m", "blue")]).api()
    assert ServedModelObject(api, "here", "m").release == ""
    assert ServedModelObject(api, "here", "blue-m").release == "blue"


def test_a_model_that_two_releases_serve_is_rolled_out_by_the_name_of_an_object() -> None:
    api = Namespace([served("m-de", "m_de"), served("blue-m-de", "m_de", "blue")]).api()
    with pytest.raises(TargetError, match="several ServedModels serve 'm_de'.*: name one of m-de, blue-m-de"):
        ServedModelObject(api, "here", "m_de")


@pytest.mark.parametrize(("release", "pod"), [("", "preprocess-1:9100"), ("blue", "blue-preprocess-1:9100")])
def test_the_figures_are_those_of_the_pods_of_the_release(release: str, pod: str) -> None:
    api = Namespace(pods=["preprocess-1", "blue-preprocess-1"]).api()
    assert model_metrics(api, "here", release, "m").read().origins == {pod}


@pytest.mark.parametrize(("release", "prefix"), [("", ""), ("blue", "blue-")])
def test_prometheus_is_asked_for_the_pods_of_the_release(release: str, prefix: str) -> None:
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.extend(parse_qs(urlsplit(url).query)["query"])
        return json.dumps({"status": "success", "data": {"result": []}})

    PrometheusSource("m", "http://p", fetch, release_matchers("here", release)).read()
    matchers = f',namespace="here",pod=~"{prefix}(preprocess|postprocess|grouped)-.*"}}'
    assert len(asked) == 2
    assert all(query.endswith(matchers) for query in asked)
