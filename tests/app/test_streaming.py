"""Texts generated together are those that are generated alone, whoever joins, leaves or has which adapter."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from app.streaming import BASE, Batch, Stream
from sft.generation.generate import Prompt, generate
from sft.generation.keyed_sampling import key
from sft.modeling import adapter
from sft.modeling.chat_template import prompt_ids
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.tiny import save_model

ASKED = [
    "Rice?",
    "What can I make with leeks, lemons and rice?",
    "Eggs and flour, please.",
    "Why?",
    "Salt " * 20,
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tokenizer, and a model with two adapters that make a difference."""
    folder = tmp_path_factory.mktemp("model")
    base = save_model(folder / "base", spread=0.35)
    for name, seed in (("one", 1), ("two", 2)):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        adapter.save(
            get_peft_model(load_model(base, "float32", "cpu"), config), folder / name, "base", "0123abcd"
        )
    plain = load_model(base, "float32", "cpu").eval()
    tokenizer = load_tokenizer(base)
    stops = stop_token_ids(tokenizer, plain)
    model = PeftModel.from_pretrained(load_model(base, "float32", "cpu"), folder / "one", adapter_name="one")
    model.load_adapter(folder / "two", adapter_name="two")
    return tokenizer, stops, plain, model.eval(), {name: folder / name for name in ("one", "two")}, base


def stream(tokenizer, asked, name=BASE, temperature=0.7, most=20):
    ids = prompt_ids(tokenizer, [{"role": "user", "content": asked}])
    return Stream(ids, name, key(5, 0, asked), temperature, most)


def alone(model, stops, *streams):
    for one in streams:
        batch = Batch(model, stops)
        batch.join(one)
        while batch.streams:
            batch.step()
    return [one.ids for one in streams]


@torch.inference_mode()
def test_what_is_streamed_is_what_evaluation_generates(models):
    tokenizer, stops, plain, model, folders, base = models
    for name in (BASE, "one", "two"):
        evaluated = plain
        if name != BASE:
            evaluated = adapter.attach(load_model(base, "float32", "cpu"), folders[name]).eval()
        prompts = [Prompt(asked, stream(tokenizer, asked).prompt) for asked in ASKED]
        options = {"runs": 1, "seed": 5, "temperature": 0.7, "max_new_tokens": 20, "batch_size": 1}
        expected = {
            answer.prompt: (answer.text, answer.finished)
            for answers in generate(evaluated, tokenizer, stops, prompts, **options)
            for answer in answers
        }
        streams = [stream(tokenizer, asked, name) for asked in ASKED]
        generated = alone(model, stops, *streams)
        assert len({tuple(ids) for ids in generated}) == len(ASKED)
        for number, (one, ids) in enumerate(zip(streams, generated, strict=True)):
            decoded = tokenizer.decode(ids, skip_special_tokens=True).strip()
            assert (decoded, one.ended) == expected[number]


@torch.inference_mode()
def test_company_changes_no_text(models):
    """Texts of three models and lengths join at different times; one leaves before its end."""
    tokenizer, stops, _, model, _, _ = models
    kinds = [(asked, name) for asked in ASKED for name in (BASE, "one", "two")]
    expected = alone(model, stops, *(stream(tokenizer, asked, name) for asked, name in kinds))
    batch, streams = Batch(model, stops), []
    for number, (asked, name) in enumerate(kinds):
        streams.append(stream(tokenizer, asked, name))
        batch.join(streams[-1])
        if number == 4:
            batch.drop([streams[1]])
            kept = list(streams[1].ids)
        batch.step()
        assert len(batch.streams) <= number + 1
    while batch.streams:
        batch.step()
    assert streams[1].ids == kept == expected[1][: len(kept)] and not streams[1].done
    assert [one.ids for one in streams[:1] + streams[2:]] == expected[:1] + expected[2:]


@torch.inference_mode()
def test_a_stop_token_ends_a_text_and_is_no_part_of_it(models):
    tokenizer, _, _, model, _, _ = models
    (free,) = alone(model, [], stream(tokenizer, "Rice?"))
    stop = free[7]
    first = free.index(stop)
    one = stream(tokenizer, "Rice?")
    assert alone(model, [stop], one) == [free[:first]] and one.ended and one.done
    cut = stream(tokenizer, "Rice?", most=3)
    assert alone(model, [], cut) == [free[:3]] and cut.done and not cut.ended


@torch.inference_mode()
def test_temperatures_are_each_text_s_own(models):
    tokenizer, stops, _, model, _, _ = models
    greedy, warm = stream(tokenizer, "Rice?", temperature=0), stream(tokenizer, "Rice?")
    expected = alone(model, stops, stream(tokenizer, "Rice?", temperature=0), stream(tokenizer, "Rice?"))
    batch = Batch(model, stops)
    batch.join(greedy)
    batch.join(warm)
    while batch.streams:
        batch.step()
    assert [greedy.ids, warm.ids] == expected and greedy.ids != warm.ids
