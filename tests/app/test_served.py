"""The chatbot and OpenAI's client at llama.cpp's server, with a GGUF whose answers are known; and faults."""

import socket
import subprocess
import sys
from typing import Any

import openai
import pytest
import torch

from app import llama_cpp, recipe, tickets
from app.served import KEY, Server
from app.tickets import Ticket, follow
from sft.core.errors import UserError
from sft.generation.generate import Prompt, generate
from sft.modeling import gguf
from sft.modeling.chat_template import prompt_ids, render
from sft.modeling.loading import load_model, load_tokenizer, resolve, stop_token_ids
from tests.app.chat_servers import HARD_TO_SPLIT, Handler, serving
from tests.imports import ROOT
from tests.tiny_gguf import tiny_model

TOKENS = 48
# Between the likeliest token's logit and the next. llama.cpp keeps keys and values in float16: where the gap
# was 0.0014, it chose the other token; where it was 0.014, the same.
GAP = 0.08
QUESTIONS = ["Rice?", "What can I make with leeks?", "Eggs and flour.", "bread\nand butter", "Über Äpfel 🍎"]


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def read(ticket: Ticket) -> Ticket:
    for _ in follow([ticket], every=0.01):
        pass
    return ticket


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf", kind="F32", context=512)


@pytest.fixture(scope="module")
def ours(file, tmp_path_factory):
    """The same weights as this project loads and asks them: a tokenizer, stop tokens and a model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        resolved = resolve(str(gguf.converted(file, "tiny")))
    tokenizer = load_tokenizer(resolved)
    model = load_model(resolved, "float32", "cpu").eval()
    return tokenizer, stop_token_ids(tokenizer, model), model


@pytest.fixture(scope="module")
def running(file):
    return llama_cpp.serve(file)


@pytest.fixture(scope="module")
def client(running):
    with openai.OpenAI(base_url=f"{running.listening_address}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def answers(ours):
    """Our greedy answers: prompt ids, text, and whether it ended by itself. None hangs on a tie."""
    tokenizer, stops, model = ours
    prompts = [Prompt(text, prompt_ids(tokenizer, asked(text))) for text in QUESTIONS]
    batches = generate(
        model, tokenizer, stops, prompts, runs=1, seed=0, temperature=0.0, max_new_tokens=TOKENS, batch_size=8
    )
    found = {answer.prompt: answer for batch in batches for answer in batch}
    for place, prompt in enumerate(prompts):
        answer = found[place]
        new = tokenizer(answer.text, add_special_tokens=False)["input_ids"] + stops[: answer.finished]
        with torch.inference_mode():
            scores = model(torch.tensor([prompt.ids + new])).logits[0, len(prompt.ids) - 1 : -1]
        assert scores.argmax(-1).tolist() == new
        likeliest = scores.topk(2).values
        assert float((likeliest[:, 0] - likeliest[:, 1]).min()) > GAP, prompt.item
    return [(prompts[place].ids, found[place].text, found[place].finished) for place in range(len(prompts))]


def test_openai_s_client_gets_our_greedy_answers(client, answers):
    assert [model.id for model in client.models.list()] == ["tiny"]
    for text, (ids, ours, finished) in zip(QUESTIONS, answers, strict=True):
        said: Any = client.chat.completions.create(
            model="tiny", messages=asked(text), temperature=0, max_tokens=TOKENS
        )
        (choice,) = said.choices
        assert (choice.message.content, choice.finish_reason) == (ours, "stop" if finished else "length")
        assert said.usage.prompt_tokens == len(ids)
    assert {finished for *_, finished in answers} == {True, False}


def test_the_server_s_template_and_ids_are_those_of_training(client, ours):
    """A system message and an exchange among them; no BOS before what the template prints."""
    tokenizer, *_ = ours
    messages = [{"role": "system", "content": "Be brief."}, *asked("Hello <the> 2\n\neggs")]
    messages += [{"role": "assistant", "content": "No."}, *asked("Why, then?")]
    prompt = client.post("/../apply-template", body={"messages": messages}, cast_to=dict[str, str])["prompt"]
    assert prompt == render(tokenizer, messages, add_generation_prompt=True)
    # As the server reads a prompt: special tokens are parsed, and added where the file says so.
    body = {"content": prompt, "add_special": True, "parse_special": True}
    ids = client.post("/../tokenize", body=body, cast_to=dict[str, list[int]])["tokens"]
    assert ids == prompt_ids(tokenizer, messages)


def test_the_chatbot_gets_the_same_answers(running, answers):
    server = Server(running.listening_address, temperature=0.0, most_tokens=TOKENS)
    assert (server.default, server.listed()) == ("tiny", ["tiny"])
    tickets = [server.ask("tiny", asked(text)) for text in QUESTIONS]  # together
    for ticket, (_, ours, finished) in zip(tickets, answers, strict=True):
        assert (read(ticket).text, ticket.state) == (ours, "ended" if finished else "cut off"), ticket.fault


def test_a_seed_is_an_answer_and_the_whole_distribution_is_sampled(running):
    """At a high temperature every third token would be beyond the server's own first forty."""
    server = Server(running.listening_address, temperature=50.0, most_tokens=300)
    texts = [read(server.ask("tiny", asked("Rice?"), seed)).text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set("".join(texts))) > 62


