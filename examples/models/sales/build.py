"""Training, check and publication of the sales models, with a comparison to one model for all countries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from examples.models import contracts, publish
from examples.models.countries import COUNTRY_CODES, Country, country
from examples.models.onnx_graphs import sales_graph
from examples.models.progress import TaskProgress
from examples.models.sales import train as sales_train
from examples.models.sales.data import Series, generate, held_out, training
from examples.models.triton_config import sales_config

WIDE = 256  # hidden values of the second global model, which shows that size does not help


class SalesResult(NamedTuple):
    """wMAPE on the held-out year."""

    country: Country
    own: float
    pooled: float  # one model for all countries, of the same size
    pooled_wide: float  # the same with WIDE hidden values


class Sales(NamedTuple):
    """Results, networks and data for the report and the plots."""

    results: list[SalesResult]
    networks: dict[str, sales_train.Network]
    pooled: sales_train.Network
    series: dict[str, Series]


def build(codes: Sequence[str], repository: Path, progress: TaskProgress) -> Sales:
    """Train all countries, and publish sales_forecast_<cc> for those named."""
    progress.begin("sales: generating six years for each country")
    series = {code: generate(country(code)) for code in COUNTRY_CODES}
    learned = {code: training(one) for code, one in series.items()}
    progress.begin("sales: training one network for each country")
    networks = sales_train.train_each(learned)
    progress.begin("sales: training the two global networks")
    pooled, wide = sales_train.train_global(learned), sales_train.train_global(learned, WIDE)
    results = []
    for code in progress.over("sales: countries", iter(codes), len(codes)):
        unseen = held_out(series[code])
        _publish(code, networks[code], unseen.features[: contracts.SALES_MAX_ROWS], repository)
        errors = (sales_train.error(network, unseen) for network in (networks[code], pooled, wide))
        results.append(SalesResult(country(code), *errors))
    return Sales(results, networks, pooled, series)


def _publish(code: str, network: sales_train.Network, sample: sales_train.Floats, repository: Path) -> None:
    name = f"sales_forecast_{code.lower()}"
    graph = sales_graph(network, name)
    publish.check_same(name, graph, sample, sales_train.forecast(network, sample))
    publish.write_model(repository, name, sales_config(name), {1: (graph, contracts.sales(code))})
