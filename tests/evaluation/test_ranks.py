"""Evaluating in two processes that share the examples: the answers and likelihoods of one."""

import pytest

from sft.core.kept_results import ANSWERS, LIKELIHOODS, KeptResults
from sft.core.provenance import Clock
from sft.distributed.ranks import ALONE
from sft.evaluation.all_tasks import Model, answer_all, encode_all, going_on, likelihood_all
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.evaluation.test_evaluate import PARAMS, TASKS
from tests.ranks import in_ranks
from tests.tiny import dialogue

EXAMPLES = {
    task.name: [
        {
            "id": f"{task.name}-{n}",
            "item": f"item-{n % 5}",
            "prompt": dialogue(f"{task.name} {n} " * (n + 1), "")[:1],
            "references": [f"answer {n} to it " * (n % 3 + 1)],
            "tools": None,
        }
        for n in range(7)
    ]
    for task in TASKS
}
WANTED = PARAMS.model_copy(update={"examples": 7, "likelihood_examples": 7, "batch_size": 2})


def evaluated(ranks, base, folder):
    """Answer all examples and take all likelihoods; return them with what is kept, and by whom."""
    tokenizer, model = load_tokenizer(base), load_model(base, "bfloat16").eval()
    model = Model(model, tokenizer, stop_token_ids(tokenizer, model), base)
    kept, clock = KeptResults(folder / f"kept-{ranks.rank}"), Clock()
    encoded = encode_all(model, TASKS, EXAMPLES, clock)
    said = going_on(encoded, WANTED, kept, ranks)
    likely = likelihood_all(model, EXAMPLES, encoded, clock, kept, ranks)
    answered = answer_all(model, TASKS, EXAMPLES, WANTED, clock, kept, ranks)
    return {"said": said, "results": (likely, answered), "used": kept.used, "seconds": clock.seconds}


def twice(ranks, base, folder):
    """Evaluate, and again as after a run in which the second rank was killed with its last answers."""
    first = evaluated(ranks, base, folder)
    if ranks.rank:
        path = folder / "kept-1"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return first, evaluated(ranks, base, folder)


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """Return what one process makes, and what both ranks make in two runs."""
    alone = evaluated(ALONE, tiny, tmp_path_factory.mktemp("alone"))
    return alone, in_ranks(twice, tiny, tmp_path_factory.mktemp("ranks"))


def test_two_ranks_answer_what_one_does(done):
    """To the last bit of every likelihood, in 16 bits too: a batch is answered whole, by one of them."""
    alone, of_ranks = done
    for first, second in of_ranks:
        assert first["results"] == second["results"] == alone["results"]
    _, answered = alone["results"]
    assert [len(answers) for task in TASKS for _, answers in answered[task.name]] == [2] * 7 * len(TASKS)


def test_both_have_worked(done):
    """Each has kept about half of it, and used it in the second run, but for the batch that was lost."""
    alone, of_ranks = done
    answers, likelihoods = 2 * 7 * len(TASKS), 7 * len(TASKS)
    assert not alone["used"] and not any(first["used"] for first, _ in of_ranks)
    for _, second in of_ranks:  # what is told is of both
        assert second["used"][LIKELIHOODS] == likelihoods
        assert answers - 4 <= second["used"][ANSWERS] < answers
        (line,) = second["said"]
        assert f"{second['used'][ANSWERS]} of {answers} answers and {likelihoods} of {likelihoods} " in line


def test_the_seconds_are_those_of_the_slower_one(done):
    _, of_ranks = done
    (one, _), (two, _) = of_ranks
    tasks = [name for name in one["seconds"] if name.startswith("answer_")]
    assert len(tasks) == len(TASKS) and all(one["seconds"][name] == two["seconds"][name] for name in tasks)
