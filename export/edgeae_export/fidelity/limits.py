"""How near to the float Keras model an artifact must be."""

from dataclasses import dataclass

from edgeae_runtime import Fidelity
from edgeae_runtime.names import Precision


@dataclass(frozen=True)
class Limits:
    """The least that an artifact must reach to be put into a bundle."""

    error_median: float
    """Largest median relative change of the error."""
    rank_correlation: float
    """Smallest Spearman correlation of the errors."""
    embedding_cosine: float
    """Smallest mean cosine of the embeddings."""

    def violations(self, fidelity: Fidelity) -> list[str]:
        """Return what is outside, each as a phrase with the figure and the limit."""
        found = []
        if not fidelity.error_median <= self.error_median:
            found.append(f"the error moves by {fidelity.error_median:.3%} (at most {self.error_median:.3%})")
        if not fidelity.rank_correlation >= self.rank_correlation:
            found.append(
                f"rank correlation {fidelity.rank_correlation:.5f} (at least {self.rank_correlation})"
            )
        cosine = fidelity.embedding_cosine
        if cosine is not None and not cosine >= self.embedding_cosine:
            found.append(f"embedding cosine {cosine:.5f} (at least {self.embedding_cosine})")
        return found


DEFAULT_LIMITS: dict[Precision, Limits] = {
    "float32": Limits(error_median=1e-5, rank_correlation=0.99999, embedding_cosine=0.99999),
    "float16": Limits(error_median=0.005, rank_correlation=0.999, embedding_cosine=0.999),
    "dynamic": Limits(error_median=0.01, rank_correlation=0.999, embedding_cosine=0.999),
    "int8": Limits(error_median=0.01, rank_correlation=0.999, embedding_cosine=0.999),
}

MICRO_LIMITS = Limits(error_median=0.05, rank_correlation=0.99, embedding_cosine=0.99)
"""Limits for the bare autoencoder with int8 in and out, whose input and reconstruction are rounded too."""
