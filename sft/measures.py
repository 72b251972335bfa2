"""What an answer is measured by, task by task."""

from sft.rouge import VARIANTS

# chrf: character n-gram F-score, 0 to 100 (sacreBLEU's defaults). nll: the mean negative log-likelihood of
# the reference's tokens in nats, which has no decoding noise; lower is better.
COMMON = [*VARIANTS, "chrf", "nll"]
LOWER_IS_BETTER = {"nll"}
MEASURES = {"recipe": COMMON, "definition": COMMON, "dialogue": COMMON, "question": COMMON}


def chrf(references: list[str], predictions: list[str]) -> list[float]:
    """Return the chrF of each prediction against its reference, 0 to 100 (Popović 2015, by sacreBLEU)."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [
        metric.sentence_score(prediction, [reference]).score
        for reference, prediction in zip(references, predictions, strict=True)
    ]
