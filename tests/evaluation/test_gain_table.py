"""The gain over the base model as people read it, and as a file."""

from dataclasses import replace

from sft.evaluation.gain_table import as_rows, lines
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome

FOUND = [
    Gain("average", "bits_per_byte", 1.5, 1.25, -0.25, -0.375, -0.125, 0.00012345, Outcome.BETTER, ""),
    Gain("recipe", "rouge1", 0.2, 0.1, -0.1, -0.15, -0.05, 0.03, Outcome.WORSE, ""),
    Gain("recipe", "format", 0.0, 0.4, 0.4, None, None, None, Outcome.NOT_JUDGED, "too few examples"),
]


def test_as_people_read_it():
    assert lines(FOUND) == [
        "",
        "bits per byte (lower is better)",
        "  average  1.500 -> 1.250   -0.250  95% interval -0.375 to -0.125     better",
        "",
        "ROUGE-1 (higher is better)",
        "  recipe   0.200 -> 0.100   -0.100  95% interval -0.150 to -0.050     worse",
        "",
        "recipe format (higher is better)",
        "  recipe        0% -> 40%     +40%                                    not judged (too few examples)",
    ]


def test_nothing_is_minus_zero():
    tiny = replace(FOUND[1], difference=-0.0001, low=-0.0002, outcome=Outcome.NO_DIFFERENCE)
    assert "  +0.000  95% interval +0.000 to -0.050 " in lines([tiny])[2]


def test_a_shared_note_stands_once():
    gated = [
        Gain(task, "bits_per_byte", 1.5, 1.5, 0.0, None, None, None, Outcome.NOT_TESTED, "as the average")
        for task in ("recipe", "question")
    ]
    table = lines([FOUND[0], *gated])
    assert [line.rpartition("  ")[2] for line in table[2:]] == [
        "better",
        "not tested",
        "not tested",
        "not tested: as the average",
    ]


def test_as_a_file():
    rows = as_rows(FOUND)
    assert rows[0] == {
        **{"task": "average", "metric": "bits_per_byte", "before": 1.5, "after": 1.25, "difference": -0.25},
        **{"low": -0.375, "high": -0.125, "p": "0.000123", "verdict": "better", "note": ""},
    }
    last = [rows[2][name] for name in ("low", "high", "p", "verdict", "note")]
    assert last == ["", "", "", "not judged", "too few examples"]
