"""Minimal model folders and ServedModel documents for tests."""

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
  placement: {{{placement}}}
{more}"""


def model_file(mark: bytes = b"onnx") -> bytes:
    """A small ONNX model; its bytes depend on the mark, and its size on the length of the mark."""
    return linear() + field(DOC_STRING, mark)


def publish(models: Path, name: str, version: int = 1, route: str | None = None, description: str = "first") -> Path:
    """Write one version of a model and return the folder of the version."""
    folder = models / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (models / name / "config.pbtxt").write_text(CONFIG.format(name=name))
    (folder / "model.onnx").write_bytes(model_file())
    route = route or name.rpartition("_")[2].upper()
    text = CONTRACT.format(family="sales", route=route, description=description)
    (folder / "contract.yaml").write_text(text)
    return folder


def publish_with_vocabulary(models: Path, name: str, words: bytes, version: int = 1, family: str = "sales") -> Path:
    """A version whose preprocess reads cities.txt for a second input, which its model does not take."""
    folder = publish(models, name, version)
    path, x = folder / "contract.yaml", "  - {name: x, datatype: FP32, shape: [-1, 2]}\n"
    city = "  - {name: city, datatype: BYTES, shape: [-1]}\n"
    step = "preprocess:\n  - {op: ordinal, input: city, file: cities.txt}\nmodel:"
    text = path.read_text().replace(x, x + city, 1).replace("model:", step)
    path.write_text(text.replace("family: sales", f"family: {family}"))
    (folder / "cities.txt").write_bytes(words)
    return folder


def served_model(
    model: str, traffic: dict[int, int], *, name: str = "", placement: str = "", release: str = "", aliases: str = ""
) -> str:
    """ServedModel document of a model with its traffic. `placement` and `aliases` are these mappings, in YAML."""
    shares = ", ".join(f"{{version: {version}, percent: {percent}}}" for version, percent in traffic.items())
    name = name or model.replace("_", "-")
    more = f"  release: {release}\n" if release else ""
    more += f"  aliases: {{{aliases}}}\n" if aliases else ""
    return DOCUMENT.format(name=name, model=model, traffic=shares, placement=placement, more=more)


def declare(
    documents: Path,
    model: str,
    traffic: dict[int, int],
    *,
    name: str = "",
    file: str = "",
    pin: bool = False,
    placement: str = "",
    aliases: str = "",
) -> None:
    """Write one ServedModel document to its own file. `placement` is added to that mapping, in YAML."""
    more = f"pin: {str(pin).lower()}" + (f", {placement}" if placement else "")
    text = served_model(model, traffic, name=name, placement=more, aliases=aliases)
    (documents / f"{file or model}.yaml").write_text(text)
