"""Forecasts in a Spark job: Spark reads, distributes and writes, `Ask` asks.

spark-submit spark_sales.py SALES OUT ADDRESS      ADDRESS: preprocess, as in preprocess:9000, or a folder of models
"""

from __future__ import annotations

import os
import sys

from pyspark.sql import SparkSession

from triptych_client import Ask

sales, out, home = sys.argv[1:]
where = {"repository": os.path.abspath(home)} if os.path.isdir(home) else {"address": home, "background": True}
spark = SparkSession.builder.appName("sales").getOrCreate()
shops = spark.read.parquet(sales)
ask = Ask("sales_forecast_de", keep=["shop"], ignore_others=True, on_bad_rows="keep", in_flight=2, **where)
schema = ask.spark_schema(shops.schema)  # refuses columns that do not fit, and finds the version for all workers
answers = shops.mapInArrow(ask, schema)
answers.write.parquet(out)
spark.stop()
