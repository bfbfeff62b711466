"""Batches for Keras: in an order, and with a noise, that only the seed and the epoch determine."""

from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeae_runtime import Floats, Scaler

from ..config import TrainConfig
from ..data.spill import is_large
from .noise import corrupt

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


PREFETCHED_BATCHES = 4
"""Batches that are prepared ahead of the network."""
VALIDATION_EPOCH = 2**32
"""Epoch number that stands for a validation, whose order and noise are always the same."""


class Batches:
    """Rows as the network wants them. They are scaled batch by batch, so that no copy of all is kept."""

    def __init__(
        self, rows: NDArray[Any], scaler: Scaler, shape: tuple[int, ...], config: TrainConfig
    ) -> None:
        """Take rows (n, *shape) in raw units, the shape of the network's input, and the settings."""
        self._rows, self._scaler, self._shape, self._config = rows, scaler, shape, config
        self._order = lru_cache(maxsize=2)(self._shuffle)
        self._blocks = lru_cache(maxsize=2)(self._mix)

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self._rows) // self._config.batch_size)

    def batch(self, epoch: int, step: int) -> tuple[Floats, Floats]:
        """Return what the network is given and what it should make of it, each (batch, *shape), scaled.

        Args:
            epoch: from 0, or `VALIDATION_EPOCH`, which keeps the rows in their order.
            step: in the epoch, from 0.
        """
        part = slice(step * self._config.batch_size, (step + 1) * self._config.batch_size)
        if epoch != VALIDATION_EPOCH and is_large(self._rows):
            clean, _ = self._blocks(epoch)[step]
        else:
            raw = self._rows[part if epoch == VALIDATION_EPOCH else self._order(epoch)[part]]
            clean = self._scaler.scale(raw).reshape(len(raw), *self._shape)
        if self._config.objective != "denoising":
            return clean, clean
        rng = np.random.default_rng((self._config.seed, epoch, step))
        return corrupt(clean, self._config.noise_kind, self._config.noise, rng), clean

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Return the batches of every epoch from ``first_epoch`` on, one after the other."""
        return self._dataset(first_epoch, self._config.epochs)

    def validation(self) -> tf.data.Dataset:
        """Return the batches once, in the rows' own order, each time with the same noise."""
        return self._dataset(VALIDATION_EPOCH, VALIDATION_EPOCH + 1)

    def _dataset(self, first_epoch: int, end: int) -> tf.data.Dataset:
        def in_numpy(number: Any) -> tuple[Floats, Floats]:
            return self.batch(*divmod(int(number), self.steps))

        def make(number: Any) -> Any:
            pair = tf.numpy_function(in_numpy, [number], (tf.float32, tf.float32))
            return tuple(tf.ensure_shape(values, (None, *self._shape)) for values in pair)

        numbers = tf.data.Dataset.range(first_epoch * self.steps, end * self.steps)
        return numbers.map(make).prefetch(PREFETCHED_BATCHES)

    def _shuffle(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng((self._config.seed, epoch)).permutation(len(self._rows))

    def _mix(self, epoch: int) -> BlockBatches:
        """Return the epoch's order of rows that may lie on a disk, which is not read row by row."""
        return BlockBatches(
            self._rows,
            self._scaler,
            self._config.batch_size,
            shape=self._shape,
            seed=self._config.seed,
            epoch=epoch,
        )
