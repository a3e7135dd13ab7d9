"""Plan: a contract compiled to functions. No request interprets the contract."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from triptych.contract.checks import InputCheck, ParameterCheck, Shaped, TensorCheck
from triptych.contract.numpy_warnings import ARE_OFF
from triptych.contract.schema.contract import Contract
from triptych.contract.schema.declarations import STAGES
from triptych.contract.schema.observe import observe_nothing
from triptych.contract.specs import ModelTensorSpec, Scalar
from triptych.contract.steps.base import Environment, Run, Scope, Step
from triptych.contract.steps.step_file import StepFile
from triptych.datatypes import Array, describe, name_of
from triptych.errors import ContractViolation, InvalidInput, TriptychError

_NO_PARAMETERS: Final[Mapping[str, Scalar]] = MappingProxyType({})
_NO_FILES: Final[Mapping[str, StepFile]] = MappingProxyType({})


class Plan:
    """Preprocessing, postprocessing and checks of one contract. Stateless, so any thread may use it.

    `files` are those that the steps of `stages` read, by path. The steps of another stage are not compiled.
    """

    def __init__(
        self, contract: Contract, files: Mapping[str, StepFile] = _NO_FILES, stages: Collection[str] = STAGES
    ) -> None:
        self.contract, self.scope = contract, contract.scope_with(files)
        self._before = _Stage("preprocess", contract.preprocess if "preprocess" in stages else (), self.scope)
        self._after = _Stage("postprocess", contract.postprocess if "postprocess" in stages else (), self.scope)
        self._unpacking = _unpacking(contract.preprocess)
        self._enlarging = _unpacking(contract.postprocess)
        self._model_inputs = [spec.name for spec in contract.model.inputs]
        self._rows_axis_of_input = _rows_axes(contract.model.inputs)
        self._rows_axis_of_output = _rows_axes(contract.model.outputs)
        self.carried = contract.carried
        self.model_outputs = [spec.name for spec in contract.model.outputs]
        self.outputs = [spec.name for spec in contract.outputs]
        self.known_inputs = frozenset(spec.name for spec in contract.inputs)
        self.ignores_unknown_inputs = contract.unknown_inputs == "ignore"
        self._check_inputs = InputCheck(contract.inputs, contract.max_rows)
        self._check_parameters = ParameterCheck(contract.parameters)
        self._check_model_inputs = TensorCheck("model input", contract.model.inputs)
        self._check_model_outputs = TensorCheck("model output", contract.model.outputs)
        self._check_outputs = TensorCheck("output", contract.outputs)
        self._observe = contract.observe.compile(contract.labels) if contract.observe else observe_nothing

    def of_contract(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The inputs without those that the contract ignores."""
        if not self.ignores_unknown_inputs:
            return inputs
        return {name: array for name, array in inputs.items() if name in self.known_inputs}

    def check_inputs(self, inputs: Mapping[str, Array]) -> int:
        """Number of rows of a request. Raises InvalidInput or InvalidRequest."""
        return self._check_inputs(inputs)

    def check_parameters(self, parameters: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Parameters of the contract, with defaults. Raises InvalidParameter."""
        return self._check_parameters(parameters)

    def check_input(self, tensor: Shaped) -> None:
        """Raises `InvalidInput` or `InvalidRequest` for a wrong input tensor, before its contents are read."""
        self._check_inputs.declared(tensor)

    def check_model_output(self, tensor: Shaped) -> None:
        """Raises `InvalidInput` for a tensor that postprocess does not take, before its contents are read."""
        if tensor.name not in self.carried:
            self._check_model_outputs.declared(tensor, self.contract.max_rows)
        elif not tensor.shape or tensor.shape[0] > self.contract.max_rows:
            want = f"a value of preprocess with up to {self.contract.max_rows} rows"
            raise InvalidInput(tensor.name, want, describe(name_of(tensor.dtype), tensor.shape))

    def check_model_outputs(self, outputs: Mapping[str, Array], rows: int) -> None:
        """Raises ContractViolation if outputs of the model, with the rows first, do not match the contract."""
        self._check_model_outputs(outputs, rows)

    def predicted(self, outputs: Mapping[str, Array], rows: int) -> dict[str, Array]:
        """The outputs of the contract, with the rows first, of what the model answered; Triton may have more.

        Raises `ContractViolation` if they do not match the contract.
        """
        for name, axis in self._rows_axis_of_output.items():
            if name in outputs and outputs[name].ndim > axis:  # else the check names what is wrong
                outputs = {**outputs, name: np.ascontiguousarray(np.moveaxis(outputs[name], axis, 0))}
        self._check_model_outputs(outputs, rows)
        return {name: outputs[name] for name in self.model_outputs}

    @property
    def unpacks(self) -> bool:
        """Whether a step decodes files, so that its work exceeds the bytes of the inputs."""
        return bool(self._unpacking)

    def unpacked_bytes(self, inputs: Mapping[str, Array]) -> int:
        """Bytes that `preprocess` makes by decoding these inputs, which may still be unchecked."""
        return sum(step.unpacked_bytes(inputs) for step in self._unpacking)

    def enlarged_bytes(self, outputs: Mapping[str, Array]) -> int:
        """Bytes that `postprocess` makes beyond those of these outputs, such as masks of the caller's size."""
        return sum(step.unpacked_bytes(outputs) for step in self._enlarging) if self._enlarging else 0

    def preprocess(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs of the model, and values for postprocess, from inputs that passed `check_inputs`."""
        rows = len(next(iter(inputs.values())))
        env = Environment(inputs, rows, _NO_PARAMETERS)
        self._before(env)
        tensors = {name: env[name] for name in self._model_inputs}
        self._check_model_inputs(tensors, rows)
        if self.carried:
            tensors.update(carried_values(self.carried, env))
        return tensors

    def model_inputs(self, values: Mapping[str, Array]) -> Mapping[str, Array]:
        """Inputs of the model as it takes them, of what `preprocess` returned."""
        if self.carried:
            values = {name: values[name] for name in self._model_inputs}
        if self._rows_axis_of_input:
            moved = {name: np.moveaxis(values[name], 0, axis) for name, axis in self._rows_axis_of_input.items()}
            return {**values, **moved}
        return values

    def carried_values(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Values for postprocess, of what `preprocess` returned."""
        return {name: values[name] for name in self.carried if name in values}

    def missing(self, values: Mapping[str, Array]) -> list[str]:
        """Names of the values of preprocess without which postprocess cannot run."""
        return [name for name, needed in self.carried.items() if needed and name not in values]

    def postprocess(
        self, outputs: Mapping[str, Array], parameters: Mapping[str, Scalar] = _NO_PARAMETERS
    ) -> dict[str, Array]:
        """Outputs of the contract, from outputs and parameters that passed their checks.

        `outputs` holds the outputs of the model, then the `carried_values`.
        """
        rows = len(next(iter(outputs.values())))
        env = Environment(outputs, rows, parameters)
        try:
            self._after(env)
        except InvalidInput as error:  # the input is the model's output, which the caller did not send
            raise ContractViolation(f"postprocess: {error}") from error
        answer = {name: env[name] for name in self.outputs}
        self._check_outputs(answer, rows)
        return answer

    def observed(self, answer: Mapping[str, Array]) -> Mapping[str, int]:
        """Number of rows by observed value; empty if the contract observes nothing."""
        return self._observe(answer)


class _Stage:
    """The steps of one stage, in order."""

    def __init__(self, name: str, steps: Sequence[Step], scope: Scope) -> None:
        self._name, self._ops = name, [step.op for step in steps]
        self._runs: list[Run] = [step.compile(scope) for step in steps]

    def __call__(self, env: Environment) -> None:
        if ARE_OFF.get():
            self._run(env)
        else:
            with np.errstate(all="ignore"):
                self._run(env)

    def _run(self, env: Environment) -> None:
        at = 0
        try:
            for at, run in enumerate(self._runs):  # noqa: B007 - read below, in the error
                run(env)
        except TriptychError:
            raise
        except Exception as error:
            raise ContractViolation(f"{self._name}[{at}] {self._ops[at]}: {_sentence(error)}") from error


def carried_values(carried: Iterable[str], env: Environment) -> dict[str, Array]:
    """Values at the end of preprocess that postprocess reads. Raises `ContractViolation` for what is no tensor."""
    values: dict[str, Array] = {}
    for name in carried:
        if name not in env:
            continue  # an optional input that the request left out
        value = env[name]
        if not isinstance(value, np.ndarray):
            raise ContractViolation(f"postprocess reads '{name}': want an array, got pictures of different sizes")
        values[name] = value
    return values


def _unpacking(steps: Iterable[Step]) -> list[Step]:
    """The steps that say how many bytes they make of their inputs."""
    return [step for step in steps if type(step).unpacked_bytes is not Step.unpacked_bytes]


def _rows_axes(specs: Iterable[ModelTensorSpec]) -> dict[str, int]:
    """The dimension of the rows of each tensor in which it is not the first."""
    return {spec.name: spec.rows_axis for spec in specs if spec.rows_axis is not None}


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
