"""A model on the held-out examples: the likelihood of references, and greedy answers.

Greedy answers tell two models apart without decoding noise. Here a model that transformers runs; GGUF files,
which llama.cpp runs, are in sft/export/gguf_scoring.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sft.core.errors import UserError
from sft.core.provenance import Clock
from sft.core.row_schema import conversation
from sft.evaluation import scores_file
from sft.evaluation.all_tasks import Encoded, Likely, Model, encode_all, score_all
from sft.evaluation.evaluate import EvaluateParams, choose
from sft.modeling import loading
from sft.statistics.intervals import FEWEST_EXAMPLES
from sft.statistics.scores import Scores
from sft.tasks.task import Task

if TYPE_CHECKING:
    from sft.evaluation.likelihood import Encoded as Reference
    from sft.generation.generate import Prompt
    from sft.generation.interface import BatchSize, Request

# Of each task: as few as have an interval. What it takes: docs/export-scores.md.
LIKELIHOODS = FEWEST_EXAMPLES
# Written token by token, they cost more: the intervals of their scores are over the prompts of all tasks.
ANSWERS = 5
# In a batch whose likelihoods are taken, padding included. Evaluation's has four times as many: of so few
# references, whose lengths differ much, a third of that would be padding.
TOKENS = 1024


@dataclass(frozen=True)
class Examples:
    """The examples that every model is scored on, and how: references and `prompts` as token ids, by task."""

    tasks: list[Task]
    params: EvaluateParams
    encoded: dict[str, Encoded]
    prompts: "dict[str, list[Prompt]]"

    @property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The examples by task: those that are answered come first."""
        return {task: of.examples for task, of in self.encoded.items()}

    @property
    def lots(self) -> "list[Reference]":
        """What has its likelihood taken: of each task the references, then their choices."""
        return [
            one
            for of in self.encoded.values()
            for one in (*of.references, *(choice for choices in of.choices for choice in choices))
        ]


@dataclass(frozen=True)
class Answered:
    """An answer as token ids, without the token that ended it: None where it was cut off."""

    ids: list[int]
    end: int | None


@dataclass(frozen=True)
class Scored:
    """A model's scores, and its greedy answers by task and example: their texts, and as tokens."""

    scores: Scores
    answers: list[str]
    tokens: list[Answered] = field(default_factory=list)


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
    return Examples(tasks, params, encoded, _prompts(tokenizer, encoded, params))


def _prompts(
    tokenizer: Any, encoded: Mapping[str, Encoded], params: EvaluateParams
) -> "dict[str, list[Prompt]]":
    from sft.generation.generate import Prompt
    from sft.modeling.chat_template import prompt_ids

    found: dict[str, list[Prompt]] = {}
    for task, of in encoded.items():
        rows = of.examples[: params.examples]
        asked = [conversation({"messages": row["prompt"], "tools": row.get("tools")}) for row in rows]
        found[task] = [
            Prompt(row["item"], prompt_ids(tokenizer, *one)) for row, one in zip(rows, asked, strict=True)
        ]
    return found


def by_transformers(model: Model, on: Examples) -> Scored:
    """Score a model that transformers runs, by the code of the stage `evaluate`.

    Raises UserError where its own tokenizer makes other tokens of the examples.
    """
    own = encode_all(model, on.tasks, on.rows, Clock())
    prompts = _prompts(model.tokenizer, own, on.params)
    for task, of in on.encoded.items():
        same = [one.ids for one in own[task].references] == [one.ids for one in of.references]
        if not same or prompts[task] != on.prompts[task]:
            raise UserError(
                f"{model.base.reference}: its tokenizer or chat template makes other tokens of the task "
                f"{task!r} than the adapter's, so it would answer worse. Export it again: make export"
            )
    nats = _nats(model, on.lots)
    return scored(model.tokenizer, on, nats, _greedy(model, on))


