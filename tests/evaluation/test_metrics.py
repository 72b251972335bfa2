"""The metrics' functions against the table of their names."""

from sft.evaluation import rouge
from sft.evaluation.metrics import OF_MODEL, OF_TEXTS
from sft.tasks.metric_names import METRICS, ROUGE

REFERENCES = ["a pan of leeks", "salt", "bake it until done"]
PREDICTIONS = ["a pan", "pepper and salt", ""]


def test_every_metric_has_one_function_and_every_function_a_name() -> None:
    assert sorted([*OF_TEXTS, *OF_MODEL]) == sorted(METRICS)


def test_the_variants_of_rouge_are_computed_once() -> None:
    rouge._scores.cache_clear()
    by_variant = {name: OF_TEXTS[name](REFERENCES, PREDICTIONS) for name in ROUGE}
    assert rouge._scores.cache_info().misses == 1
    for number, scores in enumerate(rouge.score(REFERENCES, PREDICTIONS)):
        assert scores == {name: by_variant[name][number] for name in ROUGE}
    assert OF_TEXTS["rouge1"](PREDICTIONS, PREDICTIONS)[:2] == [1, 1]  # of other texts, other scores


def test_a_score_for_each_pair() -> None:
    for metric in OF_TEXTS.values():
        assert len(metric(REFERENCES, PREDICTIONS)) == 3 and metric([], []) == []