def test_a_long_conversation_fits_llama_cpp_s_context(running):
    server = Server(running.listening_address, most_tokens=4)
    long = asked("Leeks?")
    for number in range(40):
        long += [{"role": "assistant", "content": f"{number}. " * 50}, *asked(f"{number}?")]
    assert read(server.ask("tiny", long)).state in ("ended", "cut off")
    ticket = read(server.ask("tiny", asked("Leeks? " * 2000)))
    assert ticket.fault == tickets.TOO_LONG


def test_neither_torch_nor_transformers_is_imported(running):
    """By the page, laid out and asked as the command does; and by the command for the terminal."""
    program = """if True:
        import sys
        from argparse import Namespace
        from app import chat
        from app.page import build
        from app.startup import Startup
        from app.tickets import follow
        backend = chat.backend(Namespace(server=sys.argv[1], model="", max_tokens=4))
        build(backend, Startup(backend))
        ticket = backend.ask(backend.default, [{"role": "user", "content": "Rice?"}])
        for _ in follow([ticket]):
            pass
        sys.argv[1:] = ["rice", "--server", sys.argv[1], "--max-tokens", "5"]
        from app import recipe
        recipe.main()
        heavy = {"torch", "transformers", "peft", "accelerate", "datasets", "dvc"} & set(sys.modules)
        print(ticket.state, *heavy, sep=",")
    """
    command = [sys.executable, "-c", program, running.listening_address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text, *_, last = done.stdout.splitlines()
    assert len(text) >= 3 and last in ("ended", "cut off")
    assert "no dietician" in done.stderr


@pytest.fixture(scope="module")
def address():
    with serving() as address:
        yield address


def test_a_text_comes_whole_however_it_is_cut(address):
    ticket = read(Server(f" {address}/fine/v1/ ").ask("mine", asked("Rice?")))
    assert (ticket.text, ticket.state, ticket.fault) == (HARD_TO_SPLIT, "ended", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ill", "the server reports an error (500): out of memory"),
        ("breaks", "the server broke the answer off. Ask again."),
        ("ends-early", "the server broke the answer off. Ask again."),
        ("fails", "the server reports an error: the engine died"),
        ("babbles", "something else than a stream"),
    ],
)
def test_an_answer_that_fails_says_why(address, name, said):
    server = Server(f"{address}/{name}")
    ticket = read(server.ask("mine", asked("Rice?")))
    assert ticket.state == "failed" and said in ticket.fault and not server._answers


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("loading", "", "the server is not ready: Loading model. Try again soon."),
        ("elsewhere", "", "there is no OpenAI-compatible server at this address (404)"),
        ("odd", "", "no OpenAI-compatible server: it has no list of models"),
        ("none", "", "the server has no model."),
        ("several", "", "the server has several models. Choose one by --model: one, two"),
        ("several", "three", "the server has no model 'three'. It has: one, two"),
        ("fine", "theirs", "the server has no model 'theirs'. It has: mine"),
        ("locked", "", "the server wants a key (401). Set $SFT_SERVER_API_KEY."),
    ],
)
def test_a_server_of_no_use_is_a_sentence(address, name, model, said):
    with pytest.raises(UserError) as told:
        Server(f"{address}/{name}", model)
    assert str(told.value).startswith(f"{address}/{name}/v1: ") and said in str(told.value)


