"""Envoy's configuration for one stage: one listener, HTTP/2 only, and our application behind it."""

from __future__ import annotations

import importlib.util
import json
import os
from typing import Any

from triptych.addresses import WILDCARD6, resolve
from triptych.door.admin import STATISTICS
from triptych.settings import METADATA_ENTRY_BYTES, METADATA_FACTOR, StageSettings

TYPE = "type.googleapis.com/envoy"
# A second GOAWAY follows the first after that long: what was on its way in between is answered.
GOAWAY_S = "1s"
ROOM_BYTES = 1 << 16  # for the frames around a message
MAX_CONNECTIONS = 20_000
AGE_JITTER_PERCENT = 10  # callers that came together do not come back together; gRPC's own servers do the same
# Envoy's allocator, which Python uses here too, keeps what was freed: after 16 callers with messages of 58 MiB the
# process stayed at 1.9 GiB (2026-11-22). So much goes back each second.
RELEASED = {"bytes_to_release": 32 << 20, "memory_release_interval": "1s"}
# Callers whose deadlines pass reset their calls, and two guards against attacks by resets would then close the
# connection with all that others have on it: Envoy's after 500 calls of which half were reset young, and nghttp2's at
# 1,000 resets. With 50 callers of 50 ms beside 5 patient ones 493 of 3,163 calls were lost to the first and 10 of 3,130
# to the second, and none of 3,155 as it is here (2026-11-21). What holds an attack by resets is that little of it is
# taken at once: what one read brings is at most READ_BYTES, and one request of it goes to Python before the next read.
# The others wait, and a reset that came with its request ends it there (docs/decisions/2026-11-28-resets.md).
RUNTIME = {"overload.premature_reset_total_stream_count": 1 << 31, "http.max_requests_per_io_cycle": 1}
READ_BYTES = 1 << 16
MAX_WINDOW_BYTES = (1 << 31) - 1  # RFC 9113, 6.9.1
HTTP2 = {
    "use_oghttp2_codec": True,  # not nghttp2; the CPU for a call is the same
    # A request that HTTP/2 forbids (RFC 9113, 8.1.1) ends alone. Envoy's default closes the connection with all that
    # others have on it, and gateways and backends do forward `connection` or `upgrade`.
    "override_stream_error_on_invalid_http_message": True,
}


def bootstrap(stage: str, settings: StageSettings, app: str, admin: str, folder: str) -> dict[str, Any]:
    """The whole of it; `app` is a module and a name in it, `admin` the socket of the admin interface.

    `folder` is where the files of `secrets` lie.
    """
    line = {"timestamp": "%Y-%m-%dT%T.%e", "level": "%l", "logger": "envoy.%n", "message": "%j", "stage": stage}
    connections = {
        "@type": f"{TYPE}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": MAX_CONNECTIONS,
    }
    monitor = {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": connections}
    return {
        "node": {"id": stage, "cluster": "triptych"},  # without a name it reads no secrets
        "admin": {"address": {"pipe": {"path": admin}}},
        "application_log_config": {"log_format": {"json_format": line}},
        "memory_allocator_manager": RELEASED,
        "overload_manager": {"resource_monitors": [monitor]},
        "layered_runtime": {"layers": [{"name": "ours", "static_layer": RUNTIME}]},
        "static_resources": {"listeners": [_listener(settings, app, folder)]},
    }


def _listener(settings: StageSettings, app: str, folder: str) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": _http(settings, _filter(app))}]}
    if settings.tls_cert:
        chain["transport_socket"] = _tls(settings, folder)
    first, *more = ({"address": _socket_address(host, settings.port)} for host in resolve(settings.host))
    return {
        "name": "grpc",
        **first,
        "additional_addresses": more,
        "enable_reuse_port": False,  # a second process on the port is an error, not half of the traffic
        "per_connection_buffer_limit_bytes": READ_BYTES,
        "filter_chains": [chain],
    }


def _socket_address(host: str, port: int) -> dict[str, Any]:
    both = {"ipv4_compat": True} if host == WILDCARD6 else {}
    return {"socket_address": {"address": host, "port_value": port, **both}}


def _tls(settings: StageSettings, folder: str) -> dict[str, Any]:
    """Envoy reads the files again when they are renewed: it follows the secrets, and those follow their folders."""
    context: dict[str, Any] = {
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_secret("certificate", folder)],
    }
    if settings.tls_client_ca:
        context["validation_context_sds_secret_config"] = _secret("callers", folder)
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": context,
            "require_client_certificate": bool(settings.tls_client_ca),
        },
    }


def _secret(name: str, folder: str) -> dict[str, Any]:
    return {"name": name, "sds_config": {"path_config_source": {"path": f"{folder}/{name}.json"}}}


def secrets(settings: StageSettings) -> dict[str, Any]:
    """The secrets that the configuration names, as documents for files of that name."""
    certificate = {
        "certificate_chain": {"filename": settings.tls_cert},
        "private_key": {"filename": settings.tls_key},
        "watched_directory": {"path": os.path.dirname(settings.tls_cert)},
    }
    callers = {
        "trusted_ca": {"filename": settings.tls_client_ca},
        "watched_directory": {"path": os.path.dirname(settings.tls_client_ca)},
    }
    kind = f"{TYPE}.extensions.transport_sockets.tls.v3.Secret"
    made = {"certificate": {"tls_certificate": certificate}}
    if settings.tls_client_ca:
        made["callers"] = {"validation_context": callers}
    return {name: {"resources": [{"@type": kind, "name": name, **secret}]} for name, secret in made.items()}


def _http(settings: StageSettings, application: dict[str, Any]) -> dict[str, Any]:
    metadata_bytes = METADATA_FACTOR * settings.max_metadata_bytes
    options: dict[str, Any] = {"max_headers_count": metadata_bytes // METADATA_ENTRY_BYTES}
    if settings.connection_age_s:
        options["max_connection_duration"] = f"{settings.connection_age_s}s"
        options["max_connection_duration_jitter"] = {"value": AGE_JITTER_PERCENT}
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STATISTICS,
        "codec_type": "HTTP2",
        "http2_protocol_options": {
            **HTTP2,
            "max_concurrent_streams": settings.max_concurrent_streams,
            # A message is kept whole until the application takes it; a stream with a smaller window answers 413.
            "initial_stream_window_size": min(settings.max_message_bytes + ROOM_BYTES, MAX_WINDOW_BYTES),
        },
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
        "http_filters": [application],
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "0s",  # a stream may be silent for hours
        "common_http_protocol_options": options,
        "max_request_headers_kb": metadata_bytes // 1024,
        "drain_timeout": GOAWAY_S,
    }


def _filter(app: str) -> dict[str, Any]:
    module = importlib.util.find_spec("pyvoy._pyvoy")
    if module is None or module.origin is None:
        raise OSError("pyvoy is not installed; services/common/requirements.txt names it")
    config = {"app": app, "interface": "asgi", "lifespan": True}
    return {
        "name": "pyvoy",
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"module": {"local": {"filename": module.origin}}},
            "filter_name": "pyvoy",
            "terminal_filter": True,
            "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": json.dumps(config)},
        },
    }
