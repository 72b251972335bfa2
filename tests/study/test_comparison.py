"""The report on differences: what is compared with what, and what it says of planted ones."""

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.scores import ScoresOf
from sft.study.comparison import compare
from sft.study.comparison_report import report
from sft.study.results import Inputs, grouped
from sft.study.wording import configuration_name
from sft.tasks.metric_names import BITS_PER_BYTE
from sft.tasks.task import AVERAGE
from tests.statistics.made_scores import TASKS
from tests.study.made_results import EXAMPLES, MEANS, result

COMPARED = [
    *((task, metric) for metric in (BITS_PER_BYTE, "rouge1") for task in (AVERAGE, *TASKS)),
    ("recipe", "format"),
]


def rows(text, heading):
    section = text.split(f"## {heading}")[1].split("\n## ")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()]
    return [row for row in found if len(row) > 3 and not set(row[0]) <= {"-"}]


def test_results_that_differ_by_seed_alone_are_replicates():
    found = grouped([result("a"), result("b", seed=2), result("c", size=200), result("d", seed=3)])
    assert [[member.name for member in configuration.results] for configuration in found] == [
        ["a", "b", "d"],
        ["c"],
    ]
    assert list(map(configuration_name, found)) == ["data.size 100", "data.size 200"]
    (alone,) = grouped([result("a"), result("b", seed=2)])
    assert configuration_name(alone) == "this configuration"
    lora = grouped([result("a", lora={"r": 8}), result("b", lora={"r": 16})])
    assert list(map(configuration_name, lora)) == ["train.lora.r 8", "train.lora.r 16"]


def weighted(name, weights, **more):
    made = result(name, **more)
    made.params["data"]["weights"] = weights
    return made


def test_the_weights_are_one_param():
    found = grouped(
        [
            weighted("a", {"words": 2, "recipes": 1}),
            weighted("b", {"recipes": "1", "words": 2.0, "dialogues": 0}, seed=2),
            weighted("c", {"recipes": 0.5}),
            weighted("d", "proportional"),
        ]
    )
    assert [[member.name for member in of.results] for of in found] == [["a", "b"], ["c"], ["d"]]
    names = ["recipes 1, words 2", "recipes 0.5", "proportional"]
    assert [configuration_name(of) for of in found] == [f"data.weights {name}" for name in names]


def test_a_planted_difference_between_configurations_is_found():
    members = [
        result(f"{size}-{n}", size, n, shift) for size, shift in ((100, 0), (300, 1)) for n in range(4)
    ]
    text = report(members)
    found = rows(text, "Configurations, against data.size 100")
    assert [(task, metric) for _, task, metric, *_ in found] == COMPARED
    for name, _, metric, difference, interval, p, verdict in found:
        assert (name, verdict) == ("data.size 300", "better") and float(p.strip("<")) < 0.05
        planted = 0.1 * MEANS.get(metric, 0.2) * (-1 if metric == BITS_PER_BYTE else 1)
        planted = 0.4 if metric == "format" else planted
        assert float(difference) == pytest.approx(planted, abs=abs(planted) / 4)
        low, high = (float(end) for end in interval.split(" to "))
        assert low < float(difference) < high
    assert "## Adapters" not in text
    assert "| data.size 100 | 100-0, 100-1, 100-2, 100-3 | 480 | 4.8 |" in text


def test_equal_configurations_are_not_told_apart():
    members = [result(f"{size}-{n}", size, n) for size in (100, 300) for n in range(4)]
    verdicts = [row[-1] for row in rows(report(members), "Configurations, against data.size 100")]
    words = "no significant difference", "not tested (as bits per byte do not differ significantly"
    assert all(verdict.startswith(words) for verdict in verdicts)


