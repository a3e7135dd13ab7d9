"""Values of the catalog: versions, scanned models, served models and results of documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.digests import FileDigests, combined_digest
from controller.catalog.served_model import DocumentSource, PlacementSpec
from controller.catalog.shared_values import NO_ALIASES, NO_SHARES
from triptych.contract import Contract
from triptych.contract.verification.families import VersionIdentity
from triptych.errors import UnknownModel, UnknownVersion

_NO_FAULTS: Final[Mapping[int, str]] = {}
NONE_VALID: Final = "no valid version"
NO_FILES: Final[Mapping[str, str]] = {}  # shared by all versions without


@dataclass(frozen=True, slots=True)
class Version:
    """One published version. `canonical` is the contract as JSON, `digest` the sha256 of that JSON in hex.

    `identity` holds family, route and signature, which other versions and models must agree with.

    `removed`: its files are gone or differ from the published ones. It is kept while it is in traffic; a predictor that
    unloads it cannot load it again. `fault` is the reason if its folder still exists.
    """

    number: int
    identity: VersionIdentity
    canonical: bytes
    digest: str
    removed: bool = False
    file_bytes: int = 0  # size of its files without the contract
    fault: str = ""
    files: FileDigests | None = None  # when it was published; None: not recorded yet
    source_digest: str = ""  # digest of the values of contract.yaml, whatever its comments and order
    step_files: Mapping[str, str] = field(default_factory=lambda: NO_FILES)  # sha256 of those that its steps read

    @property
    def contract(self) -> Contract:
        """The contract, parsed at each use: parsed, one takes 11 KiB, as JSON 1.5 KiB (2026-11-30, sales_forecast)."""
        return Contract.model_validate_json(self.canonical)

    @property
    def files_digest(self) -> str:
        """One digest over all its files; '' before they are recorded."""
        return combined_digest(self.files or {})


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a published contract or configuration, which is ignored: the sentence about it.

    `family` and `route` are those of an edited contract, by which callers may ask for it; empty if they are unchanged.
    """

    version: int | None  # None: of the configuration
    text: str
    family: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class ScannedModel:
    """One model folder as it was scanned: its versions, and the faults of its invalid ones.

    `problem` is the reason if it has no version. A published version whose files are gone is in `versions` as removed,
    and its fault is in `invalid` if its folder still exists. `removed`: the whole folder is gone. `edits` are ignored.
    """

    name: str
    encoded_config: bytes
    versions: Mapping[int, Version]
    invalid: Mapping[int, str] = field(default_factory=lambda: _NO_FAULTS)
    problem: str = ""
    warnings: tuple[str, ...] = ()
    removed: bool = False
    edits: tuple[Edit, ...] = ()

    @property
    def config(self) -> mc.ModelConfig:
        return mc.ModelConfig.FromString(self.encoded_config)

    @property
    def identities(self) -> dict[int, VersionIdentity]:
        """The identity of each version, in the order of their numbers."""
        return {number: version.identity for number, version in sorted(self.versions.items())}

    @property
    def present(self) -> dict[int, Version]:
        """The versions whose files exist."""
        return {number: version for number, version in self.versions.items() if not version.removed}


@dataclass(frozen=True, slots=True)
class Model:
    """One served model. `traffic` is percent by version, 100 in all; other versions have none.

    `aliases` are versions by name; a version among them may not exist. `document` is the place of its document, empty
    without one. `traffic_before` was in force before this process started, according to the status of the document.
    """

    name: str
    family: str
    route: str
    encoded_config: bytes
    versions: Mapping[int, Version]
    traffic: Mapping[int, int]
    placement: PlacementSpec = PlacementSpec()
    document: str = ""
    traffic_before: Mapping[int, int] = field(default_factory=lambda: NO_SHARES)
    aliases: Mapping[str, int] = field(default_factory=lambda: NO_ALIASES)

    @property
    def config(self) -> mc.ModelConfig:
        """The configuration, parsed at each use: as a message one takes 2.5 KiB, encoded 0.2 KiB (2026-11-30)."""
        return mc.ModelConfig.FromString(self.encoded_config)

    @property
    def in_traffic(self) -> frozenset[int]:
        return frozenset(version for version, percent in self.traffic.items() if percent)


class Reason(StrEnum):
    """Problems of a document: the reasons of its conditions in Kubernetes, the most severe first."""

    INVALID = "Invalid"  # against the schema
    ROUTE_TAKEN = "RouteTaken"  # another document has the model, or another model the family and route
    UNKNOWN_MODEL = "UnknownModel"
    CONTRACT_INVALID = "ContractInvalid"
    UNKNOWN_VERSION = "UnknownVersion"
    VERSION_CHANGED = "VersionChanged"  # its files differ from the published ones, or cannot be read any more
    VERSION_REMOVED = "VersionRemoved"


Problem = tuple[Reason, str]


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """The result of one document. `asked` is its traffic, empty if it is invalid.

    `alias_problems` are those of aliases whose version cannot be asked for. They concern no traffic.
    """

    source: DocumentSource
    model: str
    asked: Mapping[int, int]
    problems: tuple[Problem, ...] = ()
    alias_problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """All served models, and the reasons why the others are not served.

    `invalid` is keyed by model and version, with None for a whole model; `document_results` by the place of the
    document. `signatures` are those of the families in force. `hints` say, by model, what to write for new versions.
    `edits` are those of published contracts and configurations, by model.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    invalid: Mapping[tuple[str, int | None], str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    document_results: Mapping[str, DocumentResult] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, tuple[Edit, ...]] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model of that name. Raises `UnknownModel`."""
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, self.models)
        return model

    def version(self, name: str, number: int) -> Version:
        """One version of a model. Raises `UnknownModel` or `UnknownVersion`."""
        model = self.model(name)
        version = model.versions.get(number)
        if version is None:
            raise UnknownVersion(name, str(number), model.versions)
        return version

    def faults(self) -> set[str]:
        """All faults, one sentence each: that no version is valid is left out where the versions say why."""
        with_faults = {name for name, version in self.invalid if version is not None}
        named = {
            f"{name}{f' version {version}' if version else ''}: {text}"
            for (name, version), text in self.invalid.items()
            if version is not None or name not in with_faults or not text.startswith(NONE_VALID)
        }
        edits = {edit.text for found in self.edits.values() for edit in found}
        return named | edits | set(self.warnings)
