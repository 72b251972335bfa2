"""Generating by slots, on the CPU without a graph: the same answers as by transformers' generate."""

import pytest
import torch

from sft.core.errors import UserError
from sft.core.kept_results import KeptResults
from sft.generation import graph_decoder, slot_cache, transformers_generate
from sft.generation.generate import generate, generator_for
from sft.generation.interface import Completion, Request
from sft.generation.keyed_sampling import choose, key
from tests.generation.test_generate import answers, random_prompts, tiny  # noqa: F401


@pytest.fixture
def by_slots(monkeypatch):
    """Have `generate` take the slots, of which 14 fit."""
    monkeypatch.setattr(graph_decoder, "usable", lambda model: True)
    monkeypatch.setattr(graph_decoder, "slots_that_fit", lambda model, length: 14)
    monkeypatch.setattr(graph_decoder, "PROMPT_TOKENS", 40)  # so that prompts are read in several passes


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_slots_answer_as_batches_do(tiny, temperature, request):  # noqa: F811
    prompts = random_prompts(30)
    expected = answers(tiny, prompts, runs=2, temperature=temperature)
    request.getfixturevalue("by_slots")
    assert generator_for(tiny[0]) is graph_decoder
    assert {finished for _, _, finished in expected.values()} == {True, False}
    for batch_size in (1, 3, 50):
        assert answers_by_slots(tiny, prompts, temperature, batch_size) == expected
    assert answers_by_slots(tiny, prompts[::-1], temperature, "auto") == expected


def test_of_slots_a_whole_task_is_kept(tiny, by_slots, tmp_path, monkeypatch):  # noqa: F811
    """Not the part that was generated when the run was stopped: it would come out otherwise without it."""
    first, second = random_prompts(12, seed=1), random_prompts(12, seed=2)
    expected = [answers_by_slots(tiny, prompts, 0.7, 3) for prompts in (first, second)]
    kept = KeptResults(tmp_path / "kept")
    assert answers_by_slots(tiny, first, 0.7, 3, kept) == expected[0]
    stopped = generate(
        *tiny, second, runs=2, seed=42, temperature=0.7, max_new_tokens=12, batch_size=3, kept=kept
    )
    assert next(stopped)
    stopped.close()

    kept = KeptResults(tmp_path / "kept")
    assert kept.there("answers") == 24
    with monkeypatch.context() as patched:
        patched.setattr(graph_decoder, "SlotDecoder", None)  # nothing of the first is generated
        assert answers_by_slots(tiny, first, 0.7, 3, kept) == expected[0]
    assert answers_by_slots(tiny, second, 0.7, 3, kept) == expected[1]
    assert kept.used["answers"] == 24 and KeptResults(tmp_path / "kept").there("answers") == 48


def answers_by_slots(tiny, prompts, temperature, batch_size, kept=None):  # noqa: F811
    answered = {}
    for batch in generate(
        *tiny,
        prompts,
        runs=2,
        seed=42,
        temperature=temperature,
        max_new_tokens=12,
        batch_size=batch_size,
        kept=kept,
    ):
        for answer in batch:
            place = (prompts[answer.prompt].item, answer.run)
            assert place not in answered
            answered[place] = (answer.text, answer.tokens, answer.finished)
    return answered


def completions(tiny, requests, temperature=0.0, max_new_tokens=3, batch_size=1):  # noqa: F811
    return [
        completion
        for batch in graph_decoder.generate(
            *tiny,
            requests,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
        )
        for completion in batch
    ]


def test_the_model_is_left_as_it_was(tiny):  # noqa: F811
    model, _, _ = tiny
    before = model.config._attn_implementation
    generated = completions(tiny, [Request(0, [5, 6, 7], [1]), Request(1, [8], [2])])
    assert model.config._attn_implementation == before != slot_cache.SLOTTED
    assert {completion.prompt for completion in generated} == {0, 1}
    assert all(isinstance(one, Completion) and 1 <= len(one.ids) <= 3 for one in generated)


def test_what_slots_cannot_do_transformers_does(tiny):  # noqa: F811
    assert not graph_decoder.usable(tiny[0])  # no GPU, or float32
    assert generator_for(tiny[0]) is transformers_generate


@pytest.mark.parametrize(
    ("name", "value"),
    [("sliding_window", 8), ("logits_scaling", 2.0), ("num_local_experts", 4), ("kv_lora_rank", 4)],
)
def test_models_that_need_more_are_answered_otherwise(tiny, monkeypatch, name, value):  # noqa: F811
    model, _, _ = tiny
    monkeypatch.setattr(graph_decoder, "has_varlen", lambda *_: True)
    assert graph_decoder.usable(model)
    monkeypatch.setattr(model.config, name, value, raising=False)
    assert not graph_decoder.usable(model)


def test_slots_that_do_not_fit(tiny, monkeypatch):  # noqa: F811
    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(graph_decoder, "Slots", no_memory)
    with pytest.raises(UserError, match=r"out of memory: 2 texts of up to 6 tokens do not fit"):
        completions(tiny, [Request(0, [5, 6, 7], [1, 2])])
    assert tiny[0].config._attn_implementation != slot_cache.SLOTTED


def test_more_runs_than_slots(tiny, monkeypatch):  # noqa: F811
    """A prompt's runs are generated together, however few slots are thought to fit."""
    monkeypatch.setattr(graph_decoder, "slots_that_fit", lambda model, length: 1)
    requests = [Request(n, [5, 6 + n], [1, 2, 3]) for n in range(3)]
    generated = completions(tiny, requests, temperature=1, max_new_tokens=4, batch_size="auto")
    places = [(completion.prompt, completion.run) for completion in generated]
    assert sorted(places) == [(n, run) for n in range(3) for run in range(3)]


def test_choose_is_the_processors_choice():
    from sft.generation.keyed_sampling import KeyedGumbel

    keys = torch.tensor([key(1, 0, f"item {n}") for n in range(50)])
    scores = torch.randn(50, 300)
    processed = KeyedGumbel(keys, prompt_length=4, temperature=0.7)(torch.zeros(50, 9), scores)
    assert torch.equal(choose(scores, keys, torch.full((50,), 5), 0.7), processed.argmax(-1))
    assert torch.equal(choose(scores, keys, torch.full((50,), 5), 0), scores.argmax(-1))
    positions = torch.arange(50)
    one_by_one = [choose(scores[n : n + 1], keys[n : n + 1], positions[n], 0.7) for n in range(50)]
    assert torch.equal(choose(scores, keys, positions, 0.7), torch.cat(one_by_one))
