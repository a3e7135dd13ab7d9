"""On one machine the caller of a request gets the cause of an internal error, unless told otherwise."""

from __future__ import annotations

from controller.settings import Settings as ControllerSettings
from local.__main__ import causes_shown
from postprocess.settings import Settings as PostprocessSettings
from preprocess.settings import Settings as PreprocessSettings

CLASSES = (ControllerSettings, PostprocessSettings, PreprocessSettings)


def test_each_stage_shows_causes_unless_the_environment_says_no() -> None:
    names = {f"{cls.prefix()}SHOW_INTERNAL_ERRORS" for cls in CLASSES}
    assert causes_shown({}) == dict.fromkeys(names, "true")
    assert causes_shown({"PREPROCESS_SHOW_INTERNAL_ERRORS": "false"})["PREPROCESS_SHOW_INTERNAL_ERRORS"] == "false"


def test_without_make_run_no_cause_is_shown() -> None:
    assert not any(cls.model_fields["show_internal_errors"].default for cls in CLASSES)
