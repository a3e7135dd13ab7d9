"""ONNX files of one MatMul, encoded by hand, since the package onnx is in no environment of the services."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11
Dim = int | str  # a size, or the name of one that is open
Rows = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def linear(
    columns: int = 2,
    outputs: int = 2,
    *,
    names: tuple[str, str] = ("x", "y"),
    rows: Dim = "n",
    declared: Dim | None = None,
    datatype: int = FLOAT,
    output_datatype: int = FLOAT,
    output_shape: Sequence[Dim] | None = None,
    inputs: Sequence[bytes] = (),
    weights_as_input: bool = False,
) -> bytes:
    """A model `y = x @ ones` for x of some columns; it may declare other ones, and unused `inputs`."""
    weights = np.ones((columns, outputs), np.float32)
    node = _text(1, names[0]) + _text(1, "w") + _text(2, names[1]) + _text(4, "MatMul")
    shape = (rows, outputs) if output_shape is None else output_shape
    graph = field(1, node) + _text(2, "g") + field(5, initializer("w", weights))
    graph += field(11, value(names[0], datatype, (rows, columns if declared is None else declared)))
    graph += b"".join(field(11, each) for each in inputs)
    graph += field(11, value("w", FLOAT, weights.shape)) if weights_as_input else b""
    return model(graph + field(12, value(names[1], output_datatype, shape)))


def text_identity() -> bytes:
    """A model `y = x` for strings [n]."""
    node = _text(1, "x") + _text(2, "y") + _text(4, "Identity")
    graph = field(1, node) + _text(2, "g") + field(11, value("x", STRING, ("n",)))
    return model(graph + field(12, value("y", STRING, ("n",))))


def identity(datatype: int, *shape: Dim) -> bytes:
    """A model `y = x` of one datatype and shape, which is that of a single value without dimensions."""
    node = _text(1, "x") + _text(2, "y") + _text(4, "Identity")
    ends = field(11, value("x", datatype, shape)) + field(12, value("y", datatype, shape))
    return model(field(1, node) + _text(2, "g") + ends)


INPUT_WEIGHTS = np.array([[0.5, -0.25, 0.125], [1, 0.5, -1]], np.float32)  # [state,features]
STATE_WEIGHTS = np.array([[0.5, -0.5], [0.25, 0.75]], np.float32)


def recurrent(rows: Dim = "batch", time: Dim = "time") -> bytes:
    """A network with a state: x [time,rows,3] and h [1,rows,2] to y [time,1,rows,2] and next [1,rows,2]."""
    size = field(5, _text(1, "hidden_size") + _number(3, 2) + _number(20, 2))  # AttributeProto of the type INT
    names = b"".join(_text(1, name) for name in ("x", "w", "r", "", "", "h"))
    node = names + _text(2, "y") + _text(2, "next") + _text(4, "RNN") + size
    weights = field(5, initializer("w", INPUT_WEIGHTS[None])) + field(5, initializer("r", STATE_WEIGHTS[None]))
    inputs = field(11, value("x", FLOAT, (time, rows, 3))) + field(11, value("h", FLOAT, (1, rows, 2)))
    outputs = field(12, value("y", FLOAT, (time, 1, rows, 2))) + field(12, value("next", FLOAT, (1, rows, 2)))
    return model(field(1, node) + _text(2, "g") + weights + inputs + outputs)


def recurred(x: Rows, h: Rows) -> Rows:
    """The states after each step of `recurrent`, of one row: x [time,3] and h [2] to [time,2]."""
    states = []
    for each in x:
        h = np.tanh(INPUT_WEIGHTS @ each + STATE_WEIGHTS @ h)
        states.append(h)
    return np.array(states)


def external(location: str, **place: str) -> bytes:
    """A model `y = x @ w` of 2 by 2 weights that are in another file; `place` has texts for `offset` and `length`."""
    entries = {"location": location, **place}
    weights = _number(1, 2) + _number(1, 2) + _number(2, FLOAT) + _text(8, "w")
    weights += b"".join(field(13, _text(1, key) + _text(2, text)) for key, text in entries.items()) + _number(14, 1)
    node = _text(1, "x") + _text(1, "w") + _text(2, "y") + _text(4, "MatMul")
    ends = field(11, value("x", FLOAT, ("n", 2))) + field(12, value("y", FLOAT, ("n", 2)))
    return model(field(1, node) + _text(2, "g") + field(5, weights) + ends)


def unloadable(data: bytes) -> bytes:
    """The model of `linear` with an operator that no runtime has: its header is good, and a load fails."""
    return data.replace(b"MatMul", b"NoSuch")


def model(graph: bytes) -> bytes:
    """ModelProto with opset 17 of the default domain."""
    return _number(1, 8) + field(7, graph) + field(8, _text(1, "") + _number(2, 17))


def initializer(name: str, array: Rows) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    return dims + _number(2, FLOAT) + _text(8, name) + field(9, array.tobytes())


def value(name: str, datatype: int, shape: Sequence[Dim] | None) -> bytes:
    """ValueInfoProto: name, datatype and shape of a tensor."""
    tensor = _number(1, datatype)
    if shape is not None:
        dims = (_number(1, dim) if isinstance(dim, int) else _text(2, dim) for dim in shape)
        tensor += field(2, b"".join(field(1, dim) for dim in dims))
    return _text(1, name) + field(2, field(1, tensor))


def sequence(name: str) -> bytes:
    """ValueInfoProto of a sequence, such as the class probabilities of scikit-learn's converter."""
    return _text(1, name) + field(2, field(4, b""))


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, data: bytes) -> bytes:
    """Length-delimited protobuf field: bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def _text(number: int, text: str) -> bytes:
    return field(number, text.encode())
