"""What chains have shown: a table of the kills, and every fault in a sentence."""

from collections import Counter
from collections.abc import Sequence

from benchmarks.chaos.chain import Kill, Report

PASSED = (
    "0 lost, 0 stale, 0 manual steps, 0 orphans; training did no more twice than what lies between two "
    "checkpoints, evaluation no answer."
)


def faults(reports: Sequence[Report], stages: Sequence[str] = ()) -> list[str]:
    """Name each fault; with `stages`, also the stages in which nothing was killed."""
    found = []
    for report in reports:
        chain = f"chain {report.chain} ({report.kind})"
        for what in ("lost", "stale", "manual"):
            found += [f"{chain}: {what}: {one}" for one in getattr(report, what)]
        for kill in report.kills:
            if kill.orphans:
                found.append(f"{chain}: {kill.means} in {kill.place}: it went on without DVC")
            if too_much(kill):
                found.append(
                    f"{chain}: {kill.means} at step {kill.step}: {kill.done_twice_seconds} s were trained "
                    f"twice, and {kill.allowed_seconds} are allowed"
                )
            if kill.answers_kept is not None and kill.answers_kept < (kill.answers or 0):
                found.append(
                    f"{chain}: {kill.means} in {kill.place}: {kill.answers} answers were there, and "
                    f"{kill.answers_kept} were kept"
                )
    hit = {kill.place for report in reports for kill in report.kills}
    return found + [f"{stage}: no run was killed in it" for stage in stages if stage not in hit]


def too_much(kill: Kill) -> bool:
    """Whether training did more twice than what lies between two checkpoints."""
    return kill.done_twice_seconds is not None and kill.done_twice_seconds > (kill.allowed_seconds or 0)


def of_chain(report: Report) -> list[str]:
    """Say in a few lines what came of a chain."""
    lines = [
        f"chain {report.chain}, {report.kind}: {len(report.kills)} kills, {report.runs} runs, "
        f"{report.went_on} went on with work of before, {report.refused} refused, {report.seconds:.0f} s"
    ]
    for kill in report.kills:
        line = f"  {kill.seconds_into_run:6.1f} s  {kill.place:<27} {kill.means}"
        if kill.went_on_from is not None:
            line += f"; at step {kill.step}, then from {kill.went_on_from}: {kill.done_twice_seconds} s twice"
        if kill.answers_kept is not None:
            line += f"; at answer {kill.answers}, then with {kill.answers_kept} of them"
        lines.append(line)
    lines += [f"  left over: {one}" for one in report.leftovers]
    return lines + [f"  FAULT {one}" for one in faults([report])]


def table(reports: Sequence[Report]) -> list[str]:
    """Count the kills by place and kind of run, and by means."""
    kills = [kill for report in reports for kill in report.kills]
    kinds = list(dict.fromkeys(report.kind for report in reports))
    places = list(dict.fromkeys(_short(kill) for kill in kills))
    counted = Counter((_short(kill), kill.kind) for kill in kills)
    lines = [_row("killed in", [f"`{kind}`" for kind in kinds], "all"), "|---" * (len(kinds) + 2) + "|"]
    for place in places:
        cells = [counted[place, kind] for kind in kinds]
        lines.append(_row(place, cells, sum(cells)))
    lines.append(_row("all", [sum(kill.kind == kind for kill in kills) for kind in kinds], len(kills)))
    lines += ["", "| by | times |", "|---|---|"]
    return lines + [
        _row(means, [], count) for means, count in sorted(Counter(k.means for k in kills).items())
    ]


def _row(name: str, cells: Sequence[object], last: object) -> str:
    return "| " + " | ".join(map(str, [name, *cells, last])) + " |"


def _short(kill: Kill) -> str:
    return "DVC's own work" if kill.place.startswith("DVC") else kill.place
