"""Facts of the versions in the catalog: configuration, contract, memory, and whether the files are as published."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.entities import Catalog, Model, Version
from controller.catalog.step_files import StepFileReader
from controller.placement.policy.memory import MemorySizes, Size
from controller.placement.policy.popularity import VersionKey
from controller.placement.settings import PlacementSettings
from triptych.contract import Plan


class Integrity(Protocol):
    """Check of the files of versions against the published ones."""

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded, '' if it may be. Called before and after (`loaded`) a load; blocks."""
        ...

    def load_failed(self, model: str, number: int) -> None:
        """Record that Triton could not load the version."""
        ...


class VersionFacts:
    """Facts of all versions in the catalog."""

    def __init__(self, settings: PlacementSettings) -> None:
        self.catalog = Catalog()
        self.integrity: Integrity | None = None  # None: any files may be loaded
        self.step_files: StepFileReader | None = None
        self.revision = 0  # changes with any size
        self._memory = MemorySizes(settings)
        self._sizes: dict[VersionKey, Size] = {}  # computed since they changed last

    def set_catalog(self, catalog: Catalog, changed: Collection[str]) -> None:
        """Replace the catalog; `changed` are the models that are new, different or gone."""
        self.catalog = catalog
        if changed:
            self.revision += 1
            self._sizes = {key: size for key, size in self._sizes.items() if key[0] not in changed}
            self._memory.prune(catalog.models)

    def model(self, name: str) -> Model | None:
        return self.catalog.models.get(name)

    def version(self, key: VersionKey) -> Version | None:
        """None when it is not in the catalog."""
        model = self.catalog.models.get(key[0])
        return model.versions.get(key[1]) if model else None

    def is_loadable(self, key: VersionKey) -> bool:
        """Whether its files are there."""
        version = self.version(key)
        return version is not None and not version.removed

    def not_loadable_reason(self, key: VersionKey) -> str:
        """Why it cannot be loaded, for a version that is not loadable."""
        version = self.version(key)
        fault = version.fault if version is not None else ""
        return fault or f"the files of version {key[1]} were removed"

    def size_of(self, key: VersionKey) -> Size:
        """Bytes of the version when it is loaded."""
        if (size := self._sizes.get(key)) is None:
            model, version = self.catalog.models.get(key[0]), self.version(key)
            declared = (model.placement.memory_bytes if model else 0) or 0
            size = self._sizes[key] = self._memory.size(key, declared, version.file_bytes if version else 0)
        return size

    def record_size(self, key: VersionKey, grown_bytes: int) -> None:
        """Record the growth of a predictor's memory when the version was loaded."""
        self._memory.record(key, grown_bytes)
        self._sizes.pop(key, None)
        self.revision += 1

    def config_of(self, model: str) -> mc.ModelConfig | None:
        """None when the model is not in the catalog."""
        known = self.catalog.models.get(model)
        return known.config if known else None

    async def plan_of(self, key: VersionKey) -> Plan | None:
        """None when the version is not in the catalog. Raises `Unavailable` if a file that its steps read is gone."""
        version = self.version(key)
        if version is None:
            return None
        if not version.step_files or self.step_files is None:
            return Plan(version.contract)
        return await asyncio.to_thread(self.step_files.plan, key[0], version)

    async def changed(self, model: str, versions: Iterable[int], *, loaded: bool = False) -> str:
        """Why one of these versions must not be loaded: its files are not as published. '' if all may be.

        `loaded`: Triton has read them meanwhile. Once a file of a model was written, Triton reads the files of all its
        loaded versions again.
        """
        if self.integrity is None:
            return ""
        for version in sorted(versions):
            if why := await asyncio.to_thread(self.integrity.check, model, version, loaded):
                return why
        return ""

    def record_refusal(self, key: VersionKey, *, loaded: bool) -> None:
        """Triton refused the files. As long as no predictor has the version `loaded`, they may be repaired."""
        if self.integrity is not None and not loaded:
            self.integrity.load_failed(*key)
