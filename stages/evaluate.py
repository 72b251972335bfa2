"""Score the base model, or the adapter, on the tasks, and tell whether the adapter is better.

Reads data/holdout/evaluation.parquet, and models/adapter/ with scores/baseline.csv for the adapter. Writes
metrics/NAME.json, the scores by example to scores/NAME.csv, every answer with its scores to
data/answers/NAME.jsonl and what describes the run to provenance/NAME.json, NAME being baseline or evaluate;
for the adapter also plots/gain.csv, its differences from the base model. With `evaluate.devices` it runs in
as many processes, which share the examples; the first of them writes and prints.

Run as `python -m stages.evaluate base` or `python -m stages.evaluate adapter`.
"""

import sys
from dataclasses import dataclass
from typing import Any

from sft.core import provenance
from sft.core.files import json_lines, read_parquet, read_text, write_csv, write_json, write_text
from sft.core.kept_results import KeptResults
from sft.core.params import mapping, section
from sft.distributed.ranks import ALONE, Ranks
from sft.evaluation import gain_table, scores_file, summary
from sft.evaluation.account import account, answers_in_words, table
from sft.evaluation.all_tasks import (
    Model,
    answer_all,
    encode_all,
    going_on,
    left_out,
    likelihood_all,
    score_all,
)
from sft.evaluation.evaluate import EvaluateParams, choose, too_few
from sft.modeling import adapter, loading
from sft.modeling.loading import ModelParams
from sft.statistics.gains import gains, sentence
from sft.tasks.task import TaskParams, tasks_of
from stages import inputs, paths, ranks, same_as_before, work


@dataclass(frozen=True)
class Files:
    """One of the two stages, by its name in dvc.yaml, and what it writes."""

    stage: str
    metrics: str
    scores: str
    answers: str
    provenance: str


KEPT = "finished{}.jsonl"  # answers and likelihoods, while the stage runs; of ranks but the first -1, -2, ...
FILES = {
    "base": Files(
        "baseline",
        paths.METRICS_BASELINE,
        paths.SCORES_BASELINE,
        paths.BASELINE_ANSWERS,
        paths.PROVENANCE_BASELINE,
    ),
    "adapter": Files(
        "evaluate", paths.METRICS_EVALUATE, paths.SCORES_EVALUATE, paths.ANSWERS, paths.PROVENANCE_EVALUATE
    ),
}


def devices(values: dict[str, Any]) -> int:
    """Return how many devices evaluate."""
    return section(values, "evaluate", EvaluateParams).devices


def main(values: dict[str, Any], which: str, among: Ranks = ALONE) -> None:
    """Load the model, answer and score the examples, and write what came of it."""
    files = FILES[which]
    begun = inputs.of(files.stage)
    model_params = section(values, "model", ModelParams)
    params = section(values, "evaluate", EvaluateParams)
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    clock = provenance.Clock()
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
        same_as_before.check_examples(examples, params.examples, before)
    others = {"model": model.base.revision or work.content(model.base.path)}
    with work.folder(begun if among.local_rank == 0 else None, others) as folder:
        folder = among.gather(folder)[among.rank - among.local_rank]  # the host's
        own = folder / KEPT.format(f"-{among.rank}" if among.rank else "")
        kept = KeptResults(own, begun.check if begun else lambda: None)
        for line in going_on(encoded, params, kept, among):
            print(line, flush=True)
        likely = likelihood_all(model, examples, encoded, clock, kept, among)
        answered = answer_all(model, tasks, examples, params, clock, kept, among)
        if not among.first:
            return
        records = score_all(tasks, examples, likely, answered, clock)
        by_example = scores_file.as_csv(records, model.base.revision)
        scores = scores_file.parse(by_example, files.scores)
        metrics = summary.metrics(scores, tasks)
        of_run = account(
            model.model,
            model.base,
            model_params.dtype,
            answered,
            encoded,
            clock,
            records,
            kept,
            params.devices,
        )

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
        same_as_before.check_base(params.reference, base.revision, baseline)
    tokenizer = loading.load_tokenizer(base)
    model, stop_ids = loading.load_to_answer(base, tokenizer, params)
    if baseline is not None:
        model = adapter.attach(model, paths.ADAPTER).eval()
    return Model(model, tokenizer, stop_ids, base)


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) == 2 else ""
    if choice not in FILES:
        sys.exit("usage: python -m stages.evaluate base|adapter")
    ranks.run(
        lambda values, among: main(values, choice, among),
        devices,
        "evaluate.devices",
        "stages.evaluate",
        choice,
    )
