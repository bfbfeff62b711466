"""How far the artifacts of the exported bundle are from the Keras model."""

from ...evaluation.report_table import ReportTable
from ..layout import Page, table_section


def section(page: Page) -> str:
    """Return the artifacts with their fidelity; nothing without a bundle."""
    manifest = page.manifest
    if manifest is None:
        return ""
    heading = ["artifact", "kB", "error moves", "99 %", "rank corr.", "cosine", "threshold", "false alarms"]
    rows = [
        [
            a.path,
            f"{a.bytes / 1000:.1f}",
            f"{a.fidelity.error_median:.4%}",
            f"{a.fidelity.error_p99:.3%}",
            f"{a.fidelity.rank_correlation:.6f}",
            "" if a.fidelity.embedding_cosine is None else f"{a.fidelity.embedding_cosine:.6f}",
            f"{a.threshold.value:.5g}",
            f"{a.fidelity.false_alarms:.2%}",
        ]
        for a in manifest.artifacts
    ]
    table = ReportTable(
        "Does the exported bundle say the same?",
        [heading, *rows],
        "Against the float Keras model on held-out rows: the median and 99th percentile of the relative "
        f"change of the error. The float model's own threshold is {manifest.reference.value:.5g}.",
    )
    return table_section(table)
