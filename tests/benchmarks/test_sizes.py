"""The table of sizes: docs/scaling.md has what the script prints, and the formula fits what was measured."""

import re

import pytest

from benchmarks import sizes
from tests.imports import ROOT


def test_the_page_has_what_the_script_prints():
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8").splitlines()
    printed = [*sizes.sizes_table(sizes.PRICE), *sizes.formula(sizes.PRICE), *sizes.check_table()]
    absent = [line for line in printed if line not in page]
    assert not absent, "put into docs/scaling.md what `python -m benchmarks.sizes` prints"
    assert f"${sizes.PRICE:g} a GPU and hour" in "\n".join(page)


def test_only_what_was_measured_is_bold():
    rows = [line.split(" | ") for line in sizes.sizes_table(sizes.PRICE)[2:]]
    bold = {cells[0].removeprefix("| ") for cells in rows if "**" in "".join(cells)}
    assert bold == {f"{run.rows:,}" for run in sizes.DATA if run.rows in sizes.SIZES}
    assert all("**" not in "".join(cells[4:]) for cells in rows)


@pytest.mark.parametrize("run", sizes.DATA, ids=lambda run: f"{run.rows:,}")
def test_the_formula_fits_what_was_measured(run):
    assert sizes.at(sizes.SECONDS, run.rows) == pytest.approx(run.seconds, rel=0.25)
    assert sizes.at(sizes.GIB, run.rows) == pytest.approx(run.peak_gib, rel=0.25)


def test_more_gpus_are_faster_and_cost_more():
    seconds = [sizes.training_seconds(10**6, gpus) for gpus in sizes.GPUS]
    assert seconds == sorted(seconds, reverse=True)
    cost = [of * gpus for of, gpus in zip(seconds, sizes.GPUS, strict=True)]
    assert cost == sorted(cost)
    # The page's example: 100 million tokens, an hour.
    assert sizes.training_seconds(10**8 // sizes.TOKENS_A_ROW, 1) == pytest.approx(3600, rel=0.1)
    assert re.fullmatch(r"\d+ min", sizes.duration(3600))
