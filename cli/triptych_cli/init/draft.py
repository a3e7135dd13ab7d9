"""A model's tensors as config.pbtxt and the contract declare them, from the header of its ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from triptych.contract.verification.onnx_file import OnnxHeader, Tensor
from triptych.datatypes import TO_NUMPY


class CannotServe(ValueError):
    """The file cannot be served as it is; the text says what to do."""


@dataclass(frozen=True)
class DraftTensor:
    """A tensor without its rows. `dims` are those of config.pbtxt, -1 is open.

    `is_scalar`: the file has one value for each row, [n]. Triton takes no empty dims, so it reshapes [n,1] to [n].
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    is_scalar: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the contract, rows first."""
        return (-1, *self.dims)


@dataclass(frozen=True)
class Draft:
    """The tensors of a model. `max_rows` is 1 if the file has a fixed batch of 1, else None.

    `notes` say what was left out or decided, a line each.
    """

    inputs: Sequence[DraftTensor]
    outputs: Sequence[DraftTensor]
    max_rows: int | None
    notes: Sequence[str]

    @property
    def is_batching(self) -> bool:
        """Whether Triton may join requests."""
        return self.max_rows is None


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
    firsts = {tensor.shape[0] for tensor in tensors if tensor.shape}
    max_rows = None
    if firsts == {1}:
        max_rows = 1
        notes.append(
            "the file has a fixed batch of 1: each request is one row; export it with an open batch to join them"
        )
    elif firsts != {None}:
        raise CannotServe(_mixed(tensors))
    notes += _open_dimensions(header.inputs)
    return Draft([*map(_draft, header.inputs)], [*map(_draft, outputs)], max_rows, notes)


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
    if not tensor.shape:
        raise CannotServe(f"'{tensor.name}' is a single value and has no rows: export it with the shape [n] or [n,1]")


def _mixed(tensors: Sequence[Tensor]) -> str:
    fixed = next(tensor for tensor in tensors if tensor.shape and tensor.shape[0] is not None)
    shape = ", ".join("?" if size is None else str(size) for size in fixed.shape or ())
    return (
        f"'{fixed.name}' has the shape [{shape}], whose first dimension is {fixed.shape[0] if fixed.shape else 0} and "
        "not the rows: export it with an open first dimension (torch.onnx.export: dynamic_axes), or with 1 everywhere"
    )


def _open_dimensions(inputs: Sequence[Tensor]) -> Iterator[str]:
    for tensor in inputs:
        if tensor.shape and None in tensor.shape[1:]:
            yield f"input '{tensor.name}' has open dimensions: rows of one request need the same size in them"


def _draft(tensor: Tensor) -> DraftTensor:
    dims = tuple(-1 if size is None else size for size in (tensor.shape or ())[1:])
    return DraftTensor(tensor.name, tensor.datatype, dims or (1,), not dims)
