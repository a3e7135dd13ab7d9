"""ServedModel: how one model is served. The schema of the Kubernetes object, and documents in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

MAX_BYTES = 4 << 20


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Metadata(_Closed):
    """Name of the object, and what Kubernetes tools write beside it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Traffic(_Closed):
    """The share of one version; 0 is a dark launch: called by its number only."""

    version: Annotated[int, Field(ge=1)]
    percent: Annotated[int, Field(ge=0, le=100)]


class Residency(_Closed):
    """What stays loaded without being asked for."""

    pin: bool = False
    min_copies: Annotated[int, Field(ge=0, le=1000, alias="minCopies")] = 0

    @property
    def copies(self) -> int:
        """On how many Tritons the model is kept loaded."""
        return max(self.min_copies, int(self.pin))


class Spec(_Closed):
    """Which folder of the model repository, which versions, what stays loaded."""

    model: Annotated[str, Field(min_length=1, max_length=253)]
    traffic: Annotated[tuple[Traffic, ...], Field(strict=False, min_length=1)]
    residency: Residency = Residency()

    @field_validator("traffic")
    @classmethod
    def _adds_up(cls, traffic: tuple[Traffic, ...]) -> tuple[Traffic, ...]:
        versions = [share.version for share in traffic]
        if doubled := next((v for v in versions if versions.count(v) > 1), None):
            raise ValueError(f"version {doubled} is there more than once")
        if (total := sum(share.percent for share in traffic)) != 100:
            raise ValueError(f"percents must sum to 100, got {total}")
        return traffic


class ServedModel(_Closed):
    """One document."""

    api_version: Annotated[Literal["triptych.dev/v1alpha1"], Field(alias="apiVersion")]
    kind: Literal["ServedModel"]
    metadata: Metadata
    spec: Spec


@dataclass(frozen=True)
class Document:
    """A ServedModel and where it stands: `where` is `file:line`."""

    where: str
    served: ServedModel


@dataclass(frozen=True)
class Fault:
    """What is wrong with a document, as `file:line: field: problem`; `model` is empty where it names none."""

    model: str
    text: str


def read_documents(path: Path) -> Iterator[Document | Fault]:
    """The documents of one YAML file, each with its faults; what follows a syntax error is not read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise YAMLError(f"larger than {MAX_BYTES} bytes")
        for content in YAML(typ="rt", pure=True).load_all(data.decode()):
            if content is not None:
                yield from _document(path, content)
    except OSError as error:
        yield Fault("", f"{path}:1: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        yield Fault("", f"{path}:1: not UTF-8: {error.reason} at byte {error.start}")
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        yield Fault("", f"{path}:{line}: not YAML: {error.problem}")
    except (YAMLError, RecursionError) as error:
        yield Fault("", f"{path}:1: not YAML: {str(error).splitlines()[0]}")


def _document(path: Path, content: Any) -> Iterator[Document | Fault]:
    try:
        yield Document(f"{path}:{_line(content, ())}", ServedModel.model_validate(content))
    except ValidationError as error:
        model = _model_named(content)
        for fault in error.errors(include_url=False):
            line, text = _line(content, fault["loc"]), fault["msg"].removeprefix("Value error, ")
            yield Fault(model, f"{path}:{line}: {_spell(fault['loc'])}{text}")


def _model_named(content: Any) -> str:
    """The model that a refused document is about, as far as it can be told."""
    spec = content.get("spec") if isinstance(content, dict) else None
    name = spec.get("model") if isinstance(spec, dict) else None
    return name if isinstance(name, str) else ""


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """Line, from 1, of the innermost part of `location` that is in the document."""
    line = node.lc.line if hasattr(node, "lc") else 0
    for part in location:
        if not hasattr(node, "lc") or part not in (node.lc.data or {}):
            break
        line, node = node.lc.data[part][0], node[part]
    return int(line) + 1


def _spell(location: tuple[int | str, ...]) -> str:
    """`spec.traffic[1].percent: ` for its parts."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{text.removeprefix('.')}: " if text else ""
