"""The versions of many keys, as their requests would get them."""

from __future__ import annotations

from typing import Any

import pytest

from preprocess.catalog import CatalogClient
from preprocess.routing_servicer import RoutingServicer
from tests.unit.preprocess.test_catalog import FRENCH, GERMAN, SILENT, catalog, model
from triptych.errors import InvalidParameter, InvalidRequest, Unavailable, UnknownModel, UnknownRoute
from triptych.protocol import routing_pb2 as rp
from triptych.protocol.call import Call
from triptych.protocol.infer_request import RequestLimits

SPLIT = model("f_gb", "GB", v1=50, v2=30, v3=20)
KEYS = [f"article {number}" for number in range(200)]


async def chosen(found: CatalogClient, **fields: Any) -> rp.ChooseVersionsReply:
    servicer = RoutingServicer(found, RequestLimits(items=200, text=128))
    return await servicer.choose_versions(rp.ChooseVersionsRequest(**fields), Call.within(10))


@pytest.mark.parametrize("name", [{"model": "f_gb"}, {"model": "f", "route": "GB"}])
async def test_each_key_gets_the_version_of_its_requests(name: dict[str, str]) -> None:
    found = catalog(SPLIT, GERMAN)
    reply = await chosen(found, traffic_keys=KEYS, **name)
    assert reply.model == "f_gb"
    route = {"route": name["route"]} if "route" in name else {}
    assert list(reply.versions) == [
        found.target(name["model"], "", {**route, "traffic_key": key}, "").version for key in KEYS
    ]
    assert set(reply.versions) == {1, 2, 3}


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"model": "f_gb", "traffic_keys": [*KEYS, "more"]}, InvalidRequest, "at most 200 traffic_keys, got 201"),
        ({"model": "f_gb", "traffic_keys": ["a", ""]}, InvalidRequest, "want no empty text in traffic_keys"),
        ({"model": "f_gb", "traffic_keys": ["k" * 129]}, InvalidRequest, "traffic_keys: want at most 128 characters"),
        ({"model": "m" * 129}, InvalidRequest, "want at most 128 characters"),
        ({"model": "f_gb", "route": "R" * 129}, InvalidRequest, "want at most 128 characters"),
        ({"model": "f_xx", "traffic_keys": ["a"]}, UnknownModel, "f_xx"),
        ({"model": "f_xx"}, UnknownModel, "f_xx"),
        ({"model": "f", "route": "XX", "traffic_keys": ["a"]}, UnknownRoute, "XX"),
        ({"model": "f", "traffic_keys": ["a"]}, InvalidParameter, "route"),
        ({"model": "f_es", "traffic_keys": ["a"]}, Unavailable, "no version that takes traffic"),
    ],
)
async def test_a_wrong_request_says_what_is_wanted(fields: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        await chosen(catalog(SPLIT, GERMAN, FRENCH, SILENT), **fields)
