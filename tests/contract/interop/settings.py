"""The settings of the scripted stage."""

from tests.contract.scripted.settings import Settings

__all__ = ["Settings"]
