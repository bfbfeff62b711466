"""The formula of the error, which a manifest refers to."""

import numpy as np
from numpy.typing import NDArray


def reconstruction_error(
    scaled: NDArray[np.floating], reconstruction: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return each row's mean squared difference, (n,), in scaled units squared.

    Both arguments are (n, *shape) in scaled units. The reference for the artifacts, which compute in float32.
    """
    difference = scaled.astype(np.float64) - reconstruction
    squared = np.square(difference, out=difference)
    error: NDArray[np.float64] = squared.reshape(len(squared), -1).mean(axis=1)
    return error
