"""Requests of callers, for tests of the running stack."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import Array
from triptych.protocol.parameters import encode_parameter
from triptych.protocol.tensors import decode_response, encode_request


def infer_request(
    model: str, tensors: Mapping[str, Array], version: str = "", id: str = "", **parameters: Any
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    for name, value in parameters.items():
        request.parameters[name].CopyFrom(encode_parameter(value))
    return encode_request(request, tensors)


def sales(rows: int = 1, seed: int = 0) -> dict[str, Array]:
    """Inputs of `sales_forecast`; all rows differ."""
    random = np.random.default_rng(seed)
    return {
        "history": random.uniform(50, 150, (rows, 28)).astype(np.float32),
        "price": random.uniform(1, 3, (rows, 7)).astype(np.float32),
        "promotion": random.random((rows, 7)) < 0.2,
    }


def objects(*elements: bytes) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def noise_picture(width: int = 40, height: int = 30, seed: int = 0, format: str = ".png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return bytes(cv2.imencode(format, pixels)[1])


def png_header(width: int, height: int) -> bytes:
    """A PNG with a declared size and almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def outputs_of(response: pb.ModelInferResponse) -> dict[str, Any]:
    return {name: array.tolist() for name, array in decode_response(response).items()}
