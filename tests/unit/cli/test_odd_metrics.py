"""One odd pod, page, line or series leaves the others."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.error import URLError

import pytest
from rich.console import Console

from controller.kubernetes.api import ApiUnavailable
from controller.kubernetes.blocking import BlockingApi
from triptych.protocol import controller_pb2 as cp
from triptych_cli.rollout.metrics.counts import Window
from triptych_cli.rollout.metrics.pods import RevisionMetrics, model_metrics
from triptych_cli.rollout.metrics.sources import EndpointSource, MetricSourceError, PrometheusSource, fetch
from triptych_cli.rollout.targets.served_model_object import ServedModelObject
from triptych_cli.rollout.targets.target import TargetError
from triptych_cli.top.snapshot import take_snapshot
from triptych_cli.top.tables import render

GOOD = 'triptych_version_requests_total{model="m",version="1",code="OK",stage="preprocess"} 3.0'
SERIES = {"__name__": "triptych_version_requests_total", "model": "m", "version": "1", "code": "OK"}


def answered(source: Any) -> int:
    """Requests that version 1 answered since all counters stood at 0."""
    window = Window()
    window._origins |= source.read().origins  # every address is known: what it shows is counted
    window.add(source.read())
    counts = window.counts()
    return counts["1"].answered if "1" in counts else 0


def answered_once(source: EndpointSource) -> float:
    """Requests in one reading."""
    return sum(sample.value for sample in source.read().samples)


ODD_LINES = [
    'triptych_version_requests_total{model="m",version="1",code="OK",stage="preprocess"} many',
    'triptych_version_requests_total{model="m",version="1',
    'triptych_version_requests_total{model="m",version="2",code="OK",stage="preprocess"} NaN',
    'triptych_version_requests_total{model="m",version="2",code="OK",stage="preprocess"} +Inf',
    'triptych_version_requests_total{model="m",version="2",code="OK",stage="preprocess"} -5',
    '}{ model="m"',
]
UNSAID = [  # is left out, and is no fault of the page
    'triptych_version_requests_total{model="m",stage="preprocess"} 5',
    'triptych_version_seconds_bucket{model="m",version="1",le="soon",stage="preprocess"} 5',
    'other{model="m"} 1',
    'x{model="m"} 1 2 3 4',
]


@pytest.mark.parametrize("line", ODD_LINES + UNSAID)
def test_a_line_that_cannot_be_read_is_left_out_and_the_others_count(line: str) -> None:
    """prometheus/common#105: one invalid line ended the scrape."""
    source = EndpointSource("m", lambda: ["a"], lambda address: f"{line}\n{GOOD}\n{line}\n")
    assert answered(source) == 3
    faults = source.read().faults
    assert bool(faults) == (line in ODD_LINES)
    assert all(fault.startswith("a: 2 lines left out, the first is '") for fault in faults)


def test_a_page_that_does_not_come_leaves_the_other_pages() -> None:
    def fetch(address: str) -> str:
        if address == "gone":
            raise URLError("refused")
        if address == "odd":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return GOOD

    assert answered(EndpointSource("m", lambda: ["gone", "odd", "a"], fetch)) == 3
    with pytest.raises(MetricSourceError, match=r"no metrics endpoint answers \(gone: .*; odd: "):
        EndpointSource("m", lambda: ["gone", "odd"], fetch).read()


CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + GOOD.encode()


