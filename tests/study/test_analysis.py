"""A study: which comparisons it makes, what it says of planted differences and of none."""

import random
import re

import numpy as np
import pytest

from sft.core.errors import UserError
from sft.statistics.intervals import Lack
from sft.statistics.significance import Outcome
from sft.study import analysis
from sft.study.analysis import Comparison, Kind, Pair
from sft.study.conclusion import conclusion
from sft.study.report import markdown, table_rows
from sft.study.results import Configuration
from sft.study.wording import condition_name, pair_name
from sft.tasks.metric_names import BITS_PER_BYTE
from sft.tasks.task import AVERAGE
from tests.statistics.made_scores import TASKS, simulated
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
    made.trained |= {"rows_seen": rows, "distinct_rows_seen": rows, "tokens_seen": 80 * rows}
    made.trained["epochs"] = rows / (int(size[:-1]) * 1000)
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
        *((task, metric) for metric in (BITS_PER_BYTE, "rouge1") for task in (AVERAGE, *TASKS)),
        ("recipe", "format"),
    ]
    (row,) = [
        row
        for row in analysis.rows_of(study)
        if (row.condition, row.size, row.task, row.metric) == (short, 300_000, AVERAGE, "rouge1")
    ]
    # A task counts once, whatever its examples.
    means = [
        np.mean([study.scores[task, "rouge1"][f"60 steps-300k-{n}"].mean() for task in TASKS])
        for n in range(4)
    ]
    assert row.mean == pytest.approx(np.mean(means))
    assert row.std_replicates == pytest.approx(np.std(means, ddof=1))
    assert row.verdict is study.verdicts[Comparison(pairs[1], AVERAGE, "rouge1")]
    (written,) = table_rows([row])
    assert written["low"] < written["difference"] < written["high"]
    assert (written["condition"], written["data.size"]) == ("60 steps", 300_000)
    assert written["verdict"].startswith("no significant difference (minimum detectable: ")
    assert (written["rows_seen"], written["distinct_rows_seen"]) == (480, 480)
    assert written["epochs"] == 480 / 300_000


def test_conditions_of_other_weights_are_compared():
    members = a_study(overlap=False)
    for member in members:
        long = member.params["train"]["budget"] == "1 epoch"
        member.params["train"]["budget"] = "60 steps"
        member.params["data"]["weights"] = {"recipes": 2, "words": 1} if long else "proportional"
    study = analysis.study(members)
    names = [condition_name(condition) for condition in study.conditions]
    assert sorted(names) == ["60 steps, weights proportional", "60 steps, weights recipes 2, words 1"]
    assert len([pair for pair in {of.pair for of in study.verdicts} if pair.kind is Kind.CONDITION]) == 3
    assert not analysis.apart_too_far(study.conditions)


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
        if comparison.metric != "format":  # a share of two answers to an example scatters more
            assert verdict.significant == (comparison.pair in gained), comparison
            if verdict.significant:
                assert verdict.outcome is gained[comparison.pair]
    text = conclusion(study, members)
    assert text.startswith(
        "By the primary endpoint, bits per byte on the average of the tasks, a larger mix is better than the "
        "smallest in 1 of 4 comparisons, and worse in 0."
    )
    assert "Trained for 60 steps, 300k rows instead of 100k makes no significant difference" in text
    assert (
        "Such a training reads 480 of 300,000 rows and 480 of 100,000, on average 38,400 and 38,400 tokens: "
        "the mix's size decides from which sources they come" in text
    )
    assert (
        "Trained for 1 epoch, overlap remove, 300k rows instead of 100k is better by bits per byte (-0."
        in text
    )
    assert "on the average of the tasks; task by task it is better on recipe by bits per byte" in text
    # An epoch of 300k rows is longer.
    longer = "The training on 300k rows also reads 3.0 times as many rows and 3.0 times as many tokens."
    assert text.count(longer) == 1
    assert "With 300k rows, 1 epoch, overlap keep instead of 1 epoch, overlap remove is worse by" in text
    written = table_rows(list(analysis.rows_of(study)))
    numbers = {(row["condition"], row["data.size"], row["metric"]): row for row in written}
    of_bits = numbers["1 epoch, overlap remove", 300_000, BITS_PER_BYTE]
    assert of_bits["low"] < of_bits["difference"] < of_bits["high"] < 0  # lower, which is better
    assert analysis.base_scores(members)[AVERAGE, BITS_PER_BYTE] == pytest.approx(2.0)
    assert "could not be made" not in text
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
    assert "p is corrected for all 88 comparisons that the study makes, in two families of 5% each" in text
    assert "(curves.png)" in text and "(table.csv)" in text
    two = analysis.study(a_study(replicates=2, overlap=False))
    for verdict in two.verdicts.values():
        assert verdict.outcome is Outcome.NOT_JUDGED
        assert (verdict.result.lack, verdict.result.count) == (Lack.REPLICATES, 2)
    assert "cannot be judged (2 replicates, and 3 are needed)" in conclusion(two, a_study(replicates=2))
    assert "primary endpoint" not in conclusion(two, a_study(replicates=2))
    with pytest.raises(UserError, match="two configurations at least"):
        analysis.study(members[:4])
    del members[0].scores["dialogue", BITS_PER_BYTE]
    with pytest.raises(UserError, match="60 steps-100k-0: its scores have no bits_per_byte of dialogue"):
        analysis.study(members)


