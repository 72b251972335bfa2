"""The functions of the metrics of answers; `sft.tasks.metric_names` has their names, labels and directions.

A new metric is a function and a row here, and a row there. `likelihood` has the metrics that are none of an
answer's.
"""

import re
import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sft.evaluation import json_answers, recipe_format, rouge, tool_calls

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


_ARTICLES = re.compile(r"\b(a|an|the)\b")
# But the point and the sign of a number.
_PUNCTUATION = re.compile(
    rf"[{re.escape(string.punctuation.translate(str.maketrans('', '', '.-')))}]"
    r"|[.-](?!\d)|(?<=[a-z])[.-]"
)


def exact_match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return 1 for a prediction that is one of its references, else 0.

    Both without case, ASCII punctuation, English articles and further white space, as SQuAD's script has it
    (Rajpurkar et al. 2016), but with the point and the sign of numbers; of a reference that is nothing but
    articles or punctuation these are left.
    """
    return [
        float(any(_same(reference, prediction) for reference in of_one))
        for of_one, prediction in zip(references, predictions, strict=True)
    ]


def _same(reference: str, prediction: str) -> bool:
    for form in (_squad, _words):
        if wanted := form(reference):
            return form(prediction) == wanted
    return prediction.strip() == reference.strip()


def _squad(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", _words(text)).split())


def _words(text: str) -> str:
    return " ".join(_PUNCTUATION.sub("", text.lower()).split())


OF_TEXTS: dict[str, OfTexts] = {
    **{variant: partial(rouge.f_measures, variant) for variant in rouge.VARIANTS},
    "chrf": chrf,
    "format": whole_recipe,
    "exact_match": exact_match,
    "json_valid": json_answers.valid,
    "json_match": json_answers.match,
    "tool_call": tool_calls.match,
}

# What reads a reference for a metric: ValueError where the metric can make nothing of it.
READERS: dict[str, Callable[[str], Any]] = {
    "json_match": json_answers.parse,
    "tool_call": tool_calls.parse,
}
