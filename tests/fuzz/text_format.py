"""Protobuf's text parser in C++, as used by Triton: protoc of grpcio-tools, in this process."""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_tools import _protoc_compiler
from tritonclient.grpc import model_config_pb2

from tests.fuzz.file_checks import configuration


class TextReader:
    """Parses text as `inference.ModelConfig`. Each call redirects standard input, output and error."""

    def __init__(self) -> None:
        self._files = [os.memfd_create(name) for name in ("text", "message", "errors")]

    @cached_property
    def _arguments(self) -> list[bytes]:
        described = descriptor_pb2.FileDescriptorSet()
        model_config_pb2.DESCRIPTOR.CopyToProto(described.file.add())
        path = Path(tempfile.mkdtemp(prefix="protoc-")) / "model_config.binpb"
        path.write_bytes(described.SerializeToString())
        options = [f"--descriptor_set_in={path}", "--encode=inference.ModelConfig"]
        return [word.encode() for word in ("protoc", *options, model_config_pb2.DESCRIPTOR.name)]

    def read(self, text: bytes) -> Any:
        """The message, or the error as `str`."""
        for file in self._files:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        os.pwrite(self._files[0], text, 0)
        kept = [os.dup(number) for number in range(3)]
        try:
            for number, file in enumerate(self._files):
                os.dup2(file, number)
            code = _protoc_compiler.run_main(self._arguments)
        finally:
            for number, file in enumerate(kept):
                os.dup2(file, number)
                os.close(file)
        if code:
            return os.pread(self._files[2], 1000, 0).decode(errors="replace")
        size_bytes = os.fstat(self._files[1]).st_size
        return model_config_pb2.ModelConfig.FromString(os.pread(self._files[1], size_bytes, 0))


_READER = TextReader()


def check_as_triton(data: bytes) -> None:
    """Raise `AssertionError` for a configuration that we accept and Triton refuses or reads differently."""
    found = configuration(data)
    if not isinstance(found, str):
        read = _READER.read(found[0].encode())
        assert not isinstance(read, str), f"Triton refuses what we take: {read}"
        assert read == found[1], f"Triton reads {read}, we read {found[1]}"
