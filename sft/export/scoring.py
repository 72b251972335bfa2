"""A model on the held-out examples, as its user runs it: by transformers, or a GGUF file by llama.cpp.

The likelihood of references, and greedy answers, which tell two models apart without decoding noise.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.core.files import read_json, write_json
from sft.core.kept_results import KeptResults
from sft.core.provenance import Clock
from sft.core.row_schema import conversation
from sft.evaluation import scores_file
from sft.evaluation.all_tasks import (
    Encoded,
    Likely,
    Model,
    answer_all,
    encode_all,
    likelihood_all,
    score_all,
)
from sft.evaluation.evaluate import EvaluateParams, choose
from sft.export import tools
from sft.modeling import loading
from sft.statistics.intervals import FEWEST_EXAMPLES
from sft.statistics.scores import Scores
from sft.tasks.task import Task

if TYPE_CHECKING:
    from sft.evaluation.likelihood import Likelihood
    from sft.generation.generate import Answer, Prompt

# Of each task: as few as have an interval. What it takes: docs/export-scores.md.
LIKELIHOODS = FEWEST_EXAMPLES
# Written token by token, they cost more: the intervals of their scores are over the prompts of all tasks.
ANSWERS = 5


@dataclass(frozen=True)
class Examples:
    """The examples that every model is scored on, as token ids, and how."""

    tasks: list[Task]
    params: EvaluateParams
    encoded: dict[str, Encoded]

    @property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The examples by task: those that are answered come first."""
        return {task: of.examples for task, of in self.encoded.items()}


@dataclass(frozen=True)
class Scored:
    """A model's scores, and its greedy answers' texts by task and example."""

    scores: Scores
    answers: list[str]


def examples(
    pool: pa.Table, tasks: list[Task], params: EvaluateParams, tokenizer: Any, base: loading.Resolved
) -> Examples:
    """Take the first examples of each task: those that the stage `evaluate` takes first, too.

    `params` are those of the stage; runs and temperature are not taken from them.
    """
    params = params.model_copy(
        update={"examples": ANSWERS, "likelihood_examples": LIKELIHOODS, "runs": 1, "temperature": 0.0}
    )
    encoded = encode_all(Model(None, tokenizer, [], base), tasks, choose(pool, tasks, params), Clock())
    return Examples(tasks, params, encoded)


def by_transformers(model: Model, on: Examples) -> Scored:
    """Score a model that transformers runs, by the code of the stage `evaluate`.

    Raises UserError where its own tokenizer makes other tokens of the examples.
    """
    own = encode_all(model, on.tasks, on.rows, Clock())
    for task, of in on.encoded.items():
        if [one.ids for one in own[task].references] != [one.ids for one in of.references]:
            raise UserError(
                f"{model.base.reference}: its tokenizer or chat template makes other tokens of the task "
                f"{task!r} than the adapter's, so it would answer worse. Export it again: make export"
            )
    likely = likelihood_all(model, on.rows, on.encoded, Clock(), KeptResults())
    return _scored(on, likely, greedy(model, on))


def greedy(model: Model, on: Examples) -> "dict[str, list[tuple[Prompt, list[Answer]]]]":
    """Answer the first examples of each task greedily."""
    return answer_all(model, on.tasks, on.rows, on.params, Clock(), KeptResults())


def texts(answered: "dict[str, list[tuple[Prompt, list[Answer]]]]") -> list[str]:
    """Return the answers' texts by task and example."""
    return [given.text for pairs in answered.values() for _, answers in pairs for given in answers]


def by_llama_cpp(file: Path, tokenizer: Any, on: Examples, threads: int) -> Scored:
    """Score a GGUF file by llama.cpp; raise UserError where that cannot run it.

    llama.cpp gets the ids that the adapter gets: that it makes the same of a prompt, the export has checked.
    """
    from sft.generation.generate import Prompt
    from sft.modeling.chat_template import prompt_ids

    prompts, asked = {}, []
    for task in on.tasks:
        answered = on.rows[task.name][: on.params.examples]
        pairs = [conversation({"messages": row["prompt"], "tools": row.get("tools")}) for row in answered]
        prompts[task.name] = [
            Prompt(row["item"], prompt_ids(tokenizer, *pair))
            for row, pair in zip(answered, pairs, strict=True)
        ]
        asked += [(prompt.ids, task.max_new_tokens) for prompt in prompts[task.name]]
    lots = [
        (one.ids, one.counted.start, one.counted.stop)
        for of in on.encoded.values()
        for one in (*of.references, *(choice for choices in of.choices for choice in choices))
    ]
    told = _told(file, {"threads": threads, "likelihoods": lots, "prompts": asked})
    answers = iter(told["answers"])
    given = {
        task: [(prompt, [_answer(tokenizer, n, prompt, *next(answers))]) for n, prompt in enumerate(of_task)]
        for task, of_task in prompts.items()
    }
    return _scored(on, _likely(on, told["nats"]), given)


def _told(file: Path, request: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "asked.json", Path(folder) / "told.json"
        write_json(asked, request)
        try:
            tools.run("sft.export.llama_cpp", str(file.resolve()), str(asked), str(told), writes=told)
        except tools.ToolFailed as error:
            raise UserError(
                f"{file}: llama.cpp cannot run it: {error}. Export it again: make export"
            ) from None
        return read_json(told)


def _answer(tokenizer: Any, place: int, prompt: "Prompt", ids: list[int], ended: bool) -> "Answer":
    from sft.generation.decoding import decode
    from sft.generation.generate import Answer
    from sft.modeling.thoughts import said

    text, tokens = decode(tokenizer, ids), len(ids) + ended
    return Answer(place, 0, text, tokens, finished=ended, said=said(tokenizer, prompt.ids, ids))


def _likely(on: Examples, nats: Sequence[float]) -> dict[str, Likely]:
    from sft.evaluation.likelihood import of_sums, right_choices

    in_turn, found = iter(nats), {}

    def taken(rows: Sequence[Any]) -> "list[Likelihood]":
        return of_sums(rows, [next(in_turn) for _ in rows])

    for task, of in on.encoded.items():
        references = taken(of.references)
        choices = [taken(one) for one in of.choices]
        found[task] = Likely(references, right_choices(of.examples, choices) if choices else [])
    return found


def _scored(on: Examples, likely: dict[str, Likely], answered: Any) -> Scored:
    records = score_all(on.tasks, on.rows, likely, answered, Clock())
    return Scored(scores_file.parse(scores_file.as_csv(records, None), "scores"), texts(answered))
