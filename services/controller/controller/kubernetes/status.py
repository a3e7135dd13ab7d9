"""The status of a ServedModel: what is in force, whether that is what was asked for, and if not, why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.catalog.builder import Catalog, Model, Verdict
from controller.catalog.seal import is_durable, same_kind
from controller.catalog.served_model import Sealed
from controller.traffic.model_state import Situation

MAX_MESSAGE = 4096
SEAL = ("files", "contract")
Json = dict[str, Any]
State = Literal["True", "False", "Unknown"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(_Part):
    """One statement about the object, in the Kubernetes convention."""

    type: Annotated[str, Field(max_length=316, description="Ready, Valid or Progressing.")]
    status: Annotated[State, Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=1024, description="Why, in one word for machines.")]
    message: Annotated[str, Field(max_length=32768, description="Why, in a sentence for people.")] = ""
    last_transition_time: Annotated[
        str,
        Field(
            alias="lastTransitionTime",
            description="When the status last changed.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = ""
    observed_generation: Annotated[
        int, Field(ge=0, alias="observedGeneration", description="Generation of the spec that this is about.")
    ] = 0


class Share(_Part):
    """The share of one version that is in force."""

    version: Annotated[int, Field(description="Number of the version.")]
    percent: Annotated[int, Field(description="Its share of the requests that name no version.")]


class VersionStatus(_Part):
    """One version that is in force or asked for."""

    version: Annotated[int, Field(description="Number of the version.")]
    ready_on: Annotated[
        tuple[str, ...],
        Field(alias="readyOn", description="Addresses of the Tritons that have it loaded. Empty: loaded on request."),
    ] = ()
    reason: Annotated[str, Field(description="Why it has not got its share, in Triton's words where it failed.")] = ""
    files: Annotated[
        str, Field(description="One digest of all its files as they were published. Other files are not loaded.")
    ] = ""
    contract: Annotated[str, Field(description="Digest of its contract as it was published.")] = ""


class Status(_Part):
    """How the model is served at this moment."""

    observed_generation: Annotated[
        int, Field(ge=0, alias="observedGeneration", description="Generation of the spec that the status is about.")
    ] = 0
    summary: Annotated[
        str, Field(description="Traffic in one line: what is in force and, after an arrow, what is asked for.")
    ] = ""
    traffic: Annotated[tuple[Share, ...], Field(description="Shares that are in force now.")] = ()
    copies: Annotated[
        int, Field(ge=0, description="Tritons that have every version in traffic loaded. 0: loaded on request.")
    ] = 0
    copies_wanted: Annotated[
        int, Field(ge=0, alias="copiesWanted", description="Tritons that are to have the model loaded.")
    ] = 0
    versions: Annotated[tuple[VersionStatus, ...], Field(description="The versions in force or asked for.")] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            description="Ready: the traffic is in force as asked. Valid: the document, its versions and their "
            "contracts are good. Progressing: a version is being loaded before it gets its share.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()


def status_of(verdict: Verdict, catalog: Catalog, situation: Situation | None) -> Json:
    """The status as JSON, its conditions without times. `situation`: of the model, None when it is not served."""
    model = catalog.models.get(verdict.model)
    if model is None or model.document != verdict.origin.where:
        situation = None  # the model is served by another document, or not at all
    in_force = dict(situation.traffic) if situation else {}
    conditions = _conditions(verdict, situation)
    generation = verdict.origin.generation
    status = Status(
        observed_generation=generation,
        summary=summary(in_force, verdict.asked),
        traffic=tuple(Share(version=version, percent=percent) for version, percent in sorted(in_force.items())),
        copies=_copies(situation) if situation else 0,
        copies_wanted=situation.copies if situation else 0,
        versions=tuple(
            _version(number, situation, _sealed(number, model, verdict))
            for number in sorted(in_force.keys() | verdict.asked.keys())
        ),
        conditions=tuple(c.model_copy(update={"observed_generation": generation}) for c in conditions),
    )
    return _json(status)


def dated(status: Json, before: Json, now: str) -> Json:
    """The status with the time of each condition: the one it had, or now where the condition turned.

    A version whose digests are not known at this moment keeps those that were written down.
    """
    had = {c.get("type"): c for c in before.get("conditions") or ()}
    conditions = []
    for condition in status["conditions"]:
        old = had.get(condition["type"], {})
        same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        conditions.append(condition | {"lastTransitionTime": same or now})
    known = {version.get("version"): version for version in before.get("versions") or ()}
    versions = [
        version if version["files"] else version | {key: known.get(version["version"], {}).get(key, "") for key in SEAL}
        for version in status["versions"]
    ]
    return status | {"conditions": conditions, "versions": versions}


def summary(in_force: Mapping[int, int], asked: Mapping[int, int]) -> str:
    """`3:95% 4:5%`, and `3:100% -> 3:95% 4:5%` while something else is asked for."""
    if not asked or in_force == asked:
        return _words(in_force)
    return f"{_words(in_force)} -> {_words(asked)}"


def _words(shares: Mapping[int, int]) -> str:
    return " ".join(f"{version}:{percent}%" for version, percent in sorted(shares.items())) or "none"


def _conditions(verdict: Verdict, situation: Situation | None) -> tuple[Condition, ...]:
    valid = _valid(verdict)
    progress = _progress(verdict, situation)
    return _ready(verdict, situation, valid, progress), valid, progress


def _valid(verdict: Verdict) -> Condition:
    if not verdict.problems:
        return Condition(type="Valid", status="True", reason="Accepted")
    message = _cut("; ".join(text for _, text in verdict.problems))
    return Condition(type="Valid", status="False", reason=str(verdict.problems[0][0]), message=message)


def _progress(verdict: Verdict, situation: Situation | None) -> Condition:
    """Whether a version is on its way to its share."""
    if situation is None:
        return Condition(type="Progressing", status="False", reason="NotServed")
    failed = _failed(verdict, situation)
    if given_up := {number: why for number, why in failed.items() if number not in situation.trying}:
        return Condition(type="Progressing", status="False", reason="LoadFailed", message=_by_version(given_up))
    if situation.held_back or failed:
        message = _by_version({**situation.held_back, **failed})
        return Condition(type="Progressing", status="True", reason="Loading", message=message)
    return Condition(type="Progressing", status="False", reason="Complete")


def _failed(verdict: Verdict, situation: Situation) -> dict[int, str]:
    """Versions asked for that could not be loaded, and are loaded nowhere."""
    failures = situation.failures.items()
    return {number: why for number, why in failures if number in verdict.asked and not situation.ready.get(number)}


def _ready(verdict: Verdict, situation: Situation | None, valid: Condition, progress: Condition) -> Condition:
    """Whether the traffic is in force as asked; if not, the reason of the condition that says why."""
    why = valid if valid.status == "False" else progress
    if situation is None:
        return Condition(type="Ready", status="False", reason=why.reason, message=why.message or "not served yet")
    if failing := {number: text for number, text in situation.failing.items() if situation.traffic.get(number)}:
        return Condition(type="Ready", status="False", reason="CannotRun", message=_by_version(failing))
    silent = any(verdict.asked.get(number) for number in _failed(verdict, situation))
    if situation.traffic == verdict.asked and not silent:
        return Condition(type="Ready", status="True", reason="InForce")
    in_force = f"in force is {_words(situation.traffic)}"
    message = f"{in_force}; {why.message}" if why.message else in_force
    return Condition(type="Ready", status="False", reason=why.reason, message=_cut(message))


def _copies(situation: Situation) -> int:
    """Tritons that have every version in traffic."""
    holders = [set(situation.ready.get(version, ())) for version, percent in situation.traffic.items() if percent]
    return len(set.intersection(*holders)) if holders else 0


def _sealed(number: int, model: Model | None, verdict: Verdict) -> Sealed:
    """What the version was when it was published: what was written down first stands."""
    version = model.versions.get(number) if model is not None else None
    now = Sealed(version.seal, version.stated) if version is not None and is_durable(version.seal) else Sealed()
    before = verdict.origin.sealed.get(number, now)
    return before if same_kind(before.files, now.files) or not now.files else now


def _version(number: int, situation: Situation | None, sealed: Sealed) -> VersionStatus:
    if situation is None:
        return VersionStatus(version=number, files=sealed.files, contract=sealed.contract)
    held_back = situation.failing.get(number) or situation.held_back.get(number, "")
    reason = situation.failures.get(number) or held_back
    ready_on = tuple(sorted(situation.ready.get(number, ())))
    return VersionStatus(
        version=number, ready_on=ready_on, reason=_cut(reason), files=sealed.files, contract=sealed.contract
    )


def _by_version(reasons: Mapping[int, str]) -> str:
    return _cut("; ".join(f"version {version}: {why}" for version, why in sorted(reasons.items())))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 4]} ..."


def _json(status: Status) -> Json:
    """As the API server gives it back, so that the two can be compared."""
    data = status.model_dump(mode="json", by_alias=True)
    for condition in data["conditions"]:
        del condition["lastTransitionTime"]
    return data
