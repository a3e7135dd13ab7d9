"""The header of an ONNX file against config.pbtxt: a mismatch is found before any load.

The file is walked field by field in the wire format of protobuf. Everything but names, datatypes and shapes is skipped
by its length, so weights of gigabytes are never read. The package onnx would read all of them, and is 17 MB itself.
Field numbers are those of onnx.proto of ONNX 1.17, which is only ever extended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from triptych.contract.reading.files import LFS_LINE, LFS_POINTER, is_within, resolved
from triptych.contract.verification.loadable import PLATFORMS
from triptych.contract.verification.triton_config import MAX_FAULTS, datatype_of, missing_file, model_file
from triptych.errors import clipped

# TensorProto.DataType, by the names of the Open Inference Protocol.
_DATATYPES: Final = {
    **{1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "BYTES", 9: "BOOL"},
    **{10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16"},
}
_MAX_NAME: Final = 1 << 16  # bytes
_MAX_TEXT: Final = 1 << 24  # bytes of all names that are read; 10,000 weights have 1 MB
_MAX_RANK: Final = 64
_MAX_PROBLEM: Final = 500  # characters of a sentence, which quotes the file
_MAX_FIELDS: Final = 2_000_000  # steps; a graph of 10,000 nodes and 5,000 weights takes some 35,000
# The messages in which tensors can be, each with the numbers of its fields that hold such messages.
_HOLDERS: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_SMALL_BYTES: Final = 1 << 16  # a message up to this size is searched for the word at once
_LOCATION: Final = b"location"  # the key without which a tensor has no other file
_NUMBER: Final = re.compile("[0-9]{1,18}")
_VARINT, _DELIMITED, _FIXED = 0, 2, {1: 8, 5: 4}  # kinds of fields; bytes of those of fixed size

Shape = tuple[int | None, ...]  # None is an open dimension


class NotOnnx(ValueError):
    """The file is no ONNX model; the text is the reason."""


@dataclass(frozen=True)
class Tensor:
    """An input or output. `datatype` is empty if it is no tensor; `shape` is None if the file leaves it open.

    `dim_names` are the names of the dimensions in the file, '' for those without.
    """

    name: str
    datatype: str = ""
    shape: Shape | None = None
    dim_names: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class OnnxHeader:
    """Inputs and outputs, without inputs that have a value in the file.

    `weight_files` are the other files that hold tensors of any graph, with the bytes that each has at least.
    """

    inputs: Sequence[Tensor]
    optional: frozenset[str]
    outputs: Sequence[Tensor]
    weight_files: Mapping[str, int] = field(default_factory=dict)


def check_model_file(config: Any, folder: Path) -> list[str]:
    """Compare the ONNX file of a version with config.pbtxt: one line `model.onnx:1: problem` for each mismatch.

    A file that is no ONNX model is a problem. A file of another kind, or one that does not exist, has no line.
    Raises `OSError`.
    """
    name, backend = model_file(config), config.backend or PLATFORMS.get(config.platform)
    if name is None or backend != "onnxruntime" or ".." in Path(name).parts:
        return []
    if missing_file(config, folder, folder.parent.parent) or not (folder / name).is_file():
        return []
    try:
        with (folder / name).open("rb") as file:
            start = file.read(8)
            if start[4:] == b"ORTM":  # the format of onnxruntime itself
                return []
            header = read_header(file)
    except NotOnnx as error:
        return [f"{name}:1: is no ONNX model, or not whole: {error}"]
    root = resolved(folder.parent.parent)
    problems = [*_problems(config, header), *_weight_problems(header.weight_files, (folder / name).parent, root)]
    told = [f"{name}:1: {clipped(problem, _MAX_PROBLEM)}" for problem in problems[:MAX_FAULTS]]
    return told if len(problems) <= MAX_FAULTS else [*told, f"{name}:1: and {len(problems) - MAX_FAULTS} more faults"]


def read_header(file: BinaryIO) -> OnnxHeader:
    """The header of an open file, whatever its position. Raises `NotOnnx`."""
    file.seek(0)
    if file.read(len(LFS_LINE)) == LFS_LINE:
        raise NotOnnx(f"it {LFS_POINTER}")
    return _FieldWalk(file).header()


_Span = tuple[int, int]  # start and end of a message in the file
_Body = _Span | int  # a span, or the value of a number


class _FieldWalk:
    """A walk through one file, of at most `_MAX_FIELDS` steps."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left, self._left_text = file, _MAX_FIELDS, _MAX_TEXT

    def header(self) -> OnnxHeader:
        whole = (0, self._file.seek(0, 2))
        graphs = [body for number, body in self._fields(whole) if number == 7]
        if len(graphs) != 1 or isinstance(graphs[0], int):
            raise NotOnnx("it has no graph" if not graphs else "it has more than one graph")
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        valued: set[str] = set()
        for number, body in self._fields(graphs[0]):
            if number in (11, 12):
                (inputs if number == 11 else outputs).append(self._tensor(body))
            elif number == 5:  # an initializer, among the inputs too in older files
                valued.update(self._text(value) for field, value in self._fields(body) if field == 8)
        needed = [tensor for tensor in inputs if tensor.name not in valued]
        return OnnxHeader(needed, frozenset(valued), outputs, self._weight_files(whole))

    def _weight_files(self, whole: _Span) -> dict[str, int]:
        """Other files with tensors of the graph, of its subgraphs, functions and attributes, with their least bytes."""
        found, left = dict[str, int](), [("model", whole)]
        while left:
            kind, message = left.pop()
            if not self._may_name_files(message):
                continue
            if kind == "tensor":
                entries = [value for field, value in self._fields(message) if field == 13]
                if entries:
                    location, end = self._place(entries)
                    found[location] = max(end, found.get(location, 0))
                continue
            holders = _HOLDERS[kind]
            inner = [(holders[field], body) for field, body in self._fields(message) if field in holders]
            left.extend((name, body) for name, body in reversed(inner) if isinstance(body, tuple))
        return found

    def _may_name_files(self, message: _Span) -> bool:
        """Whether a message has to be walked through: a small one without the word names no file."""
        start, end = message
        if end - start > _SMALL_BYTES:
            return True
        self._file.seek(start)
        return _LOCATION in self._file.read(end - start)

    def _place(self, entries: Sequence[_Body]) -> tuple[str, int]:
        """File of a weight outside of the model file, and the end of its bytes there."""
        texts = {self._text(self._first(each, 1)): self._text(self._first(each, 2)) for each in entries}
        numbers = [texts.get(key, "") for key in ("offset", "length")]
        return texts.get("location", ""), sum(int(each) for each in numbers if _NUMBER.fullmatch(each))

    def _fields(self, message: _Body | None) -> Iterator[tuple[int, _Body]]:
        """Numbers and values of the fields of a message; none without a message."""
        at, end = message if isinstance(message, tuple) else (0, 0)
        while at < end:
            self._left -= 1
            if not self._left:
                raise NotOnnx(f"it has more than {_MAX_FIELDS} fields")
            self._file.seek(at)
            key = self._varint()
            body: _Body = 0
            if key & 7 == _VARINT:
                body, next_at = self._varint(), self._file.tell()
            elif key & 7 == _DELIMITED:
                length, first = self._varint(), self._file.tell()
                body, next_at = (first, first + length), first + length
            elif key & 7 in _FIXED:
                next_at = self._file.tell() + _FIXED[key & 7]
            else:
                raise NotOnnx(f"byte {at} begins no field")
            if next_at > end or not key >> 3:
                raise NotOnnx(f"the field at byte {at} does not end by byte {end}")
            yield key >> 3, body
            at = next_at

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._file.read(1)
            if not byte or shift > 63:
                raise NotOnnx("a number has no end")
            value |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return value
            shift += 7

    def _first(self, message: _Body | None, number: int) -> _Body | None:
        """A field of a message; None if it is not set."""
        return next((body for each, body in self._fields(message) if each == number), None)

    def _text(self, span: _Body | None) -> str:
        if not isinstance(span, tuple):
            return ""
        size = min(span[1] - span[0], _MAX_NAME)
        self._left_text -= size
        if self._left_text < 0:
            raise NotOnnx(f"its names have more than {_MAX_TEXT} bytes")
        self._file.seek(span[0])
        return self._file.read(size).decode(errors="replace")

    def _tensor(self, value_info: _Body) -> Tensor:
        name = self._text(self._first(value_info, 1))
        tensor = self._first(self._first(value_info, 2), 1)
        if tensor is None:
            return Tensor(name)
        number = self._first(tensor, 1)
        datatype = _DATATYPES.get(number, f"type {number} of ONNX") if isinstance(number, int) else "of no datatype"
        shape = self._first(tensor, 2)
        if not isinstance(shape, tuple):
            return Tensor(name, datatype)
        bodies = [body for field, body in self._fields(shape) if field == 1]
        if len(bodies) > _MAX_RANK:
            raise NotOnnx(f"'{name}' has {len(bodies)} dimensions")
        dims = [self._first(body, 1) for body in bodies]
        sizes = tuple(d if isinstance(d, int) and 0 < d < 1 << 62 else None for d in dims)
        return Tensor(name, datatype, sizes, tuple(self._text(self._first(body, 2)) for body in bodies))


def _problems(config: Any, header: OnnxHeader) -> Iterator[str]:
    batching = config.max_batch_size > 0
    for kind, tensors, declared in (("input", header.inputs, config.input), ("output", header.outputs, config.output)):
        there = {tensor.name: tensor for tensor in tensors}
        for wanted in declared:
            if wanted.name in there:
                yield from _compare(kind, wanted, there[wanted.name], batching)
            elif wanted.name not in header.optional:
                names = ", ".join(there) or "none"
                yield f"has no {kind} '{wanted.name}', which config.pbtxt declares; there are: {names}"
    declared_inputs = {tensor.name for tensor in config.input}
    declared_inputs.update(name for made in config.batch_input for name in made.target_name)  # Triton makes these
    if not config.HasField("sequence_batching"):  # whose state is declared elsewhere
        for tensor in header.inputs:
            if tensor.name not in declared_inputs:
                yield f"input '{tensor.name}' is not declared in config.pbtxt"


def _weight_problems(files: Mapping[str, int], folder: Path, root: str) -> Iterator[str]:
    """Files of weights that a load would miss, or that the digests of the version do not cover."""
    for location, end in files.items():
        what, path = f"weights are in {location!r:.80}", PurePosixPath(location)
        if not location or path.is_absolute() or ".." in path.parts or "\0" in location:
            yield f"{what}, want a file in the folder of the model file, or below it"
        elif not (folder / path).is_file():
            yield f"{what}: no such file"
        elif not is_within(resolved(folder / path), root):
            yield f"{what}, which is a link out of the model repository"
        elif (size := (folder / path).stat().st_size) < end:
            yield f"{what}: want at least {end} bytes, got {size}; the file is not whole"


def _compare(kind: str, wanted: Any, there: Tensor, batching: bool) -> Iterator[str]:
    what = f"{kind} '{wanted.name}'"
    if not there.datatype:
        yield f"{what} is no tensor but a sequence or a map; export it as a tensor (skl2onnx: zipmap=False)"
        return
    datatype = datatype_of(wanted.data_type)
    if datatype != there.datatype:
        yield f"{what} is {there.datatype}, but {datatype} in config.pbtxt"
    if there.shape is None:
        return
    dims = tuple(wanted.reshape.shape if wanted.HasField("reshape") else wanted.dims)
    expected = (-1, *dims) if batching else dims
    if not there.shape and not batching and all(dim == 1 for dim in dims):
        return  # a single value, which NVIDIA's backend makes of ones
    shown = f"{_spell(there.shape)}, but {list(expected)} in config.pbtxt" + " with the rows in front" * batching
    if len(expected) != len(there.shape):
        yield f"{what} has dims {shown}"
    elif batching and there.shape[0] is not None:
        fixed = f"a fixed batch of {there.shape[0]}, but max_batch_size above 0 joins requests"
        yield f"{what} has dims {_spell(there.shape)}, {fixed}: export it with an open first dimension, or want 0"
    elif not all(map(_agrees, there.shape, expected)):
        yield f"{what} has dims {shown}"


def _agrees(there: int | None, expected: int) -> bool:
    """Whether dimensions agree, as NVIDIA's backend compares them: an open one of the file may have any size."""
    return there in (None, expected)


def _spell(shape: Shape) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
