"""A study: which comparisons it makes, what it says of planted differences and of none."""

import random
import re

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.intervals import Lack
from sft.statistics.significance import Outcome, verdicts
from sft.study import analysis
from sft.study.analysis import Comparison, Kind, Pair
from sft.study.conclusion import conclusion
from sft.study.report import markdown, table_rows
from sft.study.results import Configuration
from sft.study.wording import condition_name, pair_name
from sft.tasks.metric_names import COMMON
from tests.study.made_results import MEANS, TASKS, simulated
from tests.study.made_results import result as a_result

SIZES = ("100k", "200k", "300k")


def result(name, size, seed, shift=0.0, budget="60 steps", overlap="remove"):
    """Make a result of a study; `shift` tenths of the mean better."""
    made = a_result(name, int(size[:-1]), seed, shift)
    made.params["data"] |= {"size": size, "base": ["some://base"], "extra": ["some://extra"]}
    made.params["data"]["filters"] = {"overlap": overlap}
    made.params["train"]["budget"] = budget
    made.params["model"] = {"reference": "some-model"}
    rows = 480 if budget == "60 steps" else int(size[:-1]) * 1000
    made.metrics["trained_on"] = {
        **{"rows_seen": rows, "distinct_rows_seen": rows, "tokens_seen": 80 * rows},
        "epochs": rows / (int(size[:-1]) * 1000),
    }
    made.metrics["difference"] = {}
    for task in (*TASKS, analysis.AVERAGE):
        made.metrics[task], made.metrics["difference"][task] = {}, {}
        for metric in COMMON:
            mean = np.mean([row[metric] for row in made.answers if task in (row["task"], analysis.AVERAGE)])
            made.metrics[task][metric] = {"mean": mean}
            made.metrics["difference"][task][metric] = mean - MEANS.get(metric, 0.2)
    return made


def a_study(gain=0.0, replicates=4, overlap=True):
    members = [
        result(f"{budget}-{size}-{n}", size, n, gain * (size == "300k") * (budget == "1 epoch"), budget)
        for budget in ("60 steps", "1 epoch")
        for size in SIZES
        for n in range(replicates)
    ]
    if overlap:
        members += [result(f"keep-{n}", "300k", n, 0.0, "1 epoch", "keep") for n in range(replicates)]
    return members


def test_what_is_compared_is_pre_registered():
    study = analysis.study(a_study())
    short, long, kept = study.conditions
    assert [condition_name(condition) for condition in study.conditions] == [
        "60 steps",
        "1 epoch, overlap remove",
        "1 epoch, overlap keep",
    ]
    pairs = list(dict.fromkeys(comparison.pair for comparison in study.verdicts))
    assert pairs == [
        *(Pair(of, size, of, 100_000) for of in (short, long) for size in (200_000, 300_000)),
        # Conditions that differ in the budget alone; those that differ in the overlap alone.
        *(Pair(long, size, short, size) for size in (100_000, 200_000, 300_000)),
        Pair(kept, 300_000, long, 300_000),
    ]
    assert [pair.kind for pair in pairs] == [Kind.SIZE] * 4 + [Kind.CONDITION] * 4
    assert [pair_name(pair) for pair in (pairs[1], pairs[-1])] == [
        "60 steps: 300k against 100k",
        "300k: 1 epoch, overlap keep against 1 epoch, overlap remove",
    ]
    assert [(of.task, of.metric) for of in study.verdicts if of.pair == pairs[0]] == [
        (task, metric) for metric in analysis.COMPARED_BY for task in (*TASKS, analysis.AVERAGE)
    ]
    (row,) = [
        row
        for row in analysis.rows_of(study)
        if (row.condition, row.size, row.task, row.metric) == (short, 300_000, "average", "rougeL")
    ]
    stacked = [[study.scores[task, "rougeL"][f"60 steps-300k-{n}"] for n in range(4)] for task in TASKS]
    assert row.mean == pytest.approx(np.mean(stacked))
    assert row.std_replicates == pytest.approx(np.mean(stacked, axis=(0, 2, 3)).std(ddof=1))
    assert row.verdict is study.verdicts[Comparison(pairs[1], "average", "rougeL")]
    (written,) = table_rows([row])
    assert written["low"] < written["difference"] < written["high"]
    assert (written["condition"], written["data.size"]) == ("60 steps", 300_000)
    assert written["verdict"].startswith("no difference that this design can see")
    assert (written["rows_seen"], written["distinct_rows_seen"]) == (480, 480)
    assert written["epochs"] == 480 / 300_000


