"""The forest plot: every number and every verdict is drawn, right is better, and the title says it."""

from dataclasses import replace

import pytest

from sft.plotting import gain
from sft.plotting.gain import forest, title
from sft.plotting.pipeline import plt
from sft.statistics.gains import Gain, sentence
from sft.statistics.significance import Outcome


def made(task, metric, difference, outcome, half=0.05):
    low, high = (None, None) if half is None else (difference - half, difference + half)
    return Gain(task, metric, 0.5, 0.5 + difference, difference, low, high, 0.01, outcome, "")


GAINS = [
    made("average", "bits_per_byte", -0.2, Outcome.BETTER),
    made("recipe", "bits_per_byte", -0.3, Outcome.BETTER),
    made("question", "bits_per_byte", -0.1, Outcome.BETTER),
    made("average", "rouge1", 0.01, Outcome.NO_DIFFERENCE),
    made("recipe", "rouge1", 0.1, Outcome.BETTER),
    made("question", "rouge1", -0.1, Outcome.WORSE),
    made("recipe", "format", 0.4, Outcome.NOT_JUDGED, None),
]


@pytest.fixture
def figure(monkeypatch, tmp_path):
    """Return the figure that `forest` draws, before it is closed."""
    drawn = []
    monkeypatch.setattr(gain, "save", lambda figure, *_, **__: drawn.append(figure))
    forest(tmp_path / "gain.png", GAINS, 50)
    yield drawn[0]
    plt.close(drawn[0])


def test_a_panel_a_metric_with_right_being_better(figure):
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["bits per byte", "ROUGE-1", "recipe format"]
    labels = [label.get_text() for label in panels[0].get_yticklabels()]
    assert labels == ["average of tasks", "recipe", "question"]
    for axes, better in zip(panels, (-0.2, 0.1, 0.4), strict=True):
        right, zero = axes.transData.transform([(better, 0), (0, 0)])[:, 0]
        assert right > zero
        assert {text.get_text() for text in axes.texts} >= {"← worse", "better →"}
    top, bottom = panels[0].transData.transform([(0, 0), (0, 2)])[:, 1]
    assert top > bottom


def test_verdicts_can_be_told_apart_without_colour(figure):
    key = figure.legends[0]
    assert [text.get_text() for text in key.get_texts()] == [
        "better",
        "worse",
        "no significant difference",
        "not judged",
    ]
    forms = [(line.get_marker(), line.get_markerfacecolor() == "white") for line in key.get_lines()]
    assert len(set(forms)) == 4


def test_the_title_is_the_verdict_and_its_sentence():
    head, below = title(GAINS)
    assert head == "Better than the base model, but in part worse"
    assert below == sentence(GAINS, "the base model")
    assert "but worse in ROUGE-1 on question" in below
    assert title(GAINS[:5])[0] == "Better than the base model"
    assert title(GAINS[5:])[0] == "Worse than the base model"
    assert title(GAINS[3:4])[0] == "No significant difference from the base model"
    assert title(GAINS[6:])[0] == "Not judged against the base model"


def test_each_number_is_drawn(tmp_path):
    def picture(gains):
        forest(tmp_path / "gain.png", gains, 50)
        return (tmp_path / "gain.png").read_bytes()

    first = picture(GAINS)
    assert picture(GAINS) == first
    for change in (
        {"before": 0.6},
        {"difference": -0.22},
        {"low": -0.3},
        {"high": -0.1},
        {"outcome": Outcome.NO_DIFFERENCE},
        {"low": None, "high": None},
    ):
        assert picture([replace(GAINS[0], **change), *GAINS[1:]]) != first, change
    assert picture(GAINS[:1]) != first


OWN = ["format", "exact_match", "json_valid", "json_match", "tool_call", "multiple_choice"]


def test_many_metrics_of_nine_tasks_stand_in_lines_that_fit_a_page(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(gain, "save", lambda figure, *_, **__: drawn.append(figure))
    tasks = [f"task_{n}" for n in range(9)]
    found = [
        made(task, metric, 0.1, Outcome.BETTER) for metric in ("bits_per_byte", "rouge1") for task in tasks
    ]
    found += [made(task, metric, 0.1, Outcome.BETTER) for task, metric in zip(tasks, OWN, strict=False)]
    forest(tmp_path / "gain.png", found, 50)
    (figure,) = drawn
    assert figure.get_figwidth() < 11 and len(figure.axes) == 8
    by_title = {axes.get_title(): axes for axes in figure.axes}
    labels = {
        title: [label.get_text() for label in axes.get_yticklabels()] for title, axes in by_title.items()
    }
    assert labels["bits per byte"] == tasks
    assert labels["recipe format"] == tasks[:3] and labels["JSON fields' F1"] == tasks[3:6]
    plt.close(figure)
