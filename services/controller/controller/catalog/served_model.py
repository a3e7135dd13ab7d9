"""ServedModel: the schema of the Kubernetes object and of documents in a folder.

The definition in helm/triptych/crds is generated from the descriptions and rules below (`make crd`): `kubectl explain`
shows them, and the API server checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.config import JsonDict
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from controller.catalog.shared_values import NO_ALIASES, NO_SHARES, shared_aliases, shared_placement, shared_shares
from controller.catalog.yaml_contents import yaml_contents
from triptych.contract.reading.files import FileError, escaped, read_text
from triptych.errors import clipped
from triptych.protocol.aliases import ALIAS_NAME, ALIAS_RULE, RESERVED_ALIAS, is_alias_name
from triptych.runtime.faults import faults_of, in_words, known_fields, sentence

GROUP, VERSION, KIND, PLURAL = "triptych.dev", "v1alpha1", "ServedModel", "servedmodels"
MAX_BYTES = 64 << 10  # of one file: 300 documents, and at most 4 s to read it
MAX_FAULTS = 50  # of one document, and of one file before the rest is skipped
MAX_VERSIONS = 32
MAX_ALIASES = 64
MAX_FAULT = 500  # characters of one fault: a document may hold any text

Location = tuple[int | str, ...]  # keys and indexes of a part of a document

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

_NAME = in_words(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", "small letters, digits, - and ., at most 253 characters")
_RELEASE = in_words(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "small letters, digits and -, as in blue-1")
_MEMORY = in_words(
    r"^[1-9][0-9]{0,14}(\.[0-9]{1,9})?(k|M|G|T|Ki|Mi|Gi|Ti)?$", "an amount of memory as Kubernetes has it, as in 300Mi"
)

# The rules for the API server, in CEL; the validators below are the same rules in Python.
_SUM_RULE: JsonDict = {
    "rule": "self.map(share, share.percent).sum() == 100",
    "message": "percents must sum to 100",  # with the sum in it, the rule would cost more than the API server allows
}
_UNIQUE_RULE: JsonDict = {
    "rule": "self.all(share, self.exists_one(other, other.version == share.version))",
    "message": "a version is there more than once",
}
_REPLICAS_RULE: JsonDict = {
    "rule": "!has(self.maxReplicas) || self.maxReplicas >= self.minReplicas",
    "message": "maxReplicas is less than minReplicas",
    "fieldPath": ".maxReplicas",
}
_ALIASES_RULE: JsonDict = {
    "rule": f"self.all(name, name.matches('{ALIAS_NAME}') && !name.matches('{RESERVED_ALIAS}'))",
    "message": ALIAS_RULE,
}
_MODEL_RULE: JsonDict = {
    "rule": "self == oldSelf",
    "message": "a ServedModel stays with its model; delete this one and make another",
}
_RELEASE_RULE: JsonDict = {
    "rule": "has(self.release) == has(oldSelf.release) && (!has(self.release) || self.release == oldSelf.release)",
    "message": "a ServedModel stays with its release; delete this one and make another",
    "fieldPath": ".release",
}


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Metadata(_Closed):
    """Name of the object, and the fields that Kubernetes tools add."""

    name: Annotated[str, Field(pattern=_NAME)]
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


def _alias_name(name: str) -> str:
    if not is_alias_name(name):
        raise ValueError(ALIAS_RULE)
    return name


_Number = Annotated[
    int, Field(ge=1, lt=10**15, description="Number of the version: the name of its folder in the model repository.")
]


class TrafficShare(_Closed):
    """The share of one version."""

    version: _Number
    percent: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="Share of the requests that name no version. 0 is a dark launch: the version answers only "
            "requests that name it. A request with a traffic_key always sees the same version while the split stands.",
        ),
    ]


class PlacementSpec(_Closed):
    """Replicas that stay loaded without requests, and the memory of the model."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [_REPLICAS_RULE]})

    pin: Annotated[
        bool, Field(description="Keep the model loaded on at least one predictor, even without requests.")
    ] = False
    min_replicas: Annotated[
        int,
        Field(ge=0, le=1000, alias="minReplicas", description="Least number of predictors that keep the model loaded."),
    ] = 0
    max_replicas: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            alias="maxReplicas",
            description="Most predictors that load a busy model. Unset: the limit of the controller.",
        ),
    ] = None
    memory: Annotated[
        str | None,
        Field(
            pattern=_MEMORY,
            description="Memory of one loaded version, as in 300Mi, where the controller cannot measure it. "
            "Unset: estimated from the model's files.",
        ),
    ] = None

    @property
    def replicas(self) -> int:
        """Least number of predictors that keep the model loaded."""
        return max(self.min_replicas, int(self.pin))

    @property
    def memory_bytes(self) -> int | None:
        """The declared memory of one loaded version."""
        if self.memory is None:
            return None
        number = self.memory.rstrip("kMGTi")
        return int(float(number) * _UNITS[self.memory.removeprefix(number)])

    @model_validator(mode="after")
    def _max_covers_min(self) -> PlacementSpec:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"maxReplicas {self.max_replicas} is less than minReplicas {self.min_replicas}")
        return self


