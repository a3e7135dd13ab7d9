"""A contract against the config.pbtxt of Triton."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from triptych.contract.reading.files import MAX_BYTES, FileError, is_within, printable, read_text, resolved
from triptych.contract.schema.contract import Contract
from triptych.contract.specs import ModelTensorSpec
from triptych.contract.verification.callable import uncallable
from triptych.contract.verification.loadable import PLATFORMS, unloadable

FILE: Final = "config.pbtxt"
# The model file by backend if the configuration names none.
MODEL_FILES: Final = {
    "onnxruntime": "model.onnx",
    "tensorrt": "model.plan",
    "pytorch": "model.pt",
    "python": "model.py",
    "openvino": "model.xml",
}
MAX_REASON: Final = 300  # characters of an error of protobuf, which quotes the file
# Tokens of the protobuf parser in C++, which Triton uses; the parser of Python accepts more. A comment or a string,
# which may hold anything, or a word that begins as a number. No pattern here may try a text twice: 64 KiB of digits, or
# of quotes without an end, took minutes in which no other thread ran (2026-11-30). Behind a string is only its end,
# which may be missing, so nothing is tried again. A possessive group instead (`*+`) loses the end in some Pythons
# 3.11 (python/cpython#101955; Debian 12's of April 2025). The two groups are the ends.
_TOKEN: Final = re.compile(
    r"#[^\n]*"
    r"|\"(?:[^\"\\\n]+|\\.)*(\")?"
    r"|'(?:[^'\\\n]+|\\.)*(')?"
    r"|[0-9A-Za-z_+.-]+|[^\x00-\x7f]"
)
MAX_FAULTS: Final = 50  # of one file: the line of each is looked for from its beginning
# protobuf reads a row of backslashes once from each of them.
MAX_BACKSLASHES: Final = 32
_ESCAPE: Final = re.compile(
    r"\\(?:[abfnrtv\\'\"]|x[0-9a-fA-F]|[0-3][0-7]{2}|[0-7]{1,2}(?![0-7])|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
)
_NUMBER: Final = re.compile(
    r"-?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?|[A-Za-z]\w*)?"
)


class ConfigError(ValueError):
    """A configuration that Triton cannot read; the text starts with `config.pbtxt:LINE:`."""


def parse_config(text: str) -> Any:
    """Parse the text as a message `inference.ModelConfig`. Raises `ConfigError`."""
    _check_tokens(text)
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        line, reason = error.GetLine() or 1, re.sub(r"^\d+:\d+ : ", "", str(error))
    except Exception as error:  # ValueError for an enumeration's number of more than 32 bits
        line, reason = 1, f"cannot be read: {type(error).__name__}: {error}"
    raise ConfigError(f"{FILE}:{line}: {reason:.{MAX_REASON}}")


def _check_tokens(text: str) -> None:
    """Raise `ConfigError` for tokens that Triton refuses and the protobuf of Python takes, such as `+5`."""
    for token in _TOKEN.finditer(text):
        if wrong := _wrong(token[0], is_closed=token.lastindex is not None):
            line = text.count("\n", 0, token.start()) + 1
            raise ConfigError(f"{FILE}:{line}: {wrong}")


def _wrong(token: str, is_closed: bool) -> str:
    first = token[0]
    if first in "\"'":
        if not is_closed:
            return "want the end of a string in its line"
        if "\\" * (MAX_BACKSLASHES + 1) in token:
            return f"want at most {MAX_BACKSLASHES} backslashes in a row"
        left = _ESCAPE.sub("", token) if "\\" in token else ""
        wrong = left[left.index("\\") :][:2] if "\\" in left else ""
        return wrong and f"want escapes of C in a string, got {wrong}; a backslash is written \\\\"
    if first in "0123456789+-." and not _NUMBER.fullmatch(token):
        return f"want a number as in C, got {token:.40}"
    return f"want ASCII outside of strings and comments, got {ascii(token)}" if first > "\x7f" else ""


def read_config(folder: Path, within: Path | None = None, most: int = MAX_BYTES) -> tuple[str, Any]:
    """Read config.pbtxt: its text and the message. Raises `ConfigError`."""
    try:
        text = read_text(folder / FILE, within, most)
    except FileError as error:
        raise ConfigError(f"{FILE}:{error.line}: {error}") from None
    return text, parse_config(text)


def check_config(
    contract: Contract,
    config_pbtxt_text: str,
    model_name: str,
    config: Any = None,
    models: Collection[str] | None = None,
) -> list[str]:
    """Compare a contract with config.pbtxt: one line `config.pbtxt:LINE: problem` for each mismatch.

    `config` is the same as a message, for a caller who has it: reading the text takes a millisecond. `models` are
    the names of all models, for an ensemble; None if they are unknown.
    """
    try:
        config = config if config is not None else parse_config(config_pbtxt_text)
    except ConfigError as error:
        return [str(error)]
    lines = config_pbtxt_text.split("\n")
    found = [*_problems(contract, config, model_name), *uncallable(config, models), *unloadable(config)]
    faults = [f"{FILE}:{_line_of(word, lines)}: {problem}" for word, problem in found[:MAX_FAULTS]]
    return faults if len(found) <= MAX_FAULTS else [*faults, f"{FILE}: and {len(found) - MAX_FAULTS} more faults"]


def model_file(config: Any) -> str | None:
    """Name of the model file of a version; None if only the backend knows it."""
    return config.default_model_filename or MODEL_FILES.get(config.backend or PLATFORMS.get(config.platform, ""))


def missing_file(config: Any, version: Path, within: Path | None = None) -> str:
    """The fault of the model file of a version, `1/model.onnx: no such file`; '' if it has none.

    A name that leads out of the folder is a problem of the configuration, and is not looked for.
    """
    name = model_file(config)
    if name is None or ".." in Path(name).parts or "\0" in name:
        return ""
    path = version / name
    try:
        real = resolved(path)
    except OSError:
        return f"{version.name}/{printable(name)}: no such file"
    if within is not None and not is_within(real, resolved(within)):
        return f"{version.name}/{printable(name)}: is a link out of the model repository"
    return ""


def served_versions(config: Any, versions: Sequence[int]) -> set[int]:
    """Versions that Triton will serve by its version policy; the default is the latest one only."""
    policy = config.version_policy
    if policy.HasField("all"):
        return set(versions)
    if policy.HasField("specific"):
        return set(versions) & set(policy.specific.versions)
    count = policy.latest.num_versions if policy.HasField("latest") else 1
    return set(sorted(versions)[-count:]) if count else set()


def named_files(config: Any, text: str) -> list[tuple[int, str, str, str]]:
    """Files beside the versions that Triton reads at a load: line, field, name, and path within the model's folder."""
    lines = text.split("\n")
    labels = [("label_filename", tensor.label_filename, "") for tensor in config.output if tensor.label_filename]
    data = (each.input_data_file for setting in config.model_warmup for each in setting.inputs.values())
    found = labels + [("input_data_file", name, "warmup/") for name in data if name]
    inside = [each for each in found if ".." not in Path(each[1]).parts and not each[1].startswith("/")]
    return [(_line_of(field, lines), field, name, folder + name) for field, name, folder in inside if "\0" not in name]


