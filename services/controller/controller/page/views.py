"""The rows of the page, taken from the parts of the controller at one moment."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from controller.catalog.entities import Catalog, Model
from controller.describe import describe
from controller.journal import Journal
from controller.placement.placement import Placement
from controller.traffic.model_state import NOT_LOADED, ModelState
from controller.traffic.publisher import Publisher
from controller.traffic.watch_hub import WatchHub
from triptych.contract.summary import pictures_in, summary
from triptych.contract.trace import Moment
from triptych.datatypes import Array
from triptych.protocol import controller_pb2 as cp

MODELS_SHOWN: Final = 200
REFUSED_SHOWN: Final = 100
DECISIONS_SHOWN: Final = 20
ROWS_SHOWN: Final = 20
VALUES_SHOWN: Final = 1_000
PICTURES_SHOWN: Final = 8
PICTURE_PIXELS: Final = 240  # longest side


@dataclass(frozen=True)
class VersionSummary:
    """One version of a model."""

    number: int
    percent: int
    predictors: Sequence[str]
    state: str
    mib: float
    digest: str
    aliases: Sequence[str]


@dataclass(frozen=True)
class ModelSummary:
    """One served model with its versions."""

    name: str
    family: str
    route: str
    document: str
    hint: str
    versions: Sequence[VersionSummary]
    missing: Mapping[str, int]  # aliases whose version is not served

    @property
    def ready(self) -> int:
        """Predictors that have a version ready."""
        return len({address for version in self.versions for address in version.predictors})


@dataclass(frozen=True)
class StepRow:
    """One value that a step wrote, in a line, and its pictures as data URLs."""

    part: str
    step: str
    name: str
    text: str
    pictures: Sequence[str]


class Views:
    """The rows of the page. They are made at each request and never kept."""

    def __init__(self, watch_hub: WatchHub, publisher: Publisher, placement: Placement, journal: Journal) -> None:
        self._watch_hub, self._publisher = watch_hub, publisher
        self._placement, self._journal = placement, journal

    @property
    def catalog(self) -> Catalog:
        """The catalog in force."""
        return self._watch_hub.catalog

    def overview(self, store: cp.Store, search: str) -> Mapping[str, Any]:
        """Predictors, the models whose name or family contains `search`, those not served, and recent decisions."""
        catalog = self.catalog
        found = [each for name, each in sorted(catalog.models.items()) if search in name or search in each.family]
        refused = [(name, version, why) for (name, version), why in catalog.invalid.items() if search in name]
        described = describe(self._placement, self._journal, store)
        return {
            "store": store,
            "predictors": described.predictors,
            "models": [self.model(each) for each in found[:MODELS_SHOWN]],
            "found": len(found),
            "refused": sorted(refused, key=lambda each: (each[0], each[1] or 0))[:REFUSED_SHOWN],
            "refused_count": len(refused),
            "decisions": [
                (time.strftime("%H:%M:%S", time.localtime(each.time_s)), each)
                for each in reversed(described.decisions[-DECISIONS_SHOWN:])
            ],
            "search": search,
        }

    def model(self, model: Model) -> ModelSummary:
        """One model as it is now."""
        state = self._publisher.model_state(model.name)
        rows = [self._version(model, number, state) for number in sorted(model.versions, reverse=True)]
        hint = self.catalog.hints.get(model.name, "")
        missing = {alias: number for alias, number in model.aliases.items() if number not in model.versions}
        return ModelSummary(model.name, model.family, model.route, model.document, hint, rows, missing)

    def refusals(self, name: str) -> list[tuple[int | None, str]]:
        """Why versions of a model, or the whole of it (None), are not served."""
        return sorted(
            ((version, why) for (model, version), why in self.catalog.invalid.items() if model == name),
            key=lambda each: each[0] or 0,
        )

    def _version(self, model: Model, number: int, state: ModelState | None) -> VersionSummary:
        version, size = model.versions[number], self._placement.versions.size_of((model.name, number))
        holders = state.ready.get(number, ()) if state else ()
        percent = state.traffic.get(number, 0) if state else 0
        mib = size.bytes / (1 << 20)
        aliases = [alias for alias, named in model.aliases.items() if named == number]
        return VersionSummary(number, percent, holders, _state(state, number), mib, version.digest[:12], aliases)


def steps_of(moments: Sequence[Moment]) -> Iterator[StepRow]:
    """Each value of a request. It scales pictures, so it belongs into a thread."""
    for moment in moments:
        for name, value in moment.values.items():
            pictures = [_data_url(each) for each in pictures_in(value)[:PICTURES_SHOWN]]
            yield StepRow(moment.part, moment.step, name, summary(value), pictures)


def answer_rows(answer: Mapping[str, Array]) -> list[tuple[str, str]]:
    """Name and values of each output, as text."""
    return [(name, _values(array)) for name, array in answer.items()]


def _state(state: ModelState | None, number: int) -> str:
    """One sentence about a version; the worst that is known of it."""
    if state is None:
        return ""
    for reasons in (state.failing, state.failures, state.held_back):
        if number in reasons:
            return reasons[number]
    if state.ready.get(number):
        return "loaded"
    return "loading" if number in state.trying else NOT_LOADED


def _values(array: Array) -> str:
    shown = array[:ROWS_SHOWN]
    if shown.size > VALUES_SHOWN:
        return summary(array)
    if array.dtype == np.object_:
        text = str([_text(each) for each in shown.ravel()])
    else:
        text = np.array2string(shown, separator=", ", threshold=VALUES_SHOWN, max_line_width=100)
    more = len(array) - len(shown)
    return text + (f" and {more} more rows" if more > 0 else "")


def _text(element: bytes) -> str:
    return element.decode(errors="backslashreplace")[:200]


def _data_url(picture: Array) -> str:
    scale = PICTURE_PIXELS / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    _, encoded = cv2.imencode(".png", cv2.resize(np.ascontiguousarray(picture), size, interpolation=method))
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()
