"""The table of the artifacts with their fidelity, for people."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeae_runtime import Artifact

    from .candidate import Candidate


def fidelity_table(judged: "list[Candidate]") -> list[list[str]]:
    """Return a heading and one row of text an artifact: its status, its size and its fidelity."""
    sizes = {j.artifact.path: j.artifact.bytes for j in judged}
    heading = [
        "artifact",
        "status",
        "bytes",
        "of float32",
        "recipe",
        "error moves",
        "p99",
        "rank corr.",
        "cosine",
        "max diff",
        "false alarms",
        "at float's",
    ]
    return [heading, *(_row(j.artifact, "refused" if j.violations else "ok", sizes) for j in judged)]


def _row(artifact: "Artifact", status: str, sizes: dict[str, int]) -> list[str]:
    fidelity = artifact.fidelity
    twin = sizes.get(f"{artifact.role}.float32.{artifact.format}")
    return [
        artifact.path,
        status,
        f"{artifact.bytes:,}",
        "" if twin is None else f"{artifact.bytes / twin:.3f}",
        "" if artifact.recipe is None else artifact.recipe.name,
        f"{fidelity.error_median:.4%}",
        f"{fidelity.error_p99:.3%}",
        f"{fidelity.rank_correlation:.6f}",
        "" if fidelity.embedding_cosine is None else f"{fidelity.embedding_cosine:.6f}",
        "" if fidelity.reconstruction_max is None else f"{fidelity.reconstruction_max:.2g}",
        f"{fidelity.false_alarms:.2%}",
        f"{fidelity.false_alarms_reference:.2%}",
    ]
