import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COUNTS = json.loads((ROOT / "benchmarks" / "instructions.json").read_text())
BARE = "bare autoencoder, litert's own calls, int8"


@pytest.mark.parametrize("model", COUNTS)
@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_a_score_needs_at_most_a_quarter_more_than_litert_for_the_bare_network(model, cpu):
    counts = COUNTS[model][cpu]
    assert min(count for case, count in counts.items() if case.startswith("edgeae ")) <= 1.25 * counts[BARE]


def test_the_page_about_the_pi_has_the_figures_that_were_counted():
    page = (ROOT / "docs" / "raspberry-pi.md").read_text().splitlines()
    tables = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page if line.startswith("|")]
    cases = {case for of in COUNTS.values() for counts in of.values() for case in counts}
    shown = [row for row in tables if row[0] in cases]
    assert len(shown) == 7
    for case, *figures in shown:
        assert figures == [f"{counts[case]:,}" for of in COUNTS.values() for counts in of.values()]
