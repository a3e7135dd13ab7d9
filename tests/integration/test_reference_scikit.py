"""The steps of tables give the numbers of scikit-learn's transformers."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import numpy as np
import pytest

from local.environments import ROOT, ensure
from triptych.contract import Environment, Scope
from triptych.contract.steps.registry import parse_step

TRANSFORMERS = {
    "StandardScaler",
    "MinMaxScaler",
    "Normalizer",
    "SimpleImputer",
    "OrdinalEncoder",
    "OneHotEncoder",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tables_are_prepared_as_by_scikit_learn() -> None:
    command = [str(ensure("own-models")), "-W", "ignore", "-m", "tests.integration.reference_scikit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert {case["name"] for case in cases} == TRANSFORMERS
    for case in cases:
        np.testing.assert_allclose(_step(case), case["answer"], rtol=1e-5, atol=1e-5, err_msg=case["name"])


def _step(case: dict[str, Any]) -> Any:
    is_text = isinstance(case["columns"][0], str)
    texts = [word.encode() for word in case["columns"]] if is_text else []
    values = np.array(texts, np.object_) if is_text else np.array(case["columns"], np.float32)
    env = Environment({"x": values}, len(values), {})
    parse_step(case["step"]).compile(Scope())(env)
    return env["x"]
