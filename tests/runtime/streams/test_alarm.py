import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae_runtime import Alarm, DataError
from edgeae_runtime.streams.alarm import AlarmState

LIMIT = 10.0
unhurried = settings(deadline=None)

# An operator's view: one window a second, its error (the threshold is 10), and whether the alarm is on (!).
TABLE = {
    "as it comes": (Alarm(), "9 11 9 12 13 10 9", ". ! . ! ! . ."),
    "2 of 3": (Alarm(needed=2, among=3), "11 9 11 9 9 11 11 9 9", ". . ! . . . ! ! ."),
    "2 in a row": (Alarm(needed=2, among=2), "11 9 11 11 9 11 11", ". . . ! . . !"),
    "ends below 8 only": (Alarm(release=0.8), "11 9 9 8 9 11 9 7", "! ! ! . . ! ! ."),
    "quiet for 3 s": (Alarm(refractory=3), "11 9 11 11 11 9 9", "! . . . ! . ."),
    "quiet, then still bad": (Alarm(refractory=2), "11 9 11 9 11 9", "! . . . ! ."),
    "warming up for 2": (Alarm(warm_up=2), "99 99 9 11", ". . . !"),
    "no votes from the warm-up": (Alarm(warm_up=2, needed=2, among=2), "99 99 11 9 11 11", ". . . . . !"),
}


@pytest.mark.parametrize("name", TABLE)
def test_an_alarm_is_on_when_the_table_says(name) -> None:
    alarm, errors, expected = TABLE[name]
    state = AlarmState()
    found = [
        state.count(alarm, float(error), LIMIT, float(second)) for second, error in enumerate(errors.split())
    ]
    assert " ".join("!" if on else "." for on in found) == expected


def reference(alarm, errors, times) -> list[bool]:
    """The rules over whole lists, as one would write them down."""
    states, on, silent_until = [], False, None
    for now in range(len(errors)):
        voters = errors[max(alarm.warm_up, now + 1 - alarm.among) : now + 1] if now >= alarm.warm_up else []
        level = LIMIT * alarm.release if on else LIMIT
        enough = len([error for error in voters if error > level]) >= alarm.needed
        if on and not enough:
            silent_until = times[now] + alarm.refractory
            on = False
        elif enough and not on and (silent_until is None or times[now] >= silent_until):
            on = True
        states.append(on)
    return states


alarms = st.integers(1, 6).flatmap(
    lambda among: st.builds(
        Alarm,
        needed=st.integers(1, among),
        among=st.just(among),
        release=st.sampled_from([1.0, 0.9, 0.5]),
        refractory=st.sampled_from([0, 3, 10]).map(float),
        warm_up=st.integers(0, 5),
    )
)
errors = st.lists(st.sampled_from([1.0, 5.0, 6.0, 9.0, 9.5, 10.0, 11.0, 12.0, float("inf")]), max_size=60)


@unhurried
@given(alarms, errors, st.data())
def test_an_alarm_follows_its_rules(alarm, errors, data) -> None:
    steps = data.draw(st.lists(st.integers(1, 4), min_size=len(errors), max_size=len(errors)))
    times = [float(sum(steps[: i + 1])) for i in range(len(steps))]
    state = AlarmState()
    found = []
    for error, time in zip(errors, times, strict=True):
        found.append(state.count(alarm, error, LIMIT, time))
        state = msgspec.json.decode(msgspec.json.encode(state), type=AlarmState)  # as over a restart
    assert found == reference(alarm, errors, times)


@unhurried
@given(errors)
def test_as_it_stands_an_alarm_is_on_while_the_last_window_is_an_anomaly(errors) -> None:
    state = AlarmState()
    assert [state.count(Alarm(), e, LIMIT, 0.0) for e in errors] == [e > LIMIT for e in errors]


def test_a_clock_that_is_set_back_does_not_silence_the_alarm() -> None:
    state, alarm = AlarmState(), Alarm(refractory=60)
    assert [state.count(alarm, e, LIMIT, t) for e, t in [(11, 1000), (9, 1001), (11, 1002)]] == [1, 0, 0]
    assert state.count(alarm, 11, LIMIT, 5.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"needed": 3, "among": 2}, "^alarm: needs 3 of 2 windows; want 1 <= needed <= among$"),
        ({"needed": 0}, "needs 0 of 1 windows"),
        ({"release": 0.0}, "^alarm: release is 0; want above 0 and at most 1$"),
        ({"release": 1.1}, r"release is 1\.1"),
        ({"refractory": -1.0}, "^alarm: refractory -1 s and warm_up 0; want 0 or more$"),
        ({"refractory": float("nan")}, "refractory nan s"),
        ({"warm_up": -1}, "warm_up -1; want 0 or more"),
    ],
)
def test_settings_that_no_alarm_can_have_are_refused(settings, told) -> None:
    with pytest.raises(DataError, match=told):
        Alarm(**settings)
