"""The metrics' names: which tasks have each, which direction is better, and how figures and tables show it.

Names only: the functions are in `sft.evaluation.metrics`, which plotting and study do without.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric of an answer: its `label` in figures, and the format of its mean and of its differences.

    A `common` metric is one of every task; another is one of the tasks that name it. `unit` is what it is
    counted in, for axes and tables, or "". Of a `share` an answer scores 0 or 1.
    """

    name: str
    label: str
    common: bool = True
    lower_is_better: bool = False
    format: str = ".3f"
    unit: str = ""
    share: bool = False


_ALL = (
    Metric("rouge1", "ROUGE-1"),
    Metric("rouge2", "ROUGE-2"),
    Metric("rougeL", "ROUGE-L"),
    # Character n-gram F-score, 0 to 100.
    Metric("chrf", "chrF", format=".1f"),
    # Of the reference's tokens, given the prompt: no decoding noise.
    Metric("nll", "negative log-likelihood", lower_is_better=True, unit="nats a token"),
    # 1 for an answer that is a whole recipe, else 0.
    Metric("format", "recipe format", common=False, format=".0%", share=True),
)
METRICS = {metric.name: metric for metric in _ALL}
COMMON = [metric.name for metric in _ALL if metric.common]
ROUGE = ["rouge1", "rouge2", "rougeL"]
