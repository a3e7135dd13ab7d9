"""Forecasts in a Ray Data pipeline: Ray reads, distributes and writes, `Ask` asks.

python ray_sales.py SALES OUT ADDRESS      ADDRESS: preprocess, as in preprocess:9000, or a folder of models
"""

from __future__ import annotations

import os
import sys

import ray.data

from triptych_client import Ask

sales, out, home = sys.argv[1:]
where = {"repository": os.path.abspath(home)} if os.path.isdir(home) else {"address": home, "background": True}
ask = Ask("sales_forecast_de", keep=["shop"], ignore_others=True, **where)
shops = ray.data.read_parquet(sales)
ask.schema(shops.schema().base_schema)  # refuses columns that do not fit before the first row
answers = shops.map_batches(
    Ask,
    # Each actor makes an Ask of its own: the number is the same for all, whatever an alias or the traffic says later.
    fn_constructor_kwargs={
        "model": "sales_forecast_de",
        "version": int(ask.version),
        "keep": ["shop"],
        "ignore_others": True,
        "on_bad_rows": "keep",
        "in_flight": 2,
        **where,
    },
    batch_format="pyarrow",
    batch_size=4096,
    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8),
)
answers.write_parquet(out)
