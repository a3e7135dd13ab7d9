"""An object store in memory with models, and with faults on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from obstore.store import MemoryStore

from controller.store.mirror import Mirror
from controller.store.objects import Object, Store, StoreConnection, StoreError
from controller.store.options import StoreConfiguration
from tests.model_folders import publish

URI = "s3://models/eu"


@dataclass(frozen=True)
class _Memory:
    """The memory of a store at its first call."""

    store: InMemoryStore
    remedy: str = "nothing sets it"

    def endpoint(self, _configuration: StoreConfiguration) -> str:
        return "memory"

    def connect(self, _configuration: StoreConfiguration) -> StoreConnection:
        return StoreConnection(self.store.memory)


class InMemoryStore(Store):
    """A store in memory that records reads, refuses some objects, and can become unavailable."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        super().__init__(URI, _Memory(self))
        self.read_paths: list[str] = []
        self.refused: set[str] = set()
        self.answers_left: int | None = None

    def list(self, below: str = "") -> dict[str, Object]:
        self._answer()
        return super().list(below)

    def answers(self) -> bool:
        return self.answers_left != 0

    def read(self, path: str, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        self._answer()
        if path in self.refused:
            raise StoreError(URI, f"memory refuses {path}", unavailable=False)
        self.read_paths.append(path)
        super().read(path, known, into, on_bytes)

    def _answer(self) -> None:
        if self.answers_left == 0:
            raise StoreError(URI, "memory does not answer")
        if self.answers_left is not None:
            self.answers_left -= 1

    def put(self, path: str, content: str | bytes = "content") -> None:
        self.memory.put(path, content.encode() if isinstance(content, str) else content)

    def delete(self, *paths: str) -> None:
        self.memory.delete(list(paths))

    def upload(self, scratch: Path, model: str, version: int = 1) -> None:
        """Upload a version that the scanner accepts, in order of its file names."""
        folder = publish(scratch, model, version)
        for file in (folder.parent / "config.pbtxt", *sorted(folder.iterdir())):
            self.put(file.relative_to(scratch).as_posix(), file.read_bytes())

    def contents(self) -> dict[str, bytes]:
        return {path: bytes(self.memory.get(path).bytes()) for path in super().list() if "/" in path}


class ContentTaggedStore(InMemoryStore):
    """A store whose tags depend on the content, like S3, so that restored content has its old tag."""

    def list(self, below: str = "") -> dict[str, Object]:
        listed = super().list(below)
        return {path: replace(known, tag=f'"{self._digest(path)}"') for path, known in listed.items()}

    def read(self, path: str, known: Object, into: Path, on_bytes: Callable[[int], None]) -> None:
        super().read(path, super().list()[path], into, on_bytes)

    def _digest(self, path: str) -> str:
        return hashlib.md5(bytes(self.memory.get(path).bytes()), usedforsecurity=False).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def mirrored(store: Store, folder: Path, *, whole: bool = True) -> Mirror:
    """A mirror after its first refresh."""
    mirror = Mirror(store, folder, whole=whole)
    mirror.refresh()
    return mirror
