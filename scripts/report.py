"""Did this change make the model better? The comment on a pull request, and its gate.

    python -m scripts.report --base origin/main [--head REV] [--fail-on worse|stale|never]

Compares the workspace, or the commit of --head, with the commit where its branch left the base, and prints
Markdown: the verdict first, then params, scores with intervals and pictures, and below folds what describes
the runs. Needs Git and DVC, but no data, no cache and no GPU, for all that it reads is in Git.

The last line is the gate's. The exit status is 3 where dvc.lock is behind the code or the params, 4 where a
task or the average got significantly worse, else 0. Of these --fail-on makes both count (worse, the default),
only the first (stale) or none (never). It is 1 for an error, such as an unknown revision.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from scripts import report_sections as sections
from scripts.dvc_gate import Freshness, freshness
from scripts.markdown import code
from scripts.revisions import Side, checked_out, fork, resolve
from sft.core.errors import UserError
from sft.evaluation import scores_file
from sft.statistics.gains import Gain, gains, sentence
from sft.statistics.scores import Scores
from sft.statistics.significance import Outcome
from sft.tasks.metric_names import METRICS
from stages.cli import described
from stages.paths import SCORES_BASELINE, SCORES_EVALUATE

# Exit statuses; 2 is argparse's.
STALE, WORSE = 3, 4
# Characters; GitHub refuses a comment of more than 65,536.
LONGEST = 65_000


@dataclass(frozen=True)
class Comparison:
    """What the scores of two sides say: the `verdict`, and what was `found`, None where they have no scores.

    `note` says what only one side has.
    """

    verdict: str
    found: list[Gain] | None
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether anything can be said; scores that did not change need no judging."""
        found = self.found
        return found == [] or any(gain.outcome is not Outcome.NOT_JUDGED for gain in found or [])

    @property
    def worse(self) -> list[Gain]:
        """What got significantly worse."""
        return [gain for gain in self.found or [] if gain.outcome is Outcome.WORSE]

    @property
    def worse_by_itself(self) -> list[Gain]:
        """What was not tested, though the uncorrected interval excludes 0 on the worse side.

        The gate names it and does not fail.
        """
        untested = (gain for gain in self.found or [] if gain.outcome is Outcome.NOT_TESTED)
        return [gain for gain in untested if gain.by_itself is Outcome.WORSE]


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, metavar="REV", help="what the change is for: origin/main")
    parser.add_argument("--head", metavar="REV", help="the change; without it the workspace")
    parser.add_argument("--fail-on", choices=["worse", "stale", "never"], default="worse")
    given = parser.parse_args(arguments)
    try:
        head = Side(resolve(given.head or "HEAD"), workspace=not given.head)
        base, how = fork(given.base, head)
        compared = compare(base, head, given.base)
        lock = _freshness(head)
        shown = [
            *(_first(compared, lock), "", *_introduction(head, how, compared), ""),
            *sections.params(base, head),
            *sections.scores(compared.found or []),
            *sections.pictures(base, head, given.base),
        ]
        below = [*sections.provenance(base, head), *sections.metrics(base, head)]
        last, status = gate(lock, compared, given.fail_on)
    except UserError as error:
        print(f"error: {described(error)}", file=sys.stderr)
        return 1
    print(fitted(shown, below, last))
    return status


def fitted(shown: list[str], below: list[str], last: str) -> str:
    """Put a report together; where it is too long for a comment, leave out what is `below`, then more."""
    if _length(shown, below, last) > LONGEST:
        below = ["What describes the runs is too long for a comment: `dvc metrics diff` has the metrics.", ""]
    if _length(shown, below, last) > LONGEST:
        unfolded = re.sub("<details>.*?</details>", "", "\n".join(shown), flags=re.DOTALL)
        shown = [*unfolded.split("\n"), "The tables' other rows are too long for a comment.", ""]
    while shown and _length(shown, below, last) > LONGEST:  # a cell may be of any length
        del shown[max(range(len(shown)), key=lambda number: len(shown[number]))]
    return "\n".join([*shown, *below, last])


def _length(shown: list[str], below: list[str], last: str) -> int:
    return len("\n".join([*shown, *below, last]))


