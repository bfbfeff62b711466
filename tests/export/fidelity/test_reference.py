import math
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from edgeae_export.fidelity.limits import DEFAULT_LIMITS, Limits
from edgeae_export.fidelity.reference import Reference
from edgeae_runtime import DataError, Fidelity


def forward(model, values):
    """Dense layers with ReLU between them, in numpy and float64."""
    weights = [np.asarray(w, np.float64) for w in model.get_weights()]
    for i in range(0, len(weights), 2):
        values = values @ weights[i] + weights[i + 1]
        if i + 2 < len(weights):
            values = np.maximum(values, 0)
    return values


def mean_square(values):
    return np.mean(np.square(values).reshape(len(values), -1), axis=1)


def spearman(a, b):
    """Of values that are all different."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


@pytest.fixture(scope="module", params=["digits", "pump"])
def judged(request):
    """A reference made by the code under test, and the same by hand."""
    made = request.getfixturevalue(request.param)
    source, rows = made.source, made.rows[:150]
    offset, gain = (np.float64(values) for values in (source.scaler.offset, source.scaler.gain))
    scaled = ((rows - offset) * gain).reshape(len(rows), -1)
    code = forward(source.encoder, scaled)
    copy = forward(source.decoder, code)
    by_hand = SimpleNamespace(
        offset=offset, gain=gain, scaled=scaled, code=code, copy=copy, error=mean_square(scaled - copy)
    )
    return SimpleNamespace(source=source, rows=rows, reference=Reference.of(source, rows), by_hand=by_hand)


def noise(array, share):
    return np.float32(array * (1 + share * np.random.default_rng(5).normal(size=array.shape)))


def test_the_reference_is_what_keras_says(judged):
    reference, by_hand = judged.reference, judged.by_hand
    np.testing.assert_allclose(reference.scaled, by_hand.scaled, atol=1e-3)  # float32 holds raw units to that
    np.testing.assert_allclose(reference.embedding, by_hand.code, atol=2e-3)
    np.testing.assert_allclose(reference.error, by_hand.error, rtol=2e-3)
    exact = mean_square(reference.scaled - forward(judged.source.decoder, reference.embedding))
    np.testing.assert_allclose(reference.error, exact, rtol=1e-5)


def test_a_scorer_is_judged_by_its_own_error(judged):
    right = judged.reference
    embedding, error = noise(right.embedding, 0.05), noise(right.error, 0.1)
    threshold, fidelity = right.judge("scorer", [embedding, error])
    change = np.abs(error - right.error) / right.error
    assert fidelity.rows == threshold.rows == 150
    assert fidelity.error_median == pytest.approx(np.median(change), rel=1e-5)
    assert fidelity.error_p99 == pytest.approx(np.quantile(change, 0.99), rel=1e-5)
    assert fidelity.rank_correlation == pytest.approx(spearman(error, right.error), rel=1e-9)
    assert 0.5 < fidelity.rank_correlation < 0.999
    dots = np.sum(np.float64(embedding) * right.embedding, axis=1)
    norms = np.sqrt(np.sum(np.float64(embedding) ** 2, 1) * np.sum(np.float64(right.embedding) ** 2, 1))
    assert fidelity.embedding_cosine == pytest.approx(np.mean(dots / norms), rel=1e-6)
    assert fidelity.reconstruction_max is None
    assert threshold.rule == "quantile:0.99"
    assert threshold.value == pytest.approx(np.quantile(error, 0.99), rel=1e-6)
    assert fidelity.false_alarms == np.mean(error > threshold.value) == 2 / 150
    assert fidelity.false_alarms_reference == np.mean(error > np.quantile(right.error, 0.99))
    assert set(threshold.quantiles) == {"0.5", "0.9", "0.95", "0.99", "0.995", "0.999", "1.0"}
    for share, value in threshold.quantiles.items():
        assert value == pytest.approx(np.quantile(error, float(share)), rel=1e-6)


def test_an_encoder_is_judged_by_what_its_code_becomes_in_the_decoder(judged):
    right = judged.reference
    embedding = noise(right.embedding, 0.02)
    threshold, fidelity = right.judge("encoder", [embedding])
    error = mean_square(right.scaled - forward(judged.source.decoder, embedding))
    assert fidelity.error_median == pytest.approx(
        np.median(np.abs(error - right.error) / right.error), rel=1e-3
    )
    assert fidelity.rank_correlation == pytest.approx(spearman(error, right.error), abs=1e-5)
    assert threshold.value == pytest.approx(np.quantile(error, 0.99), rel=1e-5)
    assert 0.99 < fidelity.embedding_cosine < 0.99999
    assert fidelity.reconstruction_max is None


def test_a_decoder_is_judged_by_its_reconstruction_in_scaled_units(judged):
    right, by_hand = judged.reference, judged.by_hand
    wrong = np.float64(right.reconstruction) + 0.01 * np.random.default_rng(5).normal(size=by_hand.copy.shape)
    raw = np.float32(wrong.reshape(judged.rows.shape) / by_hand.gain + by_hand.offset)
    threshold, fidelity = right.judge("decoder", [raw.reshape(len(raw), -1)])
    error = mean_square(right.scaled - wrong)
    expected = np.median(np.abs(error - right.error) / right.error)
    assert fidelity.error_median == pytest.approx(expected, rel=0.02)
    assert threshold.value == pytest.approx(np.quantile(error, 0.99), rel=1e-3)
    assert fidelity.reconstruction_max == pytest.approx(np.abs(wrong - right.reconstruction).max(), rel=0.02)
    assert fidelity.embedding_cosine is None


def test_where_the_model_is_near_perfect_float32s_own_rounding_does_not_count(judged):
    tiny = np.linspace(1e-16, 2e-16, 150)
    perfect = replace(judged.reference, error=tiny)
    _, fidelity = perfect.judge("scorer", [perfect.embedding, np.float32(3 * tiny)])
    floor = 1e-10 * np.mean(np.square(np.float64(perfect.scaled)))
    assert fidelity.error_median == pytest.approx(np.median(2 * tiny) / floor, rel=1e-3)
    assert fidelity.error_median < 1e-4


def test_two_codes_of_zeros_point_the_same_way_and_one_alone_does_not(judged):
    right = judged.reference
    codes, zeroed = right.embedding.copy(), right.embedding.copy()
    codes[:50] = 0
    zeroed[:100] = 0
    _, fidelity = replace(right, embedding=codes).judge("scorer", [zeroed, np.float32(right.error)])
    assert fidelity.embedding_cosine == pytest.approx((50 + 0 + 50) / 150)


def test_a_decoder_that_gives_another_shape_is_refused(judged):
    latent = judged.source.decoder.input_shape[1]
    short = keras.Sequential([keras.Input((latent,)), keras.layers.Dense(5)])
    with pytest.raises(
        DataError, match=r"^the decoder gives \(5,\) for an input of \(\d+,\); an autoencoder gives"
    ):
        Reference.of(replace(judged.source, decoder=short), judged.rows)


def test_a_model_that_gives_nan_is_refused(judged):
    spoiled = keras.models.clone_model(judged.source.decoder)
    spoiled.set_weights([w * np.nan for w in judged.source.decoder.get_weights()])
    with pytest.raises(
        DataError, match=r"^the Keras model gives NaN or infinity on the held-out rows; train it"
    ):
        Reference.of(replace(judged.source, decoder=spoiled), judged.rows)


# --- limits --------------------------------------------------------------------------------------

LIMITS = Limits(error_median=0.01, rank_correlation=0.999, embedding_cosine=0.998)


def fidelity(**figures):
    at_the_limit = {"error_median": 0.01, "rank_correlation": 0.999, "embedding_cosine": 0.998}
    others = {"rows": 100, "error_p99": 9.0, "false_alarms": 0.5, "false_alarms_reference": 0.5}
    return Fidelity(**others, **(at_the_limit | figures))


def test_what_is_at_the_limits_passes():
    assert LIMITS.violations(fidelity()) == []
    assert LIMITS.violations(fidelity(embedding_cosine=None)) == []


@pytest.mark.parametrize(
    ("figure", "value", "told"),
    [
        ("error_median", 0.0101, "the error moves by 1.010% (at most 1.000%)"),
        ("error_median", math.nan, "the error moves by nan% (at most 1.000%)"),
        ("rank_correlation", 0.9989, "rank correlation 0.99890 (at least 0.999)"),
        ("rank_correlation", math.nan, "rank correlation nan (at least 0.999)"),
        ("embedding_cosine", 0.5, "embedding cosine 0.50000 (at least 0.998)"),
        ("embedding_cosine", math.nan, "embedding cosine nan (at least 0.998)"),
    ],
)
def test_what_is_outside_is_told_with_figure_and_limit(figure, value, told):
    assert LIMITS.violations(fidelity(**{figure: value})) == [told]


def test_all_that_is_outside_is_told():
    bad = fidelity(error_median=2.0, rank_correlation=0.1, embedding_cosine=0.2)
    assert len(LIMITS.violations(bad)) == 3


def test_the_limits_are_those_that_are_promised():
    assert DEFAULT_LIMITS["int8"] == Limits(error_median=0.01, rank_correlation=0.999, embedding_cosine=0.999)
    assert DEFAULT_LIMITS["float32"].error_median == 1e-5
