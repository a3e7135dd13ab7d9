"""The trained networks as ONNX files: raw features in, forecast or logits out, any number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

from examples.models.contracts import PICTURE_PIXELS
from examples.models.countries import FEATURES, HISTORY_DAYS, HORIZON_DAYS
from examples.models.sales.train import LOG_RANGE, Network

# Old enough for every onnxruntime in NVIDIA's images since 2022, new enough for the operators used here.
OPSET: Final = 17
IR_VERSION: Final = 8

Floats = NDArray[np.float32]


def sales_graph(network: Network, name: str) -> bytes:
    """features [n,42] -> forecast [n,7]; the formula is in examples.models.sales.train."""
    constants: dict[str, NDArray[Any]] = {
        "one": np.array(1, np.float32),
        "parts": np.array([HISTORY_DAYS, FEATURES - HISTORY_DAYS], np.int64),
        "low": np.array(LOG_RANGE[0], np.float32),
        "high": np.array(LOG_RANGE[1], np.float32),
        **{field: np.asarray(value, np.float32) for field, value in network._asdict().items()},
    }
    nodes = [
        helper.make_node("Split", ["features", "parts"], ["history", "offers"], axis=1),
        helper.make_node("ReduceMean", ["history"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["mean", "one"], ["level"]),
        helper.make_node("Div", ["history", "level"], ["shape"]),
        helper.make_node("Concat", ["shape", "offers"], ["x"], axis=1),
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["log"]),
        helper.make_node("Clip", ["log", "low", "high"], ["bounded"]),
        helper.make_node("Exp", ["bounded"], ["factor"]),
        helper.make_node("Mul", ["factor", "level"], ["forecast"]),
    ]
    return _file(name, nodes, ("features", [FEATURES]), ("forecast", [HORIZON_DAYS]), constants)


def digits_graph(weights: Mapping[str, Floats], order: Sequence[int], name: str) -> bytes:
    """pixels [n,3,32,32] -> logits [n,10], class i being the digit order[i]."""
    chosen = list(order)
    constants = {key: np.asarray(value, np.float32) for key, value in weights.items()}
    constants["dense2_w"] = constants["dense2_w"][:, chosen]
    constants["dense2_b"] = constants["dense2_b"][chosen]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        *_convolution("pixels", "conv1", stride=2, pads=[0, 0, 1, 1]),
        *_convolution("conv1_out", "conv2", stride=1, pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["conv2_out"], ["pool2"], **pool),
        *_convolution("pool2", "conv3", stride=1, pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["conv3_out"], ["pool3"], **pool),
        helper.make_node("Flatten", ["pool3"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "dense1_w", "dense1_b"], ["dense1"]),
        helper.make_node("Relu", ["dense1"], ["dense1_out"]),
        helper.make_node("Gemm", ["dense1_out", "dense2_w", "dense2_b"], ["logits"]),
    ]
    side = PICTURE_PIXELS
    return _file(name, nodes, ("pixels", [3, side, side]), ("logits", [len(chosen)]), constants)


def _convolution(source: str, name: str, stride: int, pads: list[int]) -> list[Any]:
    return [
        helper.make_node(
            "Conv",
            [source, f"{name}_w", f"{name}_b"],
            [f"{name}_sum"],
            kernel_shape=[3, 3],
            strides=[stride, stride],
            pads=pads,
        ),
        helper.make_node("Relu", [f"{name}_sum"], [f"{name}_out"]),
    ]


def _file(
    name: str,
    nodes: list[Any],
    source: tuple[str, list[int]],
    result: tuple[str, list[int]],
    constants: Mapping[str, NDArray[Any]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, ["rows", *source[1]])],
        [helper.make_tensor_value_info(result[0], TensorProto.FLOAT, ["rows", *result[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="triptych models"
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
