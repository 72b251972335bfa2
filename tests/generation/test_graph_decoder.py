"""Writing by slots, on the CPU without a graph: the same answers as by transformers' generate."""

import pytest
import torch

from sft.core.errors import UserError
from sft.generation import graph_decoder, slot_cache
from sft.generation.graph_decoder import Job, Written
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
    assert {finished for _, _, finished in expected.values()} == {True, False}
    for batch_size in (1, 3, 50):
        found = answers_by_slots(tiny, prompts, temperature, batch_size)
        assert found == expected
    assert answers_by_slots(tiny, prompts[::-1], temperature, "auto") == expected


def answers_by_slots(tiny, prompts, temperature, batch_size):  # noqa: F811
    found = {}
    for batch in decoding_of(tiny, prompts, temperature, batch_size):
        for answer in batch:
            place = (prompts[answer.prompt].item, answer.run)
            assert place not in found
            found[place] = (answer.text, answer.tokens, answer.finished)
    return found


def decoding_of(tiny, prompts, temperature, batch_size):  # noqa: F811
    from sft.generation.generate import generate

    return generate(
        *tiny,
        prompts,
        runs=2,
        seed=42,
        temperature=temperature,
        max_new_tokens=12,
        batch_size=batch_size,
    )


def test_the_model_is_left_as_it_was(tiny):  # noqa: F811
    model, _, stops = tiny
    before = model.config._attn_implementation
    jobs = [Job(0, [5, 6, 7], [1]), Job(1, [8], [2])]
    written = [
        text
        for texts in graph_decoder.write(model, jobs, stops, temperature=0, max_new_tokens=3, most_slots=1)
        for text in texts
    ]
    assert model.config._attn_implementation == before != slot_cache.SLOTTED
    assert {text.prompt for text in written} == {0, 1}
    assert all(isinstance(text, Written) and 1 <= len(text.ids) <= 3 for text in written)


def test_what_cannot_be_decoded_by_slots(tiny):  # noqa: F811
    assert not graph_decoder.usable(tiny[0])  # no GPU, or float32


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
    model, _, stops = tiny

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(graph_decoder, "Slots", no_memory)
    with pytest.raises(UserError, match=r"out of memory: 2 texts of up to 6 tokens do not fit"):
        list(
            graph_decoder.write(
                model, [Job(0, [5, 6, 7], [1, 2])], stops, temperature=0, max_new_tokens=3, most_slots=0
            )
        )
    assert model.config._attn_implementation != slot_cache.SLOTTED


def test_more_runs_than_slots(tiny):  # noqa: F811
    """A prompt's runs are written together, however few slots are thought to fit."""
    model, _, stops = tiny
    jobs = [Job(n, [5, 6 + n], [1, 2, 3]) for n in range(3)]
    written = [
        (text.prompt, text.run)
        for texts in graph_decoder.write(model, jobs, stops, temperature=1, max_new_tokens=4, most_slots=1)
        for text in texts
    ]
    assert sorted(written) == [(n, run) for n in range(3) for run in range(3)]


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