def test_a_planted_gain_is_significant_and_nothing_else():
    members = a_study(gain=1.0)
    study = analysis.study(members)
    short, long, kept = study.conditions
    gained = {
        Pair(long, 300_000, long, 100_000): Outcome.BETTER,
        Pair(long, 300_000, short, 300_000): Outcome.BETTER,
        Pair(kept, 300_000, long, 300_000): Outcome.WORSE,
    }
    for comparison, verdict in study.verdicts.items():
        assert verdict.outcome is gained.get(comparison.pair, Outcome.NO_DIFFERENCE), comparison
    text = conclusion(study, members)
    assert text.startswith(
        "A larger mix is better than the smallest in 10 of 40 comparisons, and worse in 0."
    )
    assert "Trained for 60 steps, 300k rows instead of 100k makes no difference that can be seen" in text
    assert (
        "Such a training reads 480 of 300,000 rows and 480 of 100,000, on average 38,400 and 38,400 tokens: "
        "the mix's size decides from which sources they come" in text
    )
    assert "Trained for 1 epoch, overlap remove, 300k rows instead of 100k is better by ROUGE-L (+0.0" in text
    assert "on the average of the tasks; task by task it is better on recipe by ROUGE-L" in text
    # An epoch of 300k rows is longer.
    longer = "The training on 300k rows also reads 3.0 times as many rows and 3.0 times as many tokens."
    assert text.count(longer) == 1
    assert "With 300k rows, 1 epoch, overlap keep instead of 1 epoch, overlap remove is worse by" in text
    assert "30 of the 80 pre-registered comparisons are significant (Holm)." in text
    written = table_rows(list(analysis.rows_of(study)))
    numbers = {(row["condition"], row["data.size"], row["metric"]): row for row in written}
    of_nll = numbers["1 epoch, overlap remove", 300_000, "nll"]
    assert of_nll["low"] < of_nll["difference"] < of_nll["high"] < 0  # lower, which is better
    assert analysis.base_scores(members)["average", "nll"] == pytest.approx(2.0)
    assert "A size" not in text and "could not be made" not in text
    assert "This speaks of some-model on this data and these tasks only." in text


def report(study, members):
    rows = list(analysis.rows_of(study))
    return markdown(study, members, rows, analysis.base_scores(members), "curves.png", "table.csv")


def test_the_report():
    members = a_study()
    text = report(analysis.study(members), members)
    assert "| base model | " in text and "Warning" not in text
    table = text.split("## 60 steps\n")[1].split("\n## ")[0]
    assert re.search(r"\| 300k \|( \d\.\d{3} \|){6} 1\.9\d\d \| 480 \| 480 \| 0\.0016 \|", table)
    assert "Base: `some://base`. Extra, where base is used up: `some://extra`." in text
    assert "Beside one another only, for they differ in more than one param: 60 steps and 1 epoch" in text
    assert "`train.budget: 1 epoch`" in text and "Warning" not in text
    assert "p is corrected for all 80 comparisons that the study makes (Holm)." in text
    assert "(curves.png)" in text and "(table.csv)" in text
    two = analysis.study(a_study(replicates=2, overlap=False))
    for verdict in two.verdicts.values():
        assert verdict.outcome is Outcome.NOT_JUDGED
        assert (verdict.result.lack, verdict.result.count) == (Lack.REPLICATES, 2)
    assert "cannot be judged (2 replicates)" in conclusion(two, a_study(replicates=2))
    assert "A larger mix" not in conclusion(two, a_study(replicates=2))
    with pytest.raises(UserError, match="two configurations at least"):
        analysis.study(members[:4])
    del members[0].answers[5]["nll"]
    with pytest.raises(UserError, match="60 steps-100k-0: its answers have no nll"):
        analysis.study(members)


