"""Names that a request may use, and the errors for unknown ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from preprocess import catalog as catalog_module
from preprocess.catalog import CatalogClient
from triptych.errors import (
    InvalidParameter,
    RefusedTarget,
    TriptychError,
    Unavailable,
    UnknownAlias,
    UnknownModel,
    UnknownRoute,
    UnknownTarget,
    UnknownVersion,
)
from triptych.protocol import controller_pb2 as cp


def catalog(*models: cp.Model) -> CatalogClient:
    controller: Any = None
    made = CatalogClient(controller)
    made.apply(cp.CatalogUpdate(full=True, models=models))
    return made


def model(name: str, route: str, **percents: int) -> cp.Model:
    versions = [cp.Version(version=int(key[1:]), percent=share) for key, share in percents.items()]
    return cp.Model(name=name, family="f", route=route, versions=versions)


GERMAN, FRENCH, SILENT = model("f_de", "DE", v1=100, v2=0), model("f_fr", "FR", v1=100), model("f_es", "ES", v1=0)


class BreakingController:
    """Its first stream breaks within the whole catalog, the second one sends all of it."""

    def __init__(self, error: Exception) -> None:
        self.streams, self._error = 0, error

    async def stream(self, _method: str, _request: cp.WatchRequest) -> AsyncIterator[cp.CatalogUpdate]:
        self.streams += 1
        if self.streams == 1:
            yield cp.CatalogUpdate(revision=1, full=True, models=[GERMAN], more=True)
            raise self._error
        yield cp.CatalogUpdate(revision=2, full=True, models=[FRENCH], more=True)
        yield cp.CatalogUpdate(revision=2, models=[SILENT])
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [Unavailable("broken"), KeyError("unforeseen")])
async def test_the_whole_catalog_is_taken_once_all_its_parts_are_there(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(catalog_module, "RECONNECT_S", 0.001)
    controller: Any = BreakingController(error)
    known = CatalogClient(controller)
    await known.start()
    assert controller.streams == 2
    with pytest.raises(UnknownModel, match="known: f, f_es, f_fr"):
        known.target("f_de", "", {}, "")
    await known.close()


def test_a_model_is_named_by_itself_or_by_family_and_route() -> None:
    known = catalog(GERMAN, FRENCH)
    by_name, by_route = known.target("f_de", "", {}, ""), known.target("f", "", {"route": "DE"}, "")
    assert by_name == by_route
    assert (by_name.model, by_name.version) == ("f_de", 1)


def test_the_reason_why_a_model_or_version_is_not_served_is_said() -> None:
    known = catalog(GERMAN)
    refused = [
        cp.Refused(model="f_de", version=7, reason="its file is cut"),
        cp.Refused(model="f_it", reason="no file"),
    ]
    known.apply(cp.CatalogUpdate(models=[GERMAN], refused=refused))
    with pytest.raises(RefusedTarget, match="^version 7 of model 'f_de' is not served: its file is cut$"):
        known.target("f_de", "7", {}, "")
    with pytest.raises(RefusedTarget, match="^model 'f_it' is not served: no file$"):
        known.target("f_it", "", {}, "")
    with pytest.raises(UnknownVersion, match="known: 1, 2"):
        known.target("f_de", "8", {}, "")


def test_a_reason_ends_with_the_next_update_of_the_model() -> None:
    known = catalog(GERMAN)
    reasons = [cp.Refused(model=name, version=7, reason="its file is cut") for name in ("f_de", "f_it")]
    known.apply(cp.CatalogUpdate(refused=[reasons[1]]))
    known.apply(cp.CatalogUpdate(models=[GERMAN], refused=[reasons[0]]))
    with pytest.raises(RefusedTarget, match="^model 'f_it' is not served: its file is cut"):
        known.target("f_it", "", {}, "")
    known.apply(cp.CatalogUpdate(models=[GERMAN], removed=["f_it"]))
    with pytest.raises(UnknownVersion):
        known.target("f_de", "7", {}, "")
    with pytest.raises(UnknownModel):
        known.target("f_it", "", {}, "")


def test_a_version_without_traffic_can_be_called_by_its_number() -> None:
    assert catalog(GERMAN).target("f_de", "2", {}, "").version == 2


NAMED = model("f_de", "DE", v1=100, v2=0)
NAMED.aliases.update({"production": 1, "challenger": 2, "gone": 9})


@pytest.mark.parametrize(
    ("name", "version", "parameters"),
    [
        ("f_de", "", {"alias": "challenger"}),
        ("f_de", "challenger", {}),
        ("f", "", {"route": "DE", "alias": "challenger", "traffic_key": "k"}),
        ("f", "challenger", {"route": "DE"}),
    ],
)
def test_an_alias_names_one_version_whatever_its_share(name: str, version: str, parameters: dict[str, Any]) -> None:
    known = catalog(NAMED, FRENCH)
    assert [known.target(name, version, parameters, str(number)).version for number in range(20)] == [2] * 20


def test_an_alias_moves_and_ends_with_an_update_of_its_model() -> None:
    known, moved = catalog(NAMED), cp.Model()
    moved.CopyFrom(NAMED)
    moved.aliases["production"] = 2
    known.apply(cp.CatalogUpdate(models=[moved]))
    assert known.target("f_de", "", {"alias": "production"}, "").version == 2
    known.apply(cp.CatalogUpdate(models=[GERMAN]))
    with pytest.raises(UnknownAlias, match="^model 'f_de' has no alias 'production'$"):
        known.target("f_de", "", {"alias": "production"}, "")


@pytest.mark.parametrize(
    ("version", "parameters", "error", "text"),
    [
        ("", {"alias": "prod"}, UnknownAlias, "^model 'f_de' has no alias 'prod'; known: challenger, gone, prod"),
        ("", {"alias": ""}, UnknownAlias, "^model 'f_de' has no alias ''; known"),
        ("", {"alias": "1"}, UnknownAlias, "^model 'f_de' has no alias '1'; known"),
        ("", {"alias": 1}, InvalidParameter, "want a string that names a version of the model, got a int"),
        ("1", {"alias": "production"}, InvalidParameter, "want an alias or a model_version, not both, got .*'1' too"),
        ("prod", {}, UnknownVersion, "in digits .*, or an alias of one; known: 1, 2, challenger, gone, production$"),
        ("9", {}, UnknownVersion, "^model 'f_de' has no version '9'; known: 1, 2$"),
        ("gone", {}, UnknownTarget, "^alias 'gone' names version 9: model 'f_de' has no version '9'; known: 1, 2$"),
        ("", {"alias": "gone"}, UnknownTarget, "^alias 'gone' names version 9: model 'f_de' has no version '9'"),
    ],
)
def test_an_alias_without_a_version_is_no_other_version(
    version: str, parameters: dict[str, Any], error: type[TriptychError], text: str
) -> None:
    with pytest.raises(error, match=text):
        catalog(NAMED).target("f_de", version, parameters, "")


def test_an_alias_of_a_version_that_is_not_served_says_why() -> None:
    known = catalog(NAMED)
    refused = [cp.Refused(model="f_de", version=9, reason="its file is cut")]
    known.apply(cp.CatalogUpdate(models=[NAMED], refused=refused))
    text = "^alias 'gone' names version 9: version 9 of model 'f_de' is not served: its file is cut$"
    with pytest.raises(UnknownTarget, match=text):
        known.target("f_de", "", {"alias": "gone"}, "")


@pytest.mark.parametrize(
    ("name", "version", "parameters", "error", "text"),
    [
        ("f_xx", "", {}, UnknownModel, "known: f, f_de, f_es, f_fr"),
        ("f_de", "7", {}, UnknownVersion, "known: 1, 2"),
        ("f", "", {"route": "XX"}, UnknownRoute, "known: DE, ES, FR"),
        ("f", "", {}, InvalidParameter, "got none"),
        ("f_de", "", {"route": "FR"}, InvalidParameter, "'DE', the route of f_de"),
        ("f_es", "", {}, Unavailable, "no version that takes traffic"),
    ],
)
def test_an_error_for_an_unknown_name_lists_the_known_ones(
    name: str, version: str, parameters: dict[str, Any], error: type[TriptychError], text: str
) -> None:
    with pytest.raises(error, match=text):
        catalog(GERMAN, FRENCH, SILENT).target(name, version, parameters, "")


def test_the_only_member_of_a_family_may_be_called_without_a_route() -> None:
    alone = model("f_one", "DEFAULT", v1=100)
    assert catalog(alone).target("f", "", {}, "").model == "f_one"
    assert catalog(alone).target("f", "", {"route": "DEFAULT"}, "").model == "f_one"
    with pytest.raises(InvalidParameter, match="got none"):
        catalog(alone, GERMAN).target("f", "", {}, "")


def test_a_name_that_only_an_ignored_edit_of_a_contract_has_is_refused_with_the_reason() -> None:
    known = catalog(GERMAN)
    edits = [
        cp.Refused(model="f_de", version=1, reason="edited", family=family, route="AT") for family in ("f", "other")
    ]
    known.apply(cp.CatalogUpdate(models=[GERMAN], refused=edits))
    with pytest.raises(RefusedTarget, match="route 'AT' of family 'f' is not served: edited"):
        known.target("f", "", {"route": "AT"}, "")
    with pytest.raises(RefusedTarget, match="model or family 'other' is not served: edited"):
        known.target("other", "", {}, "")
    assert known.target("f", "1", {"route": "DE"}, "").version == 1
    with pytest.raises(UnknownRoute):
        known.target("f", "", {"route": "XX"}, "")
    known.apply(cp.CatalogUpdate(models=[GERMAN]))
    with pytest.raises(UnknownRoute):
        known.target("f", "", {"route": "AT"}, "")


def test_an_update_replaces_what_it_names_and_removes_what_is_gone() -> None:
    known = catalog(GERMAN, FRENCH)
    known.apply(cp.CatalogUpdate(models=[model("f_de", "DE", v2=100)], removed=["f_fr"]))
    assert known.target("f_de", "", {}, "").version == 2
    with pytest.raises(UnknownModel):
        known.target("f_fr", "", {}, "")


def test_a_model_may_change_its_route_and_a_family_ends_with_its_last_model() -> None:
    known = catalog(GERMAN, FRENCH)
    known.apply(cp.CatalogUpdate(models=[model("f_de", "AT", v1=100)]))
    assert known.target("f", "", {"route": "AT"}, "").model == "f_de"
    with pytest.raises(UnknownRoute, match="known: AT, FR"):
        known.target("f", "", {"route": "DE"}, "")
    known.apply(cp.CatalogUpdate(removed=["f_de", "f_fr", "f_xx"]))
    with pytest.raises(UnknownModel):
        known.target("f", "", {"route": "AT"}, "")


@pytest.mark.parametrize(
    ("shares", "described"),
    [
        ({"v1": 95, "v2": 5}, 1),
        ({"v1": 50, "v2": 50}, 2),
        ({"v1": 0, "v3": 0, "v2": 0}, 3),
        ({"v9": 40, "v10": 60}, 10),
    ],
)
def test_metadata_without_a_version_is_that_of_most_requests(shares: dict[str, int], described: int) -> None:
    assert catalog(model("f_de", "DE", **shares)).sample("f_de").main_version == described


def test_a_family_of_several_models_is_no_model() -> None:
    assert catalog(GERMAN).is_family_of_one("f")
    assert not catalog(GERMAN, FRENCH).is_family_of_one("f")
    assert not catalog(GERMAN).is_family_of_one("g")
