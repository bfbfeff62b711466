"""What `edgeae score` takes for many rows, by format and threads; keeps it in bulk.json, for docs/bulk.md.

python benchmarks/bulk.py [--rows 10000000] [--repeats 2] && python benchmarks/page.py --docs

Rows and model are made first, in a folder that goes afterwards.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edgeae_runtime.readers.open import read_pieces

EDGEAE = Path(sys.executable).with_name("edgeae")
HERE = Path(__file__).parent
TRAINING_ROWS = 100_000


def make(folder: Path, count: int) -> tuple[Path, Path]:
    """Write rows, and train and export a small model on the first of them; return the bundle and the rows."""
    rows, few = folder / "rows.csv", folder / "few.csv"
    subprocess.run([sys.executable, HERE / "make_rows.py", str(count), rows], check=True)
    with rows.open() as file, few.open("w") as part:
        part.writelines(islice(file, TRAINING_ROWS + 1))
    run, bundle = folder / "rows.run", folder / "rows.edgeae"
    training = ["--epochs", "3", "--batch-size", "128", "--latent", "3"]
    subprocess.run([EDGEAE, "train", few, *training, "--out", run], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([EDGEAE, "export", run, "--out", bundle], check=True, stdout=subprocess.DEVNULL)
    return bundle, rows


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
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=2, help="of which the fastest counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, source_csv = make(folder, options.rows)
        rows = convert(source_csv, folder)
        inputs = {
            "one .csv": [source_csv],
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
                    measure([EDGEAE, "score", bundle, *inputs[source], *out, "--threads", threads])
                )
                for result in out[1].iterdir():
                    result.unlink()
    kept = [
        {"from": source, "to": kind, "threads": threads, "seconds": min(seconds), "kilobytes": min(peaks)}
        for (source, kind, threads), values in found.items()
        for seconds, peaks in [zip(*values, strict=True)]
    ]
    (HERE / "bulk.json").write_text(json.dumps({"rows": rows, "runs": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
