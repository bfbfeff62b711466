"""Write a CSV of many rows, the same for a seed: five channels of a machine that share three causes.

python benchmarks/make_rows.py 10000000 rows.csv
"""

import argparse
from pathlib import Path

import numpy as np

CHANNELS = ("speed", "load", "current", "heat", "vibration")
OFFSET = np.array([1450, 0.6, 12, 55, 0.02])
SPREAD = np.array([30, 0.1, 2, 6, 0.004])
ROWS_AT_ONCE = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    mixing = rng.normal(size=(3, len(CHANNELS))) / np.sqrt(3)
    with options.out.open("w", newline="") as file:
        file.write(",".join(CHANNELS) + "\n")
        for start in range(0, options.rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, options.rows - start)
            causes = rng.normal(size=(count, 3))
            noise = 0.05 * rng.normal(size=(count, len(CHANNELS)))
            values = OFFSET + SPREAD * (causes @ mixing + noise)
            file.writelines(",".join(f"{value:.6g}" for value in row) + "\n" for row in values.tolist())


if __name__ == "__main__":
    main()
