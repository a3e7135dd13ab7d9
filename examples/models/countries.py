"""The 48 countries of the sales example, with the demand of each.

Closing days, hemispheres and names are facts. All numbers are invented: they are drawn from a random stream seeded
with the country's code.
"""

from __future__ import annotations

import math
import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

HISTORY_DAYS: Final = 28
HORIZON_DAYS: Final = 7
FEATURES: Final = HISTORY_DAYS + 2 * HORIZON_DAYS

# Units by weekday, Monday first, before each country's own variation.
WEEKLY_PROFILES: Final[dict[str, tuple[float, ...]]] = {
    "sunday_shut": (0.95, 0.90, 0.95, 1.10, 1.45, 1.60, 0.05),
    "sunday_short": (0.90, 0.85, 0.90, 1.00, 1.30, 1.55, 0.50),
    "weekend": (0.75, 0.75, 0.80, 0.90, 1.15, 1.40, 1.25),
    "weekend_strong": (0.60, 0.60, 0.65, 0.75, 1.10, 1.70, 1.60),
    "friday_rest": (0.95, 0.95, 1.00, 1.35, 0.60, 1.15, 1.00),
    "saturday_rest": (0.95, 0.95, 1.00, 1.30, 1.50, 0.25, 1.05),
    "even": (1.00, 0.95, 1.00, 1.00, 1.05, 1.05, 0.95),
}

# code: name, weekly profile, degrees of latitude of the capital
_TABLE: Final[dict[str, tuple[str, str, float]]] = {
    "AE": ("United Arab Emirates", "weekend", 24),
    "AR": ("Argentina", "sunday_short", -35),
    "AT": ("Austria", "sunday_shut", 48),
    "AU": ("Australia", "weekend", -35),
    "BE": ("Belgium", "sunday_short", 51),
    "BG": ("Bulgaria", "weekend", 43),
    "BR": ("Brazil", "weekend_strong", -16),
    "CA": ("Canada", "weekend", 45),
    "CH": ("Switzerland", "sunday_shut", 47),
    "CL": ("Chile", "weekend_strong", -33),
    "CN": ("China", "weekend_strong", 40),
    "CO": ("Colombia", "weekend", 5),
    "CZ": ("Czechia", "weekend", 50),
    "DE": ("Germany", "sunday_shut", 53),
    "DK": ("Denmark", "sunday_short", 56),
    "EE": ("Estonia", "even", 59),
    "EG": ("Egypt", "friday_rest", 30),
    "ES": ("Spain", "sunday_short", 40),
    "FI": ("Finland", "weekend", 60),
    "FR": ("France", "sunday_short", 49),
    "GB": ("United Kingdom", "weekend", 52),
    "GR": ("Greece", "sunday_shut", 38),
    "HR": ("Croatia", "sunday_short", 46),
    "HU": ("Hungary", "sunday_short", 47),
    "ID": ("Indonesia", "weekend", -6),
    "IE": ("Ireland", "weekend", 53),
    "IL": ("Israel", "saturday_rest", 32),
    "IN": ("India", "even", 29),
    "IT": ("Italy", "sunday_short", 42),
    "JP": ("Japan", "weekend_strong", 36),
    "KR": ("South Korea", "weekend_strong", 38),
    "LT": ("Lithuania", "weekend", 55),
    "LV": ("Latvia", "even", 57),
    "MX": ("Mexico", "weekend_strong", 19),
    "MY": ("Malaysia", "weekend", 3),
    "NL": ("Netherlands", "sunday_short", 52),
    "NO": ("Norway", "sunday_shut", 60),
    "NZ": ("New Zealand", "weekend", -41),
    "PL": ("Poland", "sunday_shut", 52),
    "PT": ("Portugal", "weekend", 39),
    "RO": ("Romania", "weekend", 44),
    "SA": ("Saudi Arabia", "friday_rest", 25),
    "SE": ("Sweden", "weekend", 59),
    "SI": ("Slovenia", "sunday_shut", 46),
    "SK": ("Slovakia", "sunday_short", 48),
    "TR": ("Turkey", "weekend", 40),
    "US": ("United States", "weekend", 39),
    "ZA": ("South Africa", "sunday_short", -26),
}

COUNTRY_CODES: Final = tuple(sorted(_TABLE))


class Country(NamedTuple):
    """One country's invented market for one product."""

    code: str
    name: str
    level_units: float  # on an ordinary day at the ordinary price
    weekly: NDArray[np.float64]  # [7], Monday first, mean 1
    season_amplitude: float  # of the log of demand, over the year
    season_peak_day: float  # of the year
    price_eur: float  # ordinary price
    elasticity: float  # d log(units) / d log(price), negative
    promotion_lift: float  # factor on units
    promotion_share: float  # of all weeks that have one
    noise: float  # standard deviation of the log of demand, day by day


def random_stream(*words: str) -> np.random.Generator:
    """A random generator seeded by these words alone."""
    return np.random.default_rng(zlib.crc32("/".join(words).encode()))


def country(code: str) -> Country:
    """The market of a country by its ISO 3166 alpha-2 code in capitals."""
    name, profile, latitude = _TABLE[code]
    draw = random_stream("country", code)
    weekly = np.array(WEEKLY_PROFILES[profile]) * np.exp(draw.normal(0.0, 0.06, 7))
    midsummer = 196.0 if latitude >= 0 else 15.0
    return Country(
        code=code,
        name=name,
        level_units=float(math.exp(draw.uniform(math.log(80.0), math.log(2500.0)))),
        weekly=weekly / weekly.mean(),
        season_amplitude=0.05 + 0.006 * abs(latitude) + float(draw.uniform(0.0, 0.08)),
        season_peak_day=(midsummer + float(draw.normal(0.0, 12.0))) % 365.25,
        price_eur=float(draw.uniform(2.2, 4.8)),
        elasticity=-float(draw.uniform(0.4, 3.0)),
        promotion_lift=float(draw.uniform(1.05, 2.0)),
        promotion_share=float(draw.uniform(0.12, 0.3)),
        noise=float(draw.uniform(0.05, 0.10)),
    )
