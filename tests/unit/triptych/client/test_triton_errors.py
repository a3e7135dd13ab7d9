"""Translation of Triton's errors: meaning of each message, and no text of Triton in answers to callers."""

from __future__ import annotations

import pytest

from triptych.client.triton_errors import NO_SHARED_MEMORY, REFUSED, inference_error, load_reason
from triptych.errors import (
    DeadlineExceeded,
    ModelFailing,
    NotLoaded,
    Overloaded,
    StageUnavailable,
    TriptychError,
)
from triptych.protocol.status import status_of

# Messages of Triton 2.51 and its backends, as far as they can be made here as they came, else from their sources.
SHARED_MEMORY = (
    "Internal: Unable to initialize shared memory key 'triptych-8001-5f' to requested size (1048576 bytes). If you are "
    "running Triton inside docker, use '--shm-size' flag to control the shared memory region size. Each Python backend "
    "model instance requires at least 1 MB of shared memory. Error: No space left on device"
)
GROWN = (
    "Failed to increase the shared memory pool size for key 'triptych-8001-5f' to 9437184 bytes. If you are running "
    "Triton inside docker, use '--shm-size' flag to control the shared memory region size. Error: No space left"
)
INFERENCES: list[tuple[str, type[TriptychError]]] = [
    ("Stub process 'sales_de_0_0' is not healthy.", ModelFailing),
    ("Failed to process the request(s) for model 'm_0_0', message: Stub process is not healthy.", ModelFailing),
    ("Failed to obtain the health mutex.", ModelFailing),
    ("Model instance 'm_0_0' is not ready.", ModelFailing),
    ("onnx runtime error 1: CUDA failure 700: an illegal memory access was encountered ; GPU=0", ModelFailing),
    ("onnx runtime error 1: CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0", ModelFailing),
    ("failed to record CUDA event: unspecified launch failure", ModelFailing),
    ("PyTorch execute failure: CUDA error: device-side assert triggered", ModelFailing),
    ("onnx runtime error 6: Failed to allocate memory for requested buffer of size 1073741824", Overloaded),
    ("onnx runtime error 1: CUDA failure 2: out of memory ; GPU=0 ; hostname=triton-0", Overloaded),
    ("PyTorch execute failure: CUDA out of memory. Tried to allocate 20.00 MiB", Overloaded),
    (GROWN, Overloaded),
    ("Exceeds maximum queue size", Overloaded),
    ("Request timeout expired", DeadlineExceeded),
    ("Request for unknown model: 'sales_de' is not found", NotLoaded),
    ("Request for unknown model: 'sales_de' version 3 is not at ready state", NotLoaded),
    ("Request for unknown model: 'sales_de' has no available versions", NotLoaded),
    ("Server is stopping, scheduler for model has stopped accepting new inference requests", StageUnavailable),
]
PLAIN = [
    "",
    "indices element out of data bounds, idx=7 must be within the inclusive range [-3,2]",
    "[request id: 1] unexpected shape for input 'x' for model 'm'. Expected [-1,2], got [1,3]",
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Gather node",
]


@pytest.mark.parametrize(("words", "error"), INFERENCES, ids=[words[:40] for words, _ in INFERENCES])
def test_an_answer_to_an_inference_has_its_meaning_and_not_its_words(words: str, error: type[TriptychError]) -> None:
    found = inference_error("predictor", "10.0.0.7:8001", words)
    assert type(found) is error
    _, text = status_of(found)
    assert words not in text
    for secret in ("_0_0", "--shm-size' flag", "hostname", "triptych-8001"):
        assert secret not in text


@pytest.mark.parametrize("words", PLAIN)
def test_what_a_model_says_of_its_input_means_nothing_more(words: str) -> None:
    assert inference_error("predictor", "10.0.0.7:8001", words) is None


LOADS = [
    (
        "Internal: TritonModelException: /srv/models/sales_de/3/model.onnx: no such file At: "
        "/srv/cache/backends-1f/onnxruntime/model.py(113): initialize",
        "a file of it is missing",
    ),
    (
        "Internal: TritonModelException: /srv/models/m/1/model.onnx: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load "
        "model from /srv/models/m/1/model.onnx failed:Protobuf parsing failed. At: /srv/model.py(113): initialize",
        "its file is no good model",
    ),
    (
        "Internal: TritonModelException: /srv/models/m/1/model.onnx does not fit config.pbtxt: input 'x': want "
        "tensor(float), got tensor(double) At: /srv/cache/backends/onnxruntime/model.py(119): initialize",
        "its file does not fit config.pbtxt: input 'x': want tensor(float), got tensor(double)",
    ),
    ("Internal: Stub process 'm_0_0' is not healthy.", "its process ended while it was loaded"),
    ("Internal: onnx runtime error 1: CUDA failure 2: out of memory ; GPU=0", "there is no memory for it"),
    (
        "Invalid argument: unable to find backend library for backend 'tensorrt', try specifying runtime on the model "
        "configuration.",
        "the predictor does not have its backend",
    ),
    ("Internal: unable to load shared library: libcudart.so: cannot open", "the predictor does not have its backend"),
    ("Invalid argument: instance group m_0 of model m specifies invalid GPU id 7", "it wants a GPU that is not there"),
    ("Invalid argument: model 'm', tensor 'x': the model expects 2 dimensions", "Triton refuses its configuration"),
    ("failed to load 'm', failed to poll from model repository", REFUSED),
    ("Internal: something new in /opt/tritonserver/lib that nobody has seen", REFUSED),
]


@pytest.mark.parametrize(("words", "reason"), LOADS, ids=[reason for _, reason in LOADS])
def test_the_reason_of_a_refused_load_has_no_path_of_the_machine(words: str, reason: str) -> None:
    assert load_reason(words) == reason
    assert "/srv" not in load_reason(words)


@pytest.mark.parametrize(
    "words",
    [
        "it was removed from the catalog",
        "the files of version 3 were removed",
        "Triton did not finish within 60 s",
        "2 Tritons went away while they loaded it; it is left alone for a while",
        "it takes 4294967296 bytes (declared), and no predictor has a budget of more than 1073741824",
    ],
)
def test_the_controllers_own_error_stays(words: str) -> None:
    assert load_reason(words) == words


def test_a_full_shared_memory_is_known_at_a_load_and_at_a_request() -> None:
    assert NO_SHARED_MEMORY.search(SHARED_MEMORY)
    assert NO_SHARED_MEMORY.search(GROWN)
    assert not NO_SHARED_MEMORY.search("Unable to find shared memory region: 'x'")
