"""The lines of each section that `scripts.inspect` prints."""

from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np

from scripts.inspect_screen import bar, excerpt
from scripts.inspect_tokens import Sample, ShapeParams
from sft.core.row_schema import SCHEMA
from sft.data.profile import Profile
from sft.data.source_rows import Reject
from sft.data.sources import Loaded
from sft.plotting.lengths import Bin, bins

FIRST = 5  # reasons that are shown
LIKE_FIRST = 2  # rejects shown of each
OF_EXTRAS = {
    "reasoning": "with reasoning before an answer",
    "tool_calls": "with calls of tools",
    "tools": "with a list of tools",
    "untrained": "with answers that the source excepts from training",
}


def layout(loaded: Loaded) -> list[str]:
    """Name the layouts, and the rows' kinds."""
    kinds = ", ".join(loaded.table["kind"].unique().to_pylist())
    names = ", ".join(loaded.layouts) or "the package's own, by a reader of its own"
    return [f"{names}; kind in data.weights: {kinds}" if kinds else names]


def columns(loaded: Loaded) -> list[str]:
    """Name the columns that conversations are made from, those kept beside them, and those dropped."""
    kept = [name for name in loaded.table.column_names if name not in SCHEMA.names]
    dropped = [f"{name} ({counted(number)})" for name, number in loaded.dropped.items()]
    named = (("used", loaded.used), ("kept", kept), ("dropped", dropped))
    return [f"{what + ':':<8} {', '.join(names)}" for what, names in named if names]


def rows(loaded: Loaded, max_rejects: float) -> list[str]:
    """Count rows, rejects and what is left out by design."""
    good, bad = len(loaded.table), len(loaded.rejects)
    lines = [f"{good + bad:,} read: {good:,} understood, {bad:,} rejected{share(bad, good + bad)}"]
    if bad > max_rejects * (good + bad):
        lines.append(
            f"more are rejected than data.max_rejects ({max_rejects:.2%}) allows: standardize would stop"
        )
    lines += [f"{count:,} left out by the reader: {reason}" for reason, count in loaded.skipped.items()]
    return lines


def rejected(found: list[Reject]) -> list[str]:
    """Count the rejects by reason, each with the first of them, and its file where there are several."""
    lines, several = [], len({one.source for one in found}) > 1
    for reason, count in Counter(reject.reason for reject in found).most_common():
        lines.append(f"{count:,} {reason}")
        first = [reject for reject in found if reject.reason == reason][:LIKE_FIRST]
        lines += [f"  {_place(one, several)}{_detail(one.detail)}: {excerpt(one.text, 60)}" for one in first]
    return lines


def _place(found: Reject, named: bool) -> str:
    return f"{found.source} row {found.row}" if named else f"row {found.row}"


def roles(found: Profile) -> list[str]:
    """Count messages by role, and rows by what they have beside texts."""
    lines = [
        f"{count:>7,} {role}, in {counted(found.rows_with[role])}{share(found.rows_with[role], found.rows)}"
        for role, count in found.messages.items()
    ]
    return lines + [
        f"{count:>7,} row{'s' * (count != 1)} {OF_EXTRAS[name]}{share(count, found.rows)}"
        for name, count in found.extras.items()
    ]


def turns(found: Profile) -> list[str]:
    """Count rows by their answers, and those that end on another turn than an answer."""
    few = {number: rows for number, rows in found.answers.items() if number <= 2}
    many = {number: rows for number, rows in found.answers.items() if number > 2}
    lines = [f"{rows:>7,} with {counted(n, 'answer')}{share(rows, found.rows)}" for n, rows in few.items()]
    if many:
        rows = sum(many.values())
        lines.append(f"{rows:>7,} with 3 or more{share(rows, found.rows)}; the most is {max(many)}")
    for role, rows in found.ends_on.items():
        if role != "assistant":
            lines.append(
                f"{rows:>7,} end on a turn of {role}{share(rows, found.rows)}, which nothing answers"
            )
    return lines


def repetitions(
    exact: int, total: int, compared: int, near: int, threshold: float, pairs: list[tuple[float, Any, Any]]
) -> list[str]:
    """Say how many rows repeat others, exactly and nearly, with pairs of the latter."""
    distinct = total - exact
    of_all = f" sampled of {distinct:,}" if compared < distinct else ""
    lines = [
        f"exact: {exact:,} of {total:,} rows repeat another{share(exact, total)}",
        f"near:  {near:,} of {compared:,} different rows{of_all}{share(near, compared)}, "
        f"similarity {threshold} or more",
    ]
    if near and of_all:
        lines.append("       among all there are more: both of a pair must be in the sample")
    for alike, one, other in pairs:
        lines.append(f"       {alike:.2f}  {said(one)}")
        lines.append(f"             {said(other)}")
    if exact:
        lines.append("mix leaves exact repetitions out")
    if near:
        lines.append(f"data.filters.near_duplicates: {threshold} leaves near ones out too")
    return lines


