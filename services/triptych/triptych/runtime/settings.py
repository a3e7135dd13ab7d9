"""Settings: one frozen class for each service, read once from the environment in `__main__`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from triptych import __version__
from triptych.runtime.addresses import Collector, ListeningHost
from triptych.runtime.faults import faults_of, in_words, sentence

MIB = 1 << 20
MAX_MESSAGE_BYTES, MAX_METADATA_BYTES, MAX_BYTES_IN_FLIGHT = 64 * MIB, 64 << 10, 128 * MIB  # defaults
METADATA_FACTOR = 4  # HTTP/2 limit over ours: beyond that one a call ends without a sentence
METADATA_ENTRY_BYTES = 32  # overhead of an entry beside its name and value in HTTP/2 (RFC 9113, 6.5.2)


class StageSettings(BaseSettings):
    """Settings of every service. A subclass sets `env_prefix`, ports and its own settings."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    host: ListeningHost = Field(
        "127.0.0.1", description="address to listen on; in a pod 0.0.0.0, or :: for IPv6 and IPv4"
    )
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0: a free one, which the log names")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the Prometheus endpoint; 0 switches it off")
    metrics_timeout_s: float = Field(
        5.0, gt=0, description="longest time for one page of the Prometheus endpoint, from connection to its end"
    )
    metrics_max_connections: int = Field(
        64, ge=1, description="connections to the Prometheus endpoint at once; beyond that the oldest is closed"
    )
    revision: str = Field(__version__, description="name of this revision, returned with every answer")
    request_timeout_s: float = Field(30.0, gt=0, description="longest time for one call, if the caller sets none")
    max_message_bytes: int = Field(
        MAX_MESSAGE_BYTES,
        ge=1024,
        description="largest gRPC message taken or sent, as a request, an answer, or an answer of another service",
    )
    max_metadata_bytes: int = Field(
        MAX_METADATA_BYTES,
        ge=4096,
        le=1 << 20,
        description="largest metadata of one call, counted as HTTP/2 does: 32 bytes more for each entry",
    )
    max_in_flight: int = Field(512, ge=1, description="requests at once; more are refused with RESOURCE_EXHAUSTED")
    max_concurrent_streams: int = Field(
        1024,
        ge=1,
        le=(1 << 31) - 1,
        description="calls at once on one connection, others wait in the client; with the server grpcio four times as "
        "many, and a call that was reset counts until it has ended",
    )
    # 5,000 idle connections with full tables of header fields took 112 MiB, 22 KiB each (2026-11-30).
    max_connections: int = Field(
        10_000,
        ge=1,
        description="connections at once; beyond that the oldest one without a call is closed; fewer if the process "
        "may have fewer file descriptors, and with TLS at most as many as have max_bytes_in_flight at 64 KiB each",
    )
    max_handshakes: int = Field(
        512,
        ge=1,
        description="TLS handshakes in progress at once; beyond that the oldest ends; with the server http2",
    )
    max_request_items: int = Field(
        1024, ge=1, description="inputs, outputs and parameters that a request may have, of each"
    )
    max_text_length: int = Field(
        16_384, ge=128, description="characters of a request's id, model name, version and of each text parameter"
    )
    # A request takes up to three times its bytes: the message, its tensors, and a copy. With this limit and two threads
    # preprocess took 890 MiB for 64 callers with photographs of 12 megapixels (3.4 MB), and 780 MiB for 16 callers with
    # 18 photographs each (2.3 GiB without the limit, 2026-11-22).
    max_bytes_in_flight: int = Field(
        MAX_BYTES_IN_FLIGHT,
        ge=1,
        description="bytes in flight: of requests in work, of requests that arrive, of answers that other services "
        "send, of answers for slow readers (half of it), of answers of streams not sent yet (half before their turn), "
        "of open calls (16 KiB and four times their metadata), of each; more are refused with RESOURCE_EXHAUSTED, but "
        "never a request that is alone; of open calls those that were idle the longest end first",
    )
    max_unpacked_ratio: int = Field(
        100,
        ge=1,
        description="how many times larger a compressed message may be when unpacked, if that is over 1 MiB; with the "
        "server http2",
    )
    min_bytes_per_s: int = Field(
        16_384,
        ge=0,
        description="lowest rate of a message's bytes, measured over slow_after_s; 0: any; with the server http2",
    )
    slow_after_s: float = Field(
        5.0, gt=0, description="seconds over which a caller's rate is measured; below min_bytes_per_s its call ends"
    )
    drain_s: float = Field(0.5, ge=0, description="on SIGTERM: serve for so long while not ready")
    grace_s: float = Field(20.0, ge=0, description="after draining: time for calls in flight to end")
    connection_age_s: float = Field(
        10.0,
        ge=0,
        description="a connection gets GOAWAY after that time, so that its caller finds new replicas; calls in flight "
        "end normally; 0: never",
    )
    log_lines_per_s: int = Field(
        100,
        ge=0,
        description="lines in a second about refused requests, and as many about internal errors; the next one has the "
        "number of those left out (suppressed); 0: a line for each",
    )
    log_level: str = Field(
        "INFO",
        pattern=in_words("^(DEBUG|INFO|WARNING|ERROR)$", "DEBUG, INFO, WARNING or ERROR"),
        description="DEBUG logs every request",
    )
    show_internal_errors: bool = Field(
        False,
        description="tell callers the cause of an internal error, which may name files and options of the machine; "
        "the log has it always",
    )
    otlp_endpoint: Collector = Field(
        "", description="OTLP/gRPC collector for spans, host:port; empty switches tracing off"
    )
    server: Literal["http2", "grpcio"] = Field(
        "http2", description="the gRPC server: our own on HTTP/2 (libnghttp2), or grpc.aio, the reference"
    )
    transport: Literal["http2", "grpcio"] = Field(
        "http2", description="transport of calls to other services: our own HTTP/2 (libnghttp2), or grpcio"
    )
    tls_cert: str = Field("", description="file with the certificate chain to serve with (PEM); empty: plaintext")
    tls_key: str = Field("", description="file with its private key", validate_default=True)
    tls_client_ca: str = Field("", description="file with the authorities of callers; other callers are refused then")
    upstream_ca: str = Field(
        "", description="file with the authorities of the other services; empty: plaintext to them"
    )
    upstream_cert: str = Field("", description="file with the certificate chain for calls to them")
    upstream_key: str = Field("", description="file with its private key", validate_default=True)

    @field_validator("tls_key", "upstream_key")
    @classmethod
    def _beside_its_certificate(cls, key: str, info: ValidationInfo) -> str:
        certificate = f"{info.field_name}".replace("key", "cert")
        if bool(key) != bool(info.data.get(certificate)):
            raise ValueError(f"want it together with {certificate.upper()}, or neither")
        return key

    @field_validator("tls_client_ca", "upstream_cert")
    @classmethod
    def _only_with_tls(cls, path: str, info: ValidationInfo) -> str:
        needed = "tls_cert" if info.field_name == "tls_client_ca" else "upstream_ca"
        if path and not info.data.get(needed):
            raise ValueError(f"want {needed.upper()} beside it")
        return path

    @classmethod
    def prefix(cls) -> str:
        """Prefix of the environment variables."""
        return str(cls.model_config.get("env_prefix", ""))


