"""Results of jobs as objects in a folder or in S3. An object is written once, and the ledger says which ones count.

    jobs/<job>/parts/<number>.<fence>      the answers of a part, by one claim of it
    jobs/<job>/manifest.<fence>.jsonl      the parts of a job that has succeeded

A claim has a fencing token of its own, so no two claims write the same object. What a claim without a commit has
written is of no use, and goes with its job.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from jobs.ledger import Claim, PartKind
from jobs.store_options import client_options, endpoint
from triptych.errors import Internal, Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta

JOBS: Final = "jobs"
CHUNK_BYTES: Final = 1 << 20
DELETE_AT_ONCE: Final = 1_000
WANT: Final = "want a folder, or s3://bucket/prefix"


def object_name(claim: Claim) -> str:
    """Name of the object that a claim may write."""
    if claim.kind is PartKind.FINISH:
        return f"{JOBS}/{claim.job.id}/manifest.{claim.fence}.jsonl"
    return f"{JOBS}/{claim.job.id}/parts/{claim.number}.{claim.fence}"


class Objects:
    """Objects of one store. Methods raise `Unavailable` if it does not answer."""

    def __init__(self, location: str) -> None:
        """`location` is a folder, which is created, or `s3://bucket/prefix`. Raises `ValueError` and `OSError`."""
        self._folder: Path | None = None
        if "://" not in location:
            self._folder = Path(location).resolve()
            self._folder.mkdir(parents=True, exist_ok=True)
        self.location, self._store = location, self._folder_store() if self._folder else _s3(location)

    def _folder_store(self) -> ObjectStore:
        return LocalStore(self._folder)

    async def put(self, name: str, content: bytes) -> None:
        """Write an object, durably. Raises `Internal` if it exists: nothing is written twice."""
        try:
            await self._store.put_async(name, content, mode="create", use_multipart=False)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, name)
        except AlreadyExistsError:
            raise Internal(f"object {name} of {self.location} exists") from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def put_lines(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        """Write an object of any size from pieces, durably. It is valid once this returns."""
        try:
            async with obstore.open_writer_async(self._store, name) as writer:
                async for piece in pieces:
                    await writer.write(piece)
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, name)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def get(self, name: str) -> bytes:
        """The whole object. Raises `FileNotFoundError`."""
        return b"".join([chunk async for chunk in self.chunks(name)])

    async def chunks(self, name: str, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The object from an offset, in chunks. Raises `FileNotFoundError`."""
        try:
            size = (await self._store.head_async(name))["size"]
            while offset < size:
                length = min(chunk_bytes, size - offset)
                yield bytes(await self._store.get_range_async(name, start=offset, length=length))
                offset += length
        except FileNotFoundError:
            raise FileNotFoundError(name) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes of an object, for a thread that reads. Raises `FileNotFoundError`."""
        try:
            return bytes(obstore.get_range(self._store, name, start=start, end=end))
        except FileNotFoundError:
            raise FileNotFoundError(name) from None
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    def sizes_now(self, below: str) -> dict[str, int]:
        """The same as `sizes`, for a thread."""
        return {meta["path"]: meta["size"] for meta in self._list(below)}

    async def sizes(self, below: str) -> dict[str, int]:
        """Bytes of each object below a path, by name."""
        return await asyncio.to_thread(self.sizes_now, below)

    async def modified_s(self, below: str) -> float:
        """Time of the latest change below a path, by the store's clock; infinite if there is nothing."""
        times = [meta["last_modified"].timestamp() for meta in await asyncio.to_thread(self._list, below)]
        if self._folder is not None:  # whose first file may be in the making
            with suppress(FileNotFoundError):
                times.append((self._folder / below).stat().st_mtime)
        return max(times, default=math.inf)

    def _list(self, below: str) -> list[ObjectMeta]:
        try:
            return [meta for page in self._store.list(below) for meta in page]
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    async def folders(self, below: str) -> list[str]:
        """Names of the folders directly below a path."""
        try:
            found = await self._store.list_with_delimiter_async(below)
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error
        return sorted(prefix.rpartition("/")[2] for prefix in found["common_prefixes"])

    async def delete_below(self, path: str) -> None:
        """Delete everything below a path, also what a process that was killed has left behind."""
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder / path, ignore_errors=True)
            return
        names = list(await self.sizes(path))
        try:
            for first in range(0, len(names), DELETE_AT_ONCE):
                await self._store.delete_async(names[first : first + DELETE_AT_ONCE])
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        reason = str(error).partition("\n")[0]
        return Unavailable(f"object store {self.location} does not answer: {reason}; try again")


def _s3(location: str) -> ObjectStore:
    """S3 by the usual variables: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    parts = urlsplit(location)
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"objects: {WANT}, got '{location}'")
    config: Any = {"endpoint": found} if (found := endpoint()) else {}
    options: Any = client_options()
    return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, config=config, client_options=options)


def _sync(folder: Path, name: str) -> None:
    """Make a file durable, and its name in each folder above. The store itself leaves it to the system."""
    path = folder / name
    for each in (path, *_parents(path, folder)):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _parents(path: Path, folder: Path) -> Iterable[Path]:
    return (parent for parent in path.parents if parent == folder or folder in parent.parents)
