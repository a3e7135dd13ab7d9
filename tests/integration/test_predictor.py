"""Triton with the Python-based backend `onnxruntime`, on the tiny models of tests/data."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from local.environments import ROOT
from local.server_process import ServerProcess
from tests.integration.tiny_triton import MODELS, copied, running
from tests.onnx_files import identity, text_identity


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the tiny models, to which tests add broken ones."""
    return copied(tmp_path_factory.mktemp("models"), "scale", "pick")


@pytest.fixture(scope="module")
def predictor(models: Path, predictor_python: Path) -> Iterator[ServerProcess]:
    with running(models, predictor_python) as part:
        yield part


@pytest.fixture(scope="module")
def client(predictor: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(predictor.address) as client:
        client.load_model("scale", client_timeout=30)
        client.load_model("pick", client_timeout=30)
        yield client


def ask(client: triton.InferenceServerClient, model: str, value: np.ndarray[Any, Any], version: str = "") -> Any:
    name = {"scale": "features", "pick": "index"}[model]
    tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return client.infer(model, [tensor], model_version=version, client_timeout=10).as_numpy("output")


def together(calls: Sequence[Callable[[], Any]]) -> list[Future[Any]]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [pool.submit(call) for call in calls]


def runs(client: triton.InferenceServerClient, model: str) -> int:
    return int(client.get_inference_statistics(model).model_stats[0].execution_count)


def test_every_version_of_a_model_answers_with_its_own_weights(client: triton.InferenceServerClient) -> None:
    features = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(ask(client, "scale", features, "1"), features[:, :3])
    assert np.array_equal(ask(client, "scale", features, "2"), 2 * features[:, :3])
    assert np.array_equal(ask(client, "scale", features), 2 * features[:, :3])


def test_requests_that_wait_together_run_once_and_each_gets_its_own_rows(
    client: triton.InferenceServerClient,
) -> None:
    before = runs(client, "pick")
    sent = [np.array([[n % 5]] * (1 + n % 3), dtype=np.int64) for n in range(6)]
    answers = together([partial(ask, client, "pick", index) for index in sent])
    for index, answer in zip(sent, answers, strict=True):
        assert np.array_equal(answer.result(), 10.0 * index)
    assert runs(client, "pick") - before < len(sent)


def test_a_request_that_fails_in_the_model_does_not_fail_those_grouped_with_it(
    client: triton.InferenceServerClient,
) -> None:
    sent = [np.array([[n]], dtype=np.int64) for n in (1, 99, 2)]
    calls = [partial(ask, client, "pick", index) for index in sent]
    good, bad, other = together(calls)
    assert good.result().item() == 10.0
    assert other.result().item() == 20.0
    with pytest.raises(InferenceServerException, match="out of data bounds"):
        bad.result()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("no_file", lambda folder: (folder / "1/model.onnx").unlink(), "model.onnx"),
        ("garbage", lambda folder: (folder / "1/model.onnx").write_bytes(b"no model"), "model.onnx"),
        (
            "wrong_name",
            lambda folder: edit(folder, '"features"', '"other"'),
            "input 'other' is not in the file",
        ),
        (
            "wrong_width",
            lambda folder: edit(folder, "TYPE_FP32 dims: [ 4 ]", "TYPE_FP32 dims: [ 5 ]"),
            "input 'features': want shape .-1, 5., got .*4",
        ),
        (
            "wrong_type",
            lambda folder: edit(folder, "TYPE_FP32", "TYPE_INT32"),
            "want tensor.int32., got tensor.float.",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_at_load_with_the_reason(
    client: triton.InferenceServerClient,
    models: Path,
    name: str,
    change: Callable[[Path], object],
    message: str,
) -> None:
    folder = models / name
    shutil.copytree(MODELS / "scale", folder)
    edit(folder, '"scale"', f'"{name}"')
    change(folder)
    with pytest.raises(InferenceServerException, match=message):
        client.load_model(name, client_timeout=30)
    assert client.is_server_ready(), "one broken model must not make the server unready"
    assert client.is_model_ready("scale")


def edit(folder: Path, old: str, new: str) -> None:
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace(old, new))


PYTHON_CONFIG = """\
name: "numbers"
backend: "python"
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }]
"""
PYTHON_MODEL = """\
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensors = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.square(each))]) for each in tensors]
"""


def test_a_python_model_finds_numpy(client: triton.InferenceServerClient, models: Path) -> None:
    folder = models / "numbers"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(PYTHON_CONFIG)
    (folder / "1/model.py").write_text(PYTHON_MODEL)
    client.load_model("numbers", client_timeout=60)
    tensor = triton.InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[2, 3]], np.float32))
    assert client.infer("numbers", [tensor], client_timeout=30).as_numpy("y").tolist() == [[4, 9]]


