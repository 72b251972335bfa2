"""The functions of the metrics of answers; `sft.tasks.metric_names` has their names, labels and directions.

A new metric is a function and a row here, and a row there. `likelihood` has the one metric that is none of an
answer's.
"""

from collections.abc import Callable, Sequence
from functools import partial

from sft.evaluation import recipe_format, rouge

# (the references of each, predictions) -> a score for each prediction: of several references the best.
OfTexts = Callable[[Sequence[Sequence[str]], Sequence[str]], list[float]]


def chrf(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return the chrF of each prediction, 0 to 100 (Popović 2015, by sacreBLEU)."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [
        metric.sentence_score(prediction, of_one).score
        for of_one, prediction in zip(references, predictions, strict=True)
    ]


def whole_recipe(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction with a title, an ingredient at least and numbered steps, else 0.

    One that is cut off in its steps has them. The references do not matter.
    """
    return [float(recipe_format.parse(prediction).complete) for prediction in predictions]


OF_TEXTS: dict[str, OfTexts] = {
    **{variant: partial(rouge.f_measures, variant) for variant in rouge.VARIANTS},
    "chrf": chrf,
    "format": whole_recipe,
}
