"""Shared package of the stages: contract, protocol, servers, clients, telemetry and process-wide parts."""

__version__ = "0.1.0"
