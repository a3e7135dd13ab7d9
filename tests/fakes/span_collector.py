"""In-process collector of spans: OTLP/gRPC for the services, OTLP/HTTP with JSON for Triton."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


@dataclass(frozen=True)
class Span:
    """A span. Ids are hexadecimal text, as in `traceparent`."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, str]


class Collector(otlp_grpc.TraceServiceServicer):
    """Collector that keeps every span."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        add: Any = otlp_grpc.add_TraceServiceServicer_to_server  # without types
        add(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def spans(self, trace: str = "") -> list[Span]:
        """Spans of one trace, or of all."""
        return [span for span in list(self._spans) if trace in ("", span.trace)]

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            service = _texts(resource.resource.attributes)["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self._spans.append(Span(service, span.name, *ids, _texts(span.attributes)))
        return otlp.ExportTraceServiceResponse()

    def _take_json(self, body: bytes) -> None:
        """Add spans in Triton's JSON, whose ids are hexadecimal and not protobuf's base64."""
        for resource in json.loads(body)["resourceSpans"]:
            service = _json_texts(resource["resource"])["service.name"]
            for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                ids = (span["traceId"], span["spanId"], span.get("parentSpanId", ""))
                self._spans.append(Span(service, span["name"], *ids, _json_texts(span)))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take_json

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Suppress the request log."""

        return Handler


def _texts(attributes: Any) -> dict[str, str]:
    return {each.key: _text(each.value) for each in attributes}


def _text(value: AnyValue) -> str:
    return str(next(iter(MessageToDict(value).values())))


def _json_texts(owner: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in owner.get("attributes", [])}
