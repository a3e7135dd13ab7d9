from pydantic import Field
from pydantic_settings import SettingsConfigDict

from triptych.runtime.settings import StageSettings


class Settings(StageSettings):
    """Settings of the scripted stage."""

    model_config = SettingsConfigDict(env_prefix="SCRIPTED_", frozen=True, extra="forbid")

    start_s: float = Field(0.0, description="how long it is live and not ready")
