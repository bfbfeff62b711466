"""What a live series costs: samples a second through `Autoencoder.stream`, and how memory grows.

    python benchmarks/stream.py BUNDLE [--samples 10000000] [--stride N] [--json FILE]

Random readings with the scaler's mean and spread go in one at a time. Printed: the time of a sample that
completes no window, samples a second with all windows scored, and the growth of resident memory after the
first 100,000 samples.
"""

import argparse
import gc
import json
from datetime import datetime, timedelta
from itertools import chain, islice, repeat
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np

import edgeae_runtime

START = 100_000
ROUND = 10_000
MINUTE = timedelta(minutes=1)


def resident():
    """Bytes of this process in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def with_stride(ae, stride):
    manifest = ae.manifest
    ae.manifest = msgspec.structs.replace(
        manifest, input=msgspec.structs.replace(manifest.input, stride=stride)
    )
    return ae


def round_of(push, samples, times):
    """Seconds for a sample, after the one window of a stretch has been scored."""
    for sample, time in zip(samples[:1000], times[:1000], strict=True):
        push(sample, time)
    before = perf_counter()
    for sample, time in zip(samples[1000:], times[1000:], strict=True):
        push(sample, time)
    return (perf_counter() - before) / (len(samples) - 1000)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--stride", type=int, help="samples between windows, instead of the bundle's")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, help="keep what is printed here, for page.py")
    arguments = parser.parse_args()
    lines = []

    def say(line):
        print(line)
        lines.append(line)

    ae = edgeae_runtime.load(arguments.bundle, engine=arguments.engine, precision=arguments.precision)
    wanted = ae.manifest.input
    channels = wanted.size // (wanted.window or 1)
    scaler = ae.manifest.scaler
    random = np.random.default_rng(0)
    rows = (
        np.array(scaler.offset) + random.standard_normal((1000, channels)) / np.array(scaler.gain)
    ).tolist()

    if wanted.window:
        idle = with_stride(
            edgeae_runtime.load(arguments.bundle, engine=ae.engine, precision=ae.precision), 10**9
        )
        samples = list(islice(chain.from_iterable(repeat(rows)), ROUND))
        times = [datetime(2026, 1, 1) + i * MINUTE for i in range(ROUND)]
        for what, given in (("without times", [None] * ROUND), ("with times", times)):
            best = min(round_of(idle.stream(step=60).push, samples, given) for _ in range(50))
            say(f"a sample that completes no window, {channels} channels, {what}: {1e9 * best:.0f} ns")
        del samples, times, given

    stream = with_stride(ae, arguments.stride or wanted.stride).stream()
    push = stream.push
    windows, size = 0, 0
    before = perf_counter()
    for index, sample in enumerate(islice(chain.from_iterable(repeat(rows)), arguments.samples), start=1):
        if push(sample) is not None:
            windows += 1
        if index == START:
            gc.collect()
            size = resident()
    seconds = perf_counter() - before
    growth = resident() - size
    say(f"{arguments.samples:,} samples, {windows:,} windows scored by {ae.engine} {ae.precision}")
    say(f"{arguments.samples / seconds:,.0f} samples/s, {windows / seconds:,.0f} windows/s")
    say(f"resident memory grew by {growth / 1e6:.2f} MB after the first {START:,} samples")
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
