import json
import logging
import time

from edgeae_runtime.watch.config import WatchConfig
from edgeae_runtime.watch.intake import Intake
from edgeae_runtime.watch.metrics import Metrics


def test_times_that_come_again_after_a_connection_are_no_clock_that_was_set_back(own, rows) -> None:
    messages = [
        json.dumps({"values": row.tolist(), "time": 1_700_000_000 + second}).encode()
        for second, row in enumerate(rows[:150])
    ]
    metrics = Metrics()
    intake = Intake(own, 0.5, WatchConfig(), metrics=metrics, log=logging.getLogger("edgeae_runtime.watch"))
    intake.connected = time.monotonic()
    for mid, message in enumerate([*messages, *messages], 1):
        intake.take_message(message, mid, False)
    assert (len(intake.results), metrics.repeated_total) == (150, 150)
    intake.connected -= 61
    for message in messages:
        intake.take_message(message, 1, False)
    assert 150 < len(intake.results) < 300  # from the hundredth on they are taken


def test_one_time_far_behind_does_not_let_others_come_again(own, rows) -> None:
    messages = [
        json.dumps({"values": row.tolist(), "time": 1_700_000_000 + second, "seq": second}).encode()
        for second, row in enumerate(rows[:150])
    ]
    glitch = json.dumps({"values": rows[150].tolist(), "time": 0, "seq": 150}).encode()
    metrics = Metrics()
    intake = Intake(own, 0.5, WatchConfig(), metrics=metrics, log=logging.getLogger("edgeae_runtime.watch"))
    for mid, message in enumerate([*messages, glitch, *messages], 1):
        intake.take_message(message, mid, False)
    assert (len(intake.results), metrics.repeated_total) == (151, 150)  # the glitch's values may be right


def test_readings_may_have_a_time_from_some_time_on(own, rows) -> None:
    metrics = Metrics()
    intake = Intake(own, 0.5, WatchConfig(), metrics=metrics, log=logging.getLogger("edgeae_runtime.watch"))
    for second in (None, 1_700_000_000, 1_700_000_001, None):
        intake.take_message(json.dumps({"values": rows[0].tolist(), "time": second}).encode(), 0, False)
    assert (len(intake.results), metrics.rejected_total) == (3, 1)
