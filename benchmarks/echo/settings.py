"""The settings of echo."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from triptych.runtime.settings import StageSettings


class Settings(StageSettings):
    """echo: answers with what it got, or with what another echo answers."""

    model_config = SettingsConfigDict(env_prefix="ECHO_", frozen=True, extra="forbid")

    upstream: str = Field("", description="address of another echo that answers instead; empty: this one does")
    connection_age_s: float = Field(0.0, ge=0, description="see StageSettings; here connections stay")