def compare(base: Side, head: Side, branch: str) -> Comparison:
    """Compare the adapters' scores on both sides; `branch` is the base's name."""
    try:
        after, before = head.read(SCORES_EVALUATE), base.read(SCORES_EVALUATE)
        if after is None:
            return _not_compared(
                f"{head} has no {SCORES_EVALUATE}. Run `dvc repro` and commit what it writes."
            )
        if before is None:
            return _not_compared(f"{base} has no {SCORES_EVALUATE}. {_how_to_get_scores(branch)}")
        if after == before:
            return Comparison("No difference: every answer's scores are those of before.", [])
        ours, theirs = (
            scores_file.parse(text, f"{SCORES_EVALUATE} of {side}")
            for text, side in ((after, head), (before, base))
        )
        found = gains(ours, theirs)
    except UserError as error:
        return _not_compared(str(error))
    return Comparison(sentence(found, "before"), found, _one_sided(ours, theirs))


def _not_compared(why: str) -> Comparison:
    return Comparison(f"Results not compared: {why}", None)


def _one_sided(after: Scores, before: Scores) -> str:
    one_sided = sorted(f"{task} by {_label(metric)}" for task, metric in after.keys() ^ before.keys())
    return f"Not compared, for one side lacks it: {', '.join(map(code, one_sided))}." if one_sided else ""


def _label(metric: str) -> str:
    """Return the metric's label; its name where another commit's scores have it and this code does not."""
    return METRICS[metric].label if metric in METRICS else metric


def _how_to_get_scores(branch: str) -> str:
    if Side(resolve(branch)).read(SCORES_EVALUATE) is not None:
        return f"By now `{branch}` has it: `git merge {branch}`, `dvc repro`, commit."
    return f"It is older. With today's code on `{branch}`, run `dvc repro` there and commit; then merge it."


def _against_base_model(side: Side) -> str:
    try:
        after, before = side.read(SCORES_EVALUATE), side.read(SCORES_BASELINE)
        if after is None or before is None:
            return f"Not compared with the base model: {side} lacks its scores."
        files = ((after, SCORES_EVALUATE), (before, SCORES_BASELINE))
        tuned, untrained = (scores_file.parse(text, f"{name} of {side}") for text, name in files)
        return sentence(gains(tuned, untrained), "the base model")
    except UserError as error:
        return f"Not compared with the base model: {error}"


def _freshness(head: Side) -> Freshness:
    if head.workspace:
        return freshness()
    with checked_out(head.commit) as folder:
        return freshness(folder)


def _first(compared: Comparison, lock: Freshness) -> str:
    if not lock.behind:
        return compared.verdict
    return f"**The scores are of an earlier run, see the last line.** Of that run: {compared.verdict}"


def _introduction(head: Side, how: str, compared: Comparison) -> Iterator[str]:
    yield how
    if compared.note:
        yield compared.note
    yield _against_base_model(head)


def gate(lock: Freshness, compared: Comparison, fail_on: str) -> tuple[str, int]:
    """Return the gate's line and the exit status."""
    status = 0
    if lock.behind and fail_on != "never":
        status = STALE
    elif compared.worse and fail_on == "worse":
        status = WORSE
    said = []
    if lock.behind:
        stages = ", ".join(f"{stage} ({', '.join(map(code, what))})" for stage, what in lock.behind.items())
        said.append(f"dvc.lock is behind: `dvc repro` would run {stages} and what follows; run it and commit")
    else:
        said.append("dvc.lock is up to date with code and params")
    if lock.unchecked:
        said.append(f"data/raw was not checked, for this clone lacks {', '.join(map(code, lock.unchecked))}")
    if compared.worse:
        said.append(f"significantly worse: {_names(compared.worse)}")
    elif not compared.judged:
        said.append("whether a task got worse is not known")
    else:
        said.append("no task got significantly worse")
    if compared.worse_by_itself:
        names = _names(compared.worse_by_itself)
        said.append(f"not tested, though worse by its own 95% interval: {names}")
    return f"**Gate {'failed' if status else 'passed'}** (--fail-on {fail_on}): {'; '.join(said)}.", status


def _names(found: list[Gain]) -> str:
    return ", ".join(f"{gain.task} by {METRICS[gain.metric].label}" for gain in found)


if __name__ == "__main__":
    sys.exit(main())
