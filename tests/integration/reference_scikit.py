"""Columns through scikit-learn's transformers, as most users of tables prepare them.

python -m tests.integration.reference_scikit     runs in the environment `own-models`

writes a list of cases as JSON: the contract step with what the transformer has learned, the columns, and its answer.
NaN stands for a number that is missing.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler

Case = dict[str, Any]


def cases() -> list[Case]:
    """All cases: numbers FP32 [n,3], words [n]."""
    random = np.random.default_rng(20)
    numbers = (random.normal(0, 1, (200, 3)) * [1, 100, 0.01] + [5, -3000, 0]).astype(np.float32)
    gaps = np.where(random.random((200, 3)) < 0.2, np.nan, numbers)
    words = random.choice(["Ulm", "Zürich", "", "a b"], 200)
    new = np.array([*words[:20], "Rome", "ulm"])
    return [*_scalers(numbers), *_imputers(gaps), _ordinal(words, new), _one_hot(words, new)]


def _scalers(numbers: Any) -> list[Case]:
    standard, least = StandardScaler().fit(numbers), MinMaxScaler().fit(numbers)
    return [
        _case("normalize", numbers, standard, mean=standard.mean_.tolist(), std=standard.scale_.tolist()),
        _case("scale", numbers, least, scale=least.scale_.tolist(), offset=least.min_.tolist()),
        _case("l2_normalize", numbers, Normalizer().fit(numbers)),
    ]


def _imputers(gaps: Any) -> list[Case]:
    fitted = [SimpleImputer(strategy=strategy).fit(gaps) for strategy in ("mean", "median")]
    return [_case("impute", gaps, each, value=each.statistics_.tolist()) for each in fitted]


def _ordinal(words: Any, new: Any) -> Case:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.int64)
    encoder.fit(words[:, None])
    return _case("ordinal", new, encoder, values=encoder.categories_[0].tolist(), unknown=-1)


def _one_hot(words: Any, new: Any) -> Case:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(words[:, None])
    return _case("one_hot", new, encoder, values=encoder.categories_[0].tolist(), unknown="zeros")


def _case(op: str, columns: Any, transformer: Any, **fields: Any) -> Case:
    answer = transformer.transform(columns if columns.ndim == 2 else columns[:, None])
    return {
        "name": type(transformer).__name__,
        "step": {"op": op, "input": "x", **fields},
        "columns": columns.tolist(),
        "answer": (answer if columns.ndim == 2 or op == "one_hot" else answer[:, 0]).tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(cases()))
