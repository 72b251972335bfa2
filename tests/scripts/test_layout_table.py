"""The page of the layouts is what the code makes of them."""

from scripts.layout_table import PAGE, page
from tests.imports import ROOT


def test_the_page_is_not_stale():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert text == page(text), "run python -m scripts.layout_table"
    assert "KTO labels" in text
