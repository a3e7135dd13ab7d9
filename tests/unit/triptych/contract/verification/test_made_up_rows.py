"""Made-up rows: within the limits, different along a row and the same in every row."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.contract import parse_contract
from triptych.contract.verification.trial import made_up_inputs

CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: sales
route: DE
max_rows: 4
inputs: [{{name: x, shape: [-1, 8], {spec}}}]
model:
  inputs: [{{name: x, shape: [-1, 8], datatype: {datatype}}}]
  outputs: [{{name: x, shape: [-1, 8], datatype: {datatype}}}]
outputs: [{{name: x, shape: [-1, 8], datatype: {datatype}}}]
"""


@pytest.mark.parametrize(
    ("datatype", "limits", "low", "high"),
    [
        ("FP32", "", 0, 2),
        ("FP16", "minimum: 5", 5, 7),
        ("FP32", "exclusive_maximum: -3", -5, -3),
        ("FP64", "exclusive_minimum: 0, maximum: 0.001", 0, 0.001),
        ("FP64", "minimum: -1.7e+308, maximum: 1.7e+308", -1.7e308, 1.7e308),
    ],
)
def test_floating_values_differ_within_the_limits(datatype: str, limits: str, low: float, high: float) -> None:
    spec = f"datatype: {datatype}, {limits}".rstrip(", ")
    x = made_up_inputs(parse_contract(CONTRACT.format(spec=spec, datatype=datatype).encode()), 3)["x"]
    assert x.shape == (3, 8)
    assert len(np.unique(x[0])) == 8  # a model may divide by the deviation of a row
    assert (x == x[0]).all()
    assert low < x.min()
    assert x.max() < high


def test_whole_numbers_are_all_the_same_for_they_may_be_places_in_a_table() -> None:
    text = CONTRACT.format(spec="datatype: INT64", datatype="INT64")
    assert set(made_up_inputs(parse_contract(text.encode()), 2)["x"].flat) == {1}
