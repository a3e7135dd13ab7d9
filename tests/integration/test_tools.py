"""The field's own tools against the chain, with no file of ours: `perf_analyzer` and `grpcurl`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from local.chain import Chain
from local.perf import ensure_perf_analyzer
from tests.integration.conftest import Caller
from tests.integration.messages import infer_request, sales


def sales_data(folder: Path) -> Path:
    """Valid rows for perf_analyzer: it fills tensors with anything otherwise, and a price of 0 is refused."""
    row = {"history": [100.0] * 28, "price": [2.0] * 7, "promotion": [False] * 7}
    file = folder / "sales.json"
    file.write_text(json.dumps({"data": [row]}))
    return file


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("preprocess", ["--input-data", "sales.json"]),
        ("postprocess", ["-x", "1", "--input-data", "zero"]),
        ("predictor", []),
    ],
)
def test_perf_analyzer_measures_every_stage(
    chain: Chain, caller: Caller, tmp_path: Path, stage: str, more: list[str]
) -> None:
    caller.infer(infer_request("sales_forecast_de", sales()))  # loads it, so that Triton can be asked alone
    sales_data(tmp_path)
    tool = ensure_perf_analyzer()
    command = [str(tool.path), "-m", "sales_forecast_de", "-i", "grpc", "-u", chain.address(stage), *more]
    command += ["--measurement-mode", "count_windows", "--measurement-request-count", "50", "-s", "99", "-r", "3"]
    done = subprocess.run(command, env=tool.variables, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    report = done.stdout + done.stderr
    assert "Throughput:" in report, report
    assert "Failed to" not in report, report


@pytest.mark.skipif(not shutil.which("grpcurl"), reason="grpcurl is not installed; reflection is tested without it")
@pytest.mark.parametrize("stage", ["preprocess", "postprocess", "repository"])
def test_grpcurl_needs_no_proto_file(chain: Chain, stage: str) -> None:
    def grpcurl(*words: str) -> str:
        command = ["grpcurl", "-plaintext", *words[:-1], chain.address(stage), words[-1]]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    assert "inference.GRPCInferenceService" in grpcurl("list")
    asked = json.dumps({"name": "digits_de", "version": "1"})
    metadata = json.loads(grpcurl("-d", asked, "inference.GRPCInferenceService/ModelMetadata"))
    assert [output["name"] for output in metadata["outputs"]] == ["label", "score", "class_id"]
