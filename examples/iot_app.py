"""A minimal app on a device: read a sensor, warn when it behaves unlike it did in training.

    python iot_app.py pump.edgeae < readings.csv

Needs edgeae-runtime alone. Put your own sensor where `read_sensor` reads lines of time and values. Stop it
with Ctrl-C or SIGTERM and start it again: it goes on where it was, in the middle of a window too.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import edgeae_runtime
from edgeae_runtime import Alarm


def read_sensor() -> Iterator[tuple[datetime, list[float]]]:
    """Yield the time and the values of all channels, in raw units."""
    for line in sys.stdin:
        time, *values = line.rstrip().split(",")
        try:
            reading = datetime.fromisoformat(time), [float(value or "nan") for value in values]
        except ValueError:
            print(f"no reading: {line.rstrip()}", file=sys.stderr)  # the header, for one
        else:
            yield reading


def main() -> None:
    """Watch the sensor until it ends or someone stops it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--state", type=Path, default=Path("iot_app.state"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    ae = edgeae_runtime.load(arguments.bundle)
    saved = arguments.state.read_bytes() if arguments.state.exists() else None
    stream = ae.stream(alarm=Alarm(needed=3, among=5, release=0.9), hold=2, state=saved)
    alarm, drift = False, None
    try:
        for time, values in read_sensor():
            result = stream.push(values, time)
            if result is None:
                continue
            if result.alarm and not alarm:
                print(f"{time} ALARM: error {result.error:.3g}, threshold {result.threshold:.3g}", flush=True)
            if alarm and not result.alarm:
                print(f"{time} the alarm is over", flush=True)
            if result.drift and not drift:
                print(f"{time} {result.drift}", flush=True)
            alarm, drift = result.alarm, result.drift
    except KeyboardInterrupt:
        pass
    finally:
        fresh = arguments.state.with_suffix(".new")
        fresh.write_bytes(stream.state(window=True))
        fresh.replace(arguments.state)  # at once: there is never half a state
        print(f"late: {stream.late}, missing: {stream.missing}, interruptions: {stream.interruptions}")


if __name__ == "__main__":
    main()