def test_one_training_of_each_speaks_of_the_adapters_only():
    text = report([result("small"), result("large", size=300, shift=1)])
    for row in rows(text, "Configurations, against data.size 100"):
        assert row[-1].startswith("not judged (") and row[4] == row[5] == ""
    adapters = rows(text, "Adapters, against small")
    assert [(task, metric) for _, task, metric, *_ in adapters] == COMPARED
    assert {row[-1] for row in adapters} == {"better"} and {row[0] for row in adapters} == {"large"}


def test_replicates_alone_are_compared_as_adapters():
    text = report([result("one"), result("other", seed=2)])
    assert "## Configurations" not in text
    assert {row[0] for row in rows(text, "Adapters, against one")} == {"other"}


def test_other_devices_and_versions_are_warned_of():
    text = report([result("a"), result("b", size=300)])
    assert "Warning" not in text
    other = result("b", size=300, device="H100")
    other.evaluated["versions"] = {"torch": "3"}
    text = report([result("a"), other])
    assert "were trained on different devices: H100, cpu" in text
    assert "answered on different devices: H100, cpu" in text
    assert "answered by different versions of torch: 2, 3" in text and "trained by" not in text


def test_results_of_the_same_seeds_are_no_replicates():
    """Neither a revision named twice nor a rerun on another machine tells how another training would do."""
    members = [result(f"{size}-{n}", size, n) for size in (100, 300) for n in range(2)]
    members += [result("100 again", 100, 0, device="H100"), result("300 again", 300, 0)]
    text = report(members)
    assert "Not a replicate: 100 again has the params and seeds of another result." in text
    assert {row[-1] for row in rows(text, "Configurations, against data.size 100")} == {
        "not judged (2 replicates, and 3 are needed)"
    }
    members = [result(f"{size}-{n}", size, n, 0.5 * (size == 300)) for size in (100, 300) for n in range(4)]
    for member in members:
        member.params["data"]["seed"] = 42
    verdicts = [row[-1] for row in rows(report(members), "Configurations, against data.size 100")]
    assert set(verdicts) == {"not judged (replicates of one data.seed)"}


def test_sizes_written_differently_are_one():
    (only,) = grouped([result("a"), result("b", size="0.1k", seed=2), result("c", size=1e2, seed=3)])
    assert len(only.results) == 3


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match="name two results at least"):
        report([result("a")])
    with pytest.raises(UserError, match="a and b were not scored on the same examples"):
        report([result("a"), result("b", size=300, examples=EXAMPLES - 1)])


def test_a_metric_that_an_older_result_lacks_is_left_out_with_a_word():
    old = result("old")
    del old.scores["recipe", "format"]
    text = report([old, result("new", size=300, shift=1)])
    assert "Not compared: format of recipe, missing in old. Evaluate anew." in text
    compared = [(task, metric) for _, task, metric, *_ in rows(text, "Adapters, against old")]
    assert compared == [pair for pair in COMPARED if pair != ("recipe", "format")]


def test_other_data_is_another_configuration():
    """Though their params are the same: a source without a version, or a file under data/raw that changed."""
    other = Inputs({"base.parquet": "2"}, {"sft/core": "1", "stages/train.py": "1"})
    members = [result("a"), result("b", seed=2), result("c", seed=3, inputs=other)]
    text = report(members)
    (line,) = [line for line in text.splitlines() if line.startswith("Other data: ")]
    assert "not as replicates: a, b (" in line and "; c (" in line
    first, second = grouped(members)
    assert [len(first.results), len(second.results)] == [2, 1]
    assert f"| standardized data {members[2].data} | c |" in text and "Warning" not in text
    # Where params differ too, they name it.
    members[2].params["data"]["size"] = 200
    assert list(map(configuration_name, grouped(members))) == ["data.size 100", "data.size 200"]
    assert "Other data" not in report(members)


def test_other_code_is_warned_of():
    other = Inputs({"base.parquet": "1"}, {"sft/core": "2", "stages/train.py": "1", "new": "1"})
    text = report([result("a"), result("b", seed=2, inputs=other)])
    assert "**Warning**: the results were not made by the same code: sft/core differ." in text
    assert len(grouped([result("a"), result("b", seed=2, inputs=other)])) == 1


