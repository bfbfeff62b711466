"""What `edgeae score` takes for many rows, by format and threads; prints the table of docs/bulk.md.

python benchmarks/make_rows.py 10000000 rows.csv && head -100001 rows.csv > few.csv
edgeae train few.csv --epochs 3 --batch-size 4096 --latent 3 --out rows.run
edgeae export rows.run --out rows.edgeae
python benchmarks/bulk.py rows.edgeae rows.csv
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edgeae_runtime._data import read_pieces

EDGEAE = Path(sys.executable).with_name("edgeae")


def convert(source: Path, folder: Path) -> int:
    """Write the rows of a CSV as .npy, .parquet and two halves, too; return how many there are."""
    names = source.open().readline().strip().split(",")
    rows = np.concatenate([piece.values for piece in read_pieces(source)])
    np.save(folder / "rows.npy", rows)
    pq.write_table(pa.table({name: rows[:, i] for i, name in enumerate(names)}), folder / "rows.parquet")
    with source.open() as file:
        header = next(file)
        for half, count in (("a", len(rows) // 2), ("b", len(rows) - len(rows) // 2)):
            with (folder / f"{half}.csv").open("w") as part:
                part.write(header)
                part.writelines(next(file) for _ in range(count))
    return len(rows)


def anonymous(process: int) -> int:
    """Return the kB of anonymous memory of a process and its children; what has just ended has none."""
    try:
        folder = Path(f"/proc/{process}")
        own = int((folder / "status").read_text().split("RssAnon:")[1].split()[0])
        children = [
            child
            for task in (folder / "task").iterdir()
            for child in task.joinpath("children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0
    return own + sum(anonymous(int(child)) for child in children)


def measure(words: list[object]) -> tuple[float, int]:
    """Return the seconds that a command took, and its peak of anonymous memory in kB."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(list(map(str, words))) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.02)
    if process.returncode:
        sys.exit(process.returncode)
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.csv.absolute().parent) as name:
        folder = Path(name)
        rows = convert(options.csv, folder)
        inputs = {
            "one .csv": [options.csv],
            "two .csv": [folder / "a.csv", folder / "b.csv"],
            "one .parquet": [folder / "rows.parquet"],
            "one .npy": [folder / "rows.npy"],
        }
        cases = [(i, o, t) for i in inputs for o in ("csv", "parquet", "npy") for t in (1, 2)]
        found: dict[tuple[str, str, int], list[tuple[float, int]]] = {case: [] for case in cases}
        for number in range(options.repeats):
            for case in cases:
                source, kind, threads = case
                out = ["-o", folder / f"{cases.index(case)}-{number}", "--format", kind]
                found[case].append(
                    measure([EDGEAE, "score", options.bundle, *inputs[source], *out, "--threads", threads])
                )
                for result in out[1].iterdir():
                    result.unlink()
    print("| from | to | 1 thread: rows/s | anonymous | 2 threads: rows/s | anonymous |")
    print("| --- | --- | --- | --- | --- | --- |")
    for source, kind, _ in cases[::2]:
        cells = []
        for threads in (1, 2):
            seconds, peak = (min(values) for values in zip(*found[source, kind, threads], strict=True))
            cells += [f"{rows / seconds / 1e6:.2f} million", f"{peak / 1000:.0f} MB"]
        print(f"| {source} | `.{kind}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
