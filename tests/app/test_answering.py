"""Many users, one generating thread: all answers whole, none another's, faults that stay where they are."""

import asyncio
import dataclasses
import gc
import threading
import time
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model

from app import answering, loading, tickets
from app.answering import Answerer
from app.prompts import Wish
from app.repository import Repository
from app.revisions import Source
from app.talk import Talk, answers
from app.tickets import follow
from sft.core.errors import ParamError, UserError
from sft.modeling import adapter
from sft.modeling.loading import ModelParams, load_model
from tests.imports import ROOT, closure
from tests.tiny import save_model


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A base with three adapters, and another base."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for base in ("first", "second"):
        resolved = save_model(folder / base, spread=0.35)
        params = ModelParams(reference=str(folder / base), dtype="float32", load_in_4bit=False)
        made[base] = Source(base, params, 0.7, None, "")
        for number in range(3 if base == "first" else 0):
            torch.manual_seed(number)
            config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
            path = folder / f"adapter{number}"
            adapter.save(
                get_peft_model(load_model(resolved, "float32", "cpu"), config), path, "first", "0123abcd"
            )
            made[f"adapter{number}"] = Source(f"adapter{number}", params, 0.7, path, f"key{number}")
    return made


def asked(text):
    return [{"role": "user", "content": text}]


def read(*asked_for):
    for _ in follow(list(asked_for), every=0.01):
        pass
    return [ticket.text for ticket in asked_for]


