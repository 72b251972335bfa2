"""Does a server give the adapter's own greedy answers? On held-out prompts, and where not: how near was it?

    python -m benchmarks.served_answers URL [--model NAME] [--prompts 100] [--dtype float32] [--at-once 8]

URL is of any OpenAI-compatible server, such as llama.cpp's with an exported GGUF, or vLLM's with the adapter
(docs/serving.md). Run it in the repository, after `dvc repro`: prompts are those of evaluation, as many of
each task, messages and no token ids, cut off where the task is; the adapter's answers are generated here, in
model.dtype or --dtype. Prints Markdown: the share of equal answers, tokens a second, and of each other answer
the first token that differs, with what the adapter's own scores (logits) say: how far the server's token is
behind the likeliest. Near 0 is a tie, which rounding decides.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import torch

from sft.core.errors import UserError
from sft.core.files import read_parquet
from sft.core.params import load, mapping, section
from sft.core.row_schema import conversation
from sft.evaluation.all_tasks import Model
from sft.evaluation.evaluate import EvaluateParams, choose
from sft.export.scoring import greedy_ids
from sft.generation.decoding import decode, until_stop
from sft.generation.interface import Request
from sft.modeling import adapter, loading
from sft.modeling.chat_template import prompt_ids
from sft.modeling.loading import ModelParams
from sft.tasks.task import TaskParams, tasks_of
from stages import paths
from stages.cli import PARAMS, described

TIE = 0.1  # logits
LONGEST = 40  # characters of a token
BACK = 3  # tokens of the adapter that one of the server may hold
# Greedy is the likeliest of all tokens, none of them penalized, where vLLM has penalties of the model's own.
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 0}


@dataclass
class Question:
    """A held-out prompt: its task, item, messages and tools, token ids, and where its answer is cut off."""

    task: str
    item: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    ids: list[int]
    most_tokens: int


@dataclass
class Served:
    """A server's answer: its text, whether it ended by itself, the tokens read and written."""

    text: str
    ended: bool
    prompt_tokens: int
    tokens: int


@dataclass
class Parting:
    """Where a server's answer leaves the adapter's.

    At token number `place` (from 0) the adapter has `ours`, the server `theirs`, which the adapter scores
    `gap` lower and as its `rank`th likeliest (from 1).
    """

    question: Question
    place: int
    ours: str
    theirs: str
    gap: float
    rank: int


def main(given: list[str] | None = None) -> None:
    """Ask the server and the adapter, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", metavar="URL", help="such as http://localhost:8080")
    parser.add_argument("--model", help="the server's name of the model, where it has several")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--dtype", choices=get_args(ModelParams.model_fields["dtype"].annotation))
    parser.add_argument("--at-once", type=int, default=8, help="requests to the server, prompts in a batch")
    options = parser.parse_args(given)
    if min(options.prompts, options.at_once) < 1:
        parser.error("--prompts and --at-once are 1 or more")
    try:
        report(options)
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except httpx.HTTPError as error:
        sys.exit(f"error: {options.url}: {error or type(error).__name__}")


def report(options: argparse.Namespace) -> None:
    """Print how many of the answers are equal, and where the others part."""
    values = load(PARAMS)
    params = section(values, "model", ModelParams)
    if options.dtype:
        params = params.model_copy(update={"dtype": options.dtype})
    model = load_adapter(params)
    asked = questions(values, model.tokenizer, options.prompts)
    with httpx.Client(base_url=options.url.rstrip("/").removesuffix("/v1") + "/v1/", timeout=600) as client:
        name = options.model or only_model(client)
        ask(client, name, asked[0])  # a server's first answer may take long
        start = time.perf_counter()
        with ThreadPoolExecutor(options.at_once) as pool:
            served = list(pool.map(lambda question: ask(client, name, question), asked))
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    own = answers(model, asked, options.at_once)
    own_seconds = time.perf_counter() - start
    pairs = list(zip(asked, own, served, strict=True))
    other_ids = sum(one.prompt_tokens != len(question.ids) for question, _, one in pairs)
    apart = [parting(model, *of) for of in pairs if not equals(model, of[1], of[2])]
    equal, ties = len(asked) - len(apart), sum(one.gap < TIE for one in apart)
    print(f"`{name}` against the adapter in {params.dtype}, greedy, {options.at_once} prompts at a time.\n")
    print("| prompts | of other length in tokens | equal answers | part at a tie | tokens/s served | here |")
    print("|---|---|---|---|---|---|")
    speeds = sum(one.tokens for one in served) / seconds, sum(map(len, own)) / own_seconds
    print(
        f"| {len(asked)} | {other_ids} | {equal} ({equal / len(asked):.0%}) | {ties} of {len(apart)} "
        f"| {speeds[0]:,.0f} | {speeds[1]:,.0f} |"
    )
    if apart:
        print("\n| task | item | token | the adapter's | the server's | logits behind | rank |")
        print("|---|---|---|---|---|---|---|")
    for one in sorted(apart, key=lambda one: one.gap):
        cells = [one.question.task, one.question.item[:12], one.place, repr(one.ours), repr(one.theirs)]
        print(f"| {' | '.join(map(str, cells))} | {one.gap:.4f} | {one.rank} |".replace("<|", "<\\|"))


def load_adapter(params: ModelParams) -> Model:
    """Load the base model with the workspace's adapter, as evaluation does."""
    base = loading.resolve(params.reference)
    tokenizer = loading.load_tokenizer(base)
    model, stop_ids = loading.load_to_answer(base, tokenizer, params)
    return Model(adapter.attach(model, paths.ADAPTER).eval(), tokenizer, stop_ids, base)


