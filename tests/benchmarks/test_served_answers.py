"""Answers that are the adapter's own are found equal; of another, where it parts and how near it was."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import ClassVar

import httpx
import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import served_answers
from benchmarks.served_answers import Question, Served, answers, ask, equals, only_model, parting
from sft.core.errors import UserError
from sft.evaluation.all_tasks import Model
from sft.generation.decoding import until_stop
from sft.modeling.chat_template import prompt_ids
from sft.modeling.loading import load_model, load_tokenizer, stop_token_ids
from tests.tiny import save_tokenizer

TEXTS = ["Rice?", "What can I make with leeks?", "Why?", "Eggs and flour."]


@pytest.fixture(scope="module")
def model(tiny):
    """The tiny model; its first two questions are to be answered in 12 tokens, the others in 20."""
    tokenizer = load_tokenizer(tiny)
    model = load_model(tiny, "float32", "cpu").eval()
    return Model(model, tokenizer, stop_token_ids(tokenizer, model), tiny)


@pytest.fixture(scope="module")
def asked(model):
    return [
        Question("recipe", text, messages, None, prompt_ids(model.tokenizer, messages), 12 + 8 * (place > 1))
        for place, text in enumerate(TEXTS)
        for messages in [[{"role": "user", "content": text}]]
    ]


def likeliest(model, ids):
    with torch.inference_mode():
        return model.model(input_ids=torch.tensor([ids])).logits[0, -1].float()


def test_answers_are_the_likeliest_tokens(model, asked):
    for question, own in zip(asked, answers(model, asked, 2), strict=True):
        assert 0 < len(own) <= question.most_tokens
        for place, token in enumerate(own):
            assert int(likeliest(model, question.ids + own[:place]).argmax()) == token
        assert until_stop(own, model.stop_ids)[1] or len(own) == question.most_tokens


def served(model, ids):
    kept, ended = until_stop(ids, model.stop_ids)
    return Served(model.tokenizer.decode(kept), ended, 1, len(ids))


def test_another_token_is_found_and_its_distance_told(model, asked):
    question = asked[0]
    letters = model.tokenizer("the rice and leeks", add_special_tokens=False)["input_ids"]
    own, place = [*letters, model.stop_ids[0]], 4
    assert equals(model, own, served(model, own))
    assert not equals(model, own, served(model, own[:-1]))  # it has not ended
    scores = likeliest(model, question.ids + own[:place])
    other = model.tokenizer("z", add_special_tokens=False)["input_ids"][0]
    theirs = [*own[:place], other, *own[place + 1 :]]
    found = parting(model, question, own, served(model, theirs))
    assert (found.place, found.ours, found.theirs) == (place, model.tokenizer.decode([own[place]]), "z")
    assert found.gap == pytest.approx(float(scores[own[place]] - scores[other]), abs=1e-4)
    assert found.rank == int((scores > scores[other]).sum()) + 1
    cut = parting(model, question, own, served(model, own[:place]))
    assert (cut.place, cut.theirs, cut.gap) == (place, "", float("inf"))


class Fixed:
    """A model of scores that do not depend on the text."""

    device = "cpu"

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, input_ids, logits_to_keep):
        return SimpleNamespace(logits=self.scores.expand(1, logits_to_keep, -1))


def test_a_word_that_is_split_elsewhere_is_no_other_word(model, asked, tmp_path):
    """Tokenized anew, the server's `thin` begins with `th`; the adapter has written `t`, `h`, `i`."""
    merges = [("t", "h"), ("n", "e"), ("i", "n")]
    vocabulary = save_tokenizer(tmp_path, (), merges=merges, eos_token="<|eot|>")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    t, h, i, s, n, ne, both = tokenizer.convert_tokens_to_ids(["t", "h", "i", "s", "n", "ne", "in"])
    scores = torch.zeros(vocabulary)
    scores[[i, s, n, ne, both]] = torch.tensor([4.0, 3.0, 1.0, 2.5, 0.5])
    stop = tokenizer.eos_token_id
    other = Model(Fixed(scores), tokenizer, [stop], model.base)
    found = parting(other, asked[0], [t, h, i, s, stop], Served("thinner", True, 1, 3))
    assert (found.place, found.ours, found.theirs, found.gap) == (3, "s", "n", 2.0)
    found = parting(other, asked[0], [t, h, i, s, stop], Served("thine", True, 1, 3))
    assert (found.place, found.theirs, found.gap, found.rank) == (3, "ne", 0.5, 3)
    found = parting(other, asked[0], [t, h, i, s, stop], Served("thi", True, 1, 3))
    assert (found.place, found.theirs) == (3, "<|eot|>")
    scores[both] = 3.75  # then it has written `in` where the adapter has `i`
    found = parting(other, asked[0], [t, h, i, s, stop], Served("thinner", True, 1, 3))
    assert (found.place, found.ours, found.theirs, found.gap, found.rank) == (2, "i", "in", 0.25, 2)


class Replay(BaseHTTPRequestHandler):
    """A server with two models; `said` is its answer."""

    said: ClassVar[dict] = {}
    heard: ClassVar[list] = []

    def do_GET(self):
        self.reply(200, {"data": [{"id": "base"}, {"id": "recipes"}]})

    def do_POST(self):
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(*((200, self.said) if self.said else (500, {"error": "no"})))

    def reply(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Replay)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_server_is_asked_greedily_and_its_faults_are_sentences(asked, address, monkeypatch):
    choice = {"message": {"content": "Soup."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    monkeypatch.setattr(Replay, "said", {"choices": [choice], "usage": usage})
    with httpx.Client(base_url=f"{address}/v1/") as client:
        assert ask(client, "recipes", asked[0]) == Served("Soup.", True, 7, 3)
        body = Replay.heard[-1]
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("recipes", 0.0, 12)
        assert body["messages"] == asked[0].messages and "tools" not in body
        with pytest.raises(UserError, match="by --model: base, recipes"):
            only_model(client)
        monkeypatch.setattr(Replay, "said", {})
        with pytest.raises(UserError, match=r"the server reports 500: .*no"):
            ask(client, "recipes", asked[0])


def test_what_cannot_be_asked_is_a_sentence(address, monkeypatch, capsys):
    monkeypatch.setattr(Replay, "do_GET", lambda self: self.reply(200, {"object": "list"}))
    nothing = pytest.raises(UserError, match=r"/v1/: what answers there is no OpenAI-compatible server")
    with httpx.Client(base_url=f"{address}/v1/") as client, nothing:
        only_model(client)
    with pytest.raises(SystemExit):
        served_answers.main([address, "--prompts", "0"])
    assert "--prompts and --at-once are 1 or more" in capsys.readouterr().err


def test_questions_are_of_every_task(built, monkeypatch):
    from sft.core.params import load
    from sft.modeling.loading import resolve

    monkeypatch.chdir(built.path)
    values = load("params.yaml")
    found = served_answers.questions(values, load_tokenizer(resolve("tiny-model")), 5)
    assert len(found) == 5 and len({question.item for question in found}) == 5
    tasks = [question.task for question in found]
    assert max(map(tasks.count, values["tasks"])) - min(map(tasks.count, values["tasks"])) <= 2
    for question in found:
        assert question.most_tokens == values["tasks"][question.task]["max_new_tokens"]
        assert all(None not in message.values() for message in question.messages)