class Spec(_Closed):
    """The model, the traffic split over its versions, their aliases, and its placement."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [_RELEASE_RULE]})

    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="Folder of the model in the model repository, as in sales_forecast_de. It cannot be changed.",
            json_schema_extra={"x-kubernetes-validations": [_MODEL_RULE]},
        ),
    ]
    traffic: Annotated[
        tuple[TrafficShare, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=MAX_VERSIONS,
            description="Versions and their shares, 100 percent in all. A version that is new here is loaded before "
            "it gets its share; when that fails, the traffic stays as it was and the status says why.",
            # Atomic: a split has one writer. As a map, a server-side apply of 100 % for one version would leave the
            # shares that another writer had added, and no sum would be 100.
            json_schema_extra={
                "x-kubernetes-list-type": "atomic",
                "x-kubernetes-validations": [_SUM_RULE, _UNIQUE_RULE],
            },
        ),
    ]
    aliases: Annotated[
        dict[Annotated[str, AfterValidator(_alias_name)], _Number],
        Field(
            max_length=MAX_ALIASES,
            description="Versions by names such as production, which requests may use in place of a number. A request "
            "with an alias gets that version, whatever its share of the traffic. Names have letters, digits, _ and -.",
            # Merged by name: a registry and a person may each apply their own.
            json_schema_extra={"x-kubernetes-map-type": "granular", "x-kubernetes-validations": [_ALIASES_RULE]},
        ),
    ] = {}
    placement: Annotated[
        PlacementSpec,
        Field(description="Replicas that stay loaded without requests, and the memory of the model."),
    ] = PlacementSpec()
    release: Annotated[
        str,
        Field(
            max_length=63,
            pattern=_RELEASE,
            description="Release that serves the model, by its fullnameOverride. Unset: the release without one. "
            "Other releases leave the object alone. It cannot be changed. In a folder it has no effect.",
        ),
    ] = ""

    @field_validator("traffic")
    @classmethod
    def _adds_up(cls, traffic: tuple[TrafficShare, ...]) -> tuple[TrafficShare, ...]:
        versions = [share.version for share in traffic]
        if doubled := next((v for v in versions if versions.count(v) > 1), None):
            raise ValueError(f"version {doubled} is there more than once")
        if (total := sum(share.percent for share in traffic)) != 100:
            raise ValueError(f"percents must sum to 100, got {total}")
        return traffic


class ServedModel(_Closed):
    """A model of the model repository as it is served: traffic and aliases of its versions, and its placement."""

    api_version: Annotated[Literal["triptych.dev/v1alpha1"], Field(alias="apiVersion")]
    kind: Literal["ServedModel"]
    metadata: Metadata
    spec: Spec


class RecordedDigests(NamedTuple):
    """Digests of a version when it was published, as the status records them; '' if it does not."""

    files: str = ""
    contract: str = ""


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """The source of a document. `where` is `file:line`, or `servedmodel/namespace/name` in Kubernetes.

    Only Kubernetes fills the others: `generation` of the spec, `created` (RFC 3339, so older is less), and from the
    status at the first sight of the object `traffic` and `aliases` in force and the `recorded_digests` of its versions.
    """

    where: str
    generation: int = 0
    created: str = ""
    traffic: Mapping[int, int] = field(default_factory=lambda: NO_SHARES)
    aliases: Mapping[str, int] = field(default_factory=lambda: NO_ALIASES)
    recorded_digests: Mapping[int, RecordedDigests] = field(default_factory=lambda: _NO_DIGESTS)


_NO_DIGESTS: Final[Mapping[int, RecordedDigests]] = {}


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a valid ServedModel, and its source. `traffic` is percent by version.

    Equal values are one object: with 100,000 documents the parsed ServedModels take 250 MiB.
    """

    source: DocumentSource
    namespace: str
    name: str
    model: str
    traffic: Mapping[int, int]
    placement: PlacementSpec
    aliases: Mapping[str, int] = field(default_factory=lambda: NO_ALIASES)

    @classmethod
    def of(cls, source: DocumentSource, served: ServedModel) -> Document:
        metadata, spec = served.metadata, served.spec
        traffic = shared_shares((share.version, share.percent) for share in spec.traffic)
        placement, aliases = shared_placement(spec.placement), shared_aliases(spec.aliases)
        return cls(source, metadata.namespace, metadata.name, spec.model, traffic, placement, aliases)


