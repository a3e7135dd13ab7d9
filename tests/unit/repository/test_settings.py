"""The settings that only the repository has."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from repository.settings import Settings


def test_the_addresses_of_the_tritons_are_separated_by_commas() -> None:
    assert Settings(triton="a:1, b:2,").predictors == ("a:1", "b:2")


@pytest.mark.parametrize("text", ["", ",", "triton", "triton:", ":8001", "triton:0", "triton:65536", "a:1,a:1"])
def test_an_address_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="triton"):
        Settings(triton=text)


@pytest.mark.parametrize("name", ["poll_s", "sync_s", "load_timeout_s", "max_concurrent_loads"])
def test_nothing_that_repeats_or_waits_may_be_zero(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: 0})