@pytest.mark.parametrize("answer", [CUT_OFF, b"sorry\r\n\r\n", b""])
def test_a_page_that_is_cut_off_is_no_page(answer: bytes) -> None:
    """A pod that dies while it answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        source = EndpointSource("m", lambda: [url, "a"], lambda address: GOOD if address == "a" else fetch(address))
        assert answered_once(source) == 3
        thread.join(10)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a[b"])
def test_a_model_of_any_name_is_found_in_a_page(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    page = GOOD.replace('model="m"', f'model="{escaped}"')
    assert answered(EndpointSource(name, lambda: ["a"], lambda address: page)) == 3


ODD_SERIES: list[Any] = [
    None,
    [],
    {"metric": None, "value": [0, "1"]},
    {"metric": {"__name__": "triptych_version_requests_total", "stage": "preprocess"}, "value": [0, "1"]},
    {"metric": SERIES | {"stage": "preprocess"}, "value": [0, "NaN"]},
    {"metric": SERIES | {"stage": "preprocess"}, "value": [0]},
    {"metric": SERIES | {"stage": "preprocess"}},
    {"metric": {"__name__": "other"}, "value": [0, "1"]},
]


@pytest.mark.parametrize("odd", ODD_SERIES)
def test_a_series_of_prometheus_that_is_none_is_left_out(odd: Any) -> None:
    good = {"metric": SERIES | {"stage": "preprocess", "instance": "a"}, "value": [0, "3"]}

    def fetch(url: str) -> str:
        return json.dumps({"status": "success", "data": {"result": [odd, good]}})

    source = PrometheusSource("m", "http://prometheus", fetch)
    assert answered(source) == 3
    assert source.read().faults == ("Prometheus at http://prometheus: 1 series left out",)


@pytest.mark.parametrize("reply", ["[]", "null", '{"status": "error"}', '"x"', "<html>"])
def test_an_answer_of_prometheus_that_is_none_is_a_sentence(reply: str) -> None:
    with pytest.raises(MetricSourceError, match="Prometheus at http://p"):
        PrometheusSource("m", "http://p", lambda url: reply).read()


class Pods:
    """An API server of pods and their pages."""

    def __init__(self, pods: Sequence[Any], page: Callable[[str, int], str] = lambda pod, port: GOOD) -> None:
        self._pods, self._page = pods, page

    def api(self) -> BlockingApi:
        return cast(BlockingApi, self)

    def pods(self, namespace: str, selector: str) -> Sequence[Any]:
        return self._pods

    def page(self, namespace: str, pod: str, port: int, path: str) -> str:
        return self._page(pod, port)

    def list(self, kind: object) -> Sequence[Any]:
        return self._pods

    def get(self, kind: object, name: str) -> Any:
        return next(pod for pod in self._pods if pod["metadata"]["name"] == name)


def pod(name: str, **more: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "preprocess", "serving.knative.dev/revision": "r1"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}} | more


ODD_PODS: list[Any] = [
    None,
    {},
    {"metadata": {"name": None}},
    {"metadata": None, "spec": None},
    pod("odd", spec=None),
    pod("odd", spec={"containers": None}),
    pod("odd", spec={"containers": [{"name": "c", "ports": None}, None]}),
    pod("odd", spec={"containers": [{"ports": [{"name": "metrics"}, {"containerPort": "x", "name": "metrics"}]}]}),
    pod("odd", metadata={"name": "odd", "labels": None, "annotations": None}),
    pod("odd", metadata={"name": "odd", "annotations": {"prometheus.io/port": "http"}}),
    pod("odd", metadata={"name": "odd", "annotations": {"prometheus.io/port": "²"}}),
    pod("odd", status={"phase": "Running", "podIPs": [{"ip": "fd00::1"}], "podIP": ""}),
    pod("odd", metadata={"name": "odd", "deletionTimestamp": "2026-11-28T22:00:00Z"}),
]


@pytest.mark.parametrize("odd", ODD_PODS)
def test_an_odd_pod_leaves_the_others(odd: Any) -> None:
    def page(name: str, port: int) -> str:
        if name == "odd":
            raise ApiUnavailable("503: it is terminating")
        return GOOD

    assert answered(model_metrics(Pods([odd, pod("a")], page).api(), "here", "", "m")) == 3
    stage = 'triptych_requests_total{stage="preprocess",code="OK"} 3\ntriptych_requests_total{stage'
    source = RevisionMetrics(Pods([odd, pod("a")], lambda name, port: stage).api(), "here", ("r1",))
    assert "a:9100" in source.read().origins
    assert any("1 lines left out" in fault for fault in source.read().faults)


@pytest.mark.parametrize(
    "stages", [("preprocess",), ("postprocess",), ("preprocess", "postprocess"), ("postprocess", "preprocess")]
)
def test_a_preprocess_that_does_the_work_of_postprocess_counts_each_request_once(stages: tuple[str, ...]) -> None:
    page = "".join(f'triptych_requests_total{{stage="{stage}",code="OK"}} 3\n' for stage in stages)
    read = RevisionMetrics(Pods([pod("a")], lambda name, port: page).api(), "here", ("r1",)).read()
    assert sum(sample.value for sample in read.samples) == 3


@pytest.mark.parametrize("odd", [{"metadata": {"name": "x"}}, {"metadata": {"name": "x"}, "spec": []}])
def test_an_odd_servedmodel_does_not_hide_the_one_that_is_rolled_out(odd: Any) -> None:
    good = {"metadata": {"name": "m", "generation": 1}, "spec": {"model": "m", "traffic": []}, "status": {}}
    good["spec"] = {"model": "m", "traffic": [{"version": 1, "percent": 100}]}
    assert ServedModelObject(Pods([odd, good]).api(), "here", "m").read() == {"1": 100}
    bad = {"metadata": {"name": "m"}, "spec": {"model": "m", "traffic": "all"}}
    with pytest.raises(TargetError, match=r"spec\.traffic is no list"):
        ServedModelObject(Pods([bad]).api(), "here", "m")


@pytest.mark.parametrize("text", ["[/]", "[red]m", "m\x1b[2Jm", "a\nb", "m\u202e"])
def test_any_name_and_reason_is_shown_and_obeyed_by_no_terminal(text: str) -> None:
    """Textualize/rich#2636: a closing tag in a cell ends the program."""
    reply = cp.DescribeReply(
        predictors=[cp.Predictor(address=text)],
        loaded_models=[cp.LoadedModel(model=text, predictor=text, versions=[1], bytes_from=text)],
        decisions=[cp.Decision(action=text, model=text, predictor=text, reason=text, outcome=text)],
    )
    out = io.StringIO()
    Console(file=out, width=500, force_terminal=False).print(render(take_snapshot("a", reply, {}, "model")))
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert ("[/]" in shown) == (text == "[/]")
