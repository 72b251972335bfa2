"""ROUGE-1, ROUGE-2 and ROUGE-L F-measures of single answers against single references.

The variant is google's rouge-score with Porter stemming: lower-cased, split at what is not a-z or 0-9,
ROUGE-L over the whole text as one sequence. rouge-score-rs computes the same numbers in a hundredth of
the time. Nothing is bootstrapped, so equal answers give equal scores.
"""

from functools import lru_cache

VARIANTS = ["rouge1", "rouge2", "rougeL"]


def score(references: list[str], predictions: list[str]) -> list[dict[str, float]]:
    """Return one dict of F-measures (0 to 1) for each pair of reference and prediction."""
    return _scores(tuple(references), tuple(predictions))


def f_measures(variant: str, references: list[str], predictions: list[str]) -> list[float]:
    """Return one variant's F-measure (0 to 1) for each pair of reference and prediction."""
    return [scores[variant] for scores in score(references, predictions)]


@lru_cache(maxsize=1)  # the variants are asked for one after another, of the same texts
def _scores(references: tuple[str, ...], predictions: tuple[str, ...]) -> list[dict[str, float]]:
    from rouge_score_rs import rouge_scorer

    scorer = rouge_scorer.RougeScorer(VARIANTS, use_stemmer=True)
    return [
        {variant: scores[variant].fmeasure for variant in VARIANTS}
        for scores in scorer.score_batch(list(references), list(predictions))
    ]
