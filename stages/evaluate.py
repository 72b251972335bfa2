"""Score the base model, or the adapter, on the tasks, by each task's metrics.

Reads data/holdout/evaluation.parquet, and models/adapter/ with metrics/baseline.json and metrics/train.json
for the adapter. Writes metrics/baseline.json or metrics/evaluate.json, and every answer with its scores to
data/answers/baseline.jsonl or data/answers/evaluate.jsonl.

Run as `python -m stages.evaluate base` or `python -m stages.evaluate adapter`.
"""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft.core import provenance
from sft.core.errors import ParamError
from sft.core.files import read_json, read_parquet, write_json, write_text
from sft.core.params import mapping, section
from sft.evaluation import summary
from sft.evaluation.evaluate import EvaluateParams, Example, answer, choose, likelihoods, score
from sft.evaluation.summary import AVERAGE, BaseModel, Evaluation, Scores, Speed, TaskSummary, TrainedOn
from sft.modeling import adapter, loading
from sft.modeling.flops import Cost, utilisation
from sft.modeling.loading import ModelParams
from sft.tasks.metric_names import COMMON, METRICS
from sft.tasks.task import Task, TaskParams, tasks_of
from stages import paths
from stages.cli import run

if TYPE_CHECKING:
    from sft.generation.generate import Answer, Prompt

    Answered = dict[str, list[tuple[Prompt, list[Answer]]]]


class Trained(TrainedOn):
    """What this stage reads of metrics/train.json."""

    base_model: BaseModel


@dataclass
class Before:
    """The metrics that the adapter's own stand beside: the base model's scores, and its training."""

    baseline: dict[str, Any]
    trained: Trained


@dataclass
class Model:
    """A model that answers, with its tokenizer, and the commit or digest of the base model."""

    model: Any
    tokenizer: Any
    stop_ids: list[int]
    commit: str | None


def main(values: dict[str, Any], which: str) -> None:
    """Load the model, answer and score the examples, and write metrics and answers."""
    model_params = section(values, "model", ModelParams)
    params = section(values, "evaluate", EvaluateParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    clock = provenance.Clock()
    before = None
    if which == "adapter":
        before = Before(read_json(paths.METRICS_BASELINE), read_json(paths.METRICS_TRAIN))
    examples = choose(read_parquet(paths.EVALUATION), tasks, params.examples)

    with clock.phase("load"):
        model = load(model_params, before)
    answered = answer_all(model, tasks, examples, params, clock)
    scored = score_all(model, tasks, examples, answered, clock)

    evaluation = evaluated(model, model_params, tasks, answered, scored, clock, before)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scored)
    write_text(paths.ANSWERS if before else paths.BASELINE_ANSWERS, lines)
    write_json(paths.METRICS_EVALUATE if before else paths.METRICS_BASELINE, evaluation.as_json())
    report("evaluate" if before else "baseline", evaluation)


def load(params: ModelParams, before: Before | None) -> Model:
    """Load the base model, with the adapter on it where there is something `before`.

    Raises UserError where the base model is another than the stages before had.
    """
    base = loading.resolve(params.reference)
    if before:
        check_same_base(base.commit, "baseline", before.baseline["base_model"])
        check_same_base(base.commit, "train", before.trained["base_model"])
    tokenizer = loading.load_tokenizer(base)
    model, stop_ids = loading.load_to_answer(base, tokenizer, params)
    if before:
        model = adapter.attach(model, paths.ADAPTER).eval()
    return Model(model, tokenizer, stop_ids, base.commit)


def check_same_base(commit: str | None, stage: str, other: BaseModel) -> None:
    """Raise ParamError where an unpinned base model moved since a stage before ran."""
    if other["resolved"] != commit:
        raise ParamError(
            f"model.reference: it is at {commit} now, but was at {other['resolved']} when {stage} ran. "
            f"Pin it, @{other['resolved']}, so that all stages use the same model."
        )


def answer_all(
    model: Model,
    tasks: list[Task],
    examples: dict[str, list[Example]],
    params: EvaluateParams,
    clock: provenance.Clock,
) -> "Answered":
    """Answer every task's examples."""
    answered = {}
    for task in tasks:
        with clock.phase(f"answer_{task.name}"):
            answered[task.name] = answer(
                model.model, model.tokenizer, model.stop_ids, task, examples[task.name], params
            )
    return answered


