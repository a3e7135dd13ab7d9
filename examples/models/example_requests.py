"""The requests that `make run` sends: pictures of held-out handwriting and weeks of the held-out year."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from examples.models.countries import HISTORY_DAYS, HORIZON_DAYS, random_stream
from examples.models.digits.handwriting import Handwriting
from examples.models.digits.render import Rendered, encode, scene, sheet
from examples.models.digits.styles import STYLES
from examples.models.labels import DIGIT_WORDS
from examples.models.plots import example_week
from examples.models.sales.data import Series

Document = dict[str, Any]


class ExamplePicture(NamedTuple):
    """One picture: a digit, the number of its held-out sample, and a country's style; a scene if it has a size."""

    file: str
    code: str
    digit: int
    sample: int
    scene: tuple[int, int] | None = None


_SEVEN: Final = ExamplePicture("seven_640x480.jpg", "GB", 7, 4, (640, 480))
_THREE: Final = ExamplePicture("three_note.png", "DE", 3, 4)
_FOUR: Final = ExamplePicture("four_squared.jpg", "FR", 4, 1)
_NINE: Final = ExamplePicture("nine_800x600.jpg", "ES", 9, 3, (800, 600))
_EIGHT: Final = ExamplePicture("eight_board.png", "JP", 8, 7)
_TWO: Final = ExamplePicture("two_board.jpg", "JP", 2, 5)


def write(series: Mapping[str, Series], samples: Handwriting, folder: Path) -> None:
    """Write the pictures, and examples.json with a request for each."""
    folder.mkdir(parents=True, exist_ok=True)
    seven, nine = _take(_SEVEN, samples, folder), _take(_NINE, samples, folder)
    for shot in (_THREE, _FOUR, _EIGHT, _TWO):
        _take(shot, samples, folder)
    gb, es = {"route": "GB"}, {"route": "ES", "top_k": 1}
    documents = [
        _digits("A seven somewhere in a photograph; the box says where", "digits", gb, [_SEVEN], [seven.box]),
        _digits("A three on a note; the model by its name", "digits_de", {}, [_THREE]),
        _digits("A four on squared paper", "digits", {"route": "FR"}, [_FOUR]),
        _digits("A nine in a photograph; only the likeliest answer", "digits", es, [_NINE], [nine.box]),
        _digits("An eight and a two in one request", "digits", {"route": "JP"}, [_EIGHT, _TWO]),
        _sales("Next week in Germany, where shops are shut on Sundays", "DE", series["DE"]),
        _sales("Next week in Japan", "JP", series["JP"]),
        _what_if("The same week without and with a promotion", "sales_forecast_us", series["US"]),
    ]
    (folder / "examples.json").write_text(_text(documents), encoding="utf-8")


def _take(shot: ExamplePicture, samples: Handwriting, folder: Path) -> Rendered:
    number = int(np.flatnonzero(samples.digits == shot.digit)[shot.sample])
    draw = random_stream("example", shot.file)
    card = sheet(samples.images[number], STYLES[shot.code], draw)
    taken = scene(card, *shot.scene, draw) if shot.scene else Rendered(card, None)
    data = encode(taken.picture, "png" if shot.file.endswith("png") else "jpeg")
    (folder / shot.file).write_bytes(data)
    return taken


def _digits(
    title: str, model: str, parameters: Document, shots: list[ExamplePicture], boxes: list[Any] | None = None
) -> Document:
    image = {"name": "image", "datatype": "BYTES", "files": [shot.file for shot in shots]}
    box = [{"name": "box", "datatype": "INT32", "data": boxes}] if boxes else []
    word = DIGIT_WORDS[shots[0].code][shots[0].digit]
    return _document(title, model, parameters, [image, *box], {"label": word})


def _sales(title: str, route: str, series: Series) -> Document:
    day = example_week(series)
    future = slice(day, day + HORIZON_DAYS)
    return _week(title, "sales_forecast", {"route": route}, series, [series.promotion[future].tolist()])


def _what_if(title: str, model: str, series: Series) -> Document:
    promoted = [False, False, True, True, True, False, False]
    return _week(title, model, {}, series, [[False] * HORIZON_DAYS, promoted])


def _week(title: str, model: str, parameters: Document, series: Series, promotion: list[list[bool]]) -> Document:
    day, rows = example_week(series), len(promotion)
    history = series.units[day - HISTORY_DAYS : day].tolist()
    price = series.price[day : day + HORIZON_DAYS].tolist()
    inputs = [
        {"name": "history", "datatype": "FP32", "data": [history] * rows},
        {"name": "price", "datatype": "FP32", "data": [price] * rows},
        {"name": "promotion", "datatype": "BOOL", "data": promotion},
    ]
    return _document(title, model, parameters, inputs)


def _document(
    title: str, model: str, parameters: Document, inputs: list[Document], expect: Document | None = None
) -> Document:
    document = {"title": title, "model_name": model, "parameters": parameters, "inputs": inputs}
    return document | ({"expect": expect} if expect else {})


def _text(documents: list[Document]) -> str:
    """JSON with a line for each input, for a reader."""
    return "[\n" + ",\n".join(_lines(document) for document in documents) + "\n]\n"


def _lines(document: Document) -> str:
    fields = []
    for name, value in document.items():
        if name == "inputs":
            inputs = ",\n".join(f"      {json.dumps(tensor, ensure_ascii=False)}" for tensor in value)
            fields.append(f'    "inputs": [\n{inputs}\n    ]')
        else:
            fields.append(f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
    return "  {\n" + ",\n".join(fields) + "\n  }"
