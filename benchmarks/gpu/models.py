"""Model folders: the network with a contract for separate stages, and models with all three steps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.programs.network import CLASSES, SIDE, TOP
from local.environments import ROOT

PROGRAM = ROOT / "benchmarks/gpu/programs/triton_model.py"
MAX_ROWS = 64
SEPARATE, GROUPED, GROUPED_THREADS = "photo", "photo_grouped", "photo_grouped_threads"

CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: photo
route: "{route}"
max_rows: {rows}
inputs:
  - {{name: image, datatype: BYTES, shape: [-1], max_bytes: 16777216}}
preprocess:
  - {{op: decode_image, input: image, output: picture}}
  - {{op: resize, input: picture, width: {side}, height: {side}, interpolation: area}}
  - {{op: layout, input: picture, output: pixels, order: nhwc, datatype: UINT8}}
model:
  inputs: [{{name: pixels, datatype: UINT8, shape: [-1, {side}, {side}, 3]}}]
  outputs: [{{name: logits, datatype: FP32, shape: [-1, {classes}]}}]
postprocess:
  - {{op: softmax, input: logits, output: probability}}
  - {{op: top_k, input: probability, k: {top}, output: score, indices: place}}
  - {{op: label, input: place, labels: word, output: label}}
outputs:
  - {{name: label, datatype: BYTES, shape: [-1, -1]}}
  - {{name: score, datatype: FP32, shape: [-1, -1]}}
labels:
  word: [{labels}]
"""

PREDICT = f"""\
input [ {{ name: "pixels" data_type: TYPE_UINT8 dims: [ {SIDE}, {SIDE}, 3 ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {CLASSES} ] }} ]
"""
WHOLE = f"""\
input [ {{ name: "image" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [ {{ name: "label" data_type: TYPE_STRING dims: [ {TOP} ] }}, {{ name: "score" data_type: TYPE_FP32 dims: [ {TOP} ] }} ]
"""  # noqa: E501


@dataclass(frozen=True)
class NetworkParameters:
    """Parameters of the network. `kind` is torch or numpy; `device` is PyTorch's name."""

    kind: str
    device: str
    width: int
    depth: int

    def parameters(self, step: str, threads: int = 1) -> Mapping[str, object]:
        """Parameters for the model's configuration."""
        return {
            **{"network": self.kind, "device": self.device, "width": self.width, "depth": self.depth},
            **{"step": step, "threads": threads},
        }


def publish_separate(folder: Path, networks: Mapping[str, NetworkParameters], instances: int) -> None:
    """Write a model with a contract for each network; `SEPARATE` has `instances` instances, the others one."""
    for name, network in networks.items():
        count = instances if name == SEPARATE else 1
        version = _publish(folder / name, PREDICT, network.parameters("predict"), count)
        route = name.removeprefix(f"{SEPARATE}_").upper()
        words = ", ".join(f'"class {number}"' for number in range(CLASSES))
        text = CONTRACT.format(route=route, rows=MAX_ROWS, side=SIDE, classes=CLASSES, top=TOP, labels=words)
        (version / "contract.yaml").write_text(text)


def publish_grouped(folder: Path, network: NetworkParameters, threads: int, instances: int) -> None:
    """Write a sequential grouped model, and one with decoding threads and `instances` instances."""
    _publish(folder / GROUPED, WHOLE, network.parameters("grouped"), 1)
    _publish(folder / GROUPED_THREADS, WHOLE, network.parameters("grouped", threads), instances)


def _publish(folder: Path, tensors: str, parameters: Mapping[str, object], instances: int) -> Path:
    version = folder / "1"
    version.mkdir(parents=True)
    shutil.copy(PROGRAM, version / "model.py")
    # The program selects its device; KIND_GPU would add nothing.
    more = "".join(
        f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n' for name, value in parameters.items()
    )
    (folder / "config.pbtxt").write_text(
        f'name: "{folder.name}"\nbackend: "python"\nmax_batch_size: {MAX_ROWS}\n{tensors}'
        "version_policy { all { } }\n"
        "dynamic_batching { max_queue_delay_microseconds: 0 }\n"
        f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]\n{more}"
    )
    return version
