"""A table with words and missing values: which customers leave, by scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from examples.own_models.answers import Answered

WORDS, NUMBERS = ["plan", "city"], ["months", "spend"]
ROWS, ASKED = 2000, 20


def make(folder: Path) -> list[Answered]:
    """Train the pipeline, write churn.onnx, and answer rows that it has not seen."""
    columns, leaves = customers(ROWS + ASKED)
    table = np.column_stack([np.array(columns[name], object) for name in WORDS + NUMBERS])
    pipeline = pipeline_of().fit(table[:ROWS], leaves[:ROWS])
    model = to_onnx(
        pipeline,
        initial_types=[(name, StringTensorType([None, 1])) for name in WORDS]
        + [(name, FloatTensorType([None, 1])) for name in NUMBERS],
        options={"zipmap": False},  # probabilities as a tensor
    )
    (folder / "churn.onnx").write_bytes(model.SerializeToString())
    asked = table[ROWS:]
    return [Answered({name: columns[name][ROWS:, None] for name in columns}, answers(pipeline, asked))]


def pipeline_of() -> Any:
    """Words: the most frequent one in place of "", then a column for each. Numbers: the median in place of NaN."""
    words = make_pipeline(
        SimpleImputer(missing_values="", strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = ColumnTransformer([("words", words, [0, 1]), ("numbers", numbers, [2, 3])])
    return make_pipeline(columns, GradientBoostingClassifier(random_state=0))


def customers(count: int) -> tuple[dict[str, Any], Any]:
    """Columns of made-up customers, some values missing, and who leaves."""
    random = np.random.default_rng(0)
    months = random.integers(1, 60, count).astype(np.float32)
    plan = random.choice(["basic", "plus", "premium"], count).astype(object)
    leaves = np.where((months < 12) & (plan == "basic") | (random.random(count) < 0.1), "leaves", "stays")
    spend = random.gamma(4, 10, count).astype(np.float32)
    plan[random.random(count) < 0.1], spend[random.random(count) < 0.2] = "", np.nan
    city = random.choice(["Bonn", "Köln", "Ulm"], count).astype(object)
    city[-1] = "Zürich"  # which the pipeline has never seen
    return {"plan": plan, "city": city, "months": months, "spend": spend}, leaves


def answers(pipeline: Any, rows: Any) -> dict[str, Any]:
    """The class and the probabilities of each row."""
    return {"label": pipeline.predict(rows)[:, None], "probabilities": pipeline.predict_proba(rows)}