def score_all(
    model: Model,
    tasks: list[Task],
    examples: dict[str, list[Example]],
    answered: "Answered",
    clock: provenance.Clock,
) -> list[dict[str, Any]]:
    """Return every answer with its scores, by task, example and run."""
    with clock.phase("likelihood"):
        by_model = {
            task.name: likelihoods(model.model, model.tokenizer, task, examples[task.name]) for task in tasks
        }
    with clock.phase("score"):
        return [
            row
            for task in tasks
            for row in score(task, examples[task.name], answered[task.name], by_model[task.name])
        ]


def evaluated(
    model: Model,
    model_params: ModelParams,
    tasks: list[Task],
    answered: "Answered",
    scored: list[dict[str, Any]],
    clock: provenance.Clock,
    before: Before | None,
) -> Evaluation:
    """Summarise the scores, the differences from the base model's, and how fast the answers came."""

    def speed(names: list[str]) -> Speed:
        seconds = sum(clock.seconds[f"answer_{name}"] for name in names)
        pairs = [pair for name in names for pair in answered[name]]
        cost = Cost.of(model.model)
        flops = sum(cost.generating(len(prompt.ids), [a.tokens for a in given]) for prompt, given in pairs)
        return {
            "tokens_per_second": round(sum(a.tokens for _, given in pairs for a in given) / seconds, 1),
            "model_flop_utilisation": utilisation(
                flops, seconds, provenance.device_name(), model_params.dtype
            ),
        }

    trained_on = None
    if before:
        trained = before.trained
        trained_on = TrainedOn(
            rows_seen=trained["rows_seen"],
            distinct_rows_seen=trained["distinct_rows_seen"],
            tokens_seen=trained["tokens_seen"],
            epochs=trained["epochs"],
        )
    scores = summary.by_task(scored, {task.name: task.metrics for task in tasks})
    of_task = {task.name: [row for row in scored if row["task"] == task.name] for task in tasks}
    return Evaluation(
        tasks={
            name: TaskSummary.of(scores[name], rows, examples=len(answered[name]))
            for name, rows in of_task.items()
        },
        average=scores[AVERAGE],
        difference=summary.differences(scores, before.baseline) if before else None,
        runs=len({row["run"] for row in scored}),
        answers=len(scored),
        tokens_generated=sum(row["tokens"] for row in scored),
        seconds=clock.seconds,
        overall_speed=speed(list(of_task)),
        speed={name: speed([name]) for name in of_task},
        peak_memory_gib=provenance.peak_memory_gib(),
        device=provenance.device_name(),
        base_model={"reference": model_params.reference, "resolved": model.commit},
        versions=provenance.versions(),
        trained_on=trained_on,
    )


def report(name: str, evaluation: Evaluation) -> None:
    """Print the scores as a table, mean and standard deviation over runs."""
    print(f"{name:<12}" + "".join(f"{metric:>18}" for metric in COMMON) + f"{'finished':>10}")
    for task, of_task in evaluation.tasks.items():
        own = [
            f"{metric} {of_task.scores[metric]['mean']:{METRICS[metric].format}}"
            for metric in of_task.scores
            if metric not in COMMON
        ]
        print(f"{row(task, of_task.scores)}{of_task.finished:>10.0%}{'   '.join(['', *own])}")
        report_difference(task, evaluation)
    print(row(AVERAGE, evaluation.average))
    report_difference(AVERAGE, evaluation)


def row(name: str, scores: Scores) -> str:
    """Return the common metrics of a task, or of the average, as a row of the table."""
    cells = [
        f"{score['mean']:>9.4f} ± " + (f"{score['std']:.4f}" if score["std"] is not None else "  -   ")
        for score in (scores[metric] for metric in COMMON)
    ]
    return f"{name:<12}{''.join(cells)}"


def report_difference(name: str, evaluation: Evaluation) -> None:
    """Print the differences from the base model, where there are any."""
    if evaluation.difference is not None:
        cells = "".join(f"{evaluation.difference[name][metric]:>+9.4f}{'':9}" for metric in COMMON)
        print(f"{'  vs base':<12}{cells}")


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) == 2 else ""
    if choice not in ("base", "adapter"):
        sys.exit("usage: python -m stages.evaluate base|adapter")
    run(lambda values: main(values, choice))
