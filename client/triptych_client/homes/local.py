"""The home in this process: the steps of a contract, and the model by ONNX Runtime. No server is needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from triptych.contract import ContractError, Plan, load_step_files
from triptych.contract.reading.files import cause
from triptych.contract.verification.model_folder import ModelFolder, read_model_folder
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych.contract.verification.triton_config import ConfigError
from triptych.contract.verification.version import ValidationOptions, validate_version
from triptych.errors import TriptychError, UnknownVersion
from triptych.protocol.metadata import ModelInfo, caller_side
from triptych.protocol.status import CODES
from triptych_client.errors import RequestFailed
from triptych_client.homes.home import ModelAnswer, ModelRequest
from triptych_client.homes.onnx_session import NoRuntime, predict_by


class LocalHome:
    """The models of a model repository, a folder. A version is loaded when it is asked first.

    `max_rows` is the limit of a request in place of the contract's, which a server keeps.
    """

    def __init__(self, repository: str | Path, max_rows: int | None = None) -> None:
        self._repository, self._max_rows = Path(repository), max_rows
        self._versions: dict[tuple[str, str], _Version] = {}
        self._loading = threading.Lock()

    def describe(self, model: str, version: str) -> ModelInfo:
        return self._version(model, version).info

    def choose_versions(self, model: str, route: str | None, keys: Sequence[str]) -> Sequence[str]:
        raise RequestFailed("UNIMPLEMENTED", "a folder of models has no traffic")

    def ask(self, request: ModelRequest) -> ModelAnswer:
        version = self._version(request.model, request.version)
        try:
            return version.ask(request)
        except TriptychError as error:
            raise RequestFailed(CODES[type(error)].name, str(error)) from error
        except Exception as error:  # of a step, or of ONNX Runtime
            raise RequestFailed("INTERNAL", f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._versions.clear()

    def _version(self, model: str, version: str) -> _Version:
        """The version of that number; without one the newest that Triton serves. Raises `RequestFailed`."""
        with self._loading:
            found = self._versions.get((model, version))
            if found is None:
                found = self._versions[model, version] = self._load(model, version)
                self._versions.setdefault((model, found.info.version), found)
            return found

    def _load(self, model: str, version: str) -> _Version:
        folder = self._repository / model
        if not (folder / CONFIG).is_file():
            raise RequestFailed("NOT_FOUND", f"want a model's folder, got {folder}, which has no {CONFIG}")
        try:
            found = read_model_folder(folder, self._repository)
            numbers = {str(number): number for number in found.served}
            wanted = version or str(max(found.served, default=""))
            if wanted in numbers:
                return _Version(found, numbers[wanted], self._max_rows)
        except ContractError as error:
            text = "; ".join(error.lines)
        except OSError as error:
            text = f"{error.filename or folder}: {cause(error)}"
        except (ConfigError, NoRuntime) as error:
            text = f"{folder}: {error}"
        except Exception as error:  # of ONNX Runtime, about the file
            text = f"{folder}: {type(error).__name__}: {error}"
        else:
            raise RequestFailed("NOT_FOUND", str(UnknownVersion(model, wanted, numbers)))
        raise RequestFailed("FAILED_PRECONDITION", text)


class _Version:
    """A version that passed the checks of `triptych verify`."""

    def __init__(self, folder: ModelFolder, number: int, max_rows: int | None) -> None:
        """Raises `ContractError`, `NoRuntime`, `OSError` and the errors of ONNX Runtime."""
        path = folder.path / str(number)
        contract = validate_version(folder, number, [folder.name], ValidationOptions()).contract
        self._name, self._number = folder.name, str(number)
        limited = contract if max_rows is None else contract.model_copy(update={"max_rows": max_rows})
        self._plan = Plan(limited, load_step_files(contract, path))
        self._predict = predict_by(folder.config, path)
        versions = [str(each) for each in sorted(folder.served)]
        described = caller_side(contract, folder.name, versions, version=self._number)
        self.info: ModelInfo = replace(described, max_rows=limited.max_rows)

    def ask(self, request: ModelRequest) -> ModelAnswer:
        """Raises `TriptychError`, and any error of the model."""
        plan, inputs = self._plan, self._plan.of_contract(request.inputs)
        rows = plan.check_inputs(inputs)
        parameters = plan.check_parameters(request.parameters)
        values = plan.preprocess(inputs)
        outputs = plan.predicted(self._predict(plan.model_inputs(values)), rows)
        answer = plan.postprocess(outputs | plan.carried_values(values), parameters)
        names = request.outputs or plan.outputs
        return ModelAnswer(self._name, self._number, {name: answer[name] for name in names})
