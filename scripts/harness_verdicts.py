"""Whether one model is better than another at benchmarks, paired over the examples, with 95% intervals.

Every metric of every task is tested, all of them together by Holm's method, as sft/statistics has it. These
tests are a family of their own: a benchmark that ran changes no verdict of the pipeline's tasks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sft.statistics.gains import lack_words
from sft.statistics.intervals import Interval, Refusal, compare_adapters
from sft.statistics.scores import Scores, aligned
from sft.statistics.significance import Outcome, Verdict, verdicts


@dataclass(frozen=True)
class Finding:
    """A comparison of `name` with the reference; differences and intervals are as the metric counts."""

    name: str
    task: str
    metric: str
    examples: int
    before: float
    after: float
    low: float | None
    high: float | None
    p: float | None
    outcome: Outcome
    note: str

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before


def findings(
    others: Mapping[str, Scores], reference: Scores, lower: Collection[tuple[str, str]]
) -> list[Finding]:
    """Compare others with the reference, on the tasks and metrics that both have.

    `lower` are those of which less is better. Raises UserError where a task's examples are not the same.
    """
    pairs: dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]] = {}
    for name, scores in others.items():
        for task, metric in scores:
            if (task, metric) in reference:
                of = aligned(task, {name: scores[task, metric], "": reference[task, metric]})
                pairs[name, task, metric] = (of[name], of[""])
    results = {
        # Not by lm-eval's own name: its bits_per_byte is not the likelihood that opens a sequence of tests.
        (name, task, f"benchmark {metric}"): _compared(*pair, (task, metric) in lower)
        for (name, task, metric), pair in pairs.items()
    }
    return [
        _finding(key, pairs[key], verdict, key[1:] in lower)
        for key, verdict in zip(pairs, verdicts(results).values(), strict=True)
    ]


def lines(found: Sequence[Finding]) -> list[str]:
    """Return a table for the terminal, a line a finding."""
    tasks, metrics = (
        max((len(text) for text in of), default=0)
        for of in ([f.task for f in found], [f.metric for f in found])
    )
    table = []
    for one in found:
        note = f" ({one.note})" if one.note else ""
        interval = f"95% interval {_interval(one)}" if one.low is not None else ""
        table.append(
            f"  {one.task:<{tasks}}  {one.metric:<{metrics}}  {one.before:.4f} -> {one.after:.4f}  "
            f"{one.difference:+.4f}  {interval:<32}  {one.outcome.value}{note}"
        )
    return table


def sentence(found: Sequence[Finding], than: str) -> str:
    """Put the verdict into one sentence; `than` is what was compared with, such as "the base model"."""
    if not found:
        return f"Not judged against {than}: no metric of these tasks is a mean over examples."
    named = {outcome: _listed([one for one in found if one.outcome is outcome]) for outcome in Outcome}
    better, worse, same = (named[of] for of in (Outcome.BETTER, Outcome.WORSE, Outcome.NO_DIFFERENCE))
    clauses = []
    if better:
        clauses += [f"Better than {than} at {better}", *([f"but worse at {worse}"] if worse else [])]
    elif worse:
        clauses += [f"Worse than {than} at {worse}"]
    if same:
        clauses += [f"{'no' if clauses else 'No'} significant difference from {than} at {same}"]
    for note in dict.fromkeys(one.note for one in found if one.outcome is Outcome.NOT_JUDGED):
        refused = [one for one in found if one.outcome is Outcome.NOT_JUDGED and one.note == note]
        clauses += [f"{'not' if clauses else 'Not'} judged: {_listed(refused)} ({note})"]
    return f"{'; '.join(clauses)}."


def markdown(found: Sequence[Finding]) -> list[str]:
    """Return a Markdown table, a row a finding."""
    rows = [
        f"| {one.name} | {one.task} | {one.metric} | {one.examples:,} | {one.difference:+.4f} "
        f"| {_interval(one)} | {'' if one.p is None else '<0.001' if one.p < 0.001 else f'{one.p:.3f}'} "
        f"| {one.outcome.value}{f' ({one.note})' if one.note else ''} |"
        for one in found
    ]
    return [
        "| | task | metric | examples | difference | 95% interval | p, corrected | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _compared(after: np.ndarray, before: np.ndarray, lower: bool) -> Interval | Refusal:
    share = bool(np.isin((after, before), (0.0, 1.0)).all())
    first, second = (before, after) if lower else (after, before)
    return compare_adapters([first], [second], share)


def _finding(
    key: tuple[str, str, str], pair: tuple[np.ndarray, np.ndarray], verdict: Verdict, lower: bool
) -> Finding:
    low = high = None
    note = ""
    if isinstance(verdict.result, Interval):
        low, high = verdict.result.low, verdict.result.high
        if lower:
            low, high = -high, -low
    else:
        note = lack_words(verdict.result, key[1])
    after, before = (float(side.mean()) for side in pair)
    return Finding(*key, pair[0].shape[-1], before, after, low, high, verdict.p, verdict.outcome, note)


def _interval(one: Finding) -> str:
    return "" if one.low is None or one.high is None else f"{one.low:+.4f} to {one.high:+.4f}"


def _listed(found: Sequence[Finding]) -> str:
    """Name tasks, each with its metrics: arc_easy (acc, acc_norm), ifeval (...)."""
    metrics: dict[str, list[str]] = {}
    for one in found:
        metrics.setdefault(one.task, []).append(one.metric)
    return ", ".join(f"{task} ({', '.join(of)})" for task, of in metrics.items())


def same_examples(one: Scores, other: Scores) -> tuple[Scores, list[str]]:
    """Return of `one` what can be paired with `other`, and the tasks whose examples are others there."""
    kept = {
        key: of for key, of in one.items() if key not in other or set(of.examples) == set(other[key].examples)
    }
    return kept, list(dict.fromkeys(task for task, metric in one if (task, metric) not in kept))
