"""The report on differences: what is compared with what, and what it says of planted ones."""

import pytest

from sft.core.errors import UserError
from sft.study.comparison_report import report
from sft.study.results import grouped
from sft.study.wording import configuration_name
from tests.study.made_results import EXAMPLES, MEANS, METRICS_OF, TASKS, result

COMPARED = [(task, metric) for task in TASKS for metric in METRICS_OF[task]]


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


def test_a_planted_difference_between_configurations_is_found():
    members = [
        result(f"{size}-{n}", size, n, shift) for size, shift in ((100, 0), (300, 1)) for n in range(4)
    ]
    text = report(members)
    found = rows(text, "Configurations, against data.size 100")
    assert [(task, metric) for _, task, metric, *_ in found] == COMPARED
    for name, task, metric, difference, interval, p, verdict in found:
        assert (name, verdict) == ("data.size 300", "better") and task in TASKS and float(p) < 0.05
        planted = 0.1 * MEANS.get(metric, 0.2) * (-1 if metric == "nll" else 1)
        planted = 0.4 if metric == "format" else planted
        assert float(difference) == pytest.approx(planted, abs=abs(planted) / 4)
        low, high = (float(end) for end in interval.split(" to "))
        assert low < float(difference) < high
    assert "## Adapters" not in text
    assert "| data.size 100 | 100-0, 100-1, 100-2, 100-3 | 480 | 4.8 |" in text


def test_equal_configurations_are_not_told_apart():
    members = [result(f"{size}-{n}", size, n) for size in (100, 300) for n in range(4)]
    verdicts = [row[-1] for row in rows(report(members), "Configurations, against data.size 100")]
    assert all(verdict.startswith("no difference that this design can see") for verdict in verdicts)


def test_one_training_of_each_speaks_of_the_adapters_only():
    text = report([result("small"), result("large", size=300, shift=1)])
    for row in rows(text, "Configurations, against data.size 100"):
        assert row[-1].startswith("nothing can be said") and row[4] == row[5] == ""
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
    other.metrics["versions"] = {"torch": "3"}
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
        "nothing can be said: 2 replicates"
    }
    members = [result(f"{size}-{n}", size, n, 0.5 * (size == 300)) for size in (100, 300) for n in range(4)]
    for member in members:
        member.params["data"]["seed"] = 42
    verdicts = [row[-1] for row in rows(report(members), "Configurations, against data.size 100")]
    assert set(verdicts) == {"nothing can be said: replicates of one data.seed"}


def test_sizes_written_differently_are_one():
    (only,) = grouped([result("a"), result("b", size="0.1k", seed=2), result("c", size=1e2, seed=3)])
    assert len(only.results) == 3


def test_what_cannot_be_compared():
    with pytest.raises(UserError, match="name two results at least"):
        report([result("a")])
    with pytest.raises(UserError, match="a and b do not hold the same examples"):
        report([result("a"), result("b", size=300, examples=EXAMPLES - 1)])


def test_a_metric_that_an_older_result_lacks_is_left_out_with_a_word():
    old = result("old")
    for row in old.answers:
        row.pop("format", None)
    text = report([old, result("new", size=300, shift=1)])
    assert "Not compared: format of recipe, missing in old. Evaluate anew." in text
    compared = [(task, metric) for _, task, metric, *_ in rows(text, "Adapters, against old")]
    assert compared == [pair for pair in COMPARED if pair != ("recipe", "format")]


def test_a_common_metric_that_all_results_lack_is_named():
    both = [result("old"), result("older", size=300)]
    for one in both:
        for row in one.answers:
            del row["chrf"]
    assert "Not compared: chrf of recipe, missing in old, older. Evaluate anew." in report(both)
