"""A stream over real data: silent about drift on what it was trained for, and telling when that changes."""

import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import Drift

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """Images that the model has not seen, and the model."""
    from sklearn.datasets import load_digits

    images = np.float32(load_digits().images)
    return images[:1000], images[1000:]


@pytest.fixture(scope="module")
def ae(digits, tmp_path_factory):
    from edgeae import TrainConfig, train
    from edgeae.data.dataset import Data
    from edgeae_export import export

    folder = tmp_path_factory.mktemp("drift")
    trained = train(Data(digits[0], None), TrainConfig(hidden=(32,), latent=8, epochs=60, seed=0))
    trained.save(folder / "digits.run")
    export(folder / "digits.run", None, folder / "digits.edgeae", precisions=["float32"])
    return edgeae_runtime.load(folder / "digits.edgeae")


def first_drift(ae, before, after):
    """How many images of the second kind went by until a drift was said, and what; none was said before."""
    stream = ae.stream(drift=Drift(memory=200))
    assert {stream.push(image).drift for image in before} == {None}
    words = (stream.push(image).drift for image in after)
    return next(((count, said) for count, said in enumerate(words, 1) if said), None)


def test_unseen_digits_are_no_drift_and_brighter_shifted_or_frozen_ones_are(ae, digits):
    _, unseen = digits
    normal, later = unseen[:400], unseen[400:]
    assert first_drift(ae, normal, later) is None
    count, said = first_drift(ae, normal, later + 6)  # of 16: a lamp that came closer
    assert count < 250
    assert said.startswith("errors are high: of about the last 200 windows ")
    count, said = first_drift(ae, normal, np.roll(later, 2, axis=2))  # the camera was moved
    assert count < 250 and said.startswith("errors are high")
    still = np.repeat(normal[np.argmin(ae.score(normal))][np.newaxis], 600, axis=0)  # the picture froze
    count, said = first_drift(ae, normal, still)
    assert count < 500 and said.startswith("errors are low")
