"""Checks across the fields of a contract: data flow between steps, outputs, observation, examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from triptych.contract.checks import InputCheck, ParameterCheck
from triptych.contract.errors import Problem
from triptych.contract.schema.declarations import Declarations, Stage
from triptych.contract.schema.examples import arrays_of
from triptych.contract.schema.summary import summary_faults
from triptych.contract.specs import TensorSpec
from triptych.contract.steps.base import Facts, Scope, Step
from triptych.contract.steps.step_file import MAX_STEP_FILES
from triptych.errors import InvalidRequest


def problems(contract: Declarations) -> list[Problem]:
    """Faults across the fields of a contract, in the order of the document."""
    scope = contract.scope
    found = list(_duplicates(contract))
    before = _DataFlow("preprocess", scope, contract.inputs, {s.name for s in contract.inputs if not s.required})
    after = _DataFlow("postprocess", scope, contract.model.outputs, set())
    found += before.walk(contract.preprocess)
    found += before.ends_with(contract.model.inputs, ("model", "inputs"))
    after.carry(before)
    found += after.walk(contract.postprocess)
    found += after.ends_with(contract.outputs, ("outputs",))
    if contract.observe is not None:
        faults = contract.observe.faults(contract.outputs, contract.labels)
        found += (Problem(("observe", field), text) for field, text in faults)
    if contract.summary is not None:
        found += (Problem(("summary", name), text) for name, text in summary_faults(contract.summary, contract.outputs))
    for place in list(contract.step_files().values())[MAX_STEP_FILES:]:
        found.append(Problem(place, f"want at most {MAX_STEP_FILES} files of the version in all steps"))
    return found + list(_examples(contract))


def _duplicates(contract: Declarations) -> Iterator[Problem]:
    groups: tuple[tuple[tuple[str, ...], Sequence[object]], ...] = (
        (("inputs",), contract.inputs),
        (("parameters",), contract.parameters),
        (("model", "inputs"), contract.model.inputs),
        (("model", "outputs"), contract.model.outputs),
        (("outputs",), contract.outputs),
    )
    for path, specs in groups:
        seen: set[str] = set()
        for i, spec in enumerate(specs):
            name = str(getattr(spec, "name"))  # noqa: B009 - specs share no base but all have a name
            if name in seen:
                yield Problem((*path, i, "name"), f"'{name}' is declared twice")
            seen.add(name)


def _examples(contract: Declarations) -> Iterator[Problem]:
    """Faults of examples that no caller could send, or whose outputs the contract does not declare."""
    check_inputs = InputCheck(contract.inputs, contract.max_rows)
    check_parameters = ParameterCheck(contract.parameters)
    names = set[str]()
    for i, example in enumerate(contract.examples or ()):
        try:
            if example.name in names:
                raise ValueError(f"name: '{example.name}' is used twice")
            names.add(example.name)
            rows = check_inputs(arrays_of(contract.inputs, example.inputs))
            check_parameters(example.parameters)
            for name, array in arrays_of(contract.outputs, example.outputs).items():
                if len(array) != rows:
                    raise ValueError(f"output '{name}': want {rows} rows, as the inputs have, got {len(array)}")
        except (ValueError, InvalidRequest) as error:
            yield Problem(("examples", i), str(error))


class _DataFlow:
    """Data flow of one stage: the values that exist after each step, and the known facts about them."""

    def __init__(self, stage: Stage, scope: Scope, start: Iterable[TensorSpec], maybe: set[str]) -> None:
        self.stage, self.scope, self.maybe = stage, scope, maybe
        self.facts = {spec.name: _facts(spec) for spec in start}
        self.carried = set[str]()  # values of preprocess that nothing of this stage replaces

    def carry(self, before: _DataFlow) -> None:
        """Add the values at the end of preprocess that no output of the model hides."""
        self.carried = before.facts.keys() - self.facts.keys()
        self.maybe = before.maybe & self.carried
        self.facts = {**before.facts, **self.facts}

    def walk(self, steps: Sequence[Step]) -> Iterator[Problem]:
        for i, step in enumerate(steps):
            faults = chain(self._names(step), self._parameters(step), step.check(self.scope, self.facts))
            yield from (Problem((self.stage, i, field), text) for field, text in faults)
            self.facts.update(step.infer(self.facts))
            self.maybe -= set(step.writes())
            self.carried -= set(step.writes())

    def _names(self, step: Step) -> Iterator[tuple[str, str]]:
        for field, name, needed in step.reads():
            if name not in self.facts:
                yield field, f"no value '{name}' at this point; there are: {', '.join(sorted(self.facts))}"
            elif needed and name in self.maybe:
                yield field, f"input '{name}' is optional and may be missing; put 'require' before this step"

    def _parameters(self, step: Step) -> Iterator[tuple[str, str]]:
        for field, ref in step.parameters():
            spec = self.scope.parameters.get(ref.parameter)
            known = ", ".join(sorted(self.scope.parameters)) or "none"
            if self.stage == "preprocess":
                yield field, "request parameters reach postprocess only"
            elif spec is None:
                yield field, f"no parameter '{ref.parameter}'; known: {known}"
            elif field in step.PARAMETER_TYPES and spec.type not in step.PARAMETER_TYPES[field]:
                wanted = " or ".join(step.PARAMETER_TYPES[field])
                yield field, f"parameter '{ref.parameter}' is {spec.type}, want {wanted}"

    def ends_with(self, specs: Sequence[TensorSpec], path: tuple[str, ...]) -> Iterator[Problem]:
        for i, spec in enumerate(specs):
            if spec.name not in self.facts or spec.name in self.carried:  # an input does not become an output by itself
                there = f"there are: {', '.join(sorted(self.facts.keys() - self.carried))}"
                yield Problem((*path, i, "name"), f"{self.stage} ends without '{spec.name}'; {there}")
            elif spec.name in self.maybe:
                yield Problem((*path, i, "name"), f"input '{spec.name}' is optional and may be missing")
            elif self._width_differs(spec):
                width = self.facts[spec.name].width
                yield Problem((*path, i, "shape"), f"the last dimension of '{spec.name}' is {width}")
            elif (grows := self.facts[spec.name].grows) and -1 not in spec.shape[1:]:
                text = f"'{spec.name}' grows with the request by {grows}: want -1 in the dimension that grows"
                yield Problem((*path, i, "shape"), text)

    def _width_differs(self, spec: TensorSpec) -> bool:
        width = self.facts[spec.name].width
        return width is not None and len(spec.shape) > 1 and spec.shape[-1] not in (-1, width)


def _facts(spec: TensorSpec) -> Facts:
    last = spec.shape[-1]
    return Facts(width=last if len(spec.shape) > 1 and last != -1 else None)
