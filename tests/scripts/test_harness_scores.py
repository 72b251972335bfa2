"""What is taken from lm-eval's results, and the verdicts on them: on results of lm-eval's form, made here."""

from typing import Any

import numpy as np
import pytest

from scripts.harness_scores import Found, as_csv, as_metrics, found, parse, parse_record
from scripts.harness_verdicts import findings, lines, markdown, same_examples, sentence
from sft.core.errors import UserError
from sft.statistics.scores import Scores, ScoresOf


def sample(number: int, scores: dict[str, Any], of: str = "none", answer: float = -1.0) -> dict[str, Any]:
    hashed = f"{number:064x}"[::-1]
    return {
        "doc_id": number,
        "doc_hash": hashed,
        "filter": of,
        "metrics": list(scores),
        "filtered_resps": [(answer, False)],
        **scores,
    }


def results(**changes: Any) -> dict[str, Any]:
    """Make results of a task with two filters, and of a group of two tasks that has a score of its own."""
    made = {
        "results": {
            "sums": {
                "alias": "sums",
                "match,strict": 0.5,
                "match_stderr,strict": 0.5,
                "match,loose": 1.0,
                "match_stderr,loose": 0.0,
                "corpus,strict": 0.7,
                "corpus_stderr,strict": "N/A",
            },
            "easy": {"acc,none": 1.0, "acc_stderr,none": 0.0},
            "hard": {"acc,none": 0.0, "acc_stderr,none": 0.0},
            "both": {"acc,none": 0.25, "acc_stderr,none": 0.1},
        },
        "groups": {"both": {"acc,none": 0.25}},
        "group_subtasks": {"both": ["easy", "hard"]},
        "higher_is_better": {"sums": {"match": False}, "easy": {"acc": True}, "hard": {"acc": True}},
        "samples": {
            "sums": [
                *(sample(n, {"match": float(n), "corpus": ("a", "b")}, "strict") for n in (0, 1)),
                *(sample(n, {"match": 1.0, "corpus": ("a", "b")}, "loose") for n in (0, 1)),
            ],
            "easy": [sample(0, {"acc": 1.0})],
            "hard": [sample(n, {"acc": 0.0}) for n in range(3)],
        },
    }
    return made | changes


def test_tasks_groups_and_filters() -> None:
    of = found(results())
    assert of.summary == {
        "sums": {"match,strict": (0.5, 0.5), "match,loose": (1.0, 0.0), "corpus,strict": (0.7, None)},
        "both": {"acc": (0.25, 0.1)},
    }
    assert list(of.by_example) == [("sums", "match,strict"), ("sums", "match,loose"), ("both", "acc")]
    assert of.by_example["both", "acc"].examples[0].startswith("easy/0-") and of.lower == {
        ("sums", "match,strict"),
        ("sums", "match,loose"),
    }
    assert as_metrics({"base": of, "adapter": Found({"both": {"acc": (0.5, None)}}, {})})["both"] == {
        "acc": {"base": 0.25, "base_stderr": 0.1, "adapter": 0.5}
    }


def test_a_score_that_is_no_mean_over_examples_is_not_compared() -> None:
    made = results()
    made["results"]["both"]["acc,none"] = 0.5  # the mean of the tasks, not of the examples
    of = found(made)
    assert ("both", "acc") not in of.by_example and of.summary["both"] == {"acc": (0.5, 0.1)}
    # So its tasks are.
    assert of.by_example["easy", "acc"].values.tolist() == [[1.0]]
    assert len(of.by_example["hard", "acc"].examples) == 3 and of.summary["hard"]["acc"][0] == 0.0


def test_where_no_metric_is_a_mean_over_examples_nothing_is_judged() -> None:
    made = results(
        results={"wiki": {"perplexity,none": 12.3, "perplexity_stderr,none": "N/A"}},
        groups={},
        group_subtasks={},
        higher_is_better={"wiki": {"perplexity": False}},
        samples={"wiki": [sample(n, {"perplexity": (-9.0, 4)}) for n in range(3)]},
    )
    of = found(made)
    assert of.summary == {"wiki": {"perplexity": (12.3, None)}} and of.by_example == {}
    assert parse(as_csv(of.by_example), "scores.csv") == {}
    judged = findings({"adapter": {}}, {}, set())
    assert judged == lines(judged) == []
    assert "no metric of these tasks is a mean over examples" in sentence(judged, "the base model")


