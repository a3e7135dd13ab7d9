"""What the catalog is made of: versions, folders, models, and what became of each document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.digests import FileDigests, combined_digest
from controller.catalog.served_model import DocumentSource, PlacementSpec
from triptych.contract import Contract
from triptych.contract.verification.families import VersionIdentity
from triptych.errors import UnknownModel, UnknownVersion


@dataclass(frozen=True)
class Version:
    """One published version. `canonical` is the contract as JSON, `digest` its sha256 in hex.

    `removed`: its files are gone, or no longer what was published. It is still here because it is in traffic;
    a Triton that drops it cannot load it again. `fault` says why, as far as its files are there.
    """

    number: int
    contract: Contract
    canonical: bytes
    digest: str
    removed: bool = False
    file_bytes: int = 0  # what its files take on disk, the contract left out
    fault: str = ""
    files: FileDigests | None = None  # of each file when it was published; None: not taken yet
    source_digest: str = ""  # identity of the contract as it stands in its file

    @cached_property
    def identity(self) -> VersionIdentity:
        """Family, route and signature, which other versions and models must agree with."""
        return VersionIdentity.of(self.contract)

    @property
    def files_digest(self) -> str:
        """One identity for all its files; '' while there is none."""
        return combined_digest(self.files or {})


@dataclass(frozen=True)
class ScannedModel:
    """One folder of the model repository as it was read: its versions, and the faults of the others.

    `problem` says why there is none at all. A version that was published once and is gone now is among
    `versions` as removed; its fault, if its folder is still there, is in `invalid`. `removed`: all of it is gone.
    """

    name: str
    config: mc.ModelConfig
    versions: Mapping[int, Version]
    invalid: Mapping[int, str] = field(default_factory=dict)
    problem: str = ""
    warnings: tuple[str, ...] = ()
    removed: bool = False

    @property
    def present(self) -> dict[int, Version]:
        """Its versions without those that are gone."""
        return {number: version for number, version in self.versions.items() if not version.removed}


@dataclass(frozen=True)
class Model:
    """One model that is served. `traffic` is percent by version, 100 in all; other versions have none.

    `document` is where the document stands that it follows, empty if it has none. `traffic_before` was in force
    before this process started, as far as anybody wrote it down.
    """

    name: str
    family: str
    route: str
    config: mc.ModelConfig
    versions: Mapping[int, Version]
    traffic: Mapping[int, int]
    placement: PlacementSpec = PlacementSpec()
    document: str = ""
    traffic_before: Mapping[int, int] = field(default_factory=dict)

    @property
    def in_traffic(self) -> frozenset[int]:
        return frozenset(version for version, percent in self.traffic.items() if percent)


class Reason(StrEnum):
    """What can be wrong with a document: the reasons of its conditions in Kubernetes, the gravest first."""

    INVALID = "Invalid"  # against the schema
    ROUTE_TAKEN = "RouteTaken"  # another document has the model, or another model the family and route
    UNKNOWN_MODEL = "UnknownModel"
    CONTRACT_INVALID = "ContractInvalid"
    UNKNOWN_VERSION = "UnknownVersion"
    VERSION_CHANGED = "VersionChanged"  # its files are not what was published, or cannot be read any more
    VERSION_REMOVED = "VersionRemoved"


@dataclass(frozen=True)
class DocumentResult:
    """What became of one document. `asked` is its traffic, empty when it cannot be read."""

    source: DocumentSource
    model: str
    asked: Mapping[int, int]
    problems: tuple[tuple[Reason, str], ...] = ()


@dataclass(frozen=True)
class Catalog:
    """Everything that is served, and why the rest is not.

    `invalid` is keyed by model and version, or by model and None when the whole model is kept out; `document_results`
    by where a document stands.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    invalid: Mapping[tuple[str, int | None], str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    document_results: Mapping[str, DocumentResult] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """Raises `UnknownModel`."""
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, self.models)
        return model

    def version(self, name: str, number: int) -> Version:
        """Raises `UnknownModel` or `UnknownVersion`."""
        model = self.model(name)
        version = model.versions.get(number)
        if version is None:
            raise UnknownVersion(name, str(number), map(str, model.versions))
        return version

    def faults(self) -> set[str]:
        """All that is wrong, one sentence each."""
        named = {f"{name}{f' version {v}' if v else ''}: {text}" for (name, v), text in self.invalid.items()}
        return named | set(self.warnings)
