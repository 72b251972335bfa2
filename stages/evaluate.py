"""Score the base model, or the adapter, on the tasks, and tell whether the adapter is better.

Reads data/holdout/evaluation.parquet, and models/adapter/ with scores/baseline.csv for the adapter. Writes
metrics/NAME.json, the scores by example to scores/NAME.csv, every answer with its scores to
data/answers/NAME.jsonl and what describes the run to provenance/NAME.json, NAME being baseline or evaluate;
for the adapter also plots/gain.csv, its differences from the base model.

Run as `python -m stages.evaluate base` or `python -m stages.evaluate adapter`.
"""

import sys
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
from sft.evaluation.account import account, answers_in_words, table
from sft.evaluation.all_tasks import Model, answer_all, encode_all, left_out, likelihood_all, score_all
from sft.evaluation.evaluate import (
    EvaluateParams,
    Example,
    choose,
    too_few,
)
from sft.fetch import uri
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams
from sft.statistics.gains import gains, sentence
from sft.statistics.scores import Scores
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS, ROUGE
from sft.tasks.task import TaskParams, tasks_of
from stages import paths
from stages.cli import run

if TYPE_CHECKING:
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


def main(values: dict[str, Any], which: str) -> None:
    """Load the model, answer and score the examples, and write what came of it."""
    model_params = section(values, "model", ModelParams)
    params = section(values, "evaluate", EvaluateParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    clock, files = provenance.Clock(), FILES[which]
    baseline = read_text(paths.SCORES_BASELINE) if which == "adapter" else None
    before = scores_file.parse(baseline, paths.SCORES_BASELINE) if baseline is not None else None
    examples = choose(read_parquet(paths.EVALUATION), tasks, params)
    for line in too_few(examples, params):
        print(line, flush=True)

    with clock.phase("load"):
        model = load(model_params, baseline)
    encoded = encode_all(model, tasks, examples, clock)
    for line in left_out(encoded):
        print(line, flush=True)
    examples = {task: of.examples for task, of in encoded.items()}
    if before is not None:
        check_same_examples(examples, params.examples, before)
    likely = likelihood_all(model, examples, encoded, clock)
    answered = answer_all(model, tasks, examples, params, clock)
    records = score_all(tasks, examples, likely, answered, clock)
    by_example = scores_file.as_csv(records, model.base.revision)
    scores = scores_file.parse(by_example, files.scores)
    metrics = summary.metrics(scores, tasks)
    of_run = account(model.model, model.base, model_params.dtype, answered, encoded, clock, records)

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


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) == 2 else ""
    if choice not in FILES:
        sys.exit("usage: python -m stages.evaluate base|adapter")
    run(lambda values: main(values, choice))
