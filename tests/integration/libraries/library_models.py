"""Small models of scikit-learn, LightGBM and XGBoost in files, with rows and the answers of their libraries.

python -m tests.integration.libraries.library_models FOLDER     runs in the environment `converters`
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS, ASKED = 600, 20


class Writer:
    """Writes models, and for each `<name>.json` with its inputs and the answers by name of the output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = np.random.default_rng(0)
        self.numbers = self.random.normal(size=(ROWS, 4)).astype(np.float32)
        self.classes = np.array(["high" if row[0] + row[1] > 0 else "low" for row in self.numbers], object)
        self.amounts = (self.numbers @ np.array([3, -1, 2, 0.5], np.float32)).astype(np.float32)

    def answers(self, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        asked, wanted = ({key: np.asarray(each).tolist() for key, each in part.items()} for part in (inputs, outputs))
        (self.folder / f"{name}.answers.json").write_text(json.dumps({"inputs": asked, "outputs": wanted}))

    def pickle(self, name: str, model: Any) -> None:
        (self.folder / f"{name}.pkl").write_bytes(pickle.dumps(model))


def main(folder: Path) -> None:
    made, rows = Writer(folder), slice(0, ASKED)
    asked = {"features": made.numbers[rows]}
    forest = RandomForestClassifier(10, random_state=0).fit(made.numbers, made.classes)
    joblib.dump(forest, folder / "forest.joblib")
    made.answers("forest", asked, class_answers(forest, made.numbers[rows], "label", "probabilities"))
    trees = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(made.numbers, made.amounts)
    made.pickle("trees", make_pipeline(StandardScaler(), trees).fit(made.numbers, made.amounts))
    pipeline = pickle.loads((folder / "trees.pkl").read_bytes())
    made.answers("trees", asked, {"variable": pipeline.predict(made.numbers[rows])[:, None]})
    table(made)
    booster = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(made.numbers, made.amounts)
    booster.booster_.save_model(folder / "light.txt")
    made.answers("light", asked, {"variable": booster.predict(made.numbers[rows])[:, None]})
    is_high = (made.classes == "high").astype(int)
    light = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(made.numbers, is_high)
    made.pickle("lightclass", light)
    made.answers("lightclass", asked, {"probabilities": light.predict_proba(made.numbers[rows])})
    extreme = xgboost.XGBRegressor(n_estimators=20).fit(made.numbers, made.amounts)
    extreme.save_model(folder / "extreme.json")
    made.answers("extreme", asked, {"variable": extreme.predict(made.numbers[rows])[:, None]})
    binary = xgboost.XGBClassifier(n_estimators=20).fit(made.numbers, is_high)
    binary.save_model(folder / "extremeclass.ubj")
    made.answers("extremeclass", asked, {"probabilities": binary.predict_proba(made.numbers[rows])})


def table(made: Writer) -> None:
    """A pipeline of named columns, of which two are words."""
    words = {"plan": ["basic", "plus"], "city": ["Bonn", "Köln", "Ulm"]}
    frame = pd.DataFrame({name: made.random.choice(values, ROWS) for name, values in words.items()}, dtype=object)
    frame["months"], frame["spend"] = made.numbers[:, 0], made.numbers[:, 1]
    frame.loc[frame.index % 7 == 0, "spend"] = np.nan
    columns = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["plan", "city"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["months", "spend"]),
        ]
    )
    model = make_pipeline(columns, RandomForestClassifier(10, random_state=0)).fit(frame, made.classes)
    made.pickle("table", model)
    asked = frame[:ASKED]
    inputs = {name: asked[[name]].to_numpy() for name in frame.columns}
    made.answers("table", inputs, class_answers(model, asked, "label", "probabilities"))


def class_answers(model: Any, rows: Any, label: str, scores: str) -> dict[str, Any]:
    return {label: model.predict(rows), scores: model.predict_proba(rows)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
