"""Contract of a model version: its schema, its reader, its checks, and the plan that runs it.

    contract = load_contract("model-repository/digits_de/1/contract.yaml")
    plan = Plan(contract)
    rows = plan.check_inputs(inputs)
    values = plan.preprocess(inputs)
    outputs = plan.predicted(ask_the_model(plan.model_inputs(values)), rows)
    answer = plan.postprocess(outputs | plan.carried_values(values), plan.check_parameters(parameters))

The package needs no gRPC: numpy, OpenCV, pydantic and PyYAML. `verification` compares a contract with Triton's
config.pbtxt. It is imported separately, because it needs Triton's protobuf classes.
"""

from triptych.contract.errors import ContractError
from triptych.contract.plan import Plan
from triptych.contract.reading.loader import load_contract, parse_contract
from triptych.contract.reading.step_files import load_step_files
from triptych.contract.schema.contract import Contract, ModelSpec
from triptych.contract.specs import InputSpec, ParameterSpec, Scalar, TensorSpec
from triptych.contract.steps.base import Environment, Facts, Scope, Step
from triptych.contract.steps.step_file import StepFile

__all__ = [
    "Contract",
    "ContractError",
    "Environment",
    "Facts",
    "InputSpec",
    "ModelSpec",
    "ParameterSpec",
    "Plan",
    "Scalar",
    "Scope",
    "Step",
    "StepFile",
    "TensorSpec",
    "load_contract",
    "load_step_files",
    "parse_contract",
]
