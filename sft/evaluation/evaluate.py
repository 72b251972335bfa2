"""Scoring a model on the four tasks: which examples, how they are answered, and the scores."""

from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator
from tqdm.auto import tqdm

from sft.core.errors import ParamError
from sft.core.params import Count, Integer, Number, Params

if TYPE_CHECKING:
    from sft.generation.generate import Answer, Prompt


class MaxNewTokens(Params):
    """`evaluate.max_new_tokens`: where an answer is cut off, by task."""

    recipe: Count
    definition: Count
    dialogue: Count
    question: Count


class EvaluateParams(Params):
    """`evaluate`: examples a task, decoding runs and their seed, temperature, prompts in a batch."""

    examples: Count
    runs: Count
    seed: Integer
    temperature: Number
    batch_size: Literal["auto"] | Count
    max_new_tokens: MaxNewTokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.temperature < 0:
            raise ParamError(f"evaluate.temperature: {self.temperature} is below 0 (0 is greedy).")
        return self


def choose(pool: pa.Table, examples: int) -> dict[str, list[dict[str, Any]]]:
    """Take the first `examples` of each task: the pool is in hash-ranked order, so fewer are a part of more.

    Raises UserError naming the task that has not so many.
    """
    chosen = {}
    for task in pc.unique(pool["task"]).to_pylist():
        rows = pool.filter(pc.equal(pool["task"], task))
        if len(rows) < examples:
            raise ParamError(
                f"evaluate.examples: {examples:,} a task are asked for, but {len(rows):,} "
                f"of the task {task!r} are held out. Ask for fewer, or raise data.holdout.{task}."
            )
        chosen[task] = rows.slice(0, examples).to_pylist()
    return chosen


def answer(
    model: Any,
    tokenizer: Any,
    stop_ids: list[int],
    task: str,
    rows: list[dict[str, Any]],
    params: EvaluateParams,
) -> list[tuple["Prompt", list["Answer"]]]:
    """Answer a task's examples in every run; return each example's prompt and its answers, run by run."""
    from sft.generation.generate import Answer, Prompt, generate
    from sft.modeling.chat_template import prompt_ids

    prompts = [Prompt(row["item"], prompt_ids(tokenizer, row["prompt"])) for row in rows]
    answers: list[list[Answer]] = [[] for _ in prompts]
    with tqdm(
        total=len(rows) * params.runs, desc=f"answering {task}", unit="answer", mininterval=1
    ) as progress:
        for batch in generate(
            model,
            tokenizer,
            stop_ids,
            prompts,
            runs=params.runs,
            seed=params.seed,
            temperature=params.temperature,
            max_new_tokens=getattr(params.max_new_tokens, task),
            batch_size=params.batch_size,
        ):
            for given in batch:
                answers[given.prompt].append(given)
            progress.update(len(batch))
    return [
        (prompt, sorted(given, key=lambda a: a.run)) for prompt, given in zip(prompts, answers, strict=True)
    ]


def score(
    examples: dict[str, list[dict[str, Any]]],
    answered: dict[str, list[tuple["Prompt", list["Answer"]]]],
    likelihoods: dict[str, list[float]],
) -> list[dict[str, Any]]:
    """Score the answers against the references; one dict an answer, by task, example and run.

    `likelihoods` has each task's references' negative log-likelihoods, the same in every run.
    """
    from sft.evaluation import metrics, rouge

    scored = []
    for task, rows in examples.items():
        answers = [
            (row, given) for row, (_, written) in zip(rows, answered[task], strict=True) for given in written
        ]
        references, predictions = (
            [row["reference"] for row, _ in answers],
            [given.text for _, given in answers],
        )
        nll = dict(zip((row["id"] for row in rows), likelihoods[task], strict=True))
        figures = rouge.score(references, predictions)
        chrf = metrics.chrf(references, predictions)
        for (row, given), of_rouge, of_chrf in zip(answers, figures, chrf, strict=True):
            scored.append(
                {
                    "task": task,
                    "id": row["id"],
                    "run": given.run,
                    **of_rouge,
                    "chrf": of_chrf,
                    "nll": nll[row["id"]],
                    **metrics.own(task, given.text),
                    "tokens": given.tokens,
                    "finished": given.finished,
                    "prompt": row["prompt"],
                    "reference": row["reference"],
                    "prediction": given.text,
                }
            )
    return scored
