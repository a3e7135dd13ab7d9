"""The content of `triptych top` at one moment, from the controller's replies. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from triptych.contract.reading.files import escaped
from triptych.protocol import controller_pb2 as cp

_Key = Callable[[cp.LoadedModel], tuple[Any, ...]]
SORTS: Mapping[str, _Key] = {
    "model": lambda each: (each.model, each.predictor),
    "predictor": lambda each: (each.predictor, each.model),
    "bytes": lambda each: (-each.bytes, each.model),
    "rate": lambda each: (-each.requests_per_s, each.model),
    "idle": lambda each: (-each.idle_s, each.model),
    "used": lambda each: (each.idle_s, each.model),
}


@dataclass(frozen=True)
class ModelRow:
    """One model on one predictor, with the traffic and the aliases of the versions that are loaded there."""

    message: cp.LoadedModel
    traffic: Mapping[int, int]  # percent by version
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class Snapshot:
    """Predictors, loaded models in the chosen order, and decisions with the latest first."""

    address: str
    models: int  # in the catalog
    store: cp.Store
    predictors: Sequence[cp.Predictor]
    loaded_models: Sequence[ModelRow]
    decisions: Sequence[cp.Decision]


def take_snapshot(address: str, reply: cp.DescribeReply, models: Mapping[str, cp.Model], sort: str) -> Snapshot:
    """Combine the replies of one moment."""
    loaded_models = [_row(each, models.get(each.model)) for each in sorted(reply.loaded_models, key=SORTS[sort])]
    predictors = sorted(reply.predictors, key=lambda each: each.address)
    return Snapshot(address, len(models), reply.store, predictors, loaded_models, list(reversed(reply.decisions)))


def _row(loaded: cp.LoadedModel, model: cp.Model | None) -> ModelRow:
    shares = {each.version: each.percent for each in model.versions} if model else {}
    traffic = {version: shares.get(version, 0) for version in loaded.versions}
    known = sorted(model.aliases.items()) if model else ()
    aliases = {alias: version for alias, version in known if version in traffic}
    return ModelRow(loaded, traffic, aliases)


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot with the field names of the protocol and plain types."""
    return {
        "controller": snapshot.address,
        "models": snapshot.models,
        "store": _plain(snapshot.store),
        "predictors": [_plain(each) for each in snapshot.predictors],
        "loaded_models": [
            {
                **_plain(each.message),
                "traffic": {str(version): share for version, share in each.traffic.items()},
                "aliases": dict(each.aliases),
            }
            for each in snapshot.loaded_models
        ],
        "decisions": [_plain(each) for each in snapshot.decisions],
    }


def _plain(message: Any) -> dict[str, Any]:
    """Convert a message. protobuf's own JSON has 64-bit numbers as strings; each of these fits into a double."""
    plain = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    for field in message.DESCRIPTOR.fields:
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            value = plain[field.name]
            plain[field.name] = list(map(int, value)) if isinstance(value, list) else int(value)
    return plain


def printable_line(text: str) -> str:
    """One line, with control characters escaped for the terminal."""
    return escaped(" ".join(text.splitlines()))


def format_bytes(count: float) -> str:
    """Bytes with three digits: `30 MiB`, `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def format_age(seconds: float) -> str:
    """`4 s`, `12 min`, `3 h`, `2 d`."""
    for unit, length, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < length * limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def format_versions(traffic: Mapping[int, int], aliases: Mapping[str, int]) -> str:
    """`1: 95 %, 2 (production): 5 %`; a version without traffic has no share."""
    return ", ".join(
        f"{_named(version, aliases)}: {share} %" if share else _named(version, aliases)
        for version, share in sorted(traffic.items())
    )


def _named(version: int, aliases: Mapping[str, int]) -> str:
    names = ", ".join(printable_line(alias) for alias, number in aliases.items() if number == version)
    return f"{version} ({names})" if names else str(version)
