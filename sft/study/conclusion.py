"""What a study's numbers say, in one paragraph."""

import numpy as np

from sft.statistics.gains import lack_words, note_of
from sft.statistics.intervals import Refusal
from sft.statistics.significance import Outcome, Verdict
from sft.study.analysis import (
    COMPARED_BY,
    Comparison,
    Condition,
    Kind,
    Pair,
    Study,
    condition_pairs,
    size_pairs,
)
from sft.study.results import Result
from sft.study.wording import condition_name, difference_words, rows_words
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE


def conclusion(study: Study, results: list[Result]) -> str:
    """Say what the numbers say: of the largest size in each condition, and between conditions."""
    sentences = [_of_sizes(study)]
    for condition in study.conditions:
        if pairs := size_pairs(condition):
            pair = pairs[-1]
            words = f"{rows_words(pair.size)} rows instead of {rows_words(pair.reference_size)}"
            sentences += [f"Trained for {condition_name(condition)}, {words} {_outcome(study, pair)}."]
            sentences += [_reading(condition, pair.reference_size, pair.size)]
    for pair in condition_pairs(study.conditions):
        words = f"{condition_name(pair.condition)} instead of {condition_name(pair.reference)}"
        sentences += [f"With {rows_words(pair.size)} rows, {words} {_outcome(study, pair)}."]
    judged = list(study.verdicts.values())
    if refused := sum(verdict.outcome is Outcome.NOT_JUDGED for verdict in judged):
        sentences += [
            f"{refused} of the {len(judged)} pre-registered comparisons could not be made yet, for the "
            "reasons in the table."
        ]
    model = results[0].params["model"]["reference"]
    sentences += [f"This speaks of {model} on this data and these tasks only."]
    return " ".join(filter(None, sentences))


def _of_sizes(study: Study) -> str:
    """Say what came of the primary endpoint, of the sizes that could be compared."""
    outcomes = [
        verdict.outcome
        for (pair, task, metric), verdict in study.verdicts.items()
        if pair.kind is Kind.SIZE
        and (task, metric) == (study.whole, BITS_PER_BYTE)
        and verdict.outcome is not Outcome.NOT_JUDGED
    ]
    if not outcomes:
        return ""
    return (
        f"By the primary endpoint, bits per byte on {_where(study)}, a larger mix is better than the "
        f"smallest in {outcomes.count(Outcome.BETTER)} of {len(outcomes)} comparisons, and worse in "
        f"{outcomes.count(Outcome.WORSE)}."
    )


def _outcome(study: Study, pair: Pair) -> str:
    """Say what came of a comparison on the average of the tasks, and on which tasks it is significant."""
    parts = []
    for metric in COMPARED_BY:
        verdict = study.verdicts[Comparison(pair, study.whole, metric)]
        difference, interval = difference_words(verdict.result, metric)
        details = f"{difference}, 95% interval {interval}" if interval else difference
        parts.append(f"{_verb(verdict, metric)} by {METRICS[metric].label} ({details})")
    tasks = [
        f"{verdict.outcome.value} on {comparison.task} by {METRICS[comparison.metric].label}"
        for comparison, verdict in study.verdicts.items()
        if comparison.pair == pair and comparison.task != study.whole and verdict.significant
    ]
    of_tasks = f"; task by task it is {', '.join(tasks)}" if tasks else ""
    return f"{' and '.join(parts)} on {_where(study)}{of_tasks}"


def _where(study: Study) -> str:
    return "the average of the tasks" if study.whole == AVERAGE else study.whole


def _verb(verdict: Verdict, metric: str) -> str:
    if isinstance(verdict.result, Refusal):
        return f"cannot be judged ({lack_words(verdict.result)})"
    if verdict.outcome is Outcome.NO_DIFFERENCE:
        return f"makes no significant difference ({note_of(verdict, metric)})"
    return f"is {verdict.outcome.value}"


def _reading(condition: Condition, smallest: int, largest: int) -> str:
    """Say what else than the mix's size differs: hardly any of it was read, or training was longer, too."""
    read = {
        size: [result.trained for result in condition.sizes[size].results] for size in (smallest, largest)
    }
    distinct = {size: max(one["distinct_rows_seen"] for one in read[size]) for size in read}
    mean = {
        name: {size: float(np.mean([one[name] for one in read[size]])) for size in read}
        for name in ("rows_seen", "tokens_seen")
    }
    if distinct[largest] < largest / 2:
        return (
            f"Such a training reads {distinct[largest]:,} of {largest:,} rows and {distinct[smallest]:,} of "
            f"{smallest:,}, on average {mean['tokens_seen'][largest]:,.0f} and "
            f"{mean['tokens_seen'][smallest]:,.0f} tokens: the mix's size decides from which sources they "
            "come, not how many rows there are."
        )
    more = {name: sizes[largest] / sizes[smallest] for name, sizes in mean.items()}
    if max(more.values()) < 1.05:
        return ""
    return (
        f"The training on {rows_words(largest)} rows also reads {more['rows_seen']:.1f} times as many rows "
        f"and {more['tokens_seen']:.1f} times as many tokens."
    )
