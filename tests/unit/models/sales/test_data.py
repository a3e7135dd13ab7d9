"""The generated sales."""

from __future__ import annotations

import numpy as np
import pytest

from examples.models.countries import COUNTRY_CODES, FEATURES, HISTORY_DAYS, HORIZON_DAYS, country
from examples.models.sales.data import DAYS, FIRST_HELD_OUT_DAY, generate, held_out, training, windows


def test_there_are_48_countries_with_codes_in_capitals() -> None:
    assert len(set(COUNTRY_CODES)) == 48
    assert all(len(code) == 2 and code.isalpha() and code.isupper() for code in COUNTRY_CODES)


@pytest.mark.parametrize("code", COUNTRY_CODES)
def test_units_and_prices_are_what_the_contract_takes(code: str) -> None:
    series = generate(country(code))
    assert len(series.units) == len(series.price) == len(series.promotion) == DAYS
    assert series.units.min() >= 0
    assert series.price.min() > 0
    assert np.isfinite(series.price).all()
    assert 0.03 < series.promotion.mean() < 0.3


def test_the_same_country_is_generated_alike_every_time_and_two_countries_differ() -> None:
    first, again, other = (generate(country(code)) for code in ("DE", "DE", "FR"))
    assert (first.units == again.units).all()
    assert (first.units != other.units).any()


def test_a_higher_price_sells_less_and_a_promotion_more() -> None:
    assert all(country(code).elasticity < 0 and country(code).promotion_lift > 1 for code in COUNTRY_CODES)


def test_german_sales_are_low_on_sundays() -> None:
    units = generate(country("DE")).units
    sundays = units[6::7].mean()
    assert sundays < 0.1 * units.mean()


def test_a_window_holds_the_days_before_and_the_offers_after_its_first_day() -> None:
    series = generate(country("GB"))
    window = windows(series, 100, 101)
    assert window.features.shape == (1, FEATURES)
    history, price = window.features[0, :HISTORY_DAYS], window.features[0, HISTORY_DAYS : HISTORY_DAYS + HORIZON_DAYS]
    assert history.tolist() == series.units[72:100].tolist()
    assert price == pytest.approx(series.price[100:107])
    assert window.features[0, -HORIZON_DAYS:].tolist() == series.promotion[100:107].tolist()
    assert window.target[0].tolist() == series.units[100:107].tolist()


def test_no_day_of_the_held_out_year_is_a_target_while_training() -> None:
    series = generate(country("GB"))
    assert training(series).first_day.max() + HORIZON_DAYS <= FIRST_HELD_OUT_DAY
    assert held_out(series).first_day.min() >= FIRST_HELD_OUT_DAY
