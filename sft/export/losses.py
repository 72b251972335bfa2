"""What an exported file loses against the adapter, whether that is too much, and all of it as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sft.evaluation.scores_file import DIGITS
from sft.export.formats import Q4_K_M
from sft.export.scoring import Scored
from sft.statistics.gains import Gain, gains
from sft.statistics.scores import Scores, ScoresOf
from sft.statistics.significance import TESTED_ROUGE
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS
from sft.tasks.task import AVERAGE

# The bits per byte, on average and relative to the adapter's, that a file may lose. The default's f16 loses
# 0.1%, its 95% interval half a percent either way; its q4_k_m loses 1.0% (up to 2.3%), but has 6.2 bits a
# weight where other models' have 4.9 (docs/export-scores.md).
LIMIT = 0.02
LIMIT_OF_4_BITS = 0.10
# Logits. Two tokens this near are tied in float32, whose rounding differs between processors. The default's
# merge gives the adapter's likeliest token everywhere.
TIE = 1e-3
# What stands for the answers of all tasks.
PROMPTS = "all answers"


@dataclass(frozen=True)
class Loss:
    """A file against the adapter: the share of its bits per byte that it loses, with a 95% interval or None.

    `gains` are all differences; `same` counts answers that are the adapter's, `answers` all of them.
    `differing` counts those of the float32 merge that are not the adapter's own in float32, None of others;
    `ties` those among the adapter's own in which another token is as likely, but for float32's rounding.
    """

    path: str
    limit: float
    gains: list[Gain]
    same: int
    answers: int
    differing: int | None = None
    ties: int = 0

    @property
    def likelihood(self) -> Gain:
        """The difference in bits per byte on average, or on the one task."""
        return next(gain for gain in self.gains if gain.metric == BITS_PER_BYTE)

    @property
    def share(self) -> float:
        """What is lost of the bits per byte, relative to the adapter's."""
        return self.likelihood.difference / self.likelihood.before

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of `share`."""
        low, high = self.likelihood.low, self.likelihood.high
        if low is None or high is None:
            return None
        return low / self.likelihood.before, high / self.likelihood.before

    @property
    def fault(self) -> str | None:
        """Say why the file is not good enough, and what to do; None where it is."""
        if self.differing:
            return (
                f"{self.path}: {self.differing} of {self.answers} greedy answers are not the adapter's, both "
                "in float32, so it is not this adapter merged. Export it again: make export"
            )
        if self.share > self.limit:
            return (
                f"{self.path}: it predicts the references {self.share:.1%} worse than the adapter, by bits "
                f"per byte on average, and the limit is {self.limit:.0%}. Do not use it: export it again, or "
                "use a format of more bits"
            )
        return None


def limit_of(format_name: str) -> float:
    """Return what a file of this format may lose."""
    return LIMIT_OF_4_BITS if format_name == Q4_K_M.name else LIMIT


def loss(
    path: str, format_name: str, file: Scored, adapter: Scored, behind: Sequence[float] | None = None
) -> Loss:
    """Compare a file with the adapter as the stage runs it.

    `behind`, of the float32 merge: how far its answers are from the adapter's in float32 (scoring.behind).
    Raises UserError where they were not scored on the same examples.
    """
    same = sum(one == other for one, other in zip(file.answers, adapter.answers, strict=True))
    found = gains(pooled(file.scores), pooled(adapter.scores))
    one = Loss(path, limit_of(format_name), found, same, len(file.answers))
    if behind is None:
        return one
    differing = sum(gap > TIE for gap in behind)
    return replace(one, differing=differing, ties=sum(gap > 0 for gap in behind) - differing)


def pooled(scores: Scores) -> Scores:
    """Put the answers of all tasks together for ROUGE-1: of one task there are too few for an interval."""
    rouge = {task: of for (task, metric), of in scores.items() if metric == TESTED_ROUGE}
    rest = {key: of for key, of in scores.items() if key[1] != TESTED_ROUGE}
    names = [f"{task}/{name}" for task, of in rouge.items() for name in of.examples]
    values = np.hstack([of.values for of in rouge.values()])
    return {**rest, (PROMPTS, TESTED_ROUGE): ScoresOf(names, values)}


def as_json(one: Loss) -> dict[str, Any]:
    """Return what scores.json holds of a file, what decides first."""
    interval = one.interval
    found: dict[str, Any] = {
        "passed": one.fault is None,
        "loss": round(one.share, DIGITS),
        "loss_interval": [round(end, DIGITS) for end in interval] if interval else None,
        "limit": one.limit,
        "same_answers": one.same,
    }
    if one.differing is not None:
        found["same_answers_in_float32"] = one.answers - one.differing
        found["ties_in_float32"] = one.ties
    if one.fault:
        found["why"] = one.fault
    for gain in one.gains:
        found.setdefault(gain.metric, {})[gain.task] = {
            "value": round(gain.after, DIGITS),
            "difference": round(gain.difference, DIGITS),
            "interval": None
            if gain.low is None or gain.high is None
            else [round(gain.low, DIGITS), round(gain.high, DIGITS)],
        }
    return found


def table(losses: Sequence[Loss], failures: Mapping[str, str], adapter: str) -> list[str]:
    """Return a table for people, the adapter's line first; `failures` are of files that cannot be scored."""
    rows = [["", "bits per byte", "lost, 95% interval", "ROUGE-1, difference, 95% interval", "same answers"]]
    if losses:
        bits, rouge = losses[0].likelihood.before, _rouge(losses[0]).before
        rows.append([adapter, f"{bits:.4f}", "", f"{rouge:.3f}", ""])
    for one in losses:
        rouge1, float32 = _rouge(one), ""
        if one.differing is not None:
            ties = f", {one.ties} at a tie" if one.ties else ""
            float32 = f" ({one.answers - one.differing} in float32{ties})"
        rows.append(
            [
                one.path,
                f"{one.likelihood.after:.4f}",
                f"{one.share:+z.2%}{_ends(one.interval, '+z.2%')}",
                f"{rouge1.after:.3f} {rouge1.difference:+z.3f}{_ends(_interval(rouge1), '+z.3f')}",
                f"{one.same} of {one.answers}{float32}",
            ]
        )
    rows += [[path, "not scored", "", "", ""] for path in failures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def worth(losses: Sequence[Loss]) -> str:
    """Say how many examples the scores are of, and how far the intervals reach."""
    halves = [(high - low) / 2 for low, high in filter(None, (one.interval for one in losses))]
    return f"half an interval of what is lost: {min(halves):.2%} to {max(halves):.2%}" if halves else ""


def _rouge(one: Loss) -> Gain:
    return next(gain for gain in one.gains if gain.metric == TESTED_ROUGE)


def _interval(gain: Gain) -> tuple[float, float] | None:
    return None if gain.low is None or gain.high is None else (gain.low, gain.high)


def _ends(interval: tuple[float, float] | None, plain: str) -> str:
    return f" ({interval[0]:{plain}} to {interval[1]:{plain}})" if interval else ""


def by_task(scores: Scores) -> dict[str, dict[str, float]]:
    """Return the means of the scores by metric and task, for what is compared with: the adapter."""
    found: dict[str, dict[str, float]] = {}
    for (task, metric), of in scores.items():
        if METRICS[metric].headline:
            found.setdefault(metric, {})[task] = round(float(of.values.mean()), DIGITS)
    if BITS_PER_BYTE in found and len(found[BITS_PER_BYTE]) > 1:
        means = list(found[BITS_PER_BYTE].values())
        found[BITS_PER_BYTE] = {AVERAGE: round(sum(means) / len(means), DIGITS), **found[BITS_PER_BYTE]}
    return found
