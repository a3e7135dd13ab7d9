"""The parts of the GPU benchmark that need neither a GPU nor a server."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import carry, measure, models, pictures, start, watch
from benchmarks.gpu.load import Latencies, PictureTarget
from benchmarks.gpu.models import NetworkParameters
from benchmarks.gpu.programs import network
from local.environments import ROOT
from local.errors import LocalError

SMALL = NetworkParameters("numpy", "cpu", 16, 1)


def test_the_share_of_the_gpu_is_the_mean_of_whole_lines() -> None:
    assert watch.percent("90\n100\n50\n") == 80
    assert watch.percent("90\n10") == 90  # the last line was cut off
    assert watch.percent("[N/A]\n\n") is None
    assert watch.percent("") is None


def test_the_gpu_is_watched_from_the_beginning_to_the_end_of_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\ncase $1 in *memory.used) printf '1000\\n24\\n'; exit;; esac\n"
        f"printf '40\\n60\\n'; touch {tmp_path}/said; exec sleep 100\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert watch.used_mib() == 1024
    with watch.Watch() as watched:
        while not (tmp_path / "said").exists():
            time.sleep(0.01)
    assert watched.percent == 50


def test_without_a_gpu_nothing_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with watch.Watch() as watched:
        pass
    assert (watched.percent, watch.used_mib()) == (None, None)


def test_a_rate_counts_from_begin_to_end() -> None:
    seen = Latencies(100.0, 104.0, [0.1, 0.2, 0.3, 0.4])
    assert seen.rate == 1.0
    assert seen.ms(50) == pytest.approx(250)


def test_a_picture_has_one_more_dimension_where_everything_is_in_one_model() -> None:
    pictures_ = [b"first", b"second"]
    assert len(PictureTarget(["a"], "photo", pictures_, whole=False).messages()) == 2
    longer, shorter = (PictureTarget(["a"], "photo", pictures_, whole=whole).messages()[0] for whole in (True, False))
    assert len(longer) == len(shorter) + 1


def test_what_is_published_passes_the_checks_of_contracts(tmp_path: Path) -> None:
    models.publish_separate(tmp_path, {"photo": SMALL, "photo_half": SMALL}, instances=2)
    command = [sys.executable, "-m", "triptych_cli", "verify", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "count: 2" in (tmp_path / "photo/config.pbtxt").read_text()
    assert "count: 1" in (tmp_path / "photo_half/config.pbtxt").read_text()


def test_the_stand_in_answers_each_row_alike_alone_and_among_others() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, network.SIDE, network.SIDE, 3), np.uint8)
    parameters = {name: str(value) for name, value in SMALL.parameters("predict").items()}
    run = network.make(parameters)
    together = run(pixels)
    assert together.shape == (3, network.CLASSES)
    assert np.allclose(together[1:2], run(pixels[1:2]), rtol=1e-4, atol=1e-5)
    words, scores = network.named(together)
    assert words.shape == scores.shape == (3, network.TOP)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_network_of_pytorch_computes_on_the_cpu() -> None:
    pytest.importorskip("torch")
    parameters = {
        name: str(value) for name, value in NetworkParameters("torch", "cpu", 64, 2).parameters("predict").items()
    }
    pixels = np.random.default_rng(0).integers(0, 256, (2, network.SIDE, network.SIDE, 3), np.uint8)
    logits = network.make(parameters)(pixels)
    assert logits.shape == (2, network.CLASSES)
    assert np.isfinite(logits).all()


def test_pictures_are_jpeg_files_of_the_size_that_differ() -> None:
    made = pictures.make("640x480")
    assert len(set(made)) == pictures.COUNTS["640x480"]
    assert all(file.startswith(b"\xff\xd8") for file in made)


def test_another_answer_than_the_first_systems_is_refused() -> None:
    want = [{"score": np.array([[0.5, 0.2, 0.1]])}]
    measure.check("photo", [{"score": np.array([[0.51, 0.2, 0.1]])}], want)
    with pytest.raises(LocalError, match="photo, picture 0: want scores"):
        measure.check("photo", [{"score": np.array([[0.6, 0.2, 0.1]])}], want)


def test_pins_are_read_without_what_stays_here() -> None:
    found = carry.pins(carry.COMMON, carry.LEFT_OUT)
    assert any(pin.startswith("grpcio==") for pin in found)
    assert not any(pin.startswith(("numpy==",)) for pin in found)
    assert all(carry.pins(carry.COMMON, {}).count(pin) for pin in found)
    names = {pin.partition("==")[0] for file in (carry.COMMON, carry.TRITON) for pin in carry.pins(file, {})}
    assert {*carry.LEFT_OUT, *carry.NOT_FOR_TRITON} <= names  # a name that is no pin any more leaves nothing out


def test_an_archive_has_one_python_and_no_tests(tmp_path: Path) -> None:
    folder = tmp_path / "predictor"
    stubs = "pytriton/tritonserver/python_backend_stubs"
    kept = [f"{stubs}/3.12/stub", "numpy/core.py", "nvidia_pytriton.libs/libtritonserver-717102f0.so"]
    dropped = [f"{stubs}/3.11/stub", f"{stubs}/3.13/stub", "nvidia_pytriton.libs/libpython3-419a3a08.13.so.1.0"]
    for name in (*kept, *dropped, "numpy/tests/test_core.py", "numpy/core.pyi"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    with tarfile.open(carry.packed(folder)) as made:
        assert sorted(each.name for each in made if each.isfile()) == sorted(f"./{name}" for name in kept)


def test_an_archive_that_does_not_fit_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    for name in ("first.tar.xz", "second.tar.xz"):
        (tmp_path / name).write_bytes(bytes(1000))
    assert carry.keep(tmp_path / "first.tar.xz", tmp_path / "there", 1500) == 1000
    assert carry.keep(tmp_path / "second.tar.xz", tmp_path / "there", 500) == 0
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["first.tar.xz"]
    assert "does not fit: second.tar.xz" in capsys.readouterr().out


def test_a_folder_without_the_archives_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"services\.tar\.xz: no such file; .*benchmarks\.gpu\.carry"):
        start.unpacked(tmp_path / "services.tar.xz", tmp_path / "services")


def test_stages_import_what_was_carried_and_triton_finds_its_own_python_first() -> None:
    variables = start.environment(Path("/place/services"), Path("/place/predictor/bin/python3"))
    assert variables["PATH"].startswith("/place/predictor/bin:")
    assert variables["PYTHONPATH"].split(":")[-1] == "/place/services"
    assert str(ROOT / "services/postprocess") in variables["PYTHONPATH"].split(":")


def test_a_carried_python_gets_its_new_paths_and_is_found_by_the_loader(tmp_path: Path) -> None:
    data = tmp_path / "lib/python3.12/_sysconfigdata__linux_.py"
    data.parent.mkdir(parents=True)
    data.write_text("{'LIBDIR': '/built/here/lib', 'prefix': '/built/here'}")
    start.moved(tmp_path)
    assert data.read_text() == f"{{'LIBDIR': '{tmp_path}/lib', 'prefix': '{tmp_path}'}}"
    (tmp_path / "lib" / start.LIBRARY).touch()
    variables = start.environment(Path("/place/services"), tmp_path / "bin/python3")
    assert variables["LD_LIBRARY_PATH"] == str(tmp_path / "lib")


def test_the_plot_is_drawn_from_the_results_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.gpu import plot

    point = {"picture": "12MP", "processes": 1, "rate": 3.0, "gpu_percent": None, "busy": 0.5}
    points = [{**point, "model": model} for model in (models.GROUPED, models.SEPARATE)]
    (tmp_path / "results.json").write_text(json.dumps({"results": {"points": points}}))
    assert plot.draw(tmp_path).read_bytes().startswith(b"\x89PNG")
