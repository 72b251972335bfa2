"""What an answer is measured by, task by task."""

from sft.evaluation import recipe_format
from sft.evaluation.rouge import VARIANTS

# chrf: character n-gram F-score, 0 to 100 (sacreBLEU's defaults). nll: the mean negative log-likelihood of
# the reference's tokens in nats, which has no decoding noise; lower is better.
COMMON = [*VARIANTS, "chrf", "nll"]
LOWER_IS_BETTER = {"nll"}
# format: 1 for a recipe with a title, an ingredient at least and numbered steps, else 0; an answer that is
# cut off in its steps has them.
MEASURES = {"recipe": [*COMMON, "format"], "definition": COMMON, "dialogue": COMMON, "question": COMMON}


def chrf(references: list[str], predictions: list[str]) -> list[float]:
    """Return the chrF of each prediction against its reference, 0 to 100 (Popović 2015, by sacreBLEU)."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return [
        metric.sentence_score(prediction, [reference]).score
        for reference, prediction in zip(references, predictions, strict=True)
    ]


def own(task: str, prediction: str) -> dict[str, float]:
    """Return what only this task is measured by, of one answer."""
    return {"format": float(recipe_format.parse(prediction).complete)} if task == "recipe" else {}
