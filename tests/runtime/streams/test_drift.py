"""Whether a stream says that its model no longer fits, and keeps silent while it does."""

import re
from itertools import pairwise

import numpy as np
import pytest

from edgeae_runtime import DataError, Drift
from edgeae_runtime.streams.drift import DriftState

NORMAL = {"0.5": 1.0, "0.9": 2.0}


def pump(count, seed, drift=0.0) -> np.ndarray:
    """Readings of the pump that the tiny bundle knows (make_tiny_bundle.py), with degrees added to one."""
    random = np.random.default_rng(seed)
    load, weather = random.uniform(0, 1, count), random.uniform(-1, 1, count)
    table = np.column_stack(
        [
            60 + 15 * load + 5 * weather,
            101_000 + 300 * weather - 80 * load**2,
            0.002 + 0.008 * load * (1 - 0.3 * weather),
            -100 + 0.5 * load,
            2 + 3 * load - 0.2 * weather,
            2900 - 120 * load - 10 * weather,
        ]
    )
    table += 0.2 * table.std(axis=0) * random.standard_normal(table.shape)
    return np.float32(table + np.array([drift, 0, 0, 0, 0, 0]))


def said(state, drift, errors) -> list[str | None]:
    return [state.count(drift, error, NORMAL) for error in errors]


def test_normal_operation_is_no_drift(ae) -> None:
    stream = ae.stream(drift=Drift(memory=200))
    assert {stream.push(row).drift for row in pump(5000, seed=11)} == {None}


def test_a_shift_of_a_sensor_is_said_soon_and_taken_back_after_repair(exact) -> None:
    stream = exact.stream(drift=Drift(memory=200))
    healthy, off = pump(1000, seed=11), pump(1000, seed=12, drift=15)
    assert {stream.push(row).drift for row in healthy} == {None}
    words = [stream.push(row).drift for row in off]
    start = next(i for i, drift in enumerate(words) if drift)
    assert start < 300
    assert all(words[start:])
    top = exact.threshold.quantiles["0.9"]
    found = re.fullmatch(
        rf"errors are high: of about the last 200 windows (\d+)% are above {top:.3g}, where 10% .*", words[-1]
    )
    assert int(found[1]) > 60
    assert [stream.push(row).drift for row in healthy][-1] is None


def test_a_machine_at_rest_has_low_errors_and_is_said_too(exact) -> None:
    still = exact.reconstruct(pump(1, seed=11))
    for _ in range(20):  # towards what the network makes of itself
        still = exact.reconstruct(still)
    stream = exact.stream(drift=Drift(memory=200))
    words = [stream.push(still[0]).drift for _ in range(1000)]
    assert words[-1].startswith("errors are low: of about the last 200 windows 99% are below ")
    assert 200 < next(i for i, drift in enumerate(words) if drift) < 600


def test_nothing_is_said_before_the_memory_is_full() -> None:
    words = said(DriftState(), Drift(memory=100), [9.0] * 300)
    assert words[:99] == [None] * 99
    assert all(words[99:])


def test_what_was_said_holds_until_it_is_well_over() -> None:
    state, drift = DriftState(), Drift(memory=100)
    said(state, drift, [9.0] * 300)
    quieter = said(state, drift, [9.0, 1.0] * 300 + [9.0, 1.0, 1.0, 1.0, 1.0, 1.0] * 100)
    assert all(quieter[:600])  # half of the windows
    assert quieter[-1] is None
    assert sum(a is None and b is not None for a, b in pairwise(quieter)) == 0


def test_errors_at_the_normal_quantiles_are_normal() -> None:
    errors = np.random.default_rng(0).exponential(1 / np.log(2), 20_000)
    quantiles = {"0.5": 1.0, "0.9": float(np.log(10) / np.log(2))}
    state = DriftState()
    found = {state.count(Drift(memory=300), float(error), quantiles) for error in errors}
    assert found == {None}
    assert state.high == pytest.approx(0.1, abs=0.05)
    assert state.some == pytest.approx(2**-0.5, abs=0.08)  # P(error > median / 2)


def test_a_model_without_errors_is_no_drift() -> None:
    state = DriftState()
    assert {state.count(Drift(memory=10), 0.0, {"0.5": 0.0, "0.9": 0.0}) for _ in range(100)} == {None}


def test_the_monitor_can_be_left_out(exact) -> None:
    stream = exact.stream(drift=None)
    assert {stream.push(row).drift for row in pump(1500, seed=12, drift=50)} == {None}


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"^drift: memory is 0 windows; want at least 1$"):
        Drift(memory=0)
