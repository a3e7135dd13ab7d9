"""Table of Triton's error messages, with the error that each becomes.

The messages go to the log and to the status of a model, never to a caller, because they name paths and options of the
machine. They are those of Triton 2.51 (24.10), its Python backend, ONNX Runtime and CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from triptych.errors import (
    DeadlineExceeded,
    ModelFailing,
    NotLoaded,
    Overloaded,
    StageUnavailable,
    TriptychError,
)

NO_SHARED_MEMORY = re.compile(r"shared memory (key|pool).*(No space left|--shm-size)", re.IGNORECASE | re.DOTALL)
SHARED_MEMORY_HINT = "/dev/shm is full; give it more (predictor.sharedMemory in the chart, --shm-size in docker)"

_GONE = r"Request for unknown model|has no available versions|not at ready state|Model version not ready"
_STOPPING = r"Server is stopping|Server not ready|Server exiting|has stopped accepting new inference requests"
_PROCESS_LOST = r"Stub process .*is not healthy|Failed to obtain the health mutex|Model instance .* is not ready"
PROCESS_LOST = re.compile(_PROCESS_LOST)
_GPU_FAULT = (
    r"illegal memory access|misaligned address|device-side assert|unspecified launch failure|uncorrectable ECC"
    r"|CUDA_ERROR_(?!OUT_OF_MEMORY)|CUDNN_STATUS_(?!NOT_SUPPORTED|BAD_PARAM)|CUBLAS_STATUS_(?!NOT_SUPPORTED)"
    r"|CUDA (failure|error) (?!2\b|.*out of memory)\d+|GPU is lost|GPU has fallen off the bus"
)
_NO_MEMORY = r"out of memory|Failed to allocate memory|bad_alloc|CUDA_ERROR_OUT_OF_MEMORY|CUDA failure 2\b"

ErrorFor = Callable[[str, str], TriptychError]  # of a part and its address

# Messages of failed inferences, and the error that each becomes.
INFERENCE: tuple[tuple[str, ErrorFor], ...] = (
    (_GONE, lambda part, at: NotLoaded(f"{part} at {at} does not have the version ready")),
    (_STOPPING, lambda part, at: StageUnavailable(part, at, "it is stopping")),
    (_PROCESS_LOST, lambda part, at: ModelFailing(f"the model's process in {part} at {at} does not answer")),
    (_NO_MEMORY, lambda part, at: Overloaded(f"{part} at {at} has no memory for the request; send less")),
    (_GPU_FAULT, lambda part, at: ModelFailing(f"the GPU of {part} at {at} has a fault")),
    (NO_SHARED_MEMORY.pattern, lambda part, at: Overloaded(f"{part} at {at}: {SHARED_MEMORY_HINT}")),
    ("Exceeds maximum queue size", lambda part, at: Overloaded(f"the queue of {part} at {at} is full; try later")),
    ("timeout expired", lambda part, at: DeadlineExceeded(f"the request waited too long in {part} at {at}")),
)
_INFERENCE = tuple((re.compile(text, re.IGNORECASE | re.DOTALL), error) for text, error in INFERENCE)

# Messages of failed loads, and the reason for a caller; the first match counts.
LOAD: tuple[tuple[str, str], ...] = (
    (r"does not fit config\.pbtxt: (.*?)(?: At: |$)", r"its file does not fit config.pbtxt: \1"),
    (r"unable to (find|load|get) (backend|shared library)", "the predictor does not have its backend"),
    (r"no such file|NO_SUCHFILE|File doesn't exist|unable to find .*model", "a file of it is missing"),
    (r"out of memory|bad_alloc|Cannot allocate memory|Failed to allocate memory", "there is no memory for it"),
    (r"Stub process .*is not healthy|stub process", "its process ended while it was loaded"),
    (r"INVALID_PROTOBUF|Protobuf parsing failed|INVALID_GRAPH|Load model from .* failed", "its file is no good model"),
    (r"no CUDA-capable device|invalid (GPU|device)|GPUs? .*unavailable", "it wants a GPU that is not there"),
    (r"(?:^|: )Invalid argument: ", "Triton refuses its configuration"),
)
_LOAD = tuple((re.compile(text, re.IGNORECASE | re.DOTALL), reason) for text, reason in LOAD)
REFUSED = "Triton refuses to load it; the model's status and the controller's log have Triton's words"

# Start of Triton's load errors: the code of a status, or a sentence about the whole model.
_BY_TRITON = re.compile(
    r"^(Internal|Invalid argument|Not found|Unavailable|Unsupported|Already exists|Unknown|Cancelled): "
    r"|^(load failed for model|failed to load|failed to poll|Poll failed|unexpected platform|model .* is not found)"
)


def inference_error(part: str, address: str, message: str) -> TriptychError | None:
    """Error for Triton's message to an inference; None if the status code is enough."""
    return next((error(part, address) for pattern, error in _INFERENCE if pattern.search(message)), None)


def load_reason(message: str) -> str:
    """Reason of a failed load for a caller. A message of the controller itself stays unchanged."""
    if not _BY_TRITON.search(message):
        return message
    for pattern, reason in _LOAD:
        if match := pattern.search(message):
            return match.expand(reason)
    return REFUSED
