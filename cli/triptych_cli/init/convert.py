"""Models of scikit-learn, LightGBM and XGBoost as ONNX, by their converters, which are imported only here."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from triptych_cli.init.draft import CannotServe

PICKLES: Final = (".pkl", ".pickle", ".joblib")
FEATURES: Final = "features"  # the input of a model whose columns are all numbers
PICKLE: Final = "is a pickle, which runs code of whoever made it once it is read: add --trust-pickle if it is your own"
_PACKAGES: Final = {"sklearn": "scikit-learn"}  # by the module that is missing, where the two names differ
_TEXT: Final = "OUS"  # kinds of numpy's datatypes


@dataclass(frozen=True)
class Converted:
    """An ONNX file, and what was decided, a line each."""

    data: bytes
    notes: Sequence[str]


def converted(source: Path, *, trusts_pickles: bool = False) -> Converted:
    """The model in a file as ONNX. Raises `CannotServe` and `OSError`."""
    convert = CONVERTERS.get(source.suffix.lower())
    if convert is None:
        known = ", ".join(sorted(CONVERTERS))
        raise CannotServe(f"want a file of scikit-learn, LightGBM or XGBoost, by its ending one of {known}")
    if source.suffix.lower() in PICKLES and not trusts_pickles:
        raise CannotServe(PICKLE)
    with source.open("rb"):
        pass
    try:
        return convert(source)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        raise CannotServe(f"needs {missing}: pip install {_PACKAGES.get(missing, missing)}") from error
    except (CannotServe, OSError):
        raise
    except Exception as error:  # of a pickle or a converter, which have no class of errors in common
        first = str(error).partition("\n")[0]
        raise CannotServe(f"cannot be converted: {type(error).__name__}: {first:.300}") from error


def _pickled(source: Path) -> Converted:
    """A model in a pickle: of scikit-learn, or LightGBM's or XGBoost's classes in its style."""
    if source.suffix.lower() == ".joblib":
        import joblib

        model = joblib.load(source)
    else:
        with source.open("rb") as file:
            model = pickle.load(file)
    package = type(model).__module__.partition(".")[0]
    if package in ("lightgbm", "xgboost"):
        return _boosted(model, package, int(model.n_features_in_))
    if not hasattr(model, "n_features_in_"):
        raise CannotServe(f"holds a {type(model).__name__}: want a fitted model or pipeline of scikit-learn")
    return _of_sklearn(model)


def _of_sklearn(model: Any) -> Converted:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.base import is_classifier

    names = _names(model)
    is_text = _text_columns(model)
    if any(is_text) or _is_by_name(model):
        kinds = {name: StringTensorType if text else FloatTensorType for name, text in zip(names, is_text, strict=True)}
        types = [(name, kind([None, 1])) for name, kind in kinds.items()]
        words = [name for name, text in zip(names, is_text, strict=True) if text]
        notes = [f"columns with words: {', '.join(words) or 'none'}"]
    else:
        types = [(FEATURES, FloatTensorType([None, len(names)]))]
        notes = _order(names) if hasattr(model, "feature_names_in_") else []
    options = {"zipmap": False} if is_classifier(model) else None
    return Converted(to_onnx(model, initial_types=types, options=options).SerializeToString(), notes)


def _lightgbm(source: Path) -> Converted:
    import lightgbm

    booster = lightgbm.Booster(model_file=str(source))
    return _boosted(booster, "lightgbm", booster.num_feature(), booster.feature_name())


def _xgboost(source: Path) -> Converted:
    import xgboost

    booster = xgboost.Booster(model_file=str(source))
    return _boosted(booster, "xgboost", booster.num_features(), booster.feature_names)


def _boosted(model: Any, package: str, columns: int, names: Sequence[str] | None = None) -> Converted:
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [(FEATURES, FloatTensorType([None, columns]))]
    if package == "lightgbm":
        made = convert_lightgbm(model, initial_types=types, zipmap=False)
    else:
        made = convert_xgboost(model, initial_types=types)
    for output in made.graph.output:  # onnxmltools 1.16 declares [1] for the classes of all rows
        output.type.tensor_type.shape.dim[0].dim_param = "N"
    return Converted(made.SerializeToString(), _order(names) if names else [])


def _order(names: Sequence[str]) -> list[str]:
    return [f"the columns of '{FEATURES}', in this order: {', '.join(names)}"]


def _names(model: Any) -> list[str]:
    """Names of the columns that the model was fitted with; `column_0` and so on if they had none."""
    known = getattr(model, "feature_names_in_", None)
    return [*map(str, known)] if known is not None else [f"column_{at}" for at in range(model.n_features_in_)]


def _first(model: Any) -> Any:
    """The step of a pipeline that reads the columns."""
    return _first(model.steps[0][1]) if hasattr(model, "steps") else model


def _is_by_name(model: Any) -> bool:
    """Whether a step reads columns by their names, so that each has to be an input."""
    parts = getattr(_first(model), "transformers_", ())
    return hasattr(model, "feature_names_in_") and bool(parts)


def _text_columns(model: Any) -> list[bool]:
    """Whether each column holds text, by what its encoders and imputers have learned."""
    names, first = _names(model), _first(model)
    parts = getattr(first, "transformers_", None)
    if parts is None:
        return _learned_text(model, len(names))
    found = [False] * len(names)
    for _, transformer, columns in parts:
        indexes = _indexes(columns, names)
        for at, text in zip(indexes, _learned_text(transformer, len(indexes)), strict=True):
            found[at] = found[at] or text
    return found


def _learned_text(transformer: Any, count: int) -> list[bool]:
    found = [False] * count
    for _, step in getattr(transformer, "steps", ((None, transformer),)):
        learned = getattr(step, "categories_", None)
        if learned is None:
            learned = getattr(step, "statistics_", None)
        if learned is not None and len(learned) == count:
            found = [was or _is_text(each) for was, each in zip(found, learned, strict=True)]
        if hasattr(step, "vocabulary_"):
            found = [True] * count
    return found


def _is_text(learned: Any) -> bool:
    """Whether the categories or the statistic of a column are words."""
    dtype = getattr(learned, "dtype", None)
    return isinstance(learned, str) or (dtype is not None and dtype.kind in _TEXT)


def _indexes(columns: Any, names: Sequence[str]) -> list[int]:
    if isinstance(columns, (str, int)):
        columns = [columns]
    if isinstance(columns, slice):
        return list(range(len(names))[columns])
    listed = list(columns)
    if listed and all(isinstance(each, bool) or type(each).__name__ in ("bool", "bool_") for each in listed):
        return [at for at, chosen in enumerate(listed) if chosen]
    return [names.index(each) if isinstance(each, str) else int(each) % len(names) for each in listed]


CONVERTERS: Final[Mapping[str, Callable[[Path], Converted]]] = {
    **dict.fromkeys(PICKLES, _pickled),
    ".txt": _lightgbm,
    ".json": _xgboost,
    ".ubj": _xgboost,
}
