"""`triptych verify`: a whole repository, or one line for each problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.environments import ROOT
from tests.onnx_files import linear
from triptych.contract.verification.backends import LOCAL_BACKENDS
from triptych_cli.__main__ import main

SALES = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 256
input [{{ name: "features" data_type: TYPE_FP32 dims: [42] }}]
output [{{ name: "forecast" data_type: TYPE_FP32 dims: [7] }}]
version_policy {{ all {{ }} }}
"""


@pytest.fixture
def repository(tmp_path: Path, data: Path) -> Path:
    """Three sales models, one of them in two versions, and things beside them."""
    text = (data / "sales_forecast_no.yaml").read_text(encoding="utf-8")
    for route, versions in (("NO", 1), ("DE", 2), ("FR", 1)):
        folder = tmp_path / f"sales_forecast_{route.lower()}"
        for version in range(1, versions + 1):
            place = folder / str(version)
            place.mkdir(parents=True)
            (place / "model.onnx").write_bytes(linear(42, 7, names=("features", "forecast")))
            contract = text.replace("route: NO", f"route: {route}")
            (place / "contract.yaml").write_text(contract, encoding="utf-8")
        (folder / "config.pbtxt").write_text(SALES.format(name=folder.name), encoding="utf-8")
    (tmp_path / "README.md").write_text("pictures and words", encoding="utf-8")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "sales_forecast_no" / ".keep").mkdir()
    return tmp_path


def problems(repository: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    status = main(["verify", str(repository)])
    out = capsys.readouterr().out.replace(f"{repository}/", "").splitlines()
    assert status == 1, out
    return [line[2:] for line in out if line.startswith("  ") and not line.startswith("    ->")]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_good_repository_is_one_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(repository)]) == 0
    assert capsys.readouterr().out == "OK 3 models, 4 versions: sales_forecast (3 routes)\n"


@pytest.mark.parametrize(
    ("backend", "file", "end"),
    [
        ("pytorch", "model.pt", "which has onnxruntime, python; NVIDIA's image has it"),
        ("onnxrt", "model.onnx", "nor in NVIDIA's image, which has dali, "),
    ],
)
def test_a_backend_that_the_local_triton_lacks_is_said(
    repository: Path, capsys: pytest.CaptureFixture[str], backend: str, file: str, end: str
) -> None:
    model = repository / "sales_forecast_no"
    change(model / "config.pbtxt", "onnxruntime", backend)
    (model / "1/model.onnx").rename(model / "1" / file)
    assert main(["verify", str(repository)]) == 0
    printed = capsys.readouterr().out
    assert f"note: sales_forecast_no: backend '{backend}' is not in the Triton of make run" in printed
    assert end in printed
    assert printed.count("note: ") == 1


def test_the_backends_of_the_local_triton_are_those_of_its_folder() -> None:
    folder = ROOT / "services/predictor/backends"
    assert sorted(LOCAL_BACKENDS) == sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


@pytest.mark.parametrize(
    ("place", "sentence"), [("sales_forecast_no", "is the folder of one model"), ("sales_forecast_no/1", "one version")]
)
def test_a_folder_within_the_repository_is_named(
    repository: Path, capsys: pytest.CaptureFixture[str], place: str, sentence: str
) -> None:
    assert main(["verify", str(repository / place)]) == 1
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert "verify the model repository that holds it" in printed.err
    assert not printed.out


