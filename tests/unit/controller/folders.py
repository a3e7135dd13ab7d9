"""Model folders and ServedModel documents as small as Triton, the contract and the schema allow."""

from __future__ import annotations

from pathlib import Path

from tests.onnx_files import field, linear

DOC_STRING = 6  # of ModelProto

CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: 4
input [{{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }}]
version_policy {{ all {{ }} }}
"""
CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: {family}
route: {route}
description: {description}
max_rows: 4
inputs:
  - {{name: x, datatype: FP32, shape: [-1, 2]}}
model:
  inputs: [{{name: x, datatype: FP32, shape: [-1, 2]}}]
  outputs: [{{name: y, datatype: FP32, shape: [-1, 2]}}]
outputs:
  - {{name: y, datatype: FP32, shape: [-1, 2]}}
"""

DOCUMENT = """\
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {{name: {name}}}
spec:
  model: {model}
  traffic: [{traffic}]
  placement: {{pin: {pin}{more}}}
"""


def model_file(mark: bytes = b"onnx") -> bytes:
    """A small ONNX model; its bytes differ with the mark, and its size with the length of the mark."""
    return linear() + field(DOC_STRING, mark)


def publish(models: Path, name: str, version: int = 1, route: str | None = None, description: str = "first") -> Path:
    """Writes one version of a model and returns the version's own folder."""
    folder = models / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (models / name / "config.pbtxt").write_text(CONFIG.format(name=name))
    (folder / "model.onnx").write_bytes(model_file())
    route = route or name.rpartition("_")[2].upper()
    text = CONTRACT.format(family="sales", route=route, description=description)
    (folder / "contract.yaml").write_text(text)
    return folder


def declare(
    documents: Path,
    model: str,
    traffic: dict[int, int],
    *,
    name: str = "",
    file: str = "",
    pin: bool = False,
    placement: str = "",
) -> None:
    """Writes one ServedModel document in a file of its own. `placement` is more of that mapping, as YAML."""
    shares = ", ".join(f"{{version: {version}, percent: {percent}}}" for version, percent in traffic.items())
    name = name or model.replace("_", "-")
    text = DOCUMENT.format(
        name=name, model=model, traffic=shares, pin=str(pin).lower(), more=f", {placement}" if placement else ""
    )
    (documents / f"{file or model}.yaml").write_text(text)
