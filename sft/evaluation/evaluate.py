"""Scoring a model on the tasks: which examples, how they are answered, and the scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator
from tqdm.auto import tqdm

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Number, Params
from sft.evaluation.metrics import OF_TEXTS
from sft.tasks.metric_names import BITS_PER_BYTE
from sft.tasks.task import Task

if TYPE_CHECKING:
    from sft.evaluation.likelihood import Likelihood
    from sft.generation.generate import Answer, Prompt

Example = dict[str, Any]  # a row of the pool: task, id, item, prompt and references


class EvaluateParams(Params):
    """`evaluate`: examples a task that are answered, and how many have the likelihood of their references
    taken, those answered in any case; decoding runs and their seed, temperature, prompts in a batch.
    """

    examples: Count
    likelihood_examples: Count
    runs: Count
    seed: Integer
    temperature: Number
    batch_size: Literal["auto"] | Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.temperature < 0:
            raise ParamError(f"evaluate.temperature: {self.temperature} is below 0 (0 is greedy).")
        return self


def choose(pool: pa.Table, tasks: Sequence[Task], params: EvaluateParams) -> dict[str, list[Example]]:
    """Take the examples of each task, the first `examples` of which are to be answered.

    The pool is in hash-ranked order, so fewer are a part of more. Raises ParamError naming the task that has
    not so many.
    """
    name = "likelihood_examples" if params.likelihood_examples > params.examples else "examples"
    wanted = getattr(params, name)
    chosen = {}
    for task in tasks:
        rows = pool.filter(pc.equal(pool["task"], task.name))
        if len(rows) < wanted:
            raise ParamError(
                f"evaluate.{name}: {wanted:,} a task are asked for, but {len(rows):,} of the task "
                f"{task.name!r} are held out. Ask for fewer, or raise tasks.{task.name}.holdout."
            )
        chosen[task.name] = rows.slice(0, wanted).to_pylist()
    return chosen


def answer(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    task: Task,
    rows: list[Example],
    params: EvaluateParams,
) -> list[tuple["Prompt", list["Answer"]]]:
    """Answer a task's examples in every run; return each example's prompt and its answers, run by run.

    `likelihood.encoded` has told before which examples the chat template refuses.
    """
    from sft.generation.generate import Answer, Prompt, generate
    from sft.modeling.chat_template import prompt_ids

    prompts = [Prompt(row["item"], prompt_ids(tokenizer, row["prompt"])) for row in rows]
    answers: list[list[Answer]] = [[] for _ in prompts]
    with tqdm(
        total=len(rows) * params.runs, desc=f"answering {task.name}", unit="answer", mininterval=1
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
) -> list[dict[str, Any]]:
    """Score a task's answers, which are those to the first `rows`; `likelihoods` are of all `rows`.

    Return one dict an answer, by example and run, each example's followed by the dict of its likelihood,
    whose `run` is None.
    """
    answers = [(place, given) for place, (_, in_runs) in enumerate(answered) for given in in_runs]
    references = [rows[place]["references"] for place, _ in answers]
    predictions = [given.text for _, given in answers]
    scores = {name: OF_TEXTS[name](references, predictions) for name in task.metrics if name in OF_TEXTS}
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
                "prompt": rows[place]["prompt"],
                "references": rows[place]["references"],
                "prediction": given.text,
            }
        )
    for row, likelihood, scored in zip(rows, likelihoods, of_example, strict=True):
        scored.append(
            {
                "task": task.name,
                "id": row["id"],
                "run": None,
                BITS_PER_BYTE: likelihood.bits_per_byte,
                "nll": likelihood.nll,
                "reference_tokens": likelihood.tokens,
                "reference_bytes": likelihood.bytes,
                "prompt": row["prompt"],
                "references": row["references"],
            }
        )
    return [record for scored in of_example for record in scored]
