"""The call that a form makes, in Python and for grpcurl, to be copied."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from controller.page.trial import PARAMETER_FIELDS
from triptych.contract import Contract, Scalar
from triptych.datatypes import Array
from triptych.protocol.tensors import CONTENTS_FIELDS

MAX_SHOWN: Final = 64  # values that a call shows; more are left to the reader
_EXPANDED: Final = re.compile(r"[\\$`]")  # by a shell, also within <<END


@dataclass(frozen=True)
class SampleCall:
    """One request to a version, and the address that it is sent to."""

    address: str
    model: str
    version: int
    contract: Contract
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Scalar]

    def python(self) -> str:
        """A program with tritonclient. Values that do not fit are read from files."""
        kinds = self._datatypes()
        arrays = [f"    ({name!r}, {kinds[name]!r}, {_python_array(a, name)})," for name, a in self.inputs.items()]
        return "\n".join(
            [
                "import numpy as np",
                "import tritonclient.grpc as triton",
                "",
                "tensors = []",
                "for name, datatype, array in [",
                *arrays,
                "]:",
                "    tensors.append(triton.InferInput(name, list(array.shape), datatype))",
                "    tensors[-1].set_data_from_numpy(array)",
                f"client = triton.InferenceServerClient({self.address!r})",
                f"answer = client.infer({self.model!r}, tensors, {str(self.version)!r}, "
                f"parameters={dict(self.parameters)!r})",
                *(f"print(answer.as_numpy({spec.name!r}))" for spec in self.contract.outputs),
            ]
        )

    def grpcurl(self) -> str:
        """A command for a shell. Files stand as `$(base64 -w0 FILE)`."""
        kinds = self._datatypes()
        if raw := [kind for name in self.inputs if (kind := kinds[name]) not in CONTENTS_FIELDS]:
            return f"JSON has no values of {raw[0]}; a client sends them as raw_input_contents"
        tensors = [
            f"{_in_heredoc({'name': name, 'datatype': kinds[name], 'shape': list(array.shape)})[:-1]}, "
            f'"contents": {{"{CONTENTS_FIELDS[kinds[name]]}": [{", ".join(_json_values(array, name))}]}}}}'
            for name, array in self.inputs.items()
        ]
        parameters = {name: {PARAMETER_FIELDS[type(value)]: value} for name, value in self.parameters.items()}
        document = {"model_name": self.model, "model_version": str(self.version), "parameters": parameters}
        text = f'{_in_heredoc(document)[:-1]}, "inputs": [{", ".join(tensors)}]}}'
        return f"grpcurl -plaintext -d @ {self.address} inference.GRPCInferenceService/ModelInfer <<END\n{text}\nEND"

    def _datatypes(self) -> dict[str, str]:
        return {spec.name: spec.datatype for spec in self.contract.inputs}


def _in_heredoc(value: Any) -> str:
    """JSON in a heredoc that a shell expands. Names and defaults are a contract's, which is data and runs nothing."""
    return _EXPANDED.sub(r"\\\g<0>", json.dumps(value, ensure_ascii=False))


def _python_array(array: Array, name: str) -> str:
    if array.dtype == np.object_:
        texts = [_text(element) for element in array.flat]
        shown = [
            f'open({f"{name}_{row}"!r}, "rb").read()' if text is None else repr(text.encode())
            for row, text in enumerate(texts)
        ]
        return f"np.array([{', '.join(shown)}], dtype=np.object_).reshape({array.shape})"
    if array.size > MAX_SHOWN:
        return f"np.load({f'{name}.npy'!r})"
    return f"np.array({array.tolist()!r}, dtype=np.{array.dtype.name})"


def _json_values(array: Array, name: str) -> list[str]:
    """Values of a tensor as JSON, each by itself."""
    if array.dtype != np.object_:
        values = array.ravel().tolist() if array.size <= MAX_SHOWN else [f"{array.size} VALUES OF {name}"]
        return list(map(_in_heredoc, values))
    return [
        f'"$(base64 -w0 {shlex.quote(f"{name}_{row}")})"'
        if (text := _text(element)) is None
        else f'"{base64.b64encode(text.encode()).decode()}"'
        for row, element in enumerate(array.flat)
    ]


def _text(element: bytes) -> str | None:
    """A short text; None for other bytes."""
    try:
        text = element.decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) <= MAX_SHOWN and text.isprintable() else None