def test_a_score_or_a_likelihood_that_is_no_number() -> None:
    made = results()
    made["results"]["both"]["acc,none"] = float("nan")
    with pytest.raises(UserError, match="both: its acc is nan, no finite number"):
        found(made)
    made = results()
    made["samples"]["easy"] = [sample(0, {"acc": 1.0}, answer=float("nan"))]
    with pytest.raises(UserError, match="both: its likelihood of example 0 is nan"):
        found(made)


def test_the_file_of_scores_comes_back_as_it_was() -> None:
    of = found(results()).by_example
    text = as_csv(of)
    assert text.splitlines()[0] == 'task,example,"match,strict","match,loose",acc'
    back = parse(text, "scores.csv")
    assert list(back) == list(of)
    for key, scores in back.items():
        assert scores.examples == of[key].examples
        np.testing.assert_allclose(scores.values, of[key].values)
    for damaged in (
        "",
        text.replace(",1,1,", ",one,1,"),
        text + text.splitlines()[1] + "\n",
    ):
        with pytest.raises(UserError, match=r"scores\.csv: damaged"):
            parse(damaged, "scores.csv")
    with pytest.raises(UserError, match=r"harness\.json: damaged: 'lower_is_better'"):
        parse_record('{"adapter": "x"}', "harness.json")


def made(values: np.ndarray, metric: str = "acc", task: str = "easy") -> Scores:
    return {(task, metric): ScoresOf([f"e{n}" for n in range(values.size)], values.reshape(1, -1))}


NOISE = np.random.default_rng(0).normal(0, 0.05, 40)
LEVEL = np.random.default_rng(1).normal(0.5, 0.2, 40)


def test_verdicts_in_the_metrics_own_sense() -> None:
    higher, lower = made(LEVEL + 0.2 + NOISE), made(LEVEL - 0.2 + NOISE, "loss")
    (one, other) = findings({"new": higher | lower}, made(LEVEL) | made(LEVEL, "loss"), {("easy", "loss")})
    assert one.outcome.value == other.outcome.value == "better"
    assert one.low is not None and one.high is not None and one.low < 0.2 + NOISE.mean() < one.high
    assert (
        other.high is not None and other.high < 0 and other.difference == pytest.approx(-0.2 + NOISE.mean())
    )
    assert sentence([one, other], "the base model") == "Better than the base model at easy (acc, loss)."
    (worse,) = findings({"new": made(LEVEL - 0.2 + NOISE)}, made(LEVEL), set())
    assert sentence([worse], "it") == "Worse than it at easy (acc)."
    text = "\n".join([*lines([one, worse]), *markdown([one, worse])])
    assert text.count("better") == 2 and text.count("worse") == 2 and "<0.001" in text


def test_zeros_and_ones_are_shares_and_few_examples_are_not_judged() -> None:
    zeros = np.zeros(40)
    (share,) = findings({"new": made(zeros)}, made(zeros), set())
    # Of a share an interval is known though no answer differs; of other scores it is not.
    assert share.outcome.value == "no significant difference" and share.high is not None and share.high > 0
    (still,) = findings({"new": made(LEVEL)}, made(LEVEL), set())
    assert still.outcome.value == "not judged" and "all scores are the same" in still.note
    (few,) = findings({"new": made(zeros[:9])}, made(zeros[:9]), set())
    assert sentence([few], "it") == "Not judged: easy (acc) (easy has 9 examples, and 16 are needed)."
    assert "Not judged against it" in sentence([], "it")


def test_all_tests_are_one_family() -> None:
    one = made(LEVEL + 0.03 + NOISE)
    alone = findings({"new": one}, made(LEVEL), set())[0]
    tasks = {(f"t{n}", "acc"): of for n in range(20) for of in made(LEVEL + NOISE[::-1] * n).values()}
    among = findings(
        {"new": one | tasks}, made(LEVEL) | {key: made(LEVEL)["easy", "acc"] for key in tasks}, set()
    )
    assert alone.p is not None and among[0].p is not None and among[0].p > 10 * alone.p
    # By lm-eval's name for it, or any other, it is no likelihood that opens a sequence of tests.
    bits = {("easy", "bits_per_byte"): one["easy", "acc"]}
    reference = {("easy", "bits_per_byte"): made(LEVEL)["easy", "acc"]}
    assert findings({"new": one | bits}, made(LEVEL) | reference, set())[0].p == pytest.approx(2 * alone.p)


def test_other_examples_are_named() -> None:
    one, other = made(LEVEL) | made(LEVEL, task="hard"), made(LEVEL) | made(LEVEL[:20], task="hard")
    kept, left = same_examples(one, other)
    assert list(kept) == [("easy", "acc")] and left == ["hard"]
