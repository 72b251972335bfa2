"""ROUGE-1, ROUGE-2 and ROUGE-L F-measures of single answers, each against one reference or several.

The variant is google's rouge-score with Porter stemming: lower-cased, split at what is not a-z or 0-9,
ROUGE-L over the whole text as one sequence; of several references, variant by variant, the one that gives the
most (its `score_multi`). rouge-score-rs computes the same numbers in a hundredth of the time. Nothing is
bootstrapped, so equal answers give equal scores.
"""

from collections.abc import Sequence
from functools import lru_cache

VARIANTS = ["rouge1", "rouge2", "rougeL"]


def score(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[dict[str, float]]:
    """Return one dict of F-measures (0 to 1) for each prediction and its references, one at least."""
    return _scores(tuple(map(tuple, references)), tuple(predictions))


def f_measures(variant: str, references: Sequence[Sequence[str]], predictions: Sequence[str]) -> list[float]:
    """Return one variant's F-measure (0 to 1) for each prediction and its references."""
    return [scores[variant] for scores in score(references, predictions)]


@lru_cache(maxsize=1)  # the variants are asked for one after another, of the same texts
def _scores(references: tuple[tuple[str, ...], ...], predictions: tuple[str, ...]) -> list[dict[str, float]]:
    from rouge_score_rs import rouge_scorer

    scorer = rouge_scorer.RougeScorer(VARIANTS, use_stemmer=True)
    best = [scorer.score_multi(*pair) for pair in zip(references, predictions, strict=True)]
    return [{variant: scores[variant].fmeasure for variant in VARIANTS} for scores in best]
