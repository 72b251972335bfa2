"""One model on all tasks: encoding, likelihoods, answers and scores, each with its seconds on a clock."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sft.core.errors import UserError
from sft.core.kept_results import ANSWERS, LIKELIHOODS, KeptResults
from sft.core.provenance import Clock
from sft.distributed.ranks import ALONE, Ranks
from sft.distributed.shares import Sharing
from sft.evaluation.evaluate import EvaluateParams, Example, answer, check_finite, score
from sft.modeling.loading import Resolved
from sft.tasks.metric_names import BITS_PER_BYTE
from sft.tasks.task import Task

if TYPE_CHECKING:
    from sft.evaluation import likelihood
    from sft.generation.generate import Answer, Prompt

    Answered = dict[str, list[tuple[Prompt, list[Answer]]]]


MOST_REFUSED = 0.1  # the share of a task's examples that the chat template may refuse


@dataclass
class Model:
    """A model that answers, with its tokenizer, and the base model that it is or that it adapts."""

    model: Any
    tokenizer: Any
    stop_ids: list[int]
    base: Resolved


@dataclass
class Encoded:
    """A task's examples as token ids: each with its reference, and with each of its choices.

    `refused` says by id why the chat template refuses others, which are left out.
    """

    examples: list[Example]
    references: "list[likelihood.Encoded]"
    choices: "list[list[likelihood.Encoded]]"
    refused: dict[str, str]


@dataclass
class Likely:
    """The likelihoods of a task's references, and whether the right choice is the likeliest (1, else 0)."""

    references: "list[likelihood.Likelihood]"
    right_choices: list[float]


def encode_all(
    model: Model, tasks: list[Task], examples: dict[str, list[Example]], clock: Clock
) -> dict[str, Encoded]:
    """Encode every example that can be scored, before any is answered.

    Raises UserError where more than MOST_REFUSED of a task's cannot.
    """
    with clock.phase("encode"):
        return {task.name: _encode(model.tokenizer, task, examples[task.name]) for task in tasks}


def _encode(tokenizer: Any, task: Task, examples: list[Example]) -> Encoded:
    from sft.evaluation.likelihood import RefusedExample, encoded, encoded_choices

    kept = Encoded([], [], [], {})
    first: UserError | None = None
    for example in examples:
        try:
            reference = encoded(tokenizer, task, [example])
            choices = encoded_choices(tokenizer, task, [example])
        except RefusedExample as error:
            kept.refused[example["id"]] = str(error)
            first = first or error
            if len(kept.refused) > MOST_REFUSED * len(examples):
                raise first from None
            continue
        kept.examples.append(example)
        kept.references += reference
        kept.choices += choices
    return kept


def left_out(encoded: dict[str, Encoded]) -> list[str]:
    """Say which examples the chat template refuses."""
    return [
        f"{task}: {len(of.refused):,} of {len(of.refused) + len(of.examples):,} examples are left out. "
        f"The first: {next(iter(of.refused.values()))}"
        for task, of in encoded.items()
        if of.refused
    ]


def likelihood_all(
    model: Model,
    examples: dict[str, list[Example]],
    encoded: dict[str, Encoded],
    clock: Clock,
    kept: KeptResults,
    ranks: Ranks = ALONE,
) -> dict[str, Likely]:
    """Take every example's likelihoods: before the answers, so that damaged weights are told of at once.

    Of several `ranks` each takes a part of them, and all return all.
    """
    from sft.evaluation.likelihood import of_sums, right_choices, sums

    found, sharing, own = {}, Sharing(ranks), {}
    lots = {
        task: (rows.references, [one for of in rows.choices for one in of]) for task, rows in encoded.items()
    }
    with _phase(clock, kept, "likelihood"):
        for task, of_task in lots.items():
            own[task] = [sums(model.model, model.tokenizer, lot, kept, sharing) for lot in of_task]
            here = of_sums(of_task[0], own[task][0])
            check_finite(
                [
                    {"task": task, "id": row["id"], BITS_PER_BYTE: one.bits_per_byte}
                    for row, one in zip(examples[task], here, strict=True)
                ]
            )
        of_ranks = ranks.gather(own)
        for task, rows in encoded.items():
            of_references, of_all_choices = (
                of_sums(lot, [sum(nats) for nats in zip(*(one[task][part] for one in of_ranks), strict=True)])
                for part, lot in enumerate(lots[task])
            )
            in_turn = iter(of_all_choices)
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
    clock: Clock,
    kept: KeptResults,
    ranks: Ranks = ALONE,
) -> "Answered":
    """Answer every task's first examples; of several `ranks` each answers a part, and all return all."""
    answered, sharing = {}, Sharing(ranks)
    for task in tasks:
        with _phase(clock, kept, f"answer_{task.name}"):
            chosen = examples[task.name][: params.examples]
            answered[task.name] = answer(
                model.model, model.tokenizer, model.stop_ids, task, chosen, params, kept, sharing
            )
    of_ranks = ranks.gather((answered, clock.seconds, kept.used))
    kept.used = sum((used for _, _, used in of_ranks), Counter())
    for name in answered:  # as long as the slowest has taken
        clock.seconds[f"answer_{name}"] = max(seconds[f"answer_{name}"] for _, seconds, _ in of_ranks)
    return {name: _of_all([one[name] for one, _, _ in of_ranks]) for name in answered}


def _of_all(of_ranks: "list[list[tuple[Prompt, list[Answer]]]]") -> "list[tuple[Prompt, list[Answer]]]":
    """Put a task's answers together: all of an example's are one rank's."""
    return [
        (in_ranks[0][0], next((answers for _, answers in in_ranks if answers), []))
        for in_ranks in zip(*of_ranks, strict=True)
    ]


@contextmanager
def _phase(clock: Clock, kept: KeptResults, name: str) -> Iterator[None]:
    """Add the seconds spent inside, and those that kept results once took, to a phase of the clock."""
    before = kept.seconds
    with clock.phase(name):
        yield
    clock.add(name, kept.seconds - before)


def going_on(
    encoded: dict[str, Encoded], params: EvaluateParams, kept: KeptResults, ranks: Ranks = ALONE
) -> list[str]:
    """Say how much of the work has been done by a run that was stopped; empty where none was."""
    answers = sum(len(of.examples[: params.examples]) for of in encoded.values()) * params.runs
    likelihoods = sum(len(of.references) + sum(map(len, of.choices)) for of in encoded.values())
    there = ranks.gather([kept.there(ANSWERS), kept.there(LIKELIHOODS)])
    done, likely = (sum(counts) for counts in zip(*there, strict=True))
    if not (done or likely):
        return []
    return [
        f"going on: {done:,} of {answers:,} answers and {likely:,} of {likelihoods:,} likelihoods are there"
    ]


def score_all(
    tasks: list[Task],
    examples: dict[str, list[Example]],
    likely: dict[str, Likely],
    answered: "Answered",
    clock: Clock,
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
