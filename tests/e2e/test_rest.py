"""REST on a cluster: a second port of the Services, answered beside gRPC."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.e2e.canaries import small
from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Release

SALES = [
    {"name": "history", "datatype": "FP32", "shape": [1, 28], "data": [100.0] * 28},
    {"name": "price", "datatype": "FP32", "shape": [1, 7], "data": [2.0] * 7},
    {"name": "promotion", "datatype": "BOOL", "shape": [1, 7], "data": [False] * 7},
]


def ask(url: str, document: dict[str, Any] | None = None) -> Any:
    """The document of an answer; None while there is no answer with status 200."""
    body = None if document is None else json.dumps(document).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            return json.loads(answer.read())
    except (urllib.error.URLError, OSError):
        return None


def test_a_request_by_rest_is_answered_through_the_service(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("rest", "Standard")
    release.apply(small(preprocess={"rest": True}))
    release.wait_until_settled("preprocess")
    host = release.service().address.partition(":")[0]
    url = f"http://{host}:8080/v2"
    assert wait_for(lambda: ask(f"{url}/health/ready"), "REST is ready", START_S) == {"ready": True}
    request = {"parameters": {"route": "DE"}, "inputs": SALES}
    answer = wait_for(lambda: ask(f"{url}/models/sales_forecast/infer", request), "the first answer", START_S)
    assert answer["model_name"] == "sales_forecast_de"
    assert {each["name"] for each in answer["outputs"]} >= {"total", "units"}
