"""`triptych top` with a running stack."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from local.stack import LocalStack
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, noise_picture, objects, sales


def top(stack: LocalStack, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triptych_cli", "top", "--address", stack.address("controller"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def snapshot(stack: LocalStack, caller: Caller) -> dict[str, Any]:
    """The output after one picture and one forecast were requested."""
    caller.infer(infer_request("digits_gb", {"image": objects(noise_picture())}, id="a"))
    caller.infer(infer_request("sales_forecast_de", sales()))
    done = top(stack, "--once", "--json", "--sort", "bytes")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_loaded_models_have_versions_with_traffic_bytes_and_where_they_are(
    stack: LocalStack, snapshot: dict[str, Any]
) -> None:
    loaded_models = {loaded["model"]: loaded for loaded in snapshot["loaded_models"]}
    assert {"digits_gb", "sales_forecast_de"} <= loaded_models.keys()
    digits = loaded_models["digits_gb"]
    assert digits["versions"] == [1, 2]
    assert digits["traffic"] == {"1": 95, "2": 5}
    assert digits["predictor"] == stack.address("predictor")
    assert digits["bytes"] > 0
    assert digits["bytes_from"] in ("measured", "declared", "estimated")
    sizes = [loaded["bytes"] for loaded in snapshot["loaded_models"]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_predictor_is_shown_with_its_loaded_models(stack: LocalStack, snapshot: dict[str, Any]) -> None:
    (predictor,) = snapshot["predictors"]
    assert (predictor["address"], predictor["answers"]) == (stack.address("predictor"), True)
    assert predictor["models"] >= 2
    assert predictor["used_bytes"] >= max(loaded["bytes"] for loaded in snapshot["loaded_models"])
    assert snapshot["models"] > 50


def test_a_load_is_among_the_decisions(snapshot: dict[str, Any]) -> None:
    loads = [
        each for each in snapshot["decisions"] if each["action"] == "load" and "sales_forecast_de" in each["model"]
    ]
    assert [each["outcome"] for each in loads] == ["ok"]
    assert loads[0]["seconds"] > 0


def test_a_snapshot_in_a_pipe_has_every_loaded_model_in_full(stack: LocalStack, snapshot: dict[str, Any]) -> None:
    done = top(stack, "--once")
    assert done.returncode == 0, done.stderr
    for loaded in snapshot["loaded_models"]:
        assert loaded["model"] in done.stdout
    assert "1: 95 %, 2: 5 %" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_controller_that_is_not_there_is_one_line_and_status_1() -> None:
    command = [sys.executable, "-m", "triptych_cli", "top", "--address", "127.0.0.1:1", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("top: the controller at 127.0.0.1:1: Describe: UNAVAILABLE")
    assert len(done.stderr.splitlines()) == 1
