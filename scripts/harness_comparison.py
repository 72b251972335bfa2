"""The benchmarks in a comparison of results: each adapter against the first one's, where they ran."""

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.harness_scores import PROVENANCE, SCORES, lower_is_better, parse, parse_record
from scripts.harness_verdicts import findings, markdown, same_examples
from scripts.results import LOCK, Source
from sft.core import params
from sft.core.errors import UserError
from sft.statistics.scores import Scores
from stages.paths import ADAPTER


@dataclass(frozen=True)
class Benchmarks:
    """A result's scores by example, of which less is better, and the versions that they were made by."""

    scores: Scores
    lower: set[tuple[str, str]]
    lm_eval: str


def section(sources: Sequence[Source]) -> list[str]:
    """Return a section of Markdown, or nothing where no result has benchmarks.

    Raises UserError for a damaged file.
    """
    ran = [source for source in sources if source.read(SCORES["adapter"]) is not None]
    if not ran:
        return []
    lines, read = [], {}
    for source in sources:
        try:
            read[source.name] = _read(source)
        except _NotComparable as why:
            lines += [f"No benchmarks of {source.name}: {why}. Run them there: make harness", ""]
    first = next(iter(read), "")
    title = f"## Benchmarks, against {first}" if len(read) > 1 else "## Benchmarks"
    return [title, "", *lines, *_compared(first, read)]


def _compared(first: str, read: dict[str, Benchmarks]) -> list[str]:
    if len(read) < 2:
        return ["There is nothing to compare.", ""]
    reference, lines = read[first], []
    paired: dict[str, Scores] = {}
    for name, of in read.items():
        if name == first:
            continue
        if of.lm_eval != reference.lm_eval:
            versions = f"{of.lm_eval} and {reference.lm_eval}"
            lines += [f"**Warning**: {name} and {first} were scored by lm-eval {versions}.", ""]
        paired[name], other = same_examples(of.scores, reference.scores)
        if other:
            lines += [f"Not compared: {', '.join(other)} of {name}, whose examples are not {first}'s.", ""]
    found = findings(paired, reference.scores, reference.lower)
    if not found:
        return [*lines, "They have no benchmark in common that is scored by example.", ""]
    tested = sum(one.p is not None for one in found)
    return [
        "Would these very adapters differ on new examples of lm-eval's tasks? Paired over the examples.",
        "",
        *lines,
        *markdown(found),
        "",
        f"p is corrected for these {tested} comparisons, a family of their own (Holm).",
        "",
    ]


class _NotComparable(Exception):
    """Why a result has no benchmarks that can be compared."""


def _read(source: Source) -> Benchmarks:
    scores, record = (source.read(path) for path in (SCORES["adapter"], PROVENANCE))
    if scores is None or record is None:
        raise _NotComparable("they did not run")
    of_run = parse_record(record, f"{PROVENANCE} of {source.name}")
    lock = source.read(LOCK)
    if lock is not None and (now := _adapter(lock, source.name)) not in (None, of_run["adapter"]):
        raise _NotComparable(f"they ran on another adapter than its {LOCK} has ({now})")
    return Benchmarks(
        parse(scores, f"{SCORES['adapter']} of {source.name}"), lower_is_better(of_run), of_run["lm_eval"]
    )


def _adapter(lock: str, name: str) -> str | None:
    """Return the hash of the adapter that a lock names, None where it names none."""
    try:
        outs = params.parse(lock, f"{LOCK} of {name}")["stages"]["train"]["outs"]
        return next((out["md5"] for out in outs if out["path"] == ADAPTER), None)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError):
        return None