def test_a_key_and_a_choice_of_models(address, monkeypatch):
    monkeypatch.setenv(KEY, "sesame")
    assert read(Server(f"{address}/locked").ask("mine", asked("Rice?"))).state == "ended"
    server = Server(f"{address}/several", "two")
    assert (server.default, server.listed()) == ("two", ["one", "two"])
    with pytest.raises(UserError, match="has no model 'three'"):
        server.ask("three", asked("Rice?"))


@pytest.mark.parametrize("url", ["localhost:8080", "", "ftp://there", "http://", "https:///v1"])
def test_an_address_that_is_none(url):
    with pytest.raises(UserError, match=r"is no server's address\. Give one such as http://localhost:8080"):
        Server(url)


def test_a_server_that_is_down(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:9")  # never asked for this machine
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listened at
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=r"no server answers there\. Start one, or check the address"):
            Server(url)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr("sys.argv", ["recipe", "rice", "--server", url])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit, match=f"^error: {url}/v1: no server answers there"):
            recipe.main()


def test_the_oldest_exchanges_give_way_where_the_context_is_full(address):
    talk = [{"role": role, "content": f"{n}"} for n, role in enumerate(["user", "assistant"] * 4)][:7]
    ticket = read(Server(f"{address}/forgetful").ask("mine", talk))
    assert (ticket.text, ticket.state) == ("0|1|6", "cut off")
    assert read(Server(f"{address}/narrow").ask("mine", talk)).fault == tickets.TOO_LONG


@pytest.mark.parametrize("leave", ["stop", "go away"])
def test_an_answer_nobody_wants_is_ended_at_the_server(address, leave, monkeypatch):
    Handler.gone.clear()
    server = Server(f"{address}/endless")
    ticket = server.ask("mine", asked("Rice?"))
    while not ticket.text:
        ticket.look(0.1)
    if leave == "stop":
        ticket.stop()
    else:
        monkeypatch.setattr(tickets, "ABANDONED", 0.0)
    assert Handler.gone.wait(30)
    with ticket.changed:
        ticket.changed.wait_for(lambda: ticket.over, 30)
    assert ticket.state == "stopped" and ticket.text and not server._answers


def test_more_answers_than_fit_are_refused(address, monkeypatch):
    monkeypatch.setattr("app.served.MOST_ANSWERS", 2)
    server = Server(f"{address}/endless")
    tickets = [server.ask("mine", asked(text)) for text in ("Rice?", "Eggs?")]
    with pytest.raises(UserError, match="try again in a minute"):
        server.ask("mine", asked("Salt?"))
    for ticket in tickets:
        ticket.stop()
        read(ticket)
    server.ask("mine", asked("Salt?")).stop()


def test_what_llama_cpp_cannot_serve_is_a_sentence(tmp_path, file, capfd):
    with pytest.raises(UserError, match=r"gone\.gguf: not a GGUF .* No such file.* Make one: make export"):
        llama_cpp.serve(tmp_path / "gone.gguf")
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"wrong\.gguf: not a GGUF file that can be read"):
        llama_cpp.serve(wrong)
    wrong.write_bytes(file.read_bytes()[:-1000])  # of its weights
    with pytest.raises(UserError, match=r"wrong\.gguf: llama\.cpp cannot serve it"):
        llama_cpp.serve(wrong)
    assert "failed to load model" in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 cannot be used"):
            llama_cpp.serve(file, port=port)


@pytest.mark.parametrize(("quota", "cores"), [("max 1000", None), ("1000 1000", 1), ("500 1000", 1)])
def test_threads_are_those_of_the_container(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(llama_cpp, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    free = llama_cpp.cores()
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert llama_cpp.cores() == (cores or free) and free >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert llama_cpp.cores() == 7
