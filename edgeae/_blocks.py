"""Batches of data that are not to be scaled and copied as a whole."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Scaler
from edgeae_runtime._manifest import Floats

BLOCK_ROWS = 256
"""Neighbouring rows that stay together until they are read: a disk is not read row by row."""
BLOCKS_MIXED = 4096
"""Blocks, drawn from all of the data, whose rows are shuffled with each other."""


class BlockBatches:
    """An epoch of scaled samples, as pairs: what an autoencoder reads and what it should give, the same.

    The order is the same for a seed and an epoch. Blocks of neighbouring rows are drawn at random from all
    of the data, and the rows of some thousand blocks are shuffled with each other. Memory is that of a
    batch, and 8 bytes for each row of the blocks that are mixed.
    """

    def __init__(
        self,
        rows: NDArray[Any],
        scaler: Scaler,
        batch_size: int,
        *,
        shape: tuple[int, ...] | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        """Prepare the epoch.

        Args:
            rows: samples (n, …) in raw units; may be a view, or mapped from a file.
            scaler: to scaled units.
            batch_size: samples a batch; the last one may have fewer.
            shape: of a sample, as the network takes it; (-1,) for flat ones. None leaves it as it is.
            seed: of the order.
            epoch: of the order, from 0.
        """
        self._rows, self._scaler, self._batch = rows, scaler, batch_size
        self._shape = rows.shape[1:] if shape is None else shape
        self._seed, self._epoch = seed, epoch
        self._mixed = lru_cache(maxsize=2)(self._mix)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-len(self._rows) // self._batch)

    def __getitem__(self, index: int) -> tuple[Floats, Floats]:
        """Return a batch, each half (b, *shape)."""
        start = index * self._batch
        stop = min(start + self._batch, len(self._rows))
        chosen = self._rows[self._places(start, stop)]
        scaled = self._scaler.scale(chosen).reshape(len(chosen), *self._shape)
        return scaled, scaled

    def _places(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the rows that stand from start to stop in the order of the epoch."""
        size = BLOCK_ROWS * BLOCKS_MIXED
        parts = [
            self._mixed(number)[max(0, start - number * size) : stop - number * size]
            for number in range(start // size, (stop - 1) // size + 1)
        ]
        return np.concatenate(parts)

    def _mix(self, number: int) -> NDArray[np.int64]:
        """Return the rows of the epoch's ``number``-th thousands of blocks, shuffled."""
        whole, rest = divmod(len(self._rows), BLOCK_ROWS)
        order = np.random.default_rng((self._seed, self._epoch)).permutation(whole)
        if rest:
            order = np.append(order, whole)  # the short block is last, so that all others are where expected
        blocks = order[number * BLOCKS_MIXED : (number + 1) * BLOCKS_MIXED]
        places = (blocks[:, np.newaxis] * BLOCK_ROWS + np.arange(BLOCK_ROWS)).reshape(-1)
        places = places[places < len(self._rows)]
        return np.random.default_rng((self._seed, self._epoch, number)).permutation(places)
