"""The settings of the scripted stage, where Envoy's host looks for those of a stage."""

from tests.contract.scripted.settings import Settings

__all__ = ["Settings"]
