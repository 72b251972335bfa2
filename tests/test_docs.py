"""The pages hold no placeholder and no dead link, and their scores are the committed metrics'."""

import json
import re

import pytest

from tests.imports import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_open(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@|TODO|TBD", text)
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("page", "folder"),
    [(f"{folder}/README.md", folder) for folder in (".", "docs/thorough", "docs/unsloth")],
)
def test_scores_are_those_of_the_metrics(page, folder):
    """The last table of the page with a row a task; a cell is a mean of base or tuned."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    metrics = [
        json.loads((ROOT / folder / "metrics" / f"{name}.json").read_text())
        for name in ("baseline", "evaluate")
    ]
    for task in ("recipe", "definition", "dialogue", "question", "average"):
        row = [line for line in lines if line.startswith(f"| {task} |")][-1]
        expected = [
            f"{scores[task][variant]['mean']:.3f} ± {scores[task][variant]['std']:.3f}"
            for variant in ("rouge1", "rouge2", "rougeL")
            for scores in metrics
        ]
        assert [cell.strip() for cell in row.split("|")[2:8]] == expected
