"""The benchmarks' page, its pictures and the numbers in the documents are those of the committed results."""

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import page

        yield page
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def results():
    return json.loads((BENCHMARKS / "results.json").read_bytes())


def test_the_page_is_what_the_results_make(page, results):
    assert (BENCHMARKS / "README.md").read_text() == page.page(results, page.instructions())


@pytest.mark.parametrize("name", ["latency", "growth", "batch"])
def test_each_picture_was_drawn_from_these_results(name):
    with Image.open(BENCHMARKS / f"{name}.png") as picture:
        drawn_from = picture.text["Description"]
    assert drawn_from == hashlib.sha256((BENCHMARKS / "results.json").read_bytes()).hexdigest()


def test_what_documents_quote_is_what_the_results_say(page, results):
    for path in page.documents():
        text = path.read_text()
        assert text == page.filled(text, results, str(path)), f"{path.name}: run benchmarks/page.py --docs"


def test_a_number_that_was_changed_by_hand_is_renewed(page, results):
    text = "It takes <!-- bench:dense.one.keras_predict -->3<!-- /bench --> µs."
    renewed = page.filled(text, results, "here")
    median = results["latency"]["dense"]["one"]["seconds"]["keras_predict"]["p50"]
    assert re.sub(r"<!--.*?-->", "", renewed) == f"It takes {1e6 * median:,.0f} µs."


def test_a_quotation_of_nothing_is_an_error(page, results):
    with pytest.raises(ValueError, match="no bench:no-such-thing; there are latency, "):
        page.filled("<!-- bench:no-such-thing --><!-- /bench -->", results, "here")


def test_the_front_page_states_no_latency_by_hand(page):
    """Other documents may show what a command printed; there it stands beside them."""
    rest = page.BLOCK.sub("", (ROOT / "README.md").read_text())
    assert not re.search(r"\d ?(ns|µs|ms)\b", rest)
