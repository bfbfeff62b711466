"""The KL term of each value of a variational code: how much it carries."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import Scaler

from ..context import Context
from ..report_table import ReportTable

USED_NATS = 0.01
"""A value of the code that carries less is not used."""


def compute(context: Context) -> tuple[float, ...] | None:
    """Return the term of each value; None where the run is not variational."""
    if context.posterior is None:
        return None
    means = context.measured[context.opened.subjects[0].name].codes
    return kl_terms(context.opened.scaler, context.posterior, means, context.samples.rows)


def kl_terms(scaler: Scaler, posterior: Any, means: NDArray[Any], rows: NDArray[Any]) -> tuple[float, ...]:
    """Return each dimension's KL from the standard normal: ``(μ² + σ² - 1 - log σ²) / 2``, in nats.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes", appendix B.
    """
    from edgeae_export.fidelity import predict

    scaled = scaler.scale(rows).reshape(-1, *posterior.input_shape[1:])
    log_variance = predict(posterior, scaled).reshape(means.shape).astype(np.float64)
    terms = (np.square(means, dtype=np.float64) + np.exp(log_variance) - 1 - log_variance) / 2
    return tuple(terms.mean(axis=0).tolist())


def table(found: tuple[float, ...]) -> ReportTable:
    """Return the terms as a table, the largest first."""
    order = sorted(range(len(found)), key=lambda i: -found[i])
    used = sum(value > USED_NATS for value in found)
    return ReportTable(
        "KL term of each value of the code",
        [["value", "nats"], *([str(i + 1), f"{found[i]:.4f}"] for i in order)],
        f"Sum {sum(found):.3f} nats; {used} of {len(found)} values carry more than {USED_NATS:g}; the model "
        "does not use those that carry less.",
    )
