"""The metrics' functions against the table of their names."""

from sft.evaluation import rouge
from sft.evaluation.metrics import OF_TEXTS
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS, ROUGE

REFERENCES = [["a pan of leeks"], ["salt", "a pinch of salt"], ["bake it until done"]]
PREDICTIONS = ["a pan", "pepper and salt", ""]


def test_every_metric_has_one_function_and_every_function_a_name() -> None:
    assert sorted([*OF_TEXTS, BITS_PER_BYTE]) == sorted(METRICS)


def test_the_variants_of_rouge_are_computed_once() -> None:
    rouge._scores.cache_clear()
    by_variant = {name: OF_TEXTS[name](REFERENCES, PREDICTIONS) for name in ROUGE}
    assert rouge._scores.cache_info().misses == 1
    for number, scores in enumerate(rouge.score(REFERENCES, PREDICTIONS)):
        assert scores == {name: by_variant[name][number] for name in ROUGE}
    assert OF_TEXTS["rouge1"]([[text] for text in PREDICTIONS], PREDICTIONS)[:2] == [
        1,
        1,
    ]  # of other texts, other scores


def test_a_score_for_each_pair() -> None:
    for metric in OF_TEXTS.values():
        assert len(metric(REFERENCES, PREDICTIONS)) == 3 and metric([], []) == []


def test_of_several_references_the_best_counts_whatever_their_order() -> None:
    one, other, prediction = "a pinch of salt", "some pepper", "a pinch of pepper"
    for name, metric in OF_TEXTS.items():
        (of_one,), (of_other,) = metric([[one]], [prediction]), metric([[other]], [prediction])
        for both in ([one, other], [other, one]):
            assert metric([both], [prediction]) == [max(of_one, of_other)], name
        assert of_one != of_other or name == "format"