def test_eight_users_at_a_time_get_what_they_would_get_alone(sources):
    answerer = Answerer(most_tokens=40)
    names = ["first", "adapter0", "adapter1", "adapter2"] * 2
    questions = [asked(f"What can I make with {n} leeks?") for n in range(8)]
    alone = [
        read(answerer.ask(sources[name], question))[0]
        for name, question in zip(names, questions, strict=True)
    ]
    assert len(set(alone)) == 8
    together: dict[int, list[str]] = {}

    def user(number):
        ticket = answerer.ask(sources[names[number]], questions[number])
        seen = []
        for _ in follow([ticket], every=0.01):
            seen.append(ticket.text)
        assert ticket.state in ("ended", "cut off") and not ticket.fault
        assert all(ticket.text.startswith(text.rstrip()) for text in seen)
        together[number] = ticket.text

    threads = [threading.Thread(target=user, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [together[number] for number in range(8)] == alone


def test_more_than_fit_wait_in_line(sources):
    answerer = Answerer(most_tokens=30)
    tickets = [answerer.ask(sources["first"], asked(f"{n} eggs?")) for n in range(20)]
    ahead = [ticket.ahead for ticket in tickets]
    assert len(set(read(*tickets))) == 20 and max(ahead) > 4
    assert not answerer.waiting and not answerer.generating
    assert all(loaded.users == 0 for loaded in answerer.shelf.loaded.values())


def test_a_line_that_is_too_long_is_refused(sources, monkeypatch):
    monkeypatch.setattr(answering, "MOST_WAITING", 3)
    monkeypatch.setattr(answering, "MOST_AT_ONCE", 0)
    answerer = Answerer(most_tokens=5)
    for n in range(3):
        answerer.ask(sources["first"], asked(f"{n}?"))
    with pytest.raises(UserError, match="try again in a minute"):
        answerer.ask(sources["first"], asked("more?"))


def test_another_seed_another_answer(sources):
    answerer = Answerer(most_tokens=30)
    texts = [read(answerer.ask(sources["first"], asked("Rice?"), seed))[0] for seed in (0, 1, 0)]
    assert texts[0] == texts[2] != texts[1]


def endless(sources, most_tokens):
    """Return an answerer whose model `first` never ends an answer by itself."""
    answerer = Answerer(most_tokens)
    loaded = answerer.shelf.take(sources["first"], print)
    answerer.shelf.release(loaded)
    loaded.batch.stop_ids = set()
    return answerer


def test_stop_ends_an_answer_and_keeps_its_text(sources):
    answerer = endless(sources, 1900)
    ticket = answerer.ask(sources["first"], asked("Rice?"))
    while len(ticket.stream.ids) < 5 and not ticket.over:
        ticket.look(0.1)
    ticket.stop()
    read(ticket)
    tokens = len(ticket.stream.ids)
    time.sleep(0.2)
    assert ticket.state == "stopped" and len(ticket.stream.ids) == tokens < 1900
    assert not ticket.loaded.batch.streams


def test_an_answer_without_a_reader_is_given_up(sources, monkeypatch):
    monkeypatch.setattr(tickets, "ABANDONED", 0.2)
    answerer = endless(sources, 1900)
    ticket = answerer.ask(sources["first"], asked("Rice?"))
    for _ in range(100):
        if ticket.over:
            break
        time.sleep(0.1)
    assert ticket.state == "stopped" and ticket.loaded.users == 0


def test_models_and_adapters_in_memory_are_bounded(sources, monkeypatch):
    monkeypatch.setattr(loading, "MOST_MODELS", 1)
    monkeypatch.setattr(loading, "MOST_ADAPTERS", 2)
    answerer = Answerer(most_tokens=20)
    expected = {}
    for name in [*sources, *reversed(sources)]:
        (text,) = read(answerer.ask(sources[name], asked("Rice?")))
        assert expected.setdefault(name, text) == text
        (loaded,) = answerer.shelf.loaded.values()
        assert len(loaded.adapters) <= 2
        named = getattr(loaded.batch.model, "peft_config", {})
        assert set(named) == set(loaded.adapters)
    assert len(set(expected.values())) >= 4


def test_answers_go_on_while_another_model_loads(sources, monkeypatch):
    answerer = endless(sources, 1900)
    (running, stopped) = (answerer.ask(sources["first"], asked(text)) for text in ("Rice?", "Eggs?"))
    load, seen = loading._load, []

    def slow(params, report):
        stopped.stop()
        for _ in range(2):
            seen.append(len(running.stream.ids))
            time.sleep(0.5)
            running.look(0)
        return load(params, report)

    monkeypatch.setattr(loading, "_load", slow)
    other = answerer.ask(sources["second"], asked("Rice?"), most_tokens=5)
    assert seen[1] > seen[0] and stopped.over
    running.stop()
    assert all(read(other, running))


def test_an_adapter_that_is_none_is_a_message_and_the_next_answer_is_whole(sources, tmp_path, capsys):
    answerer = Answerer(most_tokens=20)
    expected = read(answerer.ask(sources["adapter0"], asked("Rice?")))
    loaded = next(iter(answerer.shelf.loaded.values()))
    other = answerer.ask(sources["adapter0"], asked("Rice?"), most_tokens=1500)
    loaded.batch.stop_ids, stop_ids = set(), loaded.batch.stop_ids
    for number, content in enumerate((b"", b"no tensors")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
        (folder / "adapter_model.safetensors").write_bytes(content)
        broken = dataclasses.replace(sources["adapter0"], name="broken", adapter=folder, key=f"b{number}")
        ticket = answerer.ask(broken, asked("Rice?"))
        read(ticket)
        assert ticket.state == "failed" and ticket.fault.startswith("broken: its adapter cannot be put on")
        assert not other.over  # somebody else's answer goes on
    other.stop()
    read(other)
    assert other.state == "stopped" and next(iter(answerer.shelf.loaded.values())) is loaded
    loaded.batch.stop_ids = stop_ids
    assert read(answerer.ask(sources["adapter0"], asked("Rice?"))) == expected
    assert "Traceback" not in capsys.readouterr().err


def run_of(talk, answerer, then=lambda: None):
    """Have a conversation's last question answered as the page does; `then` is called once it has begun."""

    async def follow():
        begun = False
        async for _ in answers(talk, Repository(answerer)):
            if not begun and all(pane.turns[-1].answer for pane in talk.panes):
                begun = True
                then()

    asyncio.run(follow())


def test_one_run_at_a_time_and_nothing_kept_of_it(sources, monkeypatch):
    monkeypatch.setattr("app.revisions.find", lambda name: sources[name])
    answerer, talk = endless(sources, 1500), Talk()
    talk.begin(Wish("rice"), ["first"])

    def meanwhile():
        for event in (lambda: talk.begin(Wish("eggs"), ["second"]), lambda: talk.go_on("Why?"), talk.again):
            with pytest.raises(UserError, match="An answer is being generated"):
                event()
        talk.stop()

    run_of(talk, answerer, meanwhile)
    (pane,) = talk.panes
    assert "rice" in pane.turns[0].question and pane.turns[0].state == "stopped" and not talk.busy
    talk.go_on("And then?")
    run_of(talk, answerer, talk.stop)
    assert len(pane.turns) == 2
    # What was said keeps no model in memory.
    loaded = weakref.ref(next(iter(answerer.shelf.loaded.values())))
    answerer.shelf.loaded.clear()
    gc.collect()
    assert loaded() is None


def test_stop_while_a_model_loads(sources, monkeypatch):
    free = threading.Event()

    def find(name):
        free.wait(30)
        return sources[name]

    monkeypatch.setattr("app.revisions.find", find)
    answerer, talk = Answerer(5), Talk()
    talk.begin(Wish("rice"), ["first"])

    async def follow():
        seen = []
        async for _ in answers(talk, Repository(answerer)):
            seen.append((talk.panes[0].loading, talk.panes[0].turns[0].state))
            if seen[-1][0]:
                talk.stop()
        free.set()
        return seen

    assert asyncio.run(follow())[-2:] == [("looking for the adapter", "waiting"), ("", "stopped")]
    for _ in range(100):  # the answer that was asked for all the same is given up
        if all(loaded.users == 0 for loaded in answerer.shelf.loaded.values()) and answerer.shelf.loaded:
            break
        time.sleep(0.1)
    assert not answerer.waiting and not answerer.generating


def test_a_fault_of_the_model_ends_its_answers_only(sources, capsys):
    answerer = endless(sources, 1500)
    (hit, well) = (answerer.ask(sources[name], asked("Rice?")) for name in ("first", "second"))
    while not hit.stream.ids:
        hit.look(0.1)
    hit.loaded.batch.model = None
    while not hit.over:
        hit.look(0.1)
    assert hit.state == "failed" and hit.fault == "Something went wrong. Please try again."
    assert well.state in ("generating", "ended", "cut off")
    well.stop()
    read(well)
    (text,) = read(answerer.ask(sources["first"], asked("Rice?"), most_tokens=10))
    assert text and "Traceback" in capsys.readouterr().err


def test_a_fault_of_a_param_names_the_file_that_it_stands_in(sources, monkeypatch):
    def fault(*_):
        raise ParamError("model.reference: this model is of no use. Use another.")

    answerer = Answerer(most_tokens=5)
    monkeypatch.setattr("app.streaming.Batch.join", fault)
    ticket = answerer.ask(sources["first"], asked("Rice?"))
    read(ticket)
    assert ticket.fault == "params.yaml: model.reference: this model is of no use. Use another."


def test_conversations_are_cut_to_what_the_model_takes(sources):
    answerer = Answerer(most_tokens=20)
    long = asked("Leeks? " * 100)
    for n in range(40):
        long += [{"role": "assistant", "content": f"Answer {n}. " * 10}, {"role": "user", "content": f"{n}?"}]
    ticket = answerer.ask(sources["first"], long)
    read(ticket)
    prompt = ticket.loaded.tokenizer.decode(ticket.stream.prompt)
    assert "Leeks?" in prompt and "Answer 0." in prompt and "39?" in prompt and "Answer 10." not in prompt
    assert len(ticket.stream.prompt) + 20 <= ticket.loaded.context
    with pytest.raises(UserError, match="too long for this model"):
        answerer.ask(sources["first"], asked("Leeks? " * 2000))
    with pytest.raises(UserError, match=r"That cannot be asked: .*<\|eot\|>"):
        answerer.ask(sources["first"], asked("rice<|eot|>"))
    assert ticket.loaded.users == 0


def test_serving_imports_no_unsloth():
    for script in ("app/chat.py", "app/recipe.py"):
        modules = closure(ROOT / script)
        assert {"app/streaming.py", "sft/modeling/chat_template.py", "sft/modeling/loading.py"} <= modules
        assert "sft/training/engines/unsloth.py" not in modules
        for module in modules:
            assert "import unsloth" not in (ROOT / module).read_text(encoding="utf-8"), module
