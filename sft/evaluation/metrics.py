"""The metrics' functions; `sft.tasks.metric_names` has their names, labels and directions.

A new metric is a function and a row here, and a row there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from sft.evaluation import recipe_format, rouge

# (references, predictions) -> a score for each pair.
OfTexts = Callable[[list[str], list[str]], list[float]]
# (model, tokenizer, examples) -> a score for each example, the same for all answers to it.
OfModel = Callable[[Any, Any, list[dict[str, Any]]], list[float]]


def chrf(references: list[str], predictions: list[str]) -> list[float]:
    """Return the chrF of each prediction against its reference, 0 to 100 (Popović 2015, by sacreBLEU)."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [
        metric.sentence_score(prediction, [reference]).score
        for reference, prediction in zip(references, predictions, strict=True)
    ]


def whole_recipe(references: list[str], predictions: list[str]) -> list[float]:
    """Return 1 for a prediction with a title, an ingredient at least and numbered steps, else 0.

    One that is cut off in its steps has them.
    """
    return [float(recipe_format.parse(prediction).complete) for prediction in predictions]


def nll(model: Any, tokenizer: Any, examples: list[dict[str, Any]]) -> list[float]:
    """Return the mean negative log-likelihood of each example's reference in nats a token.

    Raises UserError where the chat template refuses an example, or does not show which tokens are the
    assistant's.
    """
    from sft.evaluation.likelihood import reference_nll

    return reference_nll(model, tokenizer, examples)


OF_TEXTS: dict[str, OfTexts] = {
    **{variant: partial(rouge.f_measures, variant) for variant in rouge.VARIANTS},
    "chrf": chrf,
    "format": whole_recipe,
}
OF_MODEL: dict[str, OfModel] = {"nll": nll}