def test_what_cannot_be_checked_is_said():
    members = [result("a", inputs=None), result("b", seed=2), result("c", seed=3, inputs=None)]
    text = report(members)
    assert "what they were made from is not recorded: whether the same data and code made a, c as" in text
    assert len(grouped(members)) == 1


def test_pairs_of_seeds_are_used_from_five_on():
    """A replicate's luck that both sides share does not widen the interval then."""

    def width(replicates, reseeded=0):
        members = [result(f"{size}-{n}", size, n) for size in (100, 300) for n in range(replicates)]
        for member in members:
            luck = float(np.random.default_rng(member.seeds[0]).normal(0, 0.05))
            key = (AVERAGE, BITS_PER_BYTE)
            for task in TASKS:
                of = member.scores[task, BITS_PER_BYTE]
                member.scores[task, BITS_PER_BYTE] = ScoresOf(of.examples, of.values + luck)
        for member in members[-1:]:
            member.params["data"]["seed"] += reseeded
        (_, verdict), *_ = (item for item in compare(members).of_configurations.items() if item[0][1:] == key)
        return verdict.result.high - verdict.result.low

    assert width(5) < 0.3 * width(5, reseeded=100)
    assert width(5) < 0.3 * width(4)


def test_a_replicate_far_out_is_warned_of():
    members = [result(f"{size}-{n}", size, n) for size in (100, 300) for n in range(3)]
    assert "far from its replicates" not in report(members)
    for task in TASKS:
        of = members[4].scores[task, BITS_PER_BYTE]
        members[4].scores[task, BITS_PER_BYTE] = ScoresOf(of.examples, of.values + 1)
    text = report(members)
    assert text.count("far from its replicates") == 1
    assert "**Warning**: 300-1 lies far from its replicates: bits per byte 2.985 on" in text


def test_two_adapters_against_a_third():
    """42 comparisons, were all metrics tested; a planted gain is found all the same."""
    members = [result(name, seed=n, lora=name) for n, name in enumerate(("first", "second", "third"))]
    for member in members[1:]:
        of = member.scores["question", "rouge1"]
        gain = 0.5 * (member.name == "second")
        member.scores["question", "rouge1"] = ScoresOf(of.examples, of.values + gain)
    found = {tuple(row[:3]): row[-1] for row in rows(report(members), "Adapters, against first")}
    assert found["second", "question", "rouge1"] == "better"
    assert sum(verdict == "better" for verdict in found.values()) == 2  # and so is the average


def test_adapters_of_the_same_scores_are_not_judged():
    text = report([result("a"), result("b", train="other")])
    for task, metric in COMPARED[:-1]:
        words = "not judged (no variance: all scores are the same)"
        assert f"| b | {task} | {metric} | +0.0000 |  |  | {words} |" in text
    assert "| b | recipe | format | +0.0000 | -0." in text


def test_a_tiny_p_is_not_printed_as_zero():
    text = report([result("small"), result("large", size=300, shift=1)])
    assert " | <0.001 | better |" in text and " | 0.000 | " not in text


def test_results_without_a_task_in_common_are_an_error():
    members = [result("a"), result("b", size=300)]
    for member, task in zip(members, ("recipe", "question"), strict=True):
        member.scores = {key: of for key, of in member.scores.items() if key[0] == task}
    with pytest.raises(UserError, match="There is nothing to compare"):
        report(members)


def test_bits_per_byte_missing_of_one_task():
    """The others' are tested all the same, without an average."""
    members = [result("a"), result("b", size=300, shift=1)]
    del members[1].scores["dialogue", BITS_PER_BYTE]
    found = {tuple(row[1:3]): row[-1] for row in rows(report(members), "Adapters, against a")}
    assert found["recipe", BITS_PER_BYTE] == "better"
    assert (AVERAGE, BITS_PER_BYTE) not in found and ("dialogue", BITS_PER_BYTE) not in found
