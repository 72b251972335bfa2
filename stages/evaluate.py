"""Score the base model, or the adapter, on the tasks, and tell whether the adapter is better.

Reads data/holdout/evaluation.parquet, and models/adapter/ with scores/baseline.csv for the adapter. Writes
metrics/NAME.json, the scores by example to scores/NAME.csv, every answer with its scores to
data/answers/NAME.jsonl and what describes the run to provenance/NAME.json, NAME being baseline or evaluate;
for the adapter also plots/gain.csv, its differences from the base model.

Run as `python -m stages.evaluate base` or `python -m stages.evaluate adapter`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.core import provenance
from sft.core.errors import ParamError, UserError
from sft.core.files import (
    json_lines,
    read_json,
    read_parquet,
    read_text,
    write_csv,
    write_json,
    write_text,
)
from sft.core.params import mapping, section
from sft.evaluation import gain_table, scores_file, summary
from sft.evaluation.evaluate import (
    EvaluateParams,
    Example,
    answer,
    check_finite,
    choose,
    score,
    too_few,
)
from sft.fetch import uri
from sft.modeling import adapter, loading
from sft.modeling.flops import Cost, utilisation
from sft.modeling.loading import ModelParams
from sft.statistics.gains import gains, sentence
from sft.statistics.scores import Scores
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS, ROUGE
from sft.tasks.task import AVERAGE, Task, TaskParams, tasks_of
from stages import paths
from stages.cli import run

if TYPE_CHECKING:
    from sft.evaluation import likelihood
    from sft.generation.generate import Answer, Prompt

    Answered = dict[str, list[tuple[Prompt, list[Answer]]]]


@dataclass(frozen=True)
class Files:
    """What one of the two stages writes."""

    metrics: str
    scores: str
    answers: str
    provenance: str


FILES = {
    "base": Files(
        paths.METRICS_BASELINE, paths.SCORES_BASELINE, paths.BASELINE_ANSWERS, paths.PROVENANCE_BASELINE
    ),
    "adapter": Files(paths.METRICS_EVALUATE, paths.SCORES_EVALUATE, paths.ANSWERS, paths.PROVENANCE_EVALUATE),
}


@dataclass
class Model:
    """A model that answers, with its tokenizer, and the base model that it is or that it adapts."""

    model: Any
    tokenizer: Any
    stop_ids: list[int]
    base: loading.Resolved


@dataclass
class Encoded:
    """A task's examples as token ids: each with its reference, and with each of its choices."""

    references: "list[likelihood.Encoded]"
    choices: "list[list[likelihood.Encoded]]"


@dataclass
class Likely:
    """The likelihoods of a task's references, and whether the right choice is the likeliest (1, else 0)."""

    references: "list[likelihood.Likelihood]"
    right_choices: list[float]


