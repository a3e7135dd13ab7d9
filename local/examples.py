"""The example requests of `examples/data/examples.json`, read and sent to the stack.

An example is `{"title", "model_name", "parameters", "inputs"}`, and an input is a name, a datatype and either
`data` (nested lists, rows first) or `files` (for BYTES: one file for each row, beside the JSON file).
`expect`, if given, maps output names to the first element that the answer must have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from local.environments import ROOT
from local.errors import LocalError

FILE = ROOT / "examples/data/examples.json"
TIMEOUT_S = 30.0

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ExampleRequest:
    """One request; `files` names its pictures, for display."""

    title: str
    model_name: str
    parameters: dict[str, str | int | bool]
    inputs: Arrays
    datatypes: dict[str, str]
    files: tuple[str, ...] = ()
    expect: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExampleAnswer:
    """The response to one example."""

    model_name: str
    model_version: str
    outputs: Arrays


class ExampleFailed(Exception):
    """An example was not answered, or not as expected."""


def read(file: Path = FILE) -> list[ExampleRequest]:
    """Read all examples of a file. Raises `LocalError`."""
    try:
        return [_example(document, file.parent) for document in json.loads(file.read_text("utf-8"))]
    except OSError as error:
        raise LocalError(f"{error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{file}: not a list of examples: {type(error).__name__}: {error}") from error


def send(client: triton.InferenceServerClient, example: ExampleRequest) -> ExampleAnswer:
    """Send one example. Raises `ExampleFailed`."""
    try:
        result = client.infer(
            example.model_name,
            [_tensor(name, array, example.datatypes[name]) for name, array in example.inputs.items()],
            parameters=dict(example.parameters),
            client_timeout=TIMEOUT_S,
        )
    except InferenceServerException as error:
        raise ExampleFailed(f"{error.status()}: {error.message()}") from error
    response = result.get_response()
    outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
    for name, wanted in example.expect.items():
        got = first(outputs[name]) if name in outputs else "nothing"
        if got != wanted:
            raise ExampleFailed(f"output '{name}': want {wanted!r} first, got {got!r}")
    return ExampleAnswer(response.model_name, response.model_version, outputs)


def first(array: np.ndarray[Any, Any]) -> Any:
    """The first element as a Python value, with BYTES as text."""
    value = array.flat[0]
    return value.decode("utf-8") if isinstance(value, bytes) else value.item()


def _example(document: dict[str, Any], folder: Path) -> ExampleRequest:
    inputs: Arrays = {}
    files: list[str] = []
    for tensor in document["inputs"]:
        files += tensor.get("files", [])
        inputs[tensor["name"]] = _array(tensor, folder)
    return ExampleRequest(
        title=document["title"],
        model_name=document["model_name"],
        parameters=document.get("parameters", {}),
        inputs=inputs,
        datatypes={tensor["name"]: tensor["datatype"] for tensor in document["inputs"]},
        files=tuple(files),
        expect=document.get("expect", {}),
    )


def _array(tensor: dict[str, Any], folder: Path) -> np.ndarray[Any, Any]:
    if "files" in tensor:
        return np.array([(folder / name).read_bytes() for name in tensor["files"]], dtype=np.object_)
    return np.array(tensor["data"], dtype=triton_to_np_dtype(tensor["datatype"]))


def _tensor(name: str, array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor
