"""A model's tensors as config.pbtxt and the contract declare them, from the header of its ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from triptych.contract.verification.onnx_file import OnnxHeader, Tensor
from triptych.datatypes import TO_NUMPY


class CannotServe(ValueError):
    """The file cannot be served as it is; the text says what to do."""


@dataclass(frozen=True)
class DraftTensor:
    """A tensor as the contract and config.pbtxt declare it; -1 is open.

    `dims` follow the rows in the contract. `config_dims` are those of config.pbtxt, which Triton reshapes to
    `file_shape` if that is not None; both are without the rows if Triton may join requests. `rows_axis` is the
    dimension of the file that has the rows.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    config_dims: tuple[int, ...]
    file_shape: tuple[int, ...] | None = None
    rows_axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the contract, rows first."""
        return (-1, *self.dims)


@dataclass(frozen=True)
class Draft:
    """The tensors of a model. `max_rows` is 1 if a request can be one row only, else None.

    `is_batching`: Triton may join requests. `notes` say what was left out or decided, a line each.
    """

    inputs: Sequence[DraftTensor]
    outputs: Sequence[DraftTensor]
    max_rows: int | None
    notes: Sequence[str]
    is_batching: bool


def draft_of(header: OnnxHeader) -> Draft:
    """The draft of a file with this header. Raises `CannotServe`."""
    outputs = [tensor for tensor in header.outputs if tensor.datatype]
    if not header.inputs:
        raise CannotServe("the file has no input")
    if not outputs:
        raise CannotServe(f"{_not_tensors(header.outputs)}; {_ZIPMAP}")
    notes = [f"left out: {_not_tensors(header.outputs)}; {_ZIPMAP}"] if len(outputs) < len(header.outputs) else []
    tensors = [*header.inputs, *outputs]
    for tensor in tensors:
        _check(tensor)
    axes = _rows_axes(tensors)
    if any(axes.values()):
        notes += [_moved(tensors, axes), *open_notes(header.inputs)]
        known, made = (
            [_moved_draft(tensor, axes[tensor.name]) for tensor in each] for each in (header.inputs, outputs)
        )
        return Draft(known, made, None, notes, is_batching=False)
    elsewhere = _rows_elsewhere(header.inputs, tensors)
    if {_first(tensor) for tensor in tensors} == {None} and not elsewhere:
        known, made = [*map(_draft, header.inputs)], [*map(_draft, outputs)]
        return Draft(known, made, None, notes + open_notes(header.inputs), is_batching=True)
    if not any(_first(tensor) in (None, 1) and tensor.name not in elsewhere for tensor in header.inputs):
        return _whole(header.inputs, outputs, notes)
    notes += [_one_row(tensors, elsewhere), *open_notes(header.inputs), *_single(header.inputs)]
    known = [_one_row_draft(tensor, tensor.name in elsewhere) for tensor in header.inputs]
    made = [_one_row_output(tensor, known, notes, tensor.name in elsewhere) for tensor in outputs]
    return Draft(known, made, 1, notes, is_batching=False)


def _rows_axes(tensors: Sequence[Tensor]) -> dict[str, int]:
    """The dimension of the rows in each tensor, by one name that all of them have; empty if there is none.

    A name such as `batch` is that of the rows, else one that is first in some tensor: `time` in [1, time, 80] is not.
    """
    shared = [name for name in tensors[0].dim_names if name and all(_has_once(tensor, name) for tensor in tensors)]
    first = {tensor.dim_names[0] for tensor in tensors if tensor.dim_names}
    batch = [name for name in shared if _BATCH in name.lower()]
    found = batch or [name for name in shared if name.lower() in _ROWS] or [name for name in shared if name in first]
    return {tensor.name: tensor.dim_names.index(found[0]) for tensor in tensors} if found else {}


def _has_once(tensor: Tensor, name: str) -> bool:
    return tensor.dim_names.count(name) == 1


def _rows_elsewhere(inputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> frozenset[str]:
    """Tensors whose first dimension is not the rows by the names in the file, as in `x [batch,t]`, `y [t,batch]`."""
    rows = next((tensor.dim_names[0] for tensor in inputs if tensor.dim_names and tensor.dim_names[0]), "")
    return frozenset(tensor.name for tensor in tensors if rows and rows in tensor.dim_names[1:])


def _first(tensor: Tensor) -> int | None:
    """The first dimension, None if it is open; 0 for a single value, which has none."""
    return tensor.shape[0] if tensor.shape else 0


_BATCH: Final = "batch"
_ROWS: Final = ("b", "bs", "n", "rows")
_ZIPMAP = "export it as a tensor (skl2onnx: options={'zipmap': False})"


def _not_tensors(outputs: Sequence[Tensor]) -> str:
    names = ", ".join(f"'{tensor.name}'" for tensor in outputs if not tensor.datatype)
    return f"output {names} is no tensor but a sequence or a map"


def _check(tensor: Tensor) -> None:
    if tensor.datatype not in TO_NUMPY:
        known = ", ".join(TO_NUMPY)
        raise CannotServe(f"'{tensor.name}' is {tensor.datatype or 'no tensor'}, want one of {known}")
    if tensor.shape is None:
        raise CannotServe(f"'{tensor.name}' has no shape in the file: export it with one, the rows first and open")


def _whole(inputs: Sequence[Tensor], outputs: Sequence[Tensor], notes: Sequence[str]) -> Draft:
    """The draft of a file in which no input has rows: each request is one row, and a tensor is all of it."""
    shapes = ", ".join(f"'{tensor.name}' {_spell(tensor)}" for tensor in inputs)
    note = (
        f"no input has the rows as its first dimension, there are {shapes}: each request is one row of these sizes; "
        "if one of them is a batch, export it open (torch.onnx.export: dynamic_axes)"
    )
    known, made = ([_whole_draft(tensor) for tensor in each] for each in (inputs, outputs))
    return Draft(known, made, 1, [*notes, note, *_single(inputs)], is_batching=False)


def _one_row(tensors: Sequence[Tensor], elsewhere: Collection[str]) -> str:
    """The reason why a request can be one row only."""
    other = [
        f"'{tensor.name}' {_spell(tensor)}"
        for tensor in tensors
        if _first(tensor) not in (None, 1) or tensor.name in elsewhere
    ]
    if not other:
        return "the file has a fixed batch of 1: each request is one row; export it with an open batch to join them"
    return f"the first dimension of {', '.join(other)} is not the rows: each request is one row"


def _moved(tensors: Sequence[Tensor], axes: Mapping[str, int]) -> str:
    """The tensors whose rows are not in the first dimension."""
    moved = [
        f"dimension {axes[tensor.name]} of '{tensor.name}' {_spell(tensor)}" for tensor in tensors if axes[tensor.name]
    ]
    return f"the rows are {', '.join(moved)}: preprocess joins requests, and moves them there"


def _moved_draft(tensor: Tensor, axis: int) -> DraftTensor:
    shape = _numbers(tensor.shape or ())
    dims = (*shape[:axis], *shape[axis + 1 :])
    return DraftTensor(tensor.name, tensor.datatype, dims, shape, rows_axis=axis)


def _spell(tensor: Tensor) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in tensor.shape or ())}]"


def open_notes(inputs: Sequence[Tensor]) -> list[str]:
    """A note for each input with open dimensions beside the rows."""
    return [
        f"input '{tensor.name}' has open dimensions: rows of one request need the same size in them"
        for tensor in inputs
        if tensor.shape and _first(tensor) in (None, 1) and None in tensor.shape[1:]
    ]


def _single(inputs: Sequence[Tensor]) -> list[str]:
    return [
        f"input '{tensor.name}' is a single value: the step `constant` makes it if it never changes"
        for tensor in inputs
        if not tensor.shape
    ]


def _draft(tensor: Tensor) -> DraftTensor:
    """A tensor whose first dimension is the rows. Triton takes no empty dims: one of a value for each row is [n,1]."""
    dims = _numbers((tensor.shape or ())[1:])
    return DraftTensor(tensor.name, tensor.datatype, dims or (1,), dims or (1,), None if dims else ())


def _one_row_draft(tensor: Tensor, elsewhere: bool = False) -> DraftTensor:
    """A tensor of a model that takes one row: a single value, one with the rows first, or one of that row as a whole.

    NVIDIA's backend takes [1] in config.pbtxt for a single value, and wants an output open there where the file is.
    """
    shape = _numbers(tensor.shape or ())
    if not shape:
        return DraftTensor(tensor.name, tensor.datatype, (), (1,))
    if _first(tensor) in (None, 1) and not elsewhere:
        return DraftTensor(tensor.name, tensor.datatype, shape[1:], shape)
    # What is open is that of the one row, if it is all that is open.
    sizes = tuple(1 if size == -1 else size for size in shape) if shape.count(-1) == 1 else shape
    return DraftTensor(tensor.name, tensor.datatype, sizes, (1, *shape), shape)


def _whole_draft(tensor: Tensor) -> DraftTensor:
    """A tensor that is one row as it is in the file, with [1] before it for Triton's callers."""
    shape = _numbers(tensor.shape or ())
    if not shape or shape[0] == 1:
        return _one_row_draft(tensor)
    return DraftTensor(tensor.name, tensor.datatype, shape, (1, *shape), shape)


def _one_row_output(tensor: Tensor, inputs: Sequence[DraftTensor], notes: list[str], elsewhere: bool) -> DraftTensor:
    """An output of which the file says only the rank is like the one input of that rank that has no rows first."""
    shape = _numbers(tensor.shape or ())
    alike = [each for each in inputs if each.file_shape is not None and len(each.file_shape) == len(shape)]
    if set(shape) != {-1} or len(alike) != 1:
        return _one_row_draft(tensor, elsewhere)
    notes.append(f"the file has no sizes of output '{tensor.name}': taken from input '{alike[0].name}'")
    return DraftTensor(tensor.name, tensor.datatype, alike[0].dims, (1, *shape), shape)


def _numbers(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(-1 if size is None else size for size in shape)
