"""Generator of the models in this folder: `python make.py` in the environment of examples/models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

HERE = Path(__file__).parent


def model(path: Path, node: str, inputs: list[str], datatype: int, constant: np.ndarray) -> None:
    """Model of one operation on a constant and the input, whose first dimension is the rows."""
    name = next(name for name in inputs if name != "constant")
    width = {"features": 4, "index": 1}[name]
    graph = helper.make_graph(
        [helper.make_node(node, inputs, ["output"])],
        "tiny",
        [helper.make_tensor_value_info(name, datatype, ["rows", width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constant, "constant")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


# scale: the first three of four features, times the version
for version in (1, 2):
    path = HERE / f"scale/{version}/model.onnx"
    weights = np.eye(4, 3, dtype=np.float32) * version
    model(path, "MatMul", ["features", "constant"], TensorProto.FLOAT, weights)

# pick: tens[index]; fails for an index that is not there
tens = np.arange(0, 50, 10, dtype=np.float32)
model(HERE / "pick/1/model.onnx", "Gather", ["constant", "index"], TensorProto.INT64, tens)