def test_other_tasks_with_other_metrics():
    """What tasks there are, and by what they are scored, is read from the scores."""
    members = a_study(replicates=3, overlap=False)
    for member in members:
        member.scores = {
            ("puzzle", metric): of
            for (task, metric), of in member.scores.items()
            if task == "recipe" and metric != "rouge2"
        }
        member.base = {}
    study = analysis.study(members)
    metrics = (BITS_PER_BYTE, "rouge1", "rougeL", "chrf", "format")
    assert list(study.scores) == [("puzzle", metric) for metric in metrics]
    header = "| data.size | ROUGE-1 | ROUGE-L | std R1 | std RL | bits_per_byte | rows seen |"
    text = report(study, members)
    assert header in text
    assert "bits per byte on puzzle, a larger mix is better than the smallest in 0 of 4" in text
    assert AVERAGE not in {of.task for of in study.verdicts}
    averages = [row for row in analysis.rows_of(study) if (row.task, row.metric) == (AVERAGE, BITS_PER_BYTE)]
    assert averages[1].verdict is not None and averages[1].verdict.p is not None


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
        member.trained |= {"rows_seen": 300_000, "distinct_rows_seen": 300_000, "tokens_seen": 20_000_000}
    assert "times as many rows" not in conclusion(analysis.study(members), members)


def test_what_cannot_be_judged_yet_counts_in_the_correction():
    """A look at a part of a study finds no more than the whole would of the same numbers."""
    whole, part = a_study(overlap=False), a_study(overlap=False)
    part = [member for member in part if not member.name.startswith("1 epoch") or member.name.endswith("0")]
    of_whole, of_part = (analysis.study(members) for members in (whole, part))
    for one, two in zip(of_whole.verdicts.values(), of_part.verdicts.values(), strict=True):
        assert two.p is None or (one.p is not None and two.p >= one.p - 1e-12)
    refused = sum(verdict.outcome is Outcome.NOT_JUDGED for verdict in of_part.verdicts.values())
    text = conclusion(of_part, part)
    assert f"{refused} of the 77 pre-registered comparisons could not be made yet" in text
    assert "a larger mix is better than the smallest in 0 of 2 comparisons, and worse in 0." in text


@simulated(1_000)
def test_family_wise_false_positives_of_the_whole_report(draws):
    """Studies of equal conditions and sizes: hardly more than 5% may hold any finding of a family."""
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
    wrong = dict.fromkeys(analysis.COMPARED_BY, 0)
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
        compared = analysis.compare(conditions, scores)
        assert len(compared) == 80
        for metric in wrong:
            wrong[metric] += any(of.significant for key, of in compared.items() if key.metric == metric)
    print(*(f"{metric}: {count / draws:.1%}" for metric, count in wrong.items()))
    assert max(wrong.values()) / draws <= 0.06 + 0.02 * (draws < 1_000)
