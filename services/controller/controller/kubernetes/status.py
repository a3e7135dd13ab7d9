"""The status of a ServedModel: the traffic in force, and the reason if it differs from the spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from controller.catalog.digests import are_comparable, is_durable
from controller.catalog.entities import Catalog, DocumentResult, Model, Problem
from controller.catalog.served_model import RecordedDigests
from controller.traffic.model_state import ModelState
from controller.traffic.split import format_split

MAX_MESSAGE = 4096
DIGEST_FIELDS = ("files", "contract")
Json = dict[str, Any]
State = Literal["True", "False", "Unknown"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(_Part):
    """One condition of the object, in the Kubernetes convention."""

    type: Annotated[str, Field(max_length=316, description="Ready, Valid, Progressing or AliasesResolved.")]
    status: Annotated[State, Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=1024, description="Why, as one word for programs.")]
    message: Annotated[str, Field(max_length=32768, description="Why, as a sentence for people.")] = ""
    last_transition_time: Annotated[
        str,
        Field(
            alias="lastTransitionTime",
            description="When the status last changed.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = ""
    observed_generation: Annotated[
        int, Field(ge=0, alias="observedGeneration", description="Generation of the spec that it describes.")
    ] = 0


class Share(_Part):
    """The share in force of one version."""

    version: Annotated[int, Field(description="Number of the version.")]
    percent: Annotated[int, Field(description="Its share of the requests that name no version.")]


class Alias(_Part):
    """One alias in force."""

    alias: Annotated[str, Field(description="Name that requests use.")]
    version: Annotated[int, Field(description="Number of the version.")]


class VersionStatus(_Part):
    """One version in force, in the traffic of the spec, or with an alias."""

    version: Annotated[int, Field(description="Number of the version.")]
    ready_on: Annotated[
        tuple[str, ...],
        Field(
            alias="readyOn", description="Addresses of the predictors that have it loaded. Empty: loaded on request."
        ),
    ] = ()
    reason: Annotated[
        str, Field(description="Why it does not have its share; the error of Triton if a load failed.")
    ] = ""
    files: Annotated[
        str, Field(description="Digest over all its files when it was published. Other files are not loaded.")
    ] = ""
    contract: Annotated[str, Field(description="Digest of its contract when it was published.")] = ""


class Status(_Part):
    """The model as it is served now."""

    observed_generation: Annotated[
        int, Field(ge=0, alias="observedGeneration", description="Generation of the spec that the status describes.")
    ] = 0
    summary: Annotated[
        str, Field(description="Traffic in one line: the shares in force and, after an arrow, those of the spec.")
    ] = ""
    traffic: Annotated[tuple[Share, ...], Field(description="Shares that are in force now.")] = ()
    aliases: Annotated[tuple[Alias, ...], Field(description="Aliases that are in force now.")] = ()
    alias_summary: Annotated[str, Field(alias="aliasSummary", description="The aliases in one line.")] = ""
    replicas: Annotated[
        int, Field(ge=0, description="Predictors that have every version in traffic loaded. 0: loaded on request.")
    ] = 0
    desired_replicas: Annotated[
        int, Field(ge=0, alias="desiredReplicas", description="Predictors that should have the model loaded.")
    ] = 0
    versions: Annotated[
        tuple[VersionStatus, ...], Field(description="Versions in force, in the traffic of the spec, or with an alias.")
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            description="Ready: the traffic of the spec is in force. Valid: the document, its versions and their "
            "contracts are valid. Progressing: a version is loaded before it gets its share. AliasesResolved: the "
            "version of each alias exists; left out without aliases.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()


def status_of(result: DocumentResult, catalog: Catalog, model_state: ModelState | None) -> Json:
    """The status as JSON, its conditions without times. `model_state` is None if the model is not served."""
    model = catalog.models.get(result.model)
    if model is None or model.document != result.source.where:
        model_state = None  # the model is served by another document, or not at all
    in_force = dict(model_state.traffic) if model_state else {}
    aliases = dict(model.aliases) if model and model_state else {}
    conditions = _conditions(result, model_state, aliases)
    generation = result.source.generation
    status = Status(
        observed_generation=generation,
        summary=summary(in_force, result.asked),
        traffic=tuple(Share(version=version, percent=percent) for version, percent in sorted(in_force.items())),
        aliases=tuple(Alias(alias=alias, version=version) for alias, version in sorted(aliases.items())),
        alias_summary=" ".join(f"{alias}:{version}" for alias, version in sorted(aliases.items())),
        replicas=_ready_replicas(model_state) if model_state else 0,
        desired_replicas=model_state.desired_replicas if model_state else 0,
        versions=tuple(
            _version(number, model_state, _recorded_digests(number, model, result))
            for number in sorted({*in_force, *result.asked, *_aliased(model, aliases)})
        ),
        conditions=tuple(c.model_copy(update={"observed_generation": generation}) for c in conditions),
    )
    return _json(status)


def dated(status: Json, before: Json, now: str) -> Json:
    """The status with the time of each condition: the previous one, or now if the condition changed.

    A version whose digests are not known now keeps the recorded ones.
    """
    had = {c.get("type"): c for c in before.get("conditions") or ()}
    conditions = []
    for condition in status["conditions"]:
        old = had.get(condition["type"], {})
        same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        conditions.append(condition | {"lastTransitionTime": same or now})
    known = {version.get("version"): version for version in before.get("versions") or ()}
    versions = [
        version
        if version["files"]
        else version | {key: known.get(version["version"], {}).get(key, "") for key in DIGEST_FIELDS}
        for version in status["versions"]
    ]
    return status | {"conditions": conditions, "versions": versions}


def summary(in_force: Mapping[int, int], asked: Mapping[int, int]) -> str:
    """`3:95% 4:5%`, or `3:100% -> 3:95% 4:5%` while the spec differs."""
    if not asked or in_force == asked:
        return format_split(in_force)
    return f"{format_split(in_force)} -> {format_split(asked)}"


def _aliased(model: Model | None, aliases: Mapping[str, int]) -> set[int]:
    """The versions of a model that have an alias."""
    return {number for number in aliases.values() if model is not None and number in model.versions}


def _conditions(
    result: DocumentResult, model_state: ModelState | None, aliases: Mapping[str, int]
) -> tuple[Condition, ...]:
    valid = _valid(result)
    progress = _progress(result, model_state)
    conditions = _ready(result, model_state, valid, progress), valid, progress
    return (*conditions, _aliases_resolved(result)) if aliases else conditions


def _valid(result: DocumentResult) -> Condition:
    return _without_problems("Valid", "Accepted", result.problems)


def _aliases_resolved(result: DocumentResult) -> Condition:
    """The condition of aliases, apart from Valid: an alias without its version holds up no traffic and no rollout."""
    return _without_problems("AliasesResolved", "Resolved", result.alias_problems)


def _without_problems(kind: str, good: str, problems: Sequence[Problem]) -> Condition:
    if not problems:
        return Condition(type=kind, status="True", reason=good)
    message = _cut("; ".join(text for _, text in problems))
    return Condition(type=kind, status="False", reason=str(problems[0][0]), message=message)


def _progress(result: DocumentResult, model_state: ModelState | None) -> Condition:
    """The condition Progressing: whether a version is being loaded for its share."""
    if model_state is None:
        return Condition(type="Progressing", status="False", reason="NotServed")
    failed = _failed(result, model_state)
    if given_up := {number: why for number, why in failed.items() if number not in model_state.trying}:
        return Condition(type="Progressing", status="False", reason="LoadFailed", message=_by_version(given_up))
    if model_state.held_back or failed:
        message = _by_version({**model_state.held_back, **failed})
        return Condition(type="Progressing", status="True", reason="Loading", message=message)
    return Condition(type="Progressing", status="False", reason="Complete")


def _failed(result: DocumentResult, model_state: ModelState) -> dict[int, str]:
    """Versions of the spec whose load failed and that are loaded nowhere."""
    failures = model_state.failures.items()
    return {number: why for number, why in failures if number in result.asked and not model_state.ready.get(number)}


def _ready(result: DocumentResult, model_state: ModelState | None, valid: Condition, progress: Condition) -> Condition:
    """The condition Ready: whether the traffic of the spec is in force, else the reason of another condition."""
    why = valid if valid.status == "False" else progress
    if model_state is None:
        return Condition(type="Ready", status="False", reason=why.reason, message=why.message or "not served yet")
    if failing := {number: text for number, text in model_state.failing.items() if model_state.traffic.get(number)}:
        return Condition(type="Ready", status="False", reason="CannotRun", message=_by_version(failing))
    silent = any(result.asked.get(number) for number in _failed(result, model_state))
    if model_state.traffic == result.asked and not silent:
        return Condition(type="Ready", status="True", reason="InForce")
    in_force = f"in force is {format_split(model_state.traffic)}"
    message = f"{in_force}; {why.message}" if why.message else in_force
    return Condition(type="Ready", status="False", reason=why.reason, message=_cut(message))


def _ready_replicas(model_state: ModelState) -> int:
    """Number of predictors that have every version in traffic ready."""
    holders = [set(model_state.ready.get(version, ())) for version, percent in model_state.traffic.items() if percent]
    return len(set.intersection(*holders)) if holders else 0


def _recorded_digests(number: int, model: Model | None, result: DocumentResult) -> RecordedDigests:
    """The digests of a version when it was published: the first recorded ones stay."""
    version = model.versions.get(number) if model is not None else None
    now = (
        RecordedDigests(version.files_digest, version.source_digest)
        if version is not None and is_durable(version.files_digest)
        else RecordedDigests()
    )
    before = result.source.recorded_digests.get(number, now)
    return before if are_comparable(before.files, now.files) or not now.files else now


def _version(number: int, model_state: ModelState | None, recorded_digests: RecordedDigests) -> VersionStatus:
    if model_state is None:
        return VersionStatus(version=number, files=recorded_digests.files, contract=recorded_digests.contract)
    held_back = model_state.failing.get(number) or model_state.held_back.get(number, "")
    reason = model_state.failures.get(number) or held_back
    ready_on = tuple(sorted(model_state.ready.get(number, ())))
    return VersionStatus(
        version=number,
        ready_on=ready_on,
        reason=_cut(reason),
        files=recorded_digests.files,
        contract=recorded_digests.contract,
    )


def _by_version(reasons: Mapping[int, str]) -> str:
    return _cut("; ".join(f"version {version}: {why}" for version, why in sorted(reasons.items())))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 4]} ..."


def _json(status: Status) -> Json:
    """The status as the API server returns it, so that the two can be compared."""
    data = status.model_dump(mode="json", by_alias=True)
    for condition in data["conditions"]:
        del condition["lastTransitionTime"]
    return data