S = TypeVar("S", bound=StageSettings)


def load(cls: type[S], arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> S:
    """Read the settings. Exit on `--help` (0), and on faults (2) with one line for each."""
    environment = os.environ if environment is None else environment
    if arguments:
        sys.stdout.write(describe(cls))
        raise SystemExit(0 if arguments[0] in ("-h", "--help") else 2)
    faults = unknown_variables(cls, environment)
    if not faults:
        try:
            return cls()
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            for fault in faults_of(error):
                name = prefix + "_".join(map(str, fault["loc"])).upper()
                faults.append(f"{name}: {_sentence(cls, fault)}")
    sys.stderr.write("".join(f"{fault}\n" for fault in faults) + "--help lists the settings\n")
    raise SystemExit(2)


def _sentence(cls: type[StageSettings], fault: ErrorDetails) -> str:
    """The fault of a setting. A sentence of a validator gets the value added, except one that is not to be shown."""
    field = cls.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
    if field is not None and not field.repr:
        return sentence({**fault, "input": "..."})
    text = sentence(fault)
    return f"{text}, got {fault['input']!r}" if field is not None and fault["type"] == "value_error" else text


def unknown_variables(cls: type[StageSettings], environment: Mapping[str, str]) -> list[str]:
    """Sentence for every variable that has the service's prefix but is not one of its settings."""
    prefix = cls.model_config.get("env_prefix", "")
    known = {prefix + name.upper() for name in cls.model_fields}
    return [f"{name}: no such setting" for name in sorted(environment) if name.startswith(prefix) and name not in known]


def describe(cls: type[StageSettings]) -> str:
    """The text of `--help`."""
    prefix = cls.model_config.get("env_prefix", "")
    lines = [f"{(cls.__doc__ or '').strip()}\n\nSettings, by environment variable (with its default):\n"]
    for name, field in cls.model_fields.items():
        default: Any = field.get_default(call_default_factory=True)
        lines.append(f"  {prefix + name.upper()}={default}\n      {field.description}\n")
    return "".join(lines)
