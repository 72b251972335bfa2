"""What describes an evaluation: what was answered, how fast, on what; and the scores as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sft.core import provenance
from sft.core.kept_results import ANSWERS, LIKELIHOODS, KeptResults
from sft.evaluation import tool_calls
from sft.evaluation.summary import Metrics
from sft.modeling.flops import Cost, utilisation
from sft.modeling.loading import Resolved
from sft.tasks.metric_names import METRICS, TOOL_CALL
from sft.tasks.task import AVERAGE, Task

if TYPE_CHECKING:
    from sft.evaluation.all_tasks import Answered, Encoded
    from sft.generation.generate import Answer, Prompt


def account(
    model: Any,
    base: Resolved,
    dtype: str,
    answered: "Answered",
    encoded: "dict[str, Encoded]",
    clock: provenance.Clock,
    records: Sequence[dict[str, Any]],
    kept: KeptResults,
    devices: int = 1,
) -> dict[str, Any]:
    """Return what describes the run: what was answered, how fast, on what, and by which packages.

    `records` are of `score_all`. `kept` are the results that a stopped run left; `seconds` have theirs
    too. A task has `refused`, why by id, where the chat template refuses examples.
    """
    cost = Cost.of(model)

    def speed(names: Sequence[str]) -> dict[str, float | None]:
        seconds = sum(clock.seconds[f"answer_{name}"] for name in names)
        pairs = [pair for name in names for pair in answered[name]]
        flops = sum(cost.generating(len(prompt.ids), [a.tokens for a in given]) for prompt, given in pairs)
        return {
            "tokens_per_second": round(sum(a.tokens for _, given in pairs for a in given) / seconds, 1),
            "model_flop_utilisation": utilisation(flops / devices, seconds, provenance.device_name(), dtype),
        }

    answers = [a for pairs in answered.values() for _, given in pairs for a in given]
    return {
        "base_model": {
            "reference": base.reference,
            "resolved": base.revision,
            "weights": base.weights,
        },
        "tasks": {
            task: {
                "examples": len(pairs),
                "likelihood_examples": len(encoded[task].examples),
                **({"refused": encoded[task].refused} if encoded[task].refused else {}),
                **endings(pairs),
                **tool_call_parts([record for record in records if record["task"] == task]),
                **speed([task]),
            }
            for task, pairs in answered.items()
        },
        "answers": len(answers),
        "kept": {kind: kept.used[kind] for kind in (ANSWERS, LIKELIHOODS)},
        "tokens_generated": sum(given.tokens for given in answers),
        **speed(list(answered)),
        "seconds": clock.seconds,
        "peak_memory_gib": provenance.peak_memory_gib(),
        "devices": devices,
        "device": provenance.device_name(),
        "versions": provenance.versions(),
    }


def endings(pairs: "list[tuple[Prompt, list[Answer]]]") -> dict[str, float]:
    """Return the share of a task's answers that ended by themselves, and their mean length in tokens."""
    answers = [given for _, in_runs in pairs for given in in_runs]
    return {
        "finished": round(sum(given.finished for given in answers) / len(answers), 4),
        "mean_tokens": round(sum(given.tokens for given in answers) / len(answers), 1),
    }


def tool_call_parts(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the tool-call match apart for references that call tools and for those that call none.

    `records` are a task's answers with their scores. To call nothing is easy: one number would hide how many
    of the calls are right. Empty where the task does not have the metric.
    """
    parts: dict[str, list[float]] = {}
    for record in records:
        if TOOL_CALL in record:
            part = "with_calls" if tool_calls.parse(record["references"][0]) else "without_calls"
            parts.setdefault(part, []).append(record[TOOL_CALL])
    found = {
        part: {"answers": len(scores), TOOL_CALL: round(sum(scores) / len(scores), 4)}
        for part, scores in parts.items()
    }
    return {"tool_call_parts": found} if found else {}


def answers_in_words(of_run: dict[str, Any]) -> list[str]:
    """Say task by task what was scored."""
    return [
        f"{task}: {counts['examples']:,} examples answered, {counts['mean_tokens']:.0f} tokens on average, "
        f"{counts['finished']:.0%} ended before the limit; bits per byte from "
        f"{counts['likelihood_examples']:,} references"
        for task, counts in of_run["tasks"].items()
    ]


def table(tasks: list[Task], metrics: Metrics) -> list[str]:
    """Return the scores as a table: the metrics that all tasks have, then a task's own."""
    shared = [name for name in tasks[0].metrics if name in metrics[AVERAGE]]
    width = max(map(len, metrics))
    columns = {name: max(15, len(METRICS[name].label) + 2) for name in shared}
    lines = [f"{'':<{width}}" + "".join(f"{METRICS[name].label:>{columns[name]}}" for name in shared)]
    for task, scores in metrics.items():
        cells = [f"{scores[name]:>{columns[name]}{METRICS[name].format}}" for name in shared]
        own = [
            f"{METRICS[name].label} {scores[name]:{METRICS[name].format}}"
            for name in scores
            if name in METRICS and name not in shared
        ]
        lines.append("  ".join([f"{task:<{width}}{''.join(cells)}", *own]))
    return lines