def main(values: dict[str, Any], which: str) -> None:
    """Load the model, answer and score the examples, and write what came of it."""
    model_params = section(values, "model", ModelParams)
    params = section(values, "evaluate", EvaluateParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    clock, files = provenance.Clock(), FILES[which]
    baseline = read_text(paths.SCORES_BASELINE) if which == "adapter" else None
    before = scores_file.parse(baseline, paths.SCORES_BASELINE) if baseline is not None else None
    examples = choose(read_parquet(paths.EVALUATION), tasks, params)
    if before is not None:
        check_same_examples(examples, params.examples, before)
    for line in too_few(examples, params):
        print(line, flush=True)

    with clock.phase("load"):
        model = load(model_params, baseline)
    encoded = encode_all(model, tasks, examples, clock)
    likely = likelihood_all(model, examples, encoded, clock)
    answered = answer_all(model, tasks, examples, params, clock)
    records = score_all(tasks, examples, likely, answered, clock)
    by_example = scores_file.as_csv(records, model.base.revision)
    scores = scores_file.parse(by_example, files.scores)
    metrics = summary.metrics(scores, tasks)
    of_run = account(model, model_params.dtype, answered, examples, clock)

    write_text(files.answers, json_lines(records))
    write_text(files.scores, by_example)
    write_json(files.provenance, of_run)
    print("\n".join(answers_in_words(of_run)))
    if before is None:
        print("\n".join(["", *table(tasks, metrics)]))
    else:
        found = gains(scores, before)
        write_csv(paths.GAIN, gain_table.as_rows(found))
        print("\n".join([*gain_table.lines(found), "", sentence(found, "the base model")]))
    write_json(files.metrics, metrics)  # last: where they are, the stage has done its work


def load(params: ModelParams, baseline: str | None) -> Model:
    """Load the base model, with the adapter on it where there are scores of the base model, `baseline`.

    Raises UserError where the base model is another than the stages before had.
    """
    base = loading.resolve(params.reference)
    if baseline is not None:
        check_same_base(params.reference, base.revision, baseline)
    tokenizer = loading.load_tokenizer(base)
    model, stop_ids = loading.load_to_answer(base, tokenizer, params)
    if baseline is not None:
        model = adapter.attach(model, paths.ADAPTER).eval()
    return Model(model, tokenizer, stop_ids, base)


def check_same_examples(examples: dict[str, list[Example]], answered: int, before: Scores) -> None:
    """Raise UserError where the scores of the base model, `before`, are of other examples than these.

    The first `answered` of a task have answers, all of them a likelihood.
    """
    for task, rows in examples.items():
        ids = [row["id"] for row in rows]
        for metric, wanted in ((ROUGE[0], ids[:answered]), (BITS_PER_BYTE, ids)):
            scored = before[task, metric].examples if (task, metric) in before else []
            if set(scored) != set(wanted):
                raise UserError(
                    f"{paths.SCORES_BASELINE}: its examples of the task {task!r} are not those that are "
                    f"scored now: {len(wanted):,} have {METRICS[metric].label} now, {len(scored):,} there, "
                    f"{len(set(scored) & set(wanted)):,} are the same. Run baseline first: dvc repro baseline"
                )


def check_same_base(reference: str, revision: str | None, baseline: str) -> None:
    """Raise UserError where the adapter, or the scores of the base model, are of another base model.

    That is so where an unpinned one moved, or where a stage before has not run since the param changed.
    """
    path = Path(paths.ADAPTER) / "adapter_config.json"
    config = read_json(path)
    trained_on = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if trained_on is None:
        raise UserError(
            f"{path}: damaged: it does not say what base model it was trained on. "
            "Train it again: dvc repro train"
        )
    if trained_on != reference:
        raise ParamError(
            f"model.reference: it is {reference}, but {paths.ADAPTER} was trained on {trained_on}. "
            "Run the stages before: dvc repro"
        )
    trained, scored = config.get("revision"), scores_file.base_model(baseline, paths.SCORES_BASELINE)
    if trained is None and revision is not None:
        raise UserError(
            f"{paths.ADAPTER}: it does not say which revision of {reference} it was trained on: it is older "
            "than this code. Train it again: dvc repro train"
        )
    moved = "is another model now than when {} ran ({} now, {} then)."
    if trained != revision:
        raise ParamError(
            f"model.reference: {reference} {moved.format('train', revision, trained)} "
            f"{same_again(reference, trained, 'train')}"
        )
    if scored != scores_file.short(revision):
        now, then = scores_file.short(revision) or "no revision", scored or "no revision"
        raise ParamError(
            f"model.reference: {reference} {moved.format('baseline', now, then)} "
            f"{same_again(reference, revision, 'baseline')}"
        )


def same_again(reference: str, trained: str | None, stage: str) -> str:
    """Say how all stages get the model that the adapter was trained on, `stage` having had another.

    Only a hub's model can move under its reference; a package's wheel is checked against its digest.
    """
    address = uri.parse(reference)
    if address.scheme == "model":
        return f"Pin it, so that all stages use the same: model.reference: hf://{address.name}@{trained}"
    return f"Run that stage again: dvc repro {stage}"


def encode_all(
    model: Model, tasks: list[Task], examples: dict[str, list[Example]], clock: provenance.Clock
) -> dict[str, Encoded]:
    """Encode every example, so that one that cannot be scored is told of before any is answered."""
    from sft.evaluation.likelihood import encoded, encoded_choices

    with clock.phase("encode"):
        return {
            task.name: Encoded(
                encoded(model.tokenizer, task, examples[task.name]),
                encoded_choices(model.tokenizer, task, examples[task.name]),
            )
            for task in tasks
        }


def likelihood_all(
    model: Model, examples: dict[str, list[Example]], encoded: dict[str, Encoded], clock: provenance.Clock
) -> dict[str, Likely]:
    """Take every example's likelihoods: before the answers, so that damaged weights are told of at once."""
    from sft.evaluation.likelihood import likelihoods, right_choices

    found = {}
    with clock.phase("likelihood"):
        for task, rows in encoded.items():
            of_references = likelihoods(model.model, model.tokenizer, rows.references)
            check_finite(
                [
                    {"task": task, "id": row["id"], BITS_PER_BYTE: one.bits_per_byte}
                    for row, one in zip(examples[task], of_references, strict=True)
                ]
            )
            flat = [one for of in rows.choices for one in of]
            in_turn = iter(likelihoods(model.model, model.tokenizer, flat))
            of_choices = [[next(in_turn) for _ in of] for of in rows.choices]
            found[task] = Likely(
                of_references, right_choices(examples[task], of_choices) if of_choices else []
            )
    return found


def answer_all(
    model: Model,
    tasks: list[Task],
    examples: dict[str, list[Example]],
    params: EvaluateParams,
    clock: provenance.Clock,
) -> "Answered":
    """Answer every task's first examples."""
    answered = {}
    for task in tasks:
        with clock.phase(f"answer_{task.name}"):
            chosen = examples[task.name][: params.examples]
            answered[task.name] = answer(model.model, model.tokenizer, model.stop_ids, task, chosen, params)
    return answered


def score_all(
    tasks: list[Task],
    examples: dict[str, list[Example]],
    likely: dict[str, Likely],
    answered: "Answered",
    clock: provenance.Clock,
) -> list[dict[str, Any]]:
    """Return every answer with its scores, and every example's likelihood, by task and example."""
    with clock.phase("score"):
        return [
            record
            for task in tasks
            for record in score(
                task,
                examples[task.name],
                answered[task.name],
                likely[task.name].references,
                likely[task.name].right_choices,
            )
        ]


def account(
    model: Model,
    dtype: str,
    answered: "Answered",
    examples: dict[str, list[Example]],
    clock: provenance.Clock,
) -> dict[str, Any]:
    """Return what describes the run: what was answered, how fast, on what, and by which packages."""
    cost = Cost.of(model.model)

    def speed(names: Sequence[str]) -> dict[str, float | None]:
        seconds = sum(clock.seconds[f"answer_{name}"] for name in names)
        pairs = [pair for name in names for pair in answered[name]]
        flops = sum(cost.generating(len(prompt.ids), [a.tokens for a in given]) for prompt, given in pairs)
        return {
            "tokens_per_second": round(sum(a.tokens for _, given in pairs for a in given) / seconds, 1),
            "model_flop_utilisation": utilisation(flops, seconds, provenance.device_name(), dtype),
        }

    answers = [a for pairs in answered.values() for _, given in pairs for a in given]
    return {
        "base_model": {
            "reference": model.base.reference,
            "resolved": model.base.revision,
            "weights": model.base.weights,
        },
        "tasks": {
            task: {
                "examples": len(pairs),
                "likelihood_examples": len(examples[task]),
                **endings(pairs),
                **speed([task]),
            }
            for task, pairs in answered.items()
        },
        "answers": len(answers),
        "tokens_generated": sum(given.tokens for given in answers),
        **speed(list(answered)),
        "seconds": clock.seconds,
        "peak_memory_gib": provenance.peak_memory_gib(),
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


def answers_in_words(of_run: dict[str, Any]) -> list[str]:
    """Say task by task what was scored."""
    return [
        f"{task}: {counts['examples']:,} examples answered, {counts['mean_tokens']:.0f} tokens on average, "
        f"{counts['finished']:.0%} ended before the limit; bits per byte from "
        f"{counts['likelihood_examples']:,} references"
        for task, counts in of_run["tasks"].items()
    ]


def table(tasks: list[Task], metrics: summary.Metrics) -> list[str]:
    """Return the scores as a table: the metrics that all tasks have, then a task's own."""
    shared = [name for name in tasks[0].metrics if name in metrics[AVERAGE]]
    width = max(map(len, metrics))
    lines = [f"{'':<{width}}" + "".join(f"{METRICS[name].label:>15}" for name in shared)]
    for task, scores in metrics.items():
        cells = [f"{scores[name]:>15{METRICS[name].format}}" for name in shared]
        own = [
            f"{METRICS[name].label} {scores[name]:{METRICS[name].format}}"
            for name in scores
            if name in METRICS and name not in shared
        ]
        lines.append("  ".join([f"{task:<{width}}{''.join(cells)}", *own]))
    return lines


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) == 2 else ""
    if choice not in FILES:
        sys.exit("usage: python -m stages.evaluate base|adapter")
    run(lambda values: main(values, choice))