def test_a_fault_in_a_contract_is_reported_with_its_line(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(repository / "sales_forecast_de/2/contract.yaml", "op: clip", "op: clop")
    found = problems(repository, capsys)
    assert len(found) == 1
    assert found[0].startswith("sales_forecast_de/2/contract.yaml:17: postprocess[0].op: unknown step 'clop'")


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (
            lambda r: (r / "sales_forecast_fr/config.pbtxt").unlink(),
            "sales_forecast_fr/config.pbtxt:1: cannot be read: No such file or directory",
        ),
        (
            lambda r: (r / "sales_forecast_fr/config.pbtxt").write_text("name: {"),
            "sales_forecast_fr/config.pbtxt:1: ",
        ),
        (
            lambda r: (r / "sales_forecast_fr/config.pbtxt").write_bytes(b"\xff"),
            "sales_forecast_fr/config.pbtxt:1: not UTF-8: byte 0xff at 0",
        ),
        (
            lambda r: (r / "sales_forecast_fr").rename(r / "sales_forecast_france"),
            "sales_forecast_france/config.pbtxt:1: name is 'sales_forecast_fr', but the folder is",
        ),
        (
            lambda r: change(r / "sales_forecast_fr/config.pbtxt", "[42]", "[41]"),
            "sales_forecast_fr/config.pbtxt:4: input 'features' has dims [-1, 41]",
        ),
        (
            lambda r: change(r / "sales_forecast_de/config.pbtxt", "all { }", "latest { num_versions: 1 }"),
            "sales_forecast_de/config.pbtxt:1: version_policy leaves version 1 out; want { all { } }",
        ),
        (
            lambda r: (r / "sales_forecast_fr/1").rename(r / "sales_forecast_fr/first"),
            "sales_forecast_fr/first: is no version; want a whole number from 1",
        ),
        (
            lambda r: (r / "sales_forecast_fr/1").rename(r / "sales_forecast_fr/01"),
            "sales_forecast_fr:1: has no version",
        ),
        (
            lambda r: (r / "sales_forecast_fr/1/model.onnx").unlink(),
            "sales_forecast_fr/1/model.onnx: no such file",
        ),
        (
            lambda r: (r / "sales_forecast_fr/1/contract.yaml").unlink(),
            "sales_forecast_fr/1/contract.yaml:1: cannot be read: No such file or directory",
        ),
        (
            lambda r: change(r / "sales_forecast_fr/1/contract.yaml", "route: FR", "route: DE"),
            "sales_forecast_fr/1/contract.yaml:1: family 'sales_forecast', route 'DE' belongs to model 'sales_f",
        ),
        (
            lambda r: change(r / "sales_forecast_de/2/contract.yaml", "route: DE", "route: AT"),
            "sales_forecast_de/2/contract.yaml:1: want family 'sales_forecast', route 'DE' as in its other versions",
        ),
        (
            lambda r: change(r / "sales_forecast_fr/1/contract.yaml", "name: total", "name: units_of_the_week"),
            "sales_forecast_fr/1/contract.yaml:23: outputs[1].name: postprocess ends without",
        ),
        (
            lambda r: change(r / "sales_forecast_fr/1/contract.yaml", "total", "sum_of_units"),
            "sales_forecast_fr/1/contract.yaml:1: family 'sales_forecast' must look alike to callers",
        ),
        (
            lambda r: change(r / "sales_forecast_fr/1/contract.yaml", "datatype: FP32}", "datatype: FP64}"),
            "sales_forecast_fr/1/contract.yaml:12: preprocess[1]: concatenate fails on made-up rows",
        ),
    ],
)
def test_each_problem_of_a_repository_is_a_line(
    repository: Path, capsys: pytest.CaptureFixture[str], break_it: object, problem: str
) -> None:
    assert callable(break_it)
    break_it(repository)
    found = problems(repository, capsys)
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("loop", "loop:1: cannot be read: Too many levels of symbolic links"),
        ("nothing", "loop:1: is a link to nothing"),
        ("/", "loop:1: is a link out of the model repository"),
    ],
)
def test_a_link_that_can_be_no_model_is_a_line(
    repository: Path, capsys: pytest.CaptureFixture[str], target: str, problem: str
) -> None:
    (repository / "loop").symlink_to(target)
    assert problems(repository, capsys) == [problem]


def test_a_change_of_limits_is_no_change_of_the_family(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(repository / "sales_forecast_fr/1/contract.yaml", "minimum: 0, desc", "minimum: 5, desc")
    assert main(["verify", str(repository)]) == 0


def test_an_empty_or_missing_folder_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert main(["verify", str(tmp_path / "none")]) == 1
    out = capsys.readouterr().out
    assert "holds no model folder" in out
    assert "no such folder" in out
