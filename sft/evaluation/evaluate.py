"""Scoring a model on the tasks: which examples, how they are answered, and the scores."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator
from tqdm.auto import tqdm

from sft.core.errors import ParamError, UserError
from sft.core.kept_results import KeptResults
from sft.core.params import Count, Integer, Number, Params
from sft.core.row_schema import conversation
from sft.distributed.shares import Sharing
from sft.evaluation.metrics import OF_TEXTS, READERS
from sft.tasks.metric_names import BITS_PER_BYTE, METRICS, MULTIPLE_CHOICE, TOOL_CALL
from sft.tasks.task import Task

if TYPE_CHECKING:
    from sft.evaluation.likelihood import Likelihood
    from sft.generation.generate import Answer, Prompt

Example = dict[str, Any]  # a row of the pool: see EXAMPLES in sft.data.holdout


class EvaluateParams(Params):
    """`evaluate`: examples a task that are answered, and how many have the likelihood of their references
    taken, those answered in any case; decoding runs and their seed, temperature, prompts in a batch, and
    the devices that share the examples.
    """

    examples: Count
    likelihood_examples: Count
    runs: Count
    seed: Integer
    temperature: Number
    batch_size: Literal["auto"] | Count
    devices: Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.temperature < 0:
            raise ParamError(f"evaluate.temperature: {self.temperature} is below 0 (0 is greedy).")
        return self


def choose(pool: pa.Table, tasks: Sequence[Task], params: EvaluateParams) -> dict[str, list[Example]]:
    """Take the examples of each task, the first `examples` of which are to be answered.

    The pool is in hash-ranked order, so fewer are a part of more. Of a task that has fewer than are asked
    for, all are taken (`too_few` says so). Raises ParamError naming a task that has none, UserError naming an
    example whose reference a metric can make nothing of.
    """
    chosen = {}
    for task in tasks:
        rows = pool.filter(pc.equal(pool["task"], task.name))
        if not len(rows):
            raise ParamError(
                f"tasks.{task.name}: no example of it is held out. Run standardize: dvc repro standardize"
            )
        chosen[task.name] = rows.slice(0, max(params.examples, params.likelihood_examples)).to_pylist()
        _check_references(task, chosen[task.name])
    return chosen


def too_few(chosen: dict[str, list[Example]], params: EvaluateParams) -> list[str]:
    """Say which tasks have fewer examples than are asked for."""
    lines = []
    for task, rows in chosen.items():
        lacking = [
            f"{wanted:,} of evaluate.{name}"
            for name in ("examples", "likelihood_examples")
            if (wanted := getattr(params, name)) > len(rows)
        ]
        if lacking:
            lines.append(
                f"{task}: {len(rows):,} examples, all that are held out, not the "
                f"{' and the '.join(lacking)}. For more raise tasks.{task}.holdout."
            )
    return lines


def _check_references(task: Task, rows: Sequence[Example]) -> None:
    for name, read in READERS.items():
        for row in rows if name in task.metrics else ():
            for reference in row["references"]:
                try:
                    read(reference)
                except ValueError as error:
                    raise UserError(
                        f"tasks.{task.name}.metrics: {name} cannot read a reference of the example "
                        f"{row['id']} of {task.source}, {reference[:80]!r}: {error}. Mend the row, or leave "
                        "out the metric."
                    ) from error


def answer(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    task: Task,
    rows: list[Example],
    params: EvaluateParams,
    kept: KeptResults | None = None,
    sharing: Sharing | None = None,
) -> list[tuple["Prompt", list["Answer"]]]:
    """Answer a task's examples in every run; return each example's prompt and its answers, run by run.

    Those that `kept` has are not generated again; of those that are other ranks' by `sharing` there are none.
    `likelihood.encoded` has told before which examples the chat template refuses.
    """
    from sft.generation.generate import Answer, Prompt, generate
    from sft.modeling.chat_template import prompt_ids

    prompts = []
    for row in rows:
        messages, tools = conversation({"messages": row["prompt"], "tools": row.get("tools")})
        prompts.append(Prompt(row["item"], prompt_ids(tokenizer, messages, tools)))
    answers: list[list[Answer]] = [[] for _ in prompts]
    several = sharing is not None and sharing.ranks.count > 1  # then how many are ours is not known yet
    with tqdm(
        total=None if several else len(rows) * params.runs,
        desc=f"answering {task.name}",
        unit="answer",
        mininterval=1,
    ) as progress:
        for batch in generate(
            model,
            tokenizer,
            stop_ids,
            prompts,
            runs=params.runs,
            seed=params.seed,
            temperature=params.temperature,
            max_new_tokens=task.max_new_tokens,
            batch_size=params.batch_size,
            kept=kept,
            sharing=sharing,
        ):
            for given in batch:
                answers[given.prompt].append(given)
            progress.update(len(batch))
    return [
        (prompt, sorted(given, key=lambda a: a.run)) for prompt, given in zip(prompts, answers, strict=True)
    ]


def score(
    task: Task,
    rows: list[Example],
    answered: list[tuple["Prompt", list["Answer"]]],
    likelihoods: list["Likelihood"],
    right_choices: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Score a task's answers, which are those to the first `rows`; `likelihoods` are of all `rows`.

    So is whether the right choice is the likeliest, for a task that scores that. What a model thinks before
    it answers is not scored. Return one dict an answer, by example and run, each example's followed by the
    dict of its likelihood, whose `run` is None. Raises UserError for a score that is not finite.
    """
    answers = [(place, given) for place, (_, in_runs) in enumerate(answered) for given in in_runs]
    references = [rows[place]["references"] for place, _ in answers]
    said = [given.said.text for _, given in answers]
    marked = [given.said.marked for _, given in answers]
    scores = {
        name: OF_TEXTS[name](references, marked if name == TOOL_CALL else said)
        for name in task.metrics
        if name in OF_TEXTS
    }
    of_example: list[list[dict[str, Any]]] = [[] for _ in rows]
    for number, (place, given) in enumerate(answers):
        of_example[place].append(
            {
                "task": task.name,
                "id": rows[place]["id"],
                "run": given.run,
                **{name: values[number] for name, values in scores.items()},
                "tokens": given.tokens,
                "finished": given.finished,
                **_asked(rows[place]),
                "prediction": given.text,
            }
        )
    for place, (row, likelihood, scored) in enumerate(zip(rows, likelihoods, of_example, strict=True)):
        scored.append(
            {
                "task": task.name,
                "id": row["id"],
                "run": None,
                BITS_PER_BYTE: likelihood.bits_per_byte,
                **({MULTIPLE_CHOICE: right_choices[place]} if right_choices else {}),
                "nll": likelihood.nll,
                "reference_tokens": likelihood.tokens,
                "reference_bytes": likelihood.bytes,
                **_asked(row),
            }
        )
    records = [record for scored in of_example for record in scored]
    check_finite(records)
    return records


def check_finite(records: Sequence[dict[str, Any]]) -> None:
    """Raise UserError naming the first score that is no finite number, with its task and example."""
    for record in records:
        for name, value in record.items():
            if name in METRICS and not math.isfinite(value):
                raise UserError(
                    f"{METRICS[name].label} of the example {record['id']} of the task {record['task']!r} is "
                    f"{value}. The weights of the model or of the adapter hold numbers that are not finite, "
                    "or it overflows in model.dtype: get the weights again, train with a lower "
                    "train.learning_rate, or use another dtype."
                )


def _asked(row: Example) -> dict[str, Any]:
    """Return what an example asks and what would be right, without the fields that it does not have."""
    prompt = [
        {key: value for key, value in message.items() if value is not None} for message in row["prompt"]
    ]
    optional = {key: row[key] for key in ("tools", "choices") if row.get(key) is not None}
    return {"prompt": prompt, **optional, "references": row["references"]}
