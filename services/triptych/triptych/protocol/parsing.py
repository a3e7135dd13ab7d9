"""Parsing of messages whose memory is estimated first: two bytes on the wire can become 90 in memory.

protobuf allocates an object for each message of a repeated field, and 8 or 16 bytes for a small number or empty text. A
message of 32 MiB took 1.6 GB so (2026-11-29). The estimate reads tags and lengths, and values only to count them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from triptych.errors import InvalidRequest

FREE_BYTES: Final = 1 << 20  # messages up to this size are parsed without an estimate: they take at most 45 MiB
FACTOR: Final = 2  # parsed, a message may take so many times the limit of a message
MAX_FIELDS: Final = 200_000  # read for an estimate: 0.1 s

_MESSAGE_BYTES: Final = 96  # of an empty message in a repeated field, or of an entry of a map
_TEXT_BYTES: Final = 32  # of an empty text in a repeated field, while the field grows
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_WIDTHS: Final = {  # bytes of a number in a repeated field, while the field grows
    FieldDescriptor.CPPTYPE_INT64: 16,
    FieldDescriptor.CPPTYPE_UINT64: 16,
    FieldDescriptor.CPPTYPE_DOUBLE: 16,
    FieldDescriptor.CPPTYPE_INT32: 8,
    FieldDescriptor.CPPTYPE_UINT32: 8,
    FieldDescriptor.CPPTYPE_FLOAT: 8,
    FieldDescriptor.CPPTYPE_ENUM: 8,
    FieldDescriptor.CPPTYPE_BOOL: 2,
}
_SLICE: Final = 1 << 20
_FIXED_WIDTHS: Final = {FieldDescriptor.CPPTYPE_DOUBLE: 8, FieldDescriptor.CPPTYPE_FLOAT: 4}

# Of a field: its message, or the bytes of a number in memory and those on the wire (0: one to ten).
_Fields = dict[int, Descriptor | tuple[int, int]]


def parser(message: type[Message], max_message_bytes: float) -> Callable[[bytes], Any]:
    """A function from bytes to a message. It raises `InvalidRequest`. An infinite limit is that of a trusted peer."""
    descriptor: Any = message.DESCRIPTOR
    name, limit_bytes = descriptor.full_name, FACTOR * max_message_bytes
    free_bytes = FREE_BYTES if math.isfinite(limit_bytes) else math.inf

    def parse(data: bytes) -> Message:
        if len(data) > free_bytes:
            check_parsed_size(data, descriptor, limit_bytes)
        try:
            return message.FromString(data)
        except DecodeError as error:
            raise InvalidRequest(f"want an encoded {name}, got {len(data)} bytes that are none") from error

    return parse


def check_parsed_size(data: bytes, descriptor: Any, limit_bytes: float) -> None:
    """Raises `InvalidRequest` if the parsed message would take more than `limit_bytes`, or has too many fields."""
    try:
        _estimate(data, _fields(descriptor), limit_bytes)
    except IndexError:
        return  # it ends within a field: the parser refuses it


def _estimate(data: bytes, fields: _Fields, left_bytes: float) -> None:
    parts, left = [(0, len(data), fields)], MAX_FIELDS
    while parts:
        at, end, fields = parts.pop()
        while at < end:
            left -= 1
            tag, at = _varint(data, at)
            field, kind = fields.get(tag >> 3), tag & 7
            if kind == _LENGTH:
                size, at = _varint(data, at)
                if field is None:
                    left_bytes -= size + _TEXT_BYTES
                elif isinstance(field, tuple):
                    left_bytes -= _packed_bytes(data, at, size, *field)
                else:
                    left_bytes -= _MESSAGE_BYTES
                    parts.append((at, min(at + size, end), _fields(field)))
                at += size
            elif kind == _VARINT:
                _, at = _varint(data, at)
                left_bytes -= field[0] if isinstance(field, tuple) else 0
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            if left_bytes < 0 or left < 0:
                raise InvalidRequest(
                    "want a message of fewer fields and values, or its tensors as raw contents: this one would take "
                    f"too much memory ({len(data)} bytes before it is parsed)"
                )


def _packed_bytes(data: bytes, at: int, size: int, width: int, wire_width: int) -> int:
    """Bytes in memory of a packed field: a number on the wire ends with a byte below 128."""
    if wire_width:
        return size // wire_width * width
    values = np.frombuffer(data, np.int8)[at : at + size]
    return width * sum(int(np.count_nonzero(values[start : start + _SLICE] >= 0)) for start in range(0, size, _SLICE))


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and its end. Raises `IndexError` if the data ends within it."""
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError("a number of more than 10 bytes")


@lru_cache(256)
def _fields(descriptor: Descriptor) -> _Fields:
    """Messages and repeated numbers among the fields of a message."""
    found: _Fields = {}
    for field in descriptor.fields:
        if field.message_type is not None:
            found[field.number] = field.message_type
        elif field.is_repeated and field.cpp_type in _WIDTHS:
            found[field.number] = (_WIDTHS[field.cpp_type], _wire_width(field))
    return found


def _wire_width(field: FieldDescriptor) -> int:
    fixed = {FieldDescriptor.TYPE_FIXED32: 4, FieldDescriptor.TYPE_SFIXED32: 4}
    return _FIXED_WIDTHS.get(field.cpp_type, fixed.get(field.type, 0))
