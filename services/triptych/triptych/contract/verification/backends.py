"""Backends that the Tritons of this project have, so that `verify` can say where a model loads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from triptych.contract.verification.loadable import PLATFORMS

# Of `make run` and the image triton-cpu; both have the folders of services/predictor/backends.
LOCAL_BACKENDS: Final = ("onnxruntime", "python")
# Of nvcr.io/nvidia/tritonserver:25.10-py3, in /opt/tritonserver/backends.
NVIDIA_BACKENDS: Final = (
    "dali",
    "fil",
    "identity",
    "onnxruntime",
    "openvino",
    "python",
    "pytorch",
    "repeat",
    "square",
    "tensorrt",
)


def backend_note(config: Any) -> str:
    """Where the backend of an `inference.ModelConfig` is; '' if every Triton of this project has it."""
    name = backend_of(config)
    if not name or name in LOCAL_BACKENDS:
        return ""
    local = f"backend '{name}' is not in the Triton of make run and of triton-cpu, which has {_spelled(LOCAL_BACKENDS)}"
    if name in NVIDIA_BACKENDS:
        return f"{local}; NVIDIA's image has it"
    return f"{local}, nor in NVIDIA's image, which has {_spelled(NVIDIA_BACKENDS)}: it loads only where you add it"


def backend_of(config: Any) -> str:
    """The backend by its name or platform; '' for an ensemble, which needs none."""
    name = str(config.backend or PLATFORMS.get(config.platform, config.platform))
    return "" if name == "ensemble" else name


def _spelled(names: Collection[str]) -> str:
    return ", ".join(names)
