"""Score a folder of Parquet files with Dask: python examples/dask_udf.py pump.edgeae lake errors."""

import sys

import dask.dataframe

from edgeae_runtime import udf

if __name__ == "__main__":  # Dask's processes import this file
    bundle, source, target = sys.argv[1:]
    score = udf.scorer(bundle, keep=["id"])
    errors = dask.dataframe.read_parquet(source).map_partitions(score)
    errors.to_parquet(target, write_index=False)
