"""The validator of a whole model repository, for `triptych verify`: everything known before it is served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from triptych.contract.errors import ContractError
from triptych.contract.reading.files import cause, printable, printable_path
from triptych.contract.schema.contract import Contract
from triptych.contract.verification.backends import backend_note
from triptych.contract.verification.families import ModelIdentities, VersionIdentity, check_families
from triptych.contract.verification.model_folder import NO_VERSION, ModelFolder, model_folders, read_model_folder
from triptych.contract.verification.tree import CONTRACT
from triptych.contract.verification.triton_config import ConfigError
from triptych.contract.verification.version import ValidationOptions, validate_version

Contracts = dict[int, Contract]  # by version


@dataclass
class ValidationReport:
    """Contracts of the valid versions by model, and a line for every problem. `notes` by model are no problems."""

    models: dict[str, Contracts] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def summary(self) -> str:
        """`53 models, 54 versions: digits (5 routes), sales_forecast (48 routes)`."""
        routes: defaultdict[str, set[str]] = defaultdict(set)
        contracts = [contract for versions in self.models.values() for contract in versions.values()]
        for contract in contracts:
            routes[contract.family].add(contract.route)
        families = ", ".join(f"{name} ({_count(len(found), 'route')})" for name, found in sorted(routes.items()))
        return f"{_count(len(self.models), 'model')}, {_count(len(contracts), 'version')}: {families}"


def validate_repository(root: Path, options: ValidationOptions | None = None) -> ValidationReport:
    """Validates every model folder, every version, and all of them against each other."""
    report, options = ValidationReport(), options or ValidationOptions()
    if not root.is_dir():
        report.problems.append(f"{root}:1: no such folder")
        return report
    found = sorted((entry.name, fault) for entry, fault in model_folders(root))
    report.problems += [f"{root}/{printable(name)}:1: {fault}" for name, fault in found if fault]
    names = [name for name, fault in found if not fault]
    for name in names:
        try:
            model = read_model_folder(root / name, root, options.max_file_bytes)
        except ConfigError as error:
            report.problems.append(f"{root / name}/{error}")
        except OSError as error:
            report.problems.append(f"{printable_path(error.filename or root / name)}:1: cannot be read: {cause(error)}")
        else:
            _validate_model(model, names, options, report)
    if not found:
        report.problems.append(f"{root}:1: holds no model folder")
    report.problems += _family_faults(root, report.models)
    return report


def _validate_model(
    model: ModelFolder, models: Collection[str], options: ValidationOptions, report: ValidationReport
) -> None:
    report.problems += model.faults
    if not model.versions:
        report.problems.append(f"{model.path}:1: {NO_VERSION}")
    valid: Contracts = {}
    for number in model.versions:
        try:
            valid[number] = validate_version(model, number, models, options).contract
        except ContractError as error:
            report.problems += error.lines
    if valid:
        report.models[model.name] = valid
        if note := backend_note(model.config):
            report.notes[model.name] = note


def _family_faults(root: Path, models: dict[str, Contracts]) -> Iterator[str]:
    identities = (
        ModelIdentities(name, {number: VersionIdentity.of(contract) for number, contract in versions.items()})
        for name, versions in models.items()
    )
    for (name, version), text in sorted(check_families(identities).faults.items(), key=str):
        number = min(models[name]) if version is None else version
        yield f"{root / name / str(number) / CONTRACT}:1: {text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
