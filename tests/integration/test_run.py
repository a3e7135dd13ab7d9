"""`python -m local`, the command behind `make run`, with the tiny models on free ports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from local.endpoints import COMPONENTS, Endpoints, free_endpoints
from local.environments import ROOT

EXAMPLE = {
    "title": "Three of four",
    "model_name": "scales",
    "parameters": {"route": "DE"},
    "inputs": [{"name": "features", "datatype": "FP32", "data": [[1, 2, 3, 4]]}],
    "expect": {"output": 2.0},
}

SCALE = {
    "apiVersion": "triptych.dev/v1alpha1",
    "kind": "ServedModel",
    "metadata": {"name": "scale"},
    "spec": {"model": "scale", "traffic": [{"version": 2, "percent": 100}]},
}


class Run:
    """A process of `python -m local`, with its output lines."""

    def __init__(self, endpoints: Endpoints, folder: Path, example: dict[str, Any], *arguments: str) -> None:
        (folder / "served").mkdir(exist_ok=True)
        (folder / "served/scale.yaml").write_text(json.dumps(SCALE))
        (folder / "examples.json").write_text(json.dumps([example]))
        self.variables = {
            **os.environ,
            "CONTROLLER_MODEL_REPOSITORY": str(ROOT / "tests/data/tiny-models"),
            "CONTROLLER_SERVED_MODELS": str(folder / "served"),
            "CONTROLLER_POLL_S": "0.2",
        }
        files = ["--examples", str(folder / "examples.json"), "--logs", str(folder / "logs")]
        for endpoint in endpoints.values():
            self.variables |= endpoint.variables()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local", *files, *arguments],
            cwd=ROOT,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = ""
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        self.lines: list[str] = []

    def until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return
        self._reader.join()
        raise AssertionError(f"'{text}' never came: {self.lines} {self.errors}")

    def end(self) -> int:
        assert self.process.stdout
        self.lines += self.process.stdout.read().splitlines()
        self._reader.join()
        self.process.stdout.close()
        assert self.process.stderr
        self.process.stderr.close()
        return self.process.wait(60)

    def components(self) -> dict[str, psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return dict(zip(COMPONENTS, sorted(children, key=lambda child: child.pid), strict=True))

    def _read_errors(self) -> None:
        assert self.process.stderr
        self.errors = self.process.stderr.read()


StartRun = Callable[..., Run]


@pytest.fixture
def endpoints() -> Endpoints:
    return free_endpoints()


@pytest.fixture
def start_run(tmp_path: Path, endpoints: Endpoints) -> Iterator[StartRun]:
    made: list[Run] = []

    def start(*arguments: str, example: dict[str, Any] | None = None) -> Run:
        made.append(Run(endpoints, tmp_path, example or EXAMPLE, *arguments))
        return made[-1]

    yield start
    for run in made:
        if run.process.poll() is None:
            run.process.terminate()
            run.end()


def test_once_shows_each_component_request_and_answer_and_ends_well(start_run: StartRun, endpoints: Endpoints) -> None:
    run = start_run("--once")
    assert run.end() == 0, run.errors
    for component in COMPONENTS:
        assert any(line.startswith(f"{component} ready on {endpoints[component].address} after ") for line in run.lines)
    assert "  scales(route=DE)  <-  features ▁▃▅█ (1 to 4)" in run.lines
    assert any(line.startswith("  -> scale version 2, ") for line in run.lines)
    assert "     output 2 4 6  ▁▄█" in run.lines
    assert "Triton loads models of the backends onnxruntime and python" in run.lines
    assert "controller: models served: 2, versions: 3" in run.lines
    assert "1 of 1 examples answered" in run.lines
    assert run.errors == ""


def test_without_a_process_for_postprocess_the_same_is_answered(
    start_run: StartRun, endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREPROCESS_POSTPROCESS", "in-process")
    with socket.socket() as listener:  # not even its port is needed
        listener.bind(("127.0.0.1", endpoints["postprocess"].port))
        listener.listen()
        run = start_run("--once")
        assert run.end() == 0, run.errors
    ready = [line.split()[0] for line in run.lines if " ready on " in line]
    assert sorted(ready) == ["controller", "predictor", "preprocess"]
    assert "1 of 1 examples answered" in run.lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"route": "ZZ"}}, "failed: StatusCode.NOT_FOUND: family 'scales' has no route 'ZZ'"),
        ({"expect": {"output": 3.0}}, "failed: output 'output': want 3.0 first, got 2.0"),
    ],
)
def test_once_ends_non_zero_if_an_example_fails(start_run: StartRun, change: dict[str, Any], message: str) -> None:
    run = start_run("--once", example={**EXAMPLE, **change})
    assert run.end() == 1
    assert any(message in line for line in run.lines)
    assert "0 of 1 examples answered" in run.lines


def test_a_model_repository_of_ones_own_is_served_and_its_faults_are_shown(
    start_run: StartRun, endpoints: Endpoints, tmp_path: Path
) -> None:
    models = tmp_path / "own"
    shutil.copytree(ROOT / "tests/data/tiny-models/scale", models / "scale")
    (models / "empty").mkdir()
    run = start_run("--models", str(models))
    run.until("Ctrl-C stops")
    assert "controller: models served: 1, versions: 2" in run.lines
    assert any(line.startswith("controller: empty: ") for line in run.lines)
    assert any(line.startswith("controller: scale version 2: it answers only requests that") for line in run.lines)
    (models / "scale/3").mkdir()
    run.until("controller: scale version 3: ")
    with triton.InferenceServerClient(endpoints["preprocess"].address) as client:
        with pytest.raises(InferenceServerException, match="NOT_FOUND.*model 'empty' is not served: "):
            client.get_model_metadata("empty")
        with pytest.raises(InferenceServerException, match="NOT_FOUND.*version 3 of model 'scale' is not served: "):
            client.get_model_metadata("scale", "3")


def edited_route(models: Path) -> None:
    contract = models / "scale/1/contract.yaml"
    contract.write_text(contract.read_text().replace("route: DE", "route: AT"))


def ask(client: triton.InferenceServerClient, route: str) -> str:
    """The version that answers for a route, or the error."""
    tensor = triton.InferInput("features", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    try:
        return str(client.infer("scales", [tensor], parameters={"route": route}).get_response().model_version)
    except InferenceServerException as error:
        return str(error)


@pytest.mark.parametrize("takes_edits", [False, True])
def test_an_edit_of_a_published_contract_is_ignored_with_a_sentence_or_taken_at_once(
    start_run: StartRun, endpoints: Endpoints, tmp_path: Path, takes_edits: bool
) -> None:
    models = tmp_path / "own"
    shutil.copytree(ROOT / "tests/data/tiny-models/scale", models / "scale")
    shutil.rmtree(models / "scale/2")
    run = start_run("--models", str(models), *(["--edits"] if takes_edits else []))
    run.until("Ctrl-C stops")
    with triton.InferenceServerClient(endpoints["preprocess"].address) as client:
        assert ask(client, "DE") == "1"
        edited_route(models)
        run.until("scale/1/contract.yaml: differs from what was published, ignored: publish a new version")
        if takes_edits:
            run.until("edits taken: ")
            assert ask(client, "AT") == "1"
            assert "family 'scales' has no route 'DE'" in ask(client, "DE")
        else:
            assert ask(client, "DE") == "1"
            assert re.search("NOT_FOUND.*route 'AT' .* not served: .*contract.yaml: differs from", ask(client, "AT"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_stops_it_and_leaves_nothing(start_run: StartRun, number: signal.Signals) -> None:
    run = start_run()
    run.until("Ctrl-C stops")
    components = run.components()
    run.process.send_signal(number)
    assert run.end() == 0
    assert run.errors == ""
    assert not [name for name, process in components.items() if process.is_running()]


@pytest.mark.parametrize("name", ["predictor", "controller"])
def test_a_component_that_crashes_is_reported_and_everything_else_is_stopped(start_run: StartRun, name: str) -> None:
    run = start_run()
    run.until("Ctrl-C stops")
    components = run.components()
    components[name].kill()
    assert run.end() == 1
    assert run.errors.startswith(f"local: {name} was ended by SIGKILL; its log is ")
    assert not [name for name, process in components.items() if process.is_running()]


def test_a_port_in_use_is_reported_in_one_line_before_anything_is_started(
    start_run: StartRun, endpoints: Endpoints
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", endpoints["postprocess"].port))
        listener.listen()
        run = start_run("--once")
        assert run.end() == 1
    assert run.lines == []
    assert run.errors.splitlines() == [
        f"local: port {endpoints['postprocess'].port} of postprocess on 127.0.0.1 is in use: stop what listens "
        "there (a stack that runs already?), or set another: POSTPROCESS_PORT=..."
    ]


def test_a_component_that_cannot_start_is_reported_with_its_last_lines(
    start_run: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTPROCESS_NO_SUCH_SETTING", "1")
    run = start_run("--once")
    assert run.end() == 1
    assert run.errors.startswith("local: postprocess ended with exit code 2; its log is ")
    assert "POSTPROCESS_NO_SUCH_SETTING: no such setting" in run.errors
