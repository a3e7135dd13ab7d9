"""Generated sales; none of the data are real.

    units = Poisson( level * weekly[weekday] * season(day) * (price / ordinary price)^elasticity
                     * lift if promoted * slow drift * daily noise )

Six years for each country. Models learn from the first five; the days of the sixth are held out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.models.countries import HISTORY_DAYS, HORIZON_DAYS, Country, random_stream

DAYS: Final = 6 * 365
FIRST_HELD_OUT_DAY: Final = 5 * 365
_DRIFT_MEMORY: Final = 0.985  # of the slow AR(1) drift of log demand, per day
_DRIFT_STEP: Final = 0.012

Floats = NDArray[np.float64]


class Series(NamedTuple):
    """One country, one row a day; day 0 is a Monday, the first of January."""

    units: NDArray[np.int64]
    price: Floats
    promotion: NDArray[np.bool_]


class Windows(NamedTuple):
    """Features and targets, one row for each first day of a forecast."""

    features: NDArray[np.float32]  # [n, 42]: history 28, price 7, promotion 7 (0 or 1)
    target: NDArray[np.float32]  # [n, 7] units
    first_day: NDArray[np.int64]  # [n]


def generate(country: Country) -> Series:
    """Generate six years of a country; each call gives the same ones."""
    draw = random_stream("sales", country.code)
    day = np.arange(DAYS)
    price, promotion = _offers(country, draw)
    season = country.season_amplitude * np.cos(2 * np.pi * (day - country.season_peak_day) / 365.25)
    log_demand = (
        np.log(country.level_units)
        + np.log(country.weekly)[day % 7]
        + season
        + country.elasticity * np.log(price / country.price_eur)
        + np.log(country.promotion_lift) * promotion
        + _drift(draw)
        + draw.normal(0.0, country.noise, DAYS)
    )
    return Series(draw.poisson(np.exp(log_demand)).astype(np.int64), price, promotion)


def windows(series: Series, first: int, last: int) -> Windows:
    """Every forecast whose first day lies in [first, last) and whose seven days are known."""
    starts = np.arange(max(first, HISTORY_DAYS), min(last, len(series.units) - HORIZON_DAYS + 1))
    past = starts[:, None] + np.arange(-HISTORY_DAYS, 0)
    future = starts[:, None] + np.arange(HORIZON_DAYS)
    features = np.concatenate(
        [series.units[past], series.price[future], series.promotion[future].astype(float)], axis=1
    )
    return Windows(features.astype(np.float32), series.units[future].astype(np.float32), starts)


def training(series: Series) -> Windows:
    """Forecasts that end before the held-out year begins."""
    return windows(series, HISTORY_DAYS, FIRST_HELD_OUT_DAY - HORIZON_DAYS + 1)


def held_out(series: Series) -> Windows:
    """Forecasts of days of the sixth year."""
    return windows(series, FIRST_HELD_OUT_DAY, DAYS)


def _offers(country: Country, draw: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Price and promotion by day. The price changes on Mondays, and some days have a discount."""
    weeks = DAYS // 7 + 1
    weekly_price = country.price_eur * np.exp(draw.normal(0.0, 0.10, weeks))
    price = np.repeat(weekly_price, 7)[:DAYS]
    price = np.where(draw.random(DAYS) < 0.15, price * draw.uniform(0.75, 0.95, DAYS), price)
    promotion = np.zeros(DAYS, dtype=np.bool_)
    for week in np.flatnonzero(draw.random(weeks) < country.promotion_share):
        start = 7 * int(week) + int(draw.integers(0, 5))
        promotion[start : start + int(draw.integers(2, 6))] = True
    return np.round(price, 2), promotion


def _drift(draw: np.random.Generator) -> Floats:
    """Slow drift of log demand that no feature explains."""
    drift = np.zeros(DAYS)
    for today, step in enumerate(draw.normal(0.0, _DRIFT_STEP, DAYS - 1), start=1):
        drift[today] = _DRIFT_MEMORY * drift[today - 1] + step
    return drift
