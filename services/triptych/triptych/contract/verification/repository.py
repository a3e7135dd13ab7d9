"""`verify`: everything that can be known of a model repository before it is served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.contract.errors import ContractError
from triptych.contract.reading.files import cause, is_within, printable, printable_path, resolved
from triptych.contract.reading.loader import load_located
from triptych.contract.schema.contract import Contract
from triptych.contract.verification import triton_config as triton
from triptych.contract.verification.onnx_file import check_model_file
from triptych.contract.verification.tree import CONTRACT, VERSION, name_fault, sha256_of, stated_faults, tree_of
from triptych.contract.verification.trial import trial
from triptych.contract.verification.triton_config import FILE, ConfigError


@dataclass(frozen=True)
class Member:
    """One version of one model, with a contract that could be read."""

    model: str
    version: int
    path: Path
    contract: Contract


@dataclass
class Report:
    """What was found: members that load, and a line for every problem."""

    members: list[Member] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """`53 models, 54 versions: digits (5 routes), sales_forecast (48 routes)`."""
        routes: dict[str, set[str]] = defaultdict(set)
        for member in self.members:
            routes[member.contract.family].add(member.contract.route)
        models = len({member.model for member in self.members})
        families = ", ".join(f"{name} ({_count(len(found), 'route')})" for name, found in sorted(routes.items()))
        return f"{_count(models, 'model')}, {_count(len(self.members), 'version')}: {families}"


def verify(root: Path) -> Report:
    """Reads every model folder of a controller; files and dot folders beside them are none."""
    report = Report()
    if not root.is_dir():
        report.problems.append(f"{root}:1: no such folder")
        return report
    folders = list(_folders(root, report))
    for folder in folders:
        try:
            _model(folder, {each.name for each in folders}, report)
        except OSError as error:
            report.problems.append(f"{printable_path(error.filename or folder)}:1: cannot be read: {cause(error)}")
    if not report.members and not report.problems:
        report.problems.append(f"{root}:1: holds no model folder")
    report.problems += _claims(report.members)
    report.problems += _signatures(report.members)
    return report


def _folders(root: Path, report: Report) -> Iterator[Path]:
    """The model folders; one whose name no caller could send is a problem."""
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if fault := _link_fault(entry, root) or (entry.is_dir() and name_fault(entry.name)):
            report.problems.append(f"{root}/{printable(entry.name)}:1: {fault}")
        elif entry.is_dir():
            yield entry


def _link_fault(entry: Path, root: Path) -> str:
    """Why a link can be no model; '' for one that may be, or leads to a file beside the models."""
    if not entry.is_symlink():
        return ""
    try:
        real = resolved(entry)
    except OSError as error:
        return "is a link to nothing" if isinstance(error, FileNotFoundError) else f"cannot be read: {cause(error)}"
    return "is a link out of the model repository" if entry.is_dir() and not is_within(real, resolved(root)) else ""


def _model(folder: Path, models: Collection[str], report: Report) -> None:
    path = folder / FILE
    try:
        text, config = triton.read_config(folder, folder.parent)
    except ConfigError as error:
        report.problems.append(f"{folder}/{error}")
        return
    versions = sorted(_versions(folder, report))
    if not versions:
        report.problems.append(f"{folder}:1: has no version; a version is a folder with a whole number")
    unserved = sorted(set(versions) - triton.served_versions(config, versions))
    if unserved:
        said = ", ".join(map(str, unserved))
        report.problems.append(f"{path}:1: version_policy leaves out {said}; want {{ all {{ }} }}")
    for version in versions:
        _version(folder / str(version), text, config, models, report)


def _versions(folder: Path, report: Report) -> Iterator[int]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        # Triton takes no other spelling: 01, +1 and Arabic digits are folders to it, not versions.
        if VERSION.fullmatch(entry.name):
            yield int(entry.name)
        else:
            name = printable(entry.name)
            report.problems.append(f"{folder}/{name}:1: '{name}' is no version; want a whole number from 1")


def _version(place: Path, config_text: str, config: Any, models: Collection[str], report: Report) -> None:
    folder, root = place.parent, place.parent.parent
    if missing := triton.missing_file(config, place, root):
        report.problems.append(f"{folder}/{missing}")
    path = place / CONTRACT
    try:
        located = load_located(path, root)
    except ContractError as error:
        report.problems += error.lines
        return
    contract = located.contract
    problems = [*located.lines_of(trial(contract)), *_files(place, root, contract)]
    problems += [f"{place}/{problem}" for problem in check_model_file(contract, config, place, strict=True)]
    found = triton.check_config(contract, config_text, folder.name, config, models)
    report.problems += problems + [f"{folder}/{problem}" for problem in found]
    report.members.append(Member(folder.name, int(place.name), path, contract))


def _files(place: Path, root: Path, contract: Contract) -> Iterator[str]:
    """Files that no Triton could load from here, and those that are not as the contract states."""
    found = tree_of(place, resolved(root))
    yield from (f"{place}/{fault}" for fault in found.faults)
    if contract.files:
        faults = stated_faults(contract.files, found, lambda file: sha256_of(f"{place}/{file.path}"))
        yield from (f"{place}/{printable_path(path)}: {text}" for path, text in faults)


def _claims(members: list[Member]) -> Iterator[str]:
    """A route leads to one model, and a model stands for one route in all its versions."""
    owner: dict[tuple[str, str], Member] = {}
    route_of: dict[str, Member] = {}
    for member in members:
        claim = (member.contract.family, member.contract.route)
        first = route_of.setdefault(member.model, member)
        if claim != (first.contract.family, first.contract.route):
            said = f"{first.contract.family}/{first.contract.route}"
            yield f"{member.path}:1: is {'/'.join(claim)}, but version {first.version} is {said}"
            continue
        if (holder := owner.setdefault(claim, member)).model != member.model:
            yield f"{member.path}:1: {'/'.join(claim)} belongs to model '{holder.model}' already"


def _signatures(members: list[Member]) -> Iterator[str]:
    first: dict[str, Member] = {}
    for member in members:
        other = first.setdefault(member.contract.family, member)
        mine, theirs = member.contract.signature(), other.contract.signature()
        if mine != theirs:
            yield (
                f"{member.path}:1: family '{member.contract.family}' must look alike to callers: "
                f"here [{mine}], in {other.path} [{theirs}]"
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
