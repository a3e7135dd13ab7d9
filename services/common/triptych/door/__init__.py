"""The gRPC server in front of a servicer. It turns bytes into messages and errors into status; it decides nothing else.

Everything that a door needs from a servicer is the table of `triptych.methods`, so that one can be changed for another
by a setting.
"""

from __future__ import annotations

from collections.abc import Sequence

from triptych.door.base import STOPPING, Door
from triptych.door.grpcio import GrpcioDoor
from triptych.door.http2 import Http2Door
from triptych.methods import Service
from triptych.settings import StageSettings

__all__ = ["DOORS", "STOPPING", "Door", "GrpcioDoor", "Http2Door", "door_for"]

DOORS: dict[str, type[Door]] = {"http2": Http2Door, "grpcio": GrpcioDoor}


def door_for(services: Sequence[Service], settings: StageSettings) -> Door:
    """The door that the settings name."""
    return DOORS[settings.server](services, settings)