def overlap(counts: dict[str, int], examples: int, own: int, first: dict[str, Any]) -> list[str]:
    """Say how many rows hold an evaluation example, or its question only, with the first of each."""
    lines = []
    if examples:
        exact = counts["same_id"] + counts["question_and_answer"]
        lines.append(
            f"{counted(exact)} with one of {examples:,} evaluation examples: left out by standardize"
        )
        if "exact" in first:
            lines.append(f"  {said(first['exact'])}")
        lines.append(f"{counted(counts['question_only'])} with the question of one, and another answer: kept")
        if "question_only" in first:
            lines.append(f"  {said(first['question_only'])}")
    if own:
        lines.append(f"{counted(own, 'example')} made from these rows (tasks.*.source): not compared")
    return lines


def refusals(sample: Sample, sampled: int, total: int, reference: str, limit: float) -> list[str]:
    """Say how many rows of the sample the chat template refuses, and why."""
    found = sample.refusals
    refused = found.total()
    lines = [f"{reference} refuses {refused:,} of {among(sampled, total)}{share(refused, sampled)}"]
    for reason in found.ranked()[:FIRST]:
        first = found.examples[reason][0]
        lines.append(f"{found.counts[reason]:>7,} {reason}")
        lines.append(f"        {said(sample.first_refused[first['row']])}")
        if first["detail"] != reason:
            lines.append(f"        {first['detail']}")
    if refused > limit * sampled:
        lines.append(f"more than train.max_refused ({limit:.2%}) allows: train would stop. {found.advised()}")
    if sample.thoughtless_turns:
        answers = counted(sample.thoughtless_turns, "answer")
        lines.append(f"{answers} not in the loss: the template leaves out their thoughts")
    return lines


def lengths(sample: Sample, shape: ShapeParams, sampled: int, total: int) -> list[str]:
    """Draw the lengths, in tokens, with train.max_length marked."""
    found, limit = sample.lengths, shape.max_length
    over = sum(length > limit for length in found)
    but = " but those refused" if sample.refusals.counts else ""
    half, most = np.percentile(found, [50, 95], method="inverted_cdf").tolist()
    lines = [
        f"{among(sampled, total)}{but}, template included: median {half:,}, 95% have at most {most:,}, "
        f"the longest {max(found):,}",
        f"{sample.loss_share(limit):.0%} of the tokens up to train.max_length are in the loss "
        f"(train.loss_on: {shape.loss_on})",
    ]
    if shape.too_long == "truncate" and (without := sample.without_loss_in(limit)):
        lines.append(
            f"{counted(without)} with no token of these in the loss: left out{share(without, len(found))}"
        )
    drawn = [
        Bin(run[0].low, run[-1].high, run[0].rows)
        for (empty, _), group in groupby(bins(found, limit), lambda one: (not one.rows, one.low > limit))
        for run in ([[*group]] if empty else [[one] for one in group])
    ]
    highest = max(one.rows for one in drawn)
    width = max(len(f"{one.low:,} - {one.high:,}") for one in drawn)
    marked = False
    mark = f"{'-' * width}-- train.max_length {limit:,}: {counted(over)} longer{share(over, len(found))}"
    if over:
        mark += ", " + ("truncated" if shape.too_long == "truncate" else "left out")
    for one in drawn:
        if one.low > limit and not marked:
            lines.append(mark)
            marked = True
        span = f"{one.low:,} - {one.high:,}"
        lines.append(f"{span:>{width}}  {bar(one.rows, highest)} {one.rows:,}")
    return lines if marked else [*lines, mark]


def cut(tokens: int, shape: ShapeParams) -> str:
    """Say what becomes of a conversation of so many tokens where that is too many."""
    if tokens <= shape.max_length:
        return ""
    if shape.too_long == "drop":
        return f"left out: {tokens:,} tokens are more than train.max_length (train.too_long: drop)"
    return f"cut here by train.max_length: {tokens - shape.max_length:,} more tokens"


def among(sampled: int, total: int) -> str:
    """Say whether these are all rows or a sample."""
    return f"all {total:,} rows" if sampled == total else f"a sample of {sampled:,} rows (of {total:,})"


def share(part: int, whole: int) -> str:
    """Return the share in brackets; nothing for none or all."""
    return f" ({part / whole:.1%})" if 0 < part < whole else ""


def counted(number: int, what: str = "row") -> str:
    """Return a number with what is counted, in the plural but for 1."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def said(messages: list[dict[str, Any]]) -> str:
    """Return the beginning of a conversation's first user turn and its last answer, in one line."""
    users = [one["content"] or "" for one in messages if one["role"] == "user"]
    answers = [one["content"] or one["tool_calls"] or "" for one in messages if one["role"] == "assistant"]
    return " -> ".join(excerpt(text, 34) for text in (*users[:1], *answers[-1:]))


def _detail(detail: str) -> str:
    return f" ({detail})" if detail else ""