def questions(values: dict[str, Any], tokenizer: Any, count: int) -> list[Question]:
    """Return so many held-out prompts, as many of each task as of the others, give or take one."""
    tasks = tasks_of(mapping(values, "tasks", TaskParams))
    params = section(values, "evaluate", EvaluateParams)
    each = -(-count // len(tasks))
    chosen = choose(read_parquet(paths.EVALUATION), tasks, params.model_copy(update={"examples": each}))
    found = []
    for task in tasks:
        for row in chosen[task.name][:each]:
            messages, tools = conversation({"messages": row["prompt"], "tools": row.get("tools")})
            ids = prompt_ids(tokenizer, messages, tools)
            found.append(Question(task.name, row["item"], messages, tools, ids, task.max_new_tokens))
    return sorted(found, key=lambda question: question.item)[:count]


def only_model(client: httpx.Client) -> str:
    """Return the name of the server's model; raises UserError where it has several, or none."""
    try:
        names = [model["id"] for model in client.get("models").raise_for_status().json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{client.base_url}: what answers there is no OpenAI-compatible server.") from error
    if len(names) != 1:
        raise UserError(
            f"{client.base_url}: choose one of the server's models by --model: {', '.join(names)}"
        )
    return names[0]


def ask(client: httpx.Client, name: str, question: Question) -> Served:
    """Have the server answer greedily."""
    body = {"model": name, "messages": question.messages, "max_tokens": question.most_tokens, **GREEDY}
    if question.tools:
        body["tools"] = question.tools
    response = client.post("chat/completions", json=body)
    if response.is_error:
        raise UserError(
            f"{client.base_url}: the server reports {response.status_code}: {response.text[:500]}"
        )
    said = response.json()
    (choice,) = said["choices"]
    return Served(
        choice["message"]["content"] or "",
        choice["finish_reason"] == "stop",
        said["usage"]["prompt_tokens"],
        said["usage"]["completion_tokens"],
    )


def answers(model: Model, asked: list[Question], at_once: int) -> list[list[int]]:
    """Return the adapter's greedy answers as token ids, with the stop tokens that end them."""
    found: dict[int, list[int]] = {}
    for most_tokens in {question.most_tokens for question in asked}:
        requests = [
            Request(place, question.ids, [0])
            for place, question in enumerate(asked)
            if question.most_tokens == most_tokens
        ]
        requests.sort(key=lambda request: -len(request.ids))
        found |= greedy_ids(model, requests, most_tokens, at_once)
    return [found[place] for place in range(len(asked))]


def equals(model: Model, own: list[int], served: Served) -> bool:
    """Tell whether two answers have the same text, and both ended by themselves or neither."""
    kept, ended = until_stop(own, model.stop_ids)
    return (decode(model.tokenizer, kept), ended) == (served.text.strip(), served.ended)


def parting(model: Model, question: Question, own: list[int], served: Served) -> Parting:
    """Find the first token of the adapter's answer that the server's text lacks, and what stands there.

    The server tells a text and no token ids: a text that is tokenized anew may be split elsewhere, and where
    the adapter writes ` pepper` and a comma, the server may have written ` peppers` as one token. So what it
    has written is taken to be the likeliest of the tokens with which its text can leave the adapter's.
    """
    kept, _ = until_stop(own, model.stop_ids)
    begun = [model.tokenizer.decode(kept[:count], skip_special_tokens=True) for count in range(len(kept) + 1)]
    place = max(count for count, text in enumerate(begun) if served.text.startswith(text))
    with torch.inference_mode():
        ids = torch.tensor([question.ids + own[:place]], device=model.model.device)
        scores = model.model(input_ids=ids, logits_to_keep=BACK + 1).logits[0].float()
    found = []
    for at in range(max(0, place - BACK), place + 1):
        rest, common = served.text[len(begun[at]) :], len(begun[place]) - len(begun[at])
        others = _first_tokens(model, rest, common) if rest else model.stop_ids[: served.ended]
        if at < len(own):
            of = scores[at - place - 1]
            found += [(float(of[own[at]] - of[other]), at, own[at], other) for other in others]
    if not found:  # one of them was cut off
        ours = _word(model, own[place]) if place < len(own) else ""
        return Parting(question, place, ours, "", float("inf"), 0)
    gap, at, ours_id, other = min(found)
    of = scores[at - place - 1]
    rank = int((of > of[other]).sum()) + 1
    return Parting(question, at, _word(model, ours_id), _word(model, other), gap, rank)


def _first_tokens(model: Model, text: str, common: int) -> list[int]:
    """Return the tokens of more than `common` characters that a text can begin with."""
    beginnings = [text[:end] for end in range(common + 1, 1 + min(len(text), LONGEST))]
    parts = model.tokenizer(beginnings, add_special_tokens=False)["input_ids"] if beginnings else []
    return [ids[0] for ids in parts if len(ids) == 1] or [ids[0] for ids in parts[:1] if not common]


def _word(model: Model, token: int) -> str:
    return model.tokenizer.decode([token])


if __name__ == "__main__":
    main()
