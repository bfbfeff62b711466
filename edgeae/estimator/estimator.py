"""The autoencoder as a scikit-learn estimator: transformer and outlier detector in one.

Longer than 300 lines: scikit-learn wants an estimator's parameters in one signature of one class.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from edgeae_export.config import ExportConfig
from edgeae_export.quiet import import_tensorflow
from edgeae_runtime import DataError, Manifest, reconstruction_error
from edgeae_runtime.arrays import as_samples
from edgeae_runtime.names import Format, Precision
from edgeae_runtime.settings import SettingsError

from ..config import TrainConfig
from .networks import Networks, pack, unpack
from .parameters import DEPRECATED, as_config, as_data

LEAST_ROWS = 3
"""Two to fit a scaler on and one to hold out."""
LEAST_FOR_THRESHOLD = 20
"""Held-out rows below which their quantiles mean nothing."""

_DEFAULTS = TrainConfig()
_EXPORT_DEFAULTS = ExportConfig()


# Unchecked base classes: scikit-learn ships no types.
class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder with scikit-learn's interface.

    As a transformer it gives the code of each row, as an outlier detector it finds rows that are unlike
    those it was fitted on. Rows are in raw units: scaling belongs to the estimator. ``fit`` holds out some
    rows for early stopping and for the threshold, and makes batches smaller where the rows are few.

    Args:
        latent: values in a code; None takes 32, or a quarter of the input where that is less.
        arch: kind of network, a name of `edgeae.Arch` such as ``dense``, ``conv1d`` or ``gru``.
        objective: ``plain``, ``denoising``, ``sparse``, ``contractive`` or ``variational``.
        hidden: sizes of the encoder's hidden layers, mirrored by the decoder; None derives them.
        loss: ``mse``, ``bce`` or ``mae``; None chooses by the data.
        scaler: ``minmax`` or ``standard``, fitted on the rows that are trained on.
        sample_shape: what a row is reshaped to, such as ``(28, 28)`` for images or ``(60, 3)`` for windows
            of 60 readings of 3 sensors; None leaves it a flat row.
        stride: declares that rows are windows of a series in order of time, ``sample_shape`` being (readings,
            sensors), each so many readings after the one before. The last ones are then held out, instead of
            random ones of which parts are trained on; and each sensor is scaled by itself.
        noise: denoising: standard deviation in scaled units (gaussian), or share of the values that are hit.
        noise_kind: denoising: ``gaussian``, ``masking`` or ``salt-and-pepper``.
        sparsity: sparse: ``l1`` or ``kl``.
        sparsity_target: sparse, kl: mean activation that each unit of the code should have.
        sparsity_weight: sparse.
        contractive_weight: contractive.
        kl_weight: variational.
        laplacian: weight of the penalty on neighbours that are far apart in the code.
        l2: weight of the sum of squared kernel entries.
        max_norm: largest norm of the weights that lead into one unit.
        tied: dense and linear: the decoder's kernels are the encoder's, transposed.
        epochs: at most; training stops early.
        batch_size: rows a step, at most.
        learning_rate: Adam's step size at the beginning.
        patience: epochs without a better validation loss before training stops.
        validation_fraction: share of the rows held out.
        threshold: how the largest normal error is taken on the held-out rows (on all rows where fewer than
            20 are held out): ``quantile:Q``, ``sigma:K``, ``max`` or ``max:FACTOR``.
        random_state: an int gives the same weights each time.
        verbose: 1 prints a line an epoch.
        latent_dim: deprecated, is ``latent``.
        architecture: deprecated, is ``arch``.

    The settings of a training have the names, defaults and bounds of `edgeae.TrainConfig`, but for two that
    scikit-learn calls otherwise: ``validation_fraction`` (there ``validation_split``) and ``random_state``
    (there ``seed``).

    Attributes:
        trained_ (edgeae.Trained): the networks, scaler, history and held-out rows.
        threshold_ (edgeae_runtime.Threshold): the error above which a row is an outlier, and its rule.
        offset_ (float): ``-threshold_.value``; ``decision_function`` is ``score_samples`` less this.
        n_features_in_ (int): columns seen in ``fit``.
        feature_names_in_ (ndarray of str): their names, where all are strings.

    Examples:
        >>> from sklearn.datasets import load_digits
        >>> from edgeae import Autoencoder
        >>> digits = load_digits().data
        >>> model = Autoencoder(latent=8, epochs=5, random_state=0).fit(digits)
        >>> model.transform(digits).shape
        (1797, 8)
    """

    def __init__(
        self,
        latent: int | None = None,
        *,
        arch: str = _DEFAULTS.arch,
        objective: str = _DEFAULTS.objective,
        hidden: Sequence[int] | None = None,
        loss: str | None = None,
        scaler: str = _DEFAULTS.scaler,
        sample_shape: Sequence[int] | None = None,
        stride: int | None = None,
        noise: float = _DEFAULTS.noise,
        noise_kind: str = _DEFAULTS.noise_kind,
        sparsity: str = _DEFAULTS.sparsity,
        sparsity_target: float = _DEFAULTS.sparsity_target,
        sparsity_weight: float = _DEFAULTS.sparsity_weight,
        contractive_weight: float = _DEFAULTS.contractive_weight,
        kl_weight: float = _DEFAULTS.kl_weight,
        laplacian: float = _DEFAULTS.laplacian,
        l2: float = _DEFAULTS.l2,
        max_norm: float | None = None,
        tied: bool = _DEFAULTS.tied,
        epochs: int = _DEFAULTS.epochs,
        batch_size: int = _DEFAULTS.batch_size,
        learning_rate: float = _DEFAULTS.learning_rate,
        patience: int = _DEFAULTS.patience,
        validation_fraction: float = _DEFAULTS.validation_split,
        threshold: str = _EXPORT_DEFAULTS.threshold,
        random_state: Any = None,
        verbose: int = 0,
        latent_dim: int | str | None = DEPRECATED,
        architecture: str = DEPRECATED,
    ) -> None:
        """Take the parameters as they are; `fit` checks them."""
        self.latent = latent
        self.arch = arch
        self.objective = objective
        self.hidden = hidden
        self.loss = loss
        self.scaler = scaler
        self.sample_shape = sample_shape
        self.stride = stride
        self.noise = noise
        self.noise_kind = noise_kind
        self.sparsity = sparsity
        self.sparsity_target = sparsity_target
        self.sparsity_weight = sparsity_weight
        self.contractive_weight = contractive_weight
        self.kl_weight = kl_weight
        self.laplacian = laplacian
        self.l2 = l2
        self.max_norm = max_norm
        self.tied = tied
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.threshold = threshold
        self.random_state = random_state
        self.verbose = verbose
        self.latent_dim = latent_dim
        self.architecture = architecture

    def fit(self, X: Any, y: Any = None) -> "Autoencoder":
        """Fit scaler, networks and threshold.

        Args:
            X: normal rows (n, n_features), raw units.
            y: ignored.

        Raises:
            ValueError: the rows are not a table of finite numbers, or a parameter is out of range.
            DataError: nothing but constants, or values that do not fit float32.
            SettingsError: parameters that do not exist, do not go together, or do not suit the rows.
            (warning) DeprecationWarning: a parameter has its old name.
            TrainingError: the loss became NaN or infinite.
        """
        from edgeae_runtime.bundle import Rule

        rows = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=LEAST_ROWS)
        rule = Rule.parse(self.threshold)
        if rule.kind == "f1":
            raise SettingsError(
                "threshold f1 needs rows known to be anomalies; use quantile, sigma or max here"
            )
        samples = as_samples(rows, where="X").reshape(-1, *self._shape())
        data = as_data(samples, self.stride, getattr(self, "feature_names_in_", None))
        config = as_config(self.get_params(), data)
        import_tensorflow()
        from ..training.train import train

        with _global_randomness_kept():
            self.trained_ = train(data, config, progress=self._progress())
        self._networks = Networks(self.trained_)
        self._n_features_out = self._networks.latent_size
        held_out = self.trained_.held_out
        basis = held_out if len(held_out) >= LEAST_FOR_THRESHOLD else samples
        self.threshold_ = rule.choose(self._errors(basis))
        self.offset_ = -self.threshold_.value
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the code of each row, (n, latent size), in the float type of ``X``."""
        rows = self._check(X)
        codes = self._networks.encode(self.trained_.scaler.scale(self._samples(rows)))
        return codes.astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Return the rows (n, n_features), in raw units, that the decoder makes of codes (n, latent size)."""
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32])
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {codes.shape[1]} features, but the codes of this {type(self).__name__} have "
                f"{self._n_features_out}"
            )
        decoded = self._networks.decode(codes.astype(np.float32)).reshape(-1, *self.trained_.input.shape)
        rows = self.trained_.scaler.unscale(decoded).reshape(len(codes), -1)
        return rows.astype(codes.dtype, copy=False)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Return the negative reconstruction error of each row, (n,): the larger, the more normal.

        The error is `edgeae_runtime.reconstruction_error`, the one of a bundle: the mean squared difference
        in scaled units, whatever loss was minimised.
        """
        return -self._errors(self._samples(self._check(X)))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return `score_samples` less ``offset_``, (n,): below zero are outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return -1 for outliers, rows whose error is above the threshold, and 1 for the others, (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`, for model selection.

        A larger code nearly always scores better, and another scaler means other units: compare within one
        ``latent`` and ``scaler``, or score what the code is for.
        """
        return float(np.mean(self.score_samples(X)))

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write a run folder as ``edgeae train`` does, for ``edgeae export`` and its like.

        Raises:
            OutputError: it exists and ``force`` is false, or the disk refuses it.
        """
        check_is_fitted(self)
        self.trained_.save(Path(path), force=force)

    def export(
        self,
        path: str | Path,
        *,
        formats: Sequence[Format] = _EXPORT_DEFAULTS.formats,
        precisions: Sequence[Precision] = _EXPORT_DEFAULTS.precisions,
        recipe: str = _EXPORT_DEFAULTS.recipe,
        as_zip: bool = False,
        keep_passing: bool = False,
        force: bool = False,
    ) -> Manifest:
        """Write a bundle for the device; calibrated, judged and given thresholds on the held-out rows.

        Arguments and errors are those of `edgeae_export.export`; the rule of the thresholds is ``threshold``.
        """
        check_is_fitted(self)
        from edgeae_export.builder import Options
        from edgeae_export.pipeline import export_source
        from edgeae_runtime.bundle import Rule

        options = Options(tuple(formats), tuple(precisions), recipe, Rule.parse(self.threshold_.rule))
        return export_source(
            self.trained_.source,
            Path(path),
            options,
            as_zip=as_zip,
            keep_passing=keep_passing,
            force=force,
        )

    def _shape(self) -> tuple[int, ...]:
        """Return the shape of one sample.

        Raises:
            DataError: ``sample_shape`` does not have as many values as a row.
        """
        shape = (self.n_features_in_,) if self.sample_shape is None else tuple(map(int, self.sample_shape))
        if np.prod(shape) != self.n_features_in_:
            raise DataError(
                f"sample_shape {shape} has {np.prod(shape)} values, X has {self.n_features_in_} features"
            )
        return shape

    def _check(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        checked: NDArray[Any] = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return checked

    def _samples(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows (n, n_features) as float32 in the shape that was fitted."""
        return as_samples(rows, where="X").reshape(-1, *self.trained_.input.shape)

    def _errors(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """Return the reconstruction error of samples (n, *shape) in raw units, (n,)."""
        scaled = self.trained_.scaler.scale(samples)
        reconstruction = self._networks.decode(self._networks.encode(scaled))
        return reconstruction_error(scaled.reshape(reconstruction.shape), reconstruction)

    def _progress(self) -> Callable[[int, dict[str, float]], None] | None:
        if not self.verbose:
            return None

        def report(epoch: int, logs: dict[str, float]) -> None:
            print(f"epoch {epoch}: loss {logs['loss']:.5g}, validation {logs['val_loss']:.5g}", flush=True)

        return report

    def __sklearn_tags__(self) -> Any:
        """Declare to scikit-learn that the type of the samples is kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling and copying, with the networks as the bytes of a .keras file."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_networks", None)
        if "trained_" in state:
            state["trained_"] = pack(self.trained_)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state from `__getstate__`, and load the networks."""
        super().__setstate__(state)
        if "trained_" in state:
            self.trained_ = unpack(state["trained_"])
            self._networks = Networks(self.trained_)


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    """Leave the caller's random numbers alone: Keras seeds Python's and NumPy's global generators."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
