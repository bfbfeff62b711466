import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from edgeae import TrainConfig, train
from edgeae.data.dataset import Data


@pytest.fixture(scope="session")
def digits():
    """1,797 images of 8x8."""
    return Data(np.float32(load_digits().images), None)


@pytest.fixture(scope="session")
def cells():
    """569 rows of 30 named columns, whose largest values lie between 0.03 and 4,254."""
    bunch = load_breast_cancer()
    return Data(np.float32(bunch.data), tuple(map(str, bunch.feature_names)))


@pytest.fixture(scope="session")
def told():
    """What the progress of `trained` was told: epochs and losses."""
    return []


@pytest.fixture(scope="session")
def trained(digits, told):
    """A small autoencoder of digits."""
    config = TrainConfig(hidden=(32,), latent=8, epochs=10, batch_size=32, seed=3)
    return train(digits, config, progress=lambda epoch, logs: told.append((epoch, logs)))