TEXT_CONFIG = """\
name: "text"
backend: "onnxruntime"
max_batch_size: 4
input [{ name: "x" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [] } }]
output [{ name: "y" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [] } }]
"""


@pytest.fixture(scope="module")
def text_model(client: triton.InferenceServerClient, models: Path) -> str:
    folder = models / "text"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(TEXT_CONFIG)
    (folder / "1/model.onnx").write_bytes(text_identity())
    client.load_model("text", client_timeout=30)
    return "text"


def ask_text(client: triton.InferenceServerClient, *words: bytes) -> list[bytes]:
    tensor = triton.InferInput("x", [len(words), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(words, np.object_).reshape(-1, 1))
    answer: list[bytes] = client.infer("text", [tensor], client_timeout=10).as_numpy("y").ravel().tolist()
    return answer


@pytest.mark.usefixtures("text_model")
def test_bytes_reach_the_model_as_text(client: triton.InferenceServerClient) -> None:
    assert ask_text(client, b"abc", "Grün 漢字 😀".encode(), b"") == [b"abc", "Grün 漢字 😀".encode(), b""]


@pytest.mark.usefixtures("text_model")
@pytest.mark.parametrize(
    ("word", "want"), [(b"\xff\xfe", "want text in UTF-8"), (b"a\0b", "want text without a zero byte")]
)
def test_bytes_that_are_no_text_are_refused_alone(client: triton.InferenceServerClient, word: bytes, want: str) -> None:
    good, bad = together([partial(ask_text, client, b"good"), partial(ask_text, client, b"first", word)])
    assert good.result() == [b"good"]
    with pytest.raises(InferenceServerException, match=f"input 'x', element 1: {want}"):
        bad.result()


def test_a_model_loads_and_answers_again_after_it_was_unloaded(client: triton.InferenceServerClient) -> None:
    client.unload_model("scale")
    deadline = time.monotonic() + 20
    while any(model.name == "scale" and model.state == "READY" for model in index(client)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.load_model("scale", client_timeout=30)
    assert ask(client, "scale", np.ones((1, 4), np.float32)).shape == (1, 3)


def index(client: triton.InferenceServerClient) -> Any:
    return client.get_model_repository_index().models


def processes_of(predictor: ServerProcess, model: str) -> list[psutil.Process]:
    """Processes in which Triton runs a model, without the script that starts each."""
    found = []
    for process in psutil.Process(predictor.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            program, *words = process.cmdline() or [""]
            if program.endswith("/triton_python_backend_stub") and any(f"/{model}/" in word for word in words):
                found.append(process)
    return found


@pytest.mark.parametrize("age_s", [0, 0.03, 0.1])
def test_the_load_of_a_model_whose_process_is_killed_at_its_start_ends(
    predictor: ServerProcess, client: triton.InferenceServerClient, models: Path, age_s: float
) -> None:
    """triton#5381: it never ended, and Triton ended only by SIGKILL."""
    name = f"killed_{age_s * 1000:.0f}"
    shutil.copytree(MODELS / "pick", models / name)
    edit(models / name, '"pick"', f'"{name}"')
    with ThreadPoolExecutor(1) as pool, triton.InferenceServerClient(predictor.address) as other:
        load = pool.submit(other.load_model, name, client_timeout=30)
        while not (killed := processes_of(predictor, name)):
            assert not load.done()
        time.sleep(age_s)
        for process in killed:
            process.kill()
        assert ask(client, "pick", np.array([[2]])).item() == 20.0
        if error := load.exception():  # it had sent its first message
            assert "is not healthy" in str(error)
            client.load_model(name, client_timeout=30)
    assert client.is_model_ready(name)
    client.unload_model(name)


ECHO = """
name: "{name}"
backend: "onnxruntime"
max_batch_size: 8
input [{{ name: "x" data_type: TYPE_{datatype} dims: [ -1 ] }}]
output [{{ name: "y" data_type: TYPE_{datatype} dims: [ -1 ] }}]
dynamic_batching {{ max_queue_delay_microseconds: 200000 }}
"""


def put_echo(models: Path, name: str, datatype: str, onnx_type: int) -> None:
    (models / name / "1").mkdir(parents=True)
    (models / name / "config.pbtxt").write_text(ECHO.format(name=name, datatype=datatype))
    (models / name / "1/model.onnx").write_bytes(identity(onnx_type, "n", "m"))


def echoed(client: triton.InferenceServerClient, name: str, values: np.ndarray[Any, Any]) -> Any:
    tensor = triton.InferInput("x", list(values.shape), np_to_triton_dtype(values.dtype))
    tensor.set_data_from_numpy(values)
    return client.infer(name, [tensor], client_timeout=10).as_numpy("y")


def edges(dtype: np.dtype[Any]) -> list[Any]:
    if dtype.kind == "b":
        return [False, True, True]
    if dtype.kind == "f":
        return [np.finfo(dtype).min, np.finfo(dtype).max, np.nan, np.inf, -0.0]
    return [np.iinfo(dtype).min, np.iinfo(dtype).max, 1]


@pytest.mark.parametrize(
    ("datatype", "onnx_type", "dtype"),
    [("FP16", 10, np.float16), ("FP64", 11, np.float64), ("BOOL", 9, np.bool_), ("INT8", 3, np.int8)]
    + [("UINT8", 2, np.uint8), ("INT16", 5, np.int16), ("UINT64", 13, np.uint64), ("INT64", 7, np.int64)],
)
def test_values_of_each_datatype_are_the_same_behind_the_model(
    client: triton.InferenceServerClient, models: Path, datatype: str, onnx_type: int, dtype: Any
) -> None:
    name = f"echo_{datatype.lower()}"
    put_echo(models, name, datatype, onnx_type)
    client.load_model(name, client_timeout=30)
    values = np.array([edges(np.dtype(dtype))], dtype)
    got = echoed(client, name, values)
    assert (got.dtype, got.tobytes()) == (values.dtype, values.tobytes())
    client.unload_model(name)


@pytest.mark.parametrize(
    ("name", "shape", "dims", "sent"),
    [
        ("single_value", (), "dims: [ 1 ]", (1,)),  # as NVIDIA's backend declares one
        ("state", (2, "n", 3), "dims: [ 1, 2, -1, 3 ] reshape { shape: [ 2, -1, 3 ] }", (1, 2, 4, 3)),
    ],
)
def test_single_values_and_whole_tensors_pass_a_model_without_batches(
    client: triton.InferenceServerClient, models: Path, name: str, shape: tuple[Any, ...], dims: str, sent: Any
) -> None:
    tensor = f"data_type: TYPE_INT64 {dims}"
    config = f'name: "{name}" backend: "onnxruntime" input [{{ name: "x" {tensor} }}] output [{{ name: "y" {tensor} }}]'
    (models / name / "1").mkdir(parents=True)
    (models / name / "config.pbtxt").write_text(config)
    (models / name / "1/model.onnx").write_bytes(identity(7, *shape))
    client.load_model(name, client_timeout=30)
    values = np.arange(np.prod(sent)).reshape(sent)
    np.testing.assert_array_equal(echoed(client, name, values), values)
    client.unload_model(name)


def test_the_launcher_says_in_one_line_what_is_missing(predictor_python: Path, tmp_path: Path) -> None:
    command = [str(predictor_python), "-m", "predictor", "--model-repository", str(tmp_path / "nowhere")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services/predictor")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [f"predictor: --model-repository {tmp_path / 'nowhere'}: no such folder"]
