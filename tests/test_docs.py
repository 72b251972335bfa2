"""The pages hold no placeholder and no dead link; their scores and the verdict are the committed ones."""

import json
import re

import pytest

from sft.evaluation import scores_file
from sft.statistics.gains import gains, sentence
from stages import paths
from tests.imports import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_nothing_is_left_open(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@|TODO|TBD", text)
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", text):
        led_to = page.parent / target if target else page
        assert led_to.exists(), target
        if anchor:
            assert anchor in anchors(led_to.read_text(encoding="utf-8")), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_presets_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"presets/([\w.-]+)\.yaml|\bNAME=([\w.-]*\w)", text)
    lacking = {"".join(name) for name in named} - {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert not lacking


THOROUGH = ROOT / "docs" / "thorough"


def test_the_thorough_runs_page_has_its_scores():
    """The verdict and every row of the table, from the scores of the examples."""
    text = (THOROUGH / "README.md").read_text(encoding="utf-8")
    before, after = (
        scores_file.parse((THOROUGH / "scores" / name).read_text(encoding="utf-8"), name)
        for name in ("baseline.csv", "evaluate.csv")
    )
    found = gains(after, before)
    quoted = " ".join(line[2:].strip() for line in text.splitlines() if line.startswith("> "))
    assert sentence(found, "the base model") == quoted
    for task in ("recipe", "definition", "dialogue", "question", "average"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {task} |"))
        expected = []
        for metric in ("bits_per_byte", "rouge1"):
            (one,) = (gain for gain in found if (gain.task, gain.metric) == (task, metric))
            expected += [f"{one.before:.3f}", f"{one.after:.3f}"]
            expected += [f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})"]
        assert [cell.strip() for cell in row.split("|")[2:8]] == expected


def test_the_unsloth_runs_page_has_its_metrics():
    """The last table of the page with a row a task; a cell is a mean of base or tuned."""
    folder = ROOT / "docs" / "unsloth"
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    metrics = [
        json.loads((folder / "metrics" / f"{name}.json").read_text()) for name in ("baseline", "evaluate")
    ]
    for task in ("recipe", "definition", "dialogue", "question", "average"):
        row = [line for line in lines if line.startswith(f"| {task} |")][-1]
        expected = [
            f"{scores[task][variant]['mean']:.3f} ± {scores[task][variant]['std']:.3f}"
            for variant in ("rouge1", "rouge2", "rougeL")
            for scores in metrics
        ]
        assert [cell.strip() for cell in row.split("|")[2:8]] == expected


def test_the_verdict_is_that_of_the_scores():
    """What the first page says of the default: the verdict, in a block quote, and the share of recipes."""
    before, after = (
        scores_file.parse((ROOT / name).read_text(encoding="utf-8"), name)
        for name in (paths.SCORES_BASELINE, paths.SCORES_EVALUATE)
    )
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = " ".join(line[2:].strip() for line in text.splitlines() if line.startswith("> "))
    assert sentence(gains(after, before), "the base model") in quoted
    share = f"{after['recipe', 'format'].values.mean():.0%}"
    assert re.search(rf"(?<![\d.]){share}", text), f"README.md: {share} of the answers are whole recipes"
