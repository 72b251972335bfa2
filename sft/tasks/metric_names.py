"""The metrics' names: which tasks have each, which direction is better, and how figures and tables show it.

Names only: the functions are in `sft.evaluation.metrics`, which plotting and study do without.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric: its `label` in figures, and the format of its mean and of its differences.

    A `common` metric is one of every task; another is one of the tasks that name it. One that is not a
    `headline` is left out of the metrics files. Of a `share` an answer scores 0 or 1. One that is not
    `decoded` is of an example, by the model's likelihoods: no answer is decoded for it, so it has no runs.
    """

    name: str
    label: str
    common: bool = True
    headline: bool = True
    lower_is_better: bool = False
    format: str = ".3f"
    share: bool = False
    decoded: bool = True


# Of the reference's text, given the prompt.
BITS_PER_BYTE = "bits_per_byte"
# 1 where the reference is the likeliest of the row's choices, by the mean over its characters: lm-eval's
# acc_norm.
MULTIPLE_CHOICE = "multiple_choice"
# 1 for an answer with the reference's tool calls.
TOOL_CALL = "tool_call"

_ALL = (
    Metric(BITS_PER_BYTE, "bits per byte", lower_is_better=True, decoded=False),
    Metric("rouge1", "ROUGE-1"),
    Metric("rouge2", "ROUGE-2"),
    Metric("rougeL", "ROUGE-L"),
    # Character n-gram F-score, 0 to 100.
    Metric("chrf", "chrF", headline=False, format=".1f"),
    # 1 for an answer that is a whole recipe, else 0.
    Metric("format", "recipe format", common=False, format=".0%", share=True),
    # 1 for an answer that is the reference, as SQuAD compares them.
    Metric("exact_match", "exact match", common=False, format=".0%", share=True),
    # 1 for an answer that is JSON.
    Metric("json_valid", "JSON valid", common=False, format=".0%", share=True),
    # F1 of the reference's fields.
    Metric("json_match", "JSON fields' F1", common=False),
    Metric(TOOL_CALL, "tool call", common=False, format=".0%", share=True),
    Metric(MULTIPLE_CHOICE, "multiple choice", common=False, format=".0%", share=True, decoded=False),
)
METRICS = {metric.name: metric for metric in _ALL}
COMMON = [metric.name for metric in _ALL if metric.common]
ROUGE = ["rouge1", "rouge2", "rougeL"]
