"""Score a folder of Parquet files with Spark: spark-submit examples/spark_udf.py pump.edgeae lake errors."""

import sys

from pyspark.sql import SparkSession

from edgeae_runtime import udf

bundle, source, target = sys.argv[1:]
frame = SparkSession.builder.getOrCreate().read.parquet(source)
score = udf.scorer(bundle, keep=["id"])
errors = frame.mapInArrow(score.arrow, f"id long, {score.schema}")  # or mapInPandas(score.pandas, …)
errors.write.mode("overwrite").parquet(target)
