import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from sklearn.datasets import load_digits
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from edgeae.data.load import load_data
from edgeae.data.scaling import fit_scaler
from edgeae.data.split import hold_out
from edgeae_runtime import DataError
from edgeae_runtime.errors import EdgeaeWarning

PEERS = {"minmax": MinMaxScaler, "standard": StandardScaler}
KINDS = list(PEERS)

unhurried = settings(deadline=None)  # the machine may be busy


def table(rows=200):
    """Six columns of very different units, not one of them symmetric."""
    rng = np.random.default_rng(0)
    return np.float32(
        rng.gamma(2, [0.01, 0.3, 1, 20, 200, 3e4], (rows, 6)) + np.array([5, -90, 0, 100, -3, 1e3])
    )


# --- load_data -----------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn():
    data = load_data("digits")
    assert data.values.dtype == np.float32
    assert data.features is None
    np.testing.assert_array_equal(data.values, load_digits().images)


def test_anything_else_is_a_file_that_the_runtime_reads(tmp_path):
    (tmp_path / "pump.csv").write_text("speed,heat\n1,20.5\n2,21.5\n")
    data = load_data(str(tmp_path / "pump.csv"))
    assert data.features == ("speed", "heat")
    np.testing.assert_array_equal(data.values, [[1, 20.5], [2, 21.5]])


def test_a_name_that_is_neither_is_told():
    with pytest.raises(DataError, match=r"^digits\.csv: no such file"):
        load_data("digits.csv")


# --- split ---------------------------------------------------------------------------------------


@unhurried
@given(
    count=st.integers(2, 300),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_row_is_either_trained_on_or_held_out(count, share, seed):
    rows = np.arange(2 * count).reshape(count, 2)
    held_out = round(count * share)
    if held_out in (0, count):
        with pytest.raises(DataError):
            hold_out(rows, share, seed)
        return
    train, held = hold_out(rows, share, seed)
    assert (len(train), len(held)) == (count - held_out, held_out)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held]), axis=0), rows)


def test_the_seed_alone_decides_which_rows_are_held_out():
    rows = np.arange(100).reshape(50, 2)
    once, again, other = (hold_out(rows, 0.2, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert set(once[:, 0]) != set(other[:, 0])
    assert set(once[:, 0]) != set(rows[:10, 0])  # neither the first nor
    assert set(once[:, 0]) != set(rows[-10:, 0])  # the last ones: files are often sorted


def test_too_few_rows_for_two_parts_are_told():
    with pytest.raises(
        DataError, match=r"^4 rows with a validation split of 0\.1 leave 0 held out and 4 for training; "
    ):
        hold_out(np.zeros((4, 2)), 0.1, 0)


# --- fit_scaler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint16, np.int64])
def test_a_table_is_scaled_column_by_column_as_scikit_learn_does(kind, dtype):
    rows = table()
    rows = rows if dtype is np.float32 else (rows - rows.min() if dtype is np.uint16 else rows).astype(dtype)
    rows = rows[:, np.ptp(rows, axis=0) > 0]
    scaler = fit_scaler(rows, kind, None)
    assert scaler.kind == kind
    # float32 holds an offset to 6e-8 of its size; scaling magnifies what is left of it
    allowed = 1e-6 + 1e-7 * np.max(np.abs(np.multiply(scaler.offset, scaler.gain)))
    expected = PEERS[kind]().fit_transform(rows.astype(np.float64))
    np.testing.assert_allclose(scaler.scale(rows), expected, rtol=1e-5, atol=allowed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_scaled_as_a_whole(kind, dtype):
    images = np.random.default_rng(1).integers(3, 250, (20, 5, 4)).astype(dtype)
    images[:, 0] = 0  # a black edge has no range of its own
    scaler = fit_scaler(images, kind, None)
    assert len(scaler.offset) == len(scaler.gain) == 1
    expected = PEERS[kind]().fit_transform(images.reshape(-1, 1).astype(np.float64)).reshape(images.shape)
    np.testing.assert_allclose(scaler.scale(images), expected, rtol=1e-5, atol=1e-6)


tables = st_np.arrays(
    np.float32,
    st.tuples(st.integers(2, 8), st.integers(1, 4)),
    elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, 1.0, 100.0]),
)


@pytest.mark.parametrize("kind", KINDS)
@unhurried
@given(rows=tables)
def test_whatever_the_ranges_scaled_training_rows_are_finite_and_within_bounds(kind, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgeaeWarning)
        try:
            scaler = fit_scaler(rows, kind, None)
        except DataError as error:
            assert "constant" in str(error)
            assert np.all(np.ptp(np.float64(rows), axis=0) < 1e-29)
            return
    scaled = scaler.scale(rows)
    bound = 1 + 1e-5 if kind == "minmax" else 10 * np.sqrt(len(rows))
    assert np.all(np.abs(scaled) <= bound)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 1e-40])  # the second is too little for float32 to divide by
def test_a_constant_column_is_centred_left_unscaled_and_named(kind, step):
    rows = table()
    rows[:, 2] = 7 if step == 0 else np.resize([0, step], len(rows))
    with pytest.warns(
        EdgeaeWarning, match=r"^constant in the training rows: column c; centred and left unscaled$"
    ):
        scaler = fit_scaler(rows, kind, tuple("abcdef"))
    assert (scaler.offset[2], scaler.gain[2]) == (rows[0, 2], 1)
    departed = rows[:1] + np.float32([0, 0, 2.5, 0, 0, 0])
    assert scaler.scale(departed)[0, 2] == 2.5  # in raw units
    others = [0, 1, 3, 4, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = fit_scaler(rows[:, others], kind, None)
    np.testing.assert_array_equal(np.take(scaler.gain, others), alone.gain)


def test_integers_that_float32_cannot_tell_apart_are_constant():
    rows = np.array([[2**60 + 1, 1], [2**60 + 2, 2]])
    with pytest.warns(EdgeaeWarning, match="column 1;"):
        assert fit_scaler(rows, "minmax", None).gain == (1, 1)


def test_of_many_constant_columns_five_are_named():
    rows = np.ones((10, 9), np.float32)
    rows[:, 4] = np.arange(10)
    with pytest.warns(EdgeaeWarning, match=r": column 1, 2, 3, 4, 6 and 3 more; "):
        fit_scaler(rows, "minmax", None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 2)])
def test_nothing_but_constants_is_refused(kind, shape):
    rows = np.ones(shape, np.float32)
    if len(shape) == 2:
        rows *= [1, 2, 3]
    with pytest.raises(DataError, match=r"^every column is constant in the training rows; there is nothing"):
        fit_scaler(rows, kind, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_beyond_float32_is_refused_by_name(kind):
    rows = table()
    rows[:2, 1] = [3e38, -3e38]
    with pytest.raises(DataError, match=r"^the range of column b is beyond what float32 holds; rescale it"):
        fit_scaler(rows, kind, tuple("abcdef"))
