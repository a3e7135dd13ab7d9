"""Versions by traffic key, for callers that want for each of many rows the version that its key gets online."""

from __future__ import annotations

from preprocess.catalog import CatalogClient
from triptych.errors import InvalidRequest
from triptych.protocol import routing_pb2 as rp
from triptych.protocol.call import Call
from triptych.protocol.infer_request import RequestLimits, refuse_unknown_fields
from triptych.protocol.parameters import Parameter

SERVICE = rp.DESCRIPTOR.services_by_name["Routing"]


class RoutingServicer:
    """The service `triptych.v1.Routing`."""

    def __init__(self, catalog: CatalogClient, limits: RequestLimits) -> None:
        self._catalog, self._limits = catalog, limits

    async def choose_versions(self, request: rp.ChooseVersionsRequest, _call: Call) -> rp.ChooseVersionsReply:
        """Raises `InvalidRequest` over a limit, and the errors of a request for the model."""
        refuse_unknown_fields(request)
        if len(request.traffic_keys) > self._limits.items:
            raise InvalidRequest(f"want at most {self._limits.items} traffic_keys, got {len(request.traffic_keys)}")
        route: dict[str, Parameter] = {"route": request.route} if request.HasField("route") else {}
        for text in (request.model, request.route):
            self._limits.check_text("model or route", text)
        reply = rp.ChooseVersionsReply(model=self._catalog.model(request.model, route.get("route")).name)
        for key in request.traffic_keys:
            self._limits.check_text("traffic_keys", key)
            if not key:
                raise InvalidRequest("want no empty text in traffic_keys: a request without a key gets any version")
            reply.versions.append(self._catalog.target(request.model, "", {**route, "traffic_key": key}, "").version)
        return reply