def test_other_tasks_with_other_metrics():
    """What tasks there are, and by what they are scored, is read from the answers."""
    members = a_study(replicates=3, overlap=False)
    for member in members:
        member.answers = [row | {"task": "puzzle"} for row in member.answers if row["task"] == "recipe"]
        for row in member.answers:
            del row["rouge2"]
        member.metrics["difference"] = {}
    study = analysis.study(members)
    assert set(study.scores) == {
        *(("puzzle", metric) for metric in ("rouge1", "rougeL", "chrf", "nll", "format")),
        *(("average", metric) for metric in ("rouge1", "rougeL", "chrf", "nll")),
    }
    assert "| data.size | ROUGE-1 | ROUGE-L | std R1 | std RL | nll | rows seen |" in report(study, members)


def test_the_order_of_the_results_changes_nothing():
    members = a_study(replicates=3)
    texts = set()
    for seed in range(3):
        random.Random(seed).shuffle(members)
        texts.add(report(analysis.study(members), members))
    assert len(texts) == 1


def test_a_condition_is_named_by_its_budget():
    members = [result(f"{size}-{n}", size, n, budget="1 epoch") for size in SIZES for n in range(3)]
    study = analysis.study(members)
    assert list(map(condition_name, study.conditions)) == ["1 epoch"]
    assert "Trained for 1 epoch, 300k rows instead of 100k" in conclusion(study, members)
    for member in members:  # as many rows whatever the size
        member.metrics["trained_on"] |= {"rows_seen": 3e5, "distinct_rows_seen": 3e5, "tokens_seen": 2e7}
    assert "times as many rows" not in conclusion(analysis.study(members), members)


def test_what_cannot_be_judged_yet_counts_in_the_correction():
    """A look at a part of a study finds no more than the whole would of the same numbers."""
    whole, part = a_study(overlap=False), a_study(overlap=False)
    part = [member for member in part if not member.name.startswith("1 epoch") or member.name.endswith("0")]
    of_whole, of_part = (analysis.study(members) for members in (whole, part))
    for one, two in zip(of_whole.verdicts.values(), of_part.verdicts.values(), strict=True):
        assert two.p is None or two.p >= one.p - 1e-12
    refused = sum(verdict.p is None for verdict in of_part.verdicts.values())
    text = conclusion(of_part, part)
    assert f"{refused} of them could not be made yet" in text
    assert text.startswith("A larger mix is better than the smallest in 0 of 20 comparisons, and worse in 0.")


@simulated(1_000)
def test_family_wise_false_positives_of_the_whole_report(draws):
    """Studies of equal conditions and sizes: hardly more than 5% of the reports may hold any finding."""
    rng = np.random.default_rng(11)
    names = [f"{number}" for number in range(5)]

    def condition(budget, overlap, sizes):
        apart = {"train.budget": budget, "data.filters.overlap": overlap}
        made = analysis.Condition(apart)
        for size in sizes:
            members = [Named(budget, overlap, size, name) for name in names]
            made.sizes[size] = Configuration({}, members)
        return made

    class Named:  # a result of which nothing but its name and seeds is asked
        def __init__(self, *parts):
            self.name = " ".join(map(str, parts))
            self.seeds = (int(parts[-1]), int(parts[-1]))

    conditions = [
        condition("60 steps", "remove", [100, 200, 300]),
        condition("1 epoch", "remove", [100, 200, 300]),
        condition("1 epoch", "keep", [300]),
    ]
    configurations = [configuration for made in conditions for configuration in made.sizes.values()]
    members = [member.name for configuration in configurations for member in configuration.results]
    wrong = 0
    for _ in range(draws):
        scores = {}
        common = 0.2 * rng.standard_normal((4, 2, 1, 60))
        own = {}
        for name in members:
            luck = 0.02 * (rng.standard_normal((1, 1, 1, 1)) + rng.standard_normal((4, 1, 1, 1)))
            shared, alone = rng.standard_normal((4, 1, 2, 60)), rng.standard_normal((4, 2, 2, 60))
            own[name] = common + luck + 0.1 * (0.5**0.5 * shared + 0.5**0.5 * alone)
        for number, metric in enumerate(analysis.COMPARED_BY):
            for place, task in enumerate(TASKS):
                scores[task, metric] = {name: own[name][place, number] for name in members}
            scores[analysis.AVERAGE, metric] = {name: own[name][:, number].mean(axis=0) for name in members}
        compared = analysis.compare(conditions, scores)
        assert len(compared) == 80
        wrong += any(verdict.significant for verdict in verdicts(list(compared.values())))
    assert wrong / draws <= 0.06
