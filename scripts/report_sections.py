"""What a report shows below its verdict: params, scores, pictures, and folded what describes the runs."""

import json
from collections.abc import Iterator
from typing import Any

from scripts.dvc_gate import metrics_diff
from scripts.markdown import code, fold, table
from scripts.revisions import Side, github
from sft.core.errors import UserError
from sft.core.params import parse
from sft.statistics.gains import Gain
from sft.statistics.significance import Outcome
from sft.tasks.metric_names import METRICS
from sft.tasks.task import AVERAGE
from stages.cli import PARAMS

PICTURE = "plots/gain.png"
PROVENANCE = "provenance"
# Rows that a table shows; the others are folded, so that the comment stays a page.
PARAMS_SHOWN, SCORES_SHOWN = 10, 24
UNITS = (
    "Bits per byte: how badly the model predicts the reference answers, so lower is better. ROUGE-1, 0 to 1: "
    "how many words an answer shares with the reference, so higher is better, as is a share in %. "
    "Differences of shares are in percentage points."
)
SIGNIFICANT = (Outcome.BETTER, Outcome.WORSE)


def params(base: Side, head: Side) -> list[str]:
    """Return a table of the params that differ; raise UserError for a damaged params.yaml."""
    before, after = (
        {} if (text := side.read(PARAMS)) is None else flat(parse(text, f"{PARAMS} of {side}"))
        for side in (base, head)
    )
    rows = [[code(name), code(old), code(new)] for name, old, new in changes(before, after)]
    if not rows:
        return ["No param changed.", ""]
    return _shown(["param", "before", "after"], rows, PARAMS_SHOWN, "params")


def scores(found: list[Gain]) -> list[str]:
    """Return a table of what was compared, a row a task and metric."""
    head = ["task", "metric", "before", "after", "difference", "95% interval", "verdict"]
    if not found:
        return []
    if len(found) > SCORES_SHOWN:  # what differs goes first
        found = sorted(found, key=lambda gain: gain.outcome not in SIGNIFICANT)
    return [*_shown(head, [_score(gain) for gain in found], SCORES_SHOWN, "scores"), UNITS, ""]


def _score(gain: Gain) -> list[str]:
    metric = METRICS[gain.metric]
    number = metric.format
    interval = (
        "" if gain.low is None or gain.high is None else f"{gain.low:+z{number}} to {gain.high:+z{number}}"
    )
    verdict = gain.outcome.value
    if gain.outcome in SIGNIFICANT:
        verdict = f"**{verdict}**"
    elif gain.note:
        verdict = f"{verdict} ({gain.note})"
    return [
        gain.task if gain.task == AVERAGE else code(gain.task),
        metric.label + (" (lower is better)" if metric.lower_is_better else ""),
        f"{gain.before:{number}}",
        f"{gain.after:{number}}",
        f"{gain.difference:+z{number}}",  # z: no -0.000
        interval,
        verdict,
    ]


def _shown(head: list[str], rows: list[list[str]], shown: int, what: str) -> list[str]:
    """Return a table of which the rows after the first `shown` are folded."""
    lines = [*table(head, rows[:shown]), ""]
    rest = rows[shown:]
    return [*lines, *fold(f"{len(rest)} more {what}", table(head, rest) if rest else [])]


def pictures(base: Side, head: Side, branch: str) -> list[str]:
    """Return both sides' figures of the gains, by their addresses, where the repository is on GitHub.

    Not by raw.githubusercontent.com, where a private repository's pictures need a token.
    """
    address = github(branch)
    sides = {"before": base, "after": head}
    drawn = {name: side for name, side in sides.items() if side.committed(PICTURE)}
    if not address or not drawn:
        return []
    links = [
        f"![gains over the base model, {name}]({address}/raw/{side.commit}/{PICTURE})"
        for name, side in drawn.items()
    ]
    return [*table(list(drawn), [links]), ""]


def provenance(base: Side, head: Side) -> list[str]:
    """Return, folded, what differs in the files that describe the runs."""
    rows = []
    for path in sorted({*base.files(PROVENANCE), *head.files(PROVENANCE)}):
        before, after = (_json(side, path) for side in (base, head))
        rows += [
            [code(path), code(name), code(_short(old)), code(_short(new))]
            for name, old, new in changes(before, after)
        ]
    lines = table(["file", "entry", "before", "after"], rows) if rows else []
    return fold("What describes the runs: time, memory, machine, versions", lines)


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _json(side: Side, path: str) -> dict[str, Any]:
    try:
        value = json.loads(side.read(path) or "{}")
    except (ValueError, UserError):
        value = None
    return flat(value) if isinstance(value, dict) else {"": "damaged"}


def metrics(base: Side, head: Side) -> list[str]:
    """Return, folded, all metrics that differ."""
    try:
        lines = metrics_diff(base, head).splitlines()
        lines = lines if len(lines) > 2 else []  # no more than the head of a table
    except UserError as error:
        lines = [str(error)]
    return fold("All metrics that changed (<code>dvc metrics diff</code>)", lines)


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": leaf for name, leaf in flat(value).items()}
        else:
            found[str(key)] = value
    return found


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old and new value of what differs, in `after`'s order; "" where one side has none."""
    for name in [*after, *(name for name in before if name not in after)]:
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield name, old, new