def traffic_hint(name: str, chosen: int, newest: int) -> str:
    """The sentence that says how a new version of a model without a document gets traffic."""
    return (
        f"{name} version {newest}: it answers only requests that name it, and version {chosen} all others. "
        f"To change that, write a ServedModel: spec: {{model: {name}, traffic: [{{version: {newest}, percent: 100}}]}}"
    )


@dataclass(frozen=True, slots=True)
class DocumentFault:
    """One fault of a document, as `place: field: problem`; `model` is empty if the document names none."""

    model: str
    text: str
    source: DocumentSource


def read_documents(path: Path, within: Path | None = None, most: int = MAX_BYTES) -> Iterator[Document | DocumentFault]:
    """Read the documents of one YAML file, each with its faults. Nothing is read behind a syntax error.

    `within` is the folder that the file must be in once its links are followed.
    """
    nowhere, faults = DocumentSource(f"{path}:1"), 0
    try:
        for content in yaml_contents(read_text(path, within, most)):
            if content is not None:
                source = DocumentSource(f"{path}:{_line(content, ())}")
                for item in check_document(source, content, partial(_place, path, content)):
                    yield item
                    faults += isinstance(item, DocumentFault)
                if faults >= MAX_FAULTS:
                    yield DocumentFault("", f"{path}: {faults} faults; what follows is not read", source)
                    return
    except FileError as error:
        yield DocumentFault("", f"{path}:{error.line}: {error}", nowhere)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        yield DocumentFault("", f"{path}:{line}: not YAML: {error.problem}", nowhere)
    except (YAMLError, RecursionError) as error:
        yield DocumentFault("", f"{path}:1: not YAML: {_shown(str(error).partition(chr(10))[0])}", nowhere)


def check_document(
    source: DocumentSource, content: Any, place: Callable[[Location], str]
) -> Iterator[Document | DocumentFault]:
    """The document, or each of its faults; `place` gives the place of a part of it."""
    try:
        yield Document.of(source, ServedModel.model_validate(content))
    except ValidationError as error:
        model, faults = _model_named(content), faults_of(error)
        for number, fault in enumerate(faults):
            if number >= MAX_FAULTS:
                yield DocumentFault(model, f"{source.where}: and {len(faults) - number} more faults", source)
                break
            is_unknown = fault["type"] == "extra_forbidden"
            known = known_fields(ServedModel, fault["loc"], content) if is_unknown else ()
            text = f"{_spell(fault['loc'])}{sentence(fault, known)}"
            yield DocumentFault(model, f"{place(fault['loc'])}: {_shown(text)}", source)


def _shown(text: str) -> str:
    """The text of a fault, which may quote any document: clipped and escaped."""
    shown = escaped(text[:MAX_FAULT])
    return shown if len(text) <= MAX_FAULT else f"{shown} ..."


def _place(path: Path, content: Any, location: Location) -> str:
    return f"{path}:{_line(content, location)}"


def _model_named(content: Any) -> str:
    """The model that an invalid document names; '' if it names none."""
    spec = content.get("spec") if isinstance(content, dict) else None
    name = spec.get("model") if isinstance(spec, dict) else None
    return name if isinstance(name, str) else ""


def _line(node: Any, location: Location) -> int:
    """Line, from 1, of the innermost part of `location` that the document has."""
    line = (node.lc.line if hasattr(node, "lc") else None) or 0  # a scalar with a tag of its own has an empty `lc`
    for part in location:
        if not hasattr(node, "lc") or part not in (node.lc.data or {}):
            break
        line, node = node.lc.data[part][0], node[part]
    return int(line) + 1


def _spell(location: Location) -> str:
    """`spec.traffic[1].percent: ` for the parts of a location; a wrong key has the place of its value."""
    parts = location[:-1] if location[-1:] == ("[key]",) else location
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{clipped(part)}" for part in parts)
    return f"{text.removeprefix('.')}: " if text else ""