def _problems(contract: Contract, config: Any, model_name: str) -> Iterator[tuple[str, str]]:
    if config.name != model_name:
        yield "name:", f"name is '{config.name}', but the folder is '{model_name}'"
    batching = config.max_batch_size > 0
    if batching and config.max_batch_size < contract.max_rows:
        most = config.max_batch_size
        yield "max_batch_size", f"max_batch_size {most} is below the contract's max_rows {contract.max_rows}"
    for kind, specs, tensors in (
        ("input", contract.model.inputs, config.input),
        ("output", contract.model.outputs, config.output),
    ):
        there = {tensor.name: tensor for tensor in tensors}
        yield from _tensors(kind, specs, there, batching, contract.max_rows)
        yield from _rows_elsewhere(kind, specs, batching)
    known = {spec.name for spec in contract.model.inputs}
    for tensor in config.input:
        if tensor.name not in known and not tensor.optional:
            yield f'"{tensor.name}"', f"input '{tensor.name}' is not in the contract"


def _tensors(
    kind: str, specs: Sequence[ModelTensorSpec], tensors: dict[str, Any], batching: bool, max_rows: int
) -> Iterator[tuple[str, str]]:
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            listed = ", ".join(sorted(tensors)) or "none"
            yield kind, f"{kind} '{spec.name}' of the contract is not declared; there are: {listed}"
            continue
        word = f'"{spec.name}"'
        datatype = datatype_of(tensor.data_type)
        if datatype != spec.datatype:
            yield word, f"{kind} '{spec.name}' is {datatype}, but {spec.datatype} in the contract"
        dims = (-1, *tensor.dims) if batching else tuple(tensor.dims)
        if not _fits(spec, dims, max_rows):
            got = f"{list(dims)}{' with the rows in front' * batching}"
            want = f"{list(spec.model_shape)}{f' with the rows in dimension {spec.rows_axis}' * bool(spec.rows_axis)}"
            yield word, f"{kind} '{spec.name}' has dims {got}, but {want} in the contract"


def _rows_elsewhere(kind: str, specs: Sequence[ModelTensorSpec], batching: bool) -> Iterator[tuple[str, str]]:
    """Triton joins and cuts requests along the first dimension alone."""
    for spec in specs if batching else ():
        if spec.rows_axis is not None:
            where = f"{kind} '{spec.name}' has the rows in dimension {spec.rows_axis} by its rows_axis"
            yield "max_batch_size", f"{where}, but Triton joins requests in the first; want max_batch_size: 0"


def _fits(spec: ModelTensorSpec, dims: Sequence[int], max_rows: int) -> bool:
    """Whether a tensor fits. The contract may narrow config.pbtxt, 32 for -1, never the reverse."""
    axis, shape = spec.rows_axis or 0, spec.model_shape
    if len(shape) != len(dims):
        return False
    if max_rows == 1 and dims[axis] == 1:  # the rows
        shape = (*shape[:axis], 1, *shape[axis + 1 :])
    return all(declared in (-1, size) for size, declared in zip(shape, dims, strict=True))


def datatype_of(number: int) -> str:
    """The name in the protocol of a datatype of Triton. The text format allows numbers that have no name."""
    try:
        name = str(model_config_pb2.DataType.Name(number)).removeprefix("TYPE_")
    except ValueError:
        return f"of the unknown data_type {number}"
    return "BYTES" if name == "STRING" else name


def _line_of(word: str, lines: Sequence[str]) -> int:
    """The first line that has the word outside of comments; 1 if none has."""
    return next((i for i, line in enumerate(lines, 1) if word in line.partition("#")[0]), 1)