def _nats(model: Model, lots: "Sequence[Reference]") -> list[float]:
    """Return the summed negative log-likelihood of each."""
    from sft.evaluation.likelihood import likelihoods

    found = [0.0] * len(lots)
    for places in _batches([len(one.ids) for one in lots]):
        of = likelihoods(model.model, model.tokenizer, [lots[n] for n in places])
        for n, one in zip(places, of, strict=True):
            found[n] = one.nats
    return found


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Put places of like lengths together, TOKENS tokens at most or one place: the longest first."""
    found: list[list[int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= TOKENS:
            found[-1].append(n)
        else:
            found.append([n])
    return found


def _greedy(model: Model, on: Examples) -> list[Answered]:
    """Answer greedily, each task's prompts in the batches of the stage `evaluate`."""
    from sft.generation.decoding import until_stop
    from sft.generation.interface import Request

    found = []
    for task in on.tasks:
        prompts = on.prompts[task.name]
        by_length = sorted(range(len(prompts)), key=lambda n: (-len(prompts[n].ids), prompts[n].item))
        requests = [Request(n, prompts[n].ids, [0]) for n in by_length]
        written = greedy_ids(model, requests, task.max_new_tokens, on.params.batch_size)
        for n in range(len(prompts)):
            ids, ended = until_stop(written[n], model.stop_ids)
            found.append(Answered(ids, written[n][len(ids)] if ended else None))
    return found


def greedy_ids(
    model: Model, requests: "list[Request]", most_tokens: int, batch_size: "BatchSize"
) -> dict[int, list[int]]:
    """Answer requests greedily, in batches in their order; return by prompt the ids, with the stop token."""
    from sft.generation.generate import generator_for

    generator = generator_for(model.model)
    return {
        one.prompt: one.ids
        for group in generator.groups(model.model, requests, batch_size, 1)
        for completions in generator.generate(
            model.model,
            model.tokenizer,
            model.stop_ids,
            group,
            temperature=0.0,
            max_new_tokens=most_tokens,
            batch_size=batch_size,
        )
        for one in completions
    }


def behind(model: Model, on: Examples, answers: Sequence[Answered]) -> list[float]:
    """Return how far each answer is from being the model's own greedy one, in logits.

    Where it is farthest: how much the likeliest token has more than the answer's, which the tokens before it
    were given. So 0 is the model's own answer to the letter, next to 0 one that leaves it at a tie, which
    another rounding decides otherwise.
    """
    import torch

    prompts, found = (prompt for of in on.prompts.values() for prompt in of), []
    for prompt, answer in zip(prompts, answers, strict=True):
        written = answer.ids + ([] if answer.end is None else [answer.end])
        with torch.inference_mode():
            ids = torch.tensor([prompt.ids + written[:-1]], device=model.model.device)
            logits = model.model(input_ids=ids, use_cache=False, logits_to_keep=len(written)).logits[0]
        chosen = logits.gather(1, torch.tensor(written, device=logits.device)[:, None])[:, 0]
        found.append(float((logits.amax(1) - chosen).max()))
    return found


def scored(tokenizer: Any, on: Examples, nats: Sequence[float], answers: list[Answered]) -> Scored:
    """Score the sums of nats of `on.lots`, and greedy answers by task and example.

    Raises UserError where a score is not finite.
    """
    from sft.generation.decoding import decode
    from sft.generation.generate import Answer, Prompt
    from sft.modeling.thoughts import said

    in_turn, texts = iter(answers), []
    given: dict[str, list[tuple[Prompt, list[Answer]]]] = {}
    for task, prompts in on.prompts.items():
        given[task] = []
        for n, (prompt, one) in enumerate(zip(prompts, in_turn, strict=False)):
            ended = one.end is not None
            text, own = decode(tokenizer, one.ids), said(tokenizer, prompt.ids, one.ids)
            answer = Answer(n, 0, text, len(one.ids) + ended, finished=ended, said=own)
            given[task].append((prompt, [answer]))
            texts.append(text)
    records = score_all(on.tasks, on.rows, _likely(on, iter(nats)), given, Clock())
    return Scored(scores_file.parse(scores_file.as_csv(records, None), "scores"), texts, answers)


def _likely(on: Examples, nats: Iterator[float]) -> dict[str, Likely]:
    from sft.evaluation.likelihood import of_sums, right_choices

    found = {}
    for task, of in on.encoded.items():
        references = of_sums(of.references, [next(nats) for _ in of.references])
        choices = [of_sums(one, [next(nats) for _ in one]) for one in of.choices]
        found[task] = Likely(references, right_choices(of.examples, choices) if choices else [])
    return found
