"""Likelihoods and greedy answers of a GGUF file, by llama.cpp itself, from token ids.

In a process of its own, as all that is done by the export's tools:

    python -m sft.export.llama_cpp GGUF ASKED TOLD

ASKED is a JSON file: `threads`; `likelihoods`, each the ids of a prompt with its answer and where the part
that counts starts and stops; `prompts`, each its ids and how many tokens an answer has at most. TOLD gets
`nats` and `answers` in their order, of an answer its ids and the token that ended it, null at its limit.

By cyllama, which quantizes the files too: it hands out the logits of every place, which a given answer's
likelihood is made of. llama.cpp's server gives those of the tokens that it writes itself.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sft.export.compat import llama_model

AT_ONCE = 512  # tokens that are read at once: what llama.cpp's own tools do
SIDE_BY_SIDE = 16  # answers written at the same time: the weights are then read once for all of them


def main(file: str, asked: str, told: str) -> None:
    """Answer what `asked` asks of the GGUF `file`."""
    request = json.loads(Path(asked).read_text("utf-8"))
    model = llama_model(file)
    nats = nats_of(model, request["likelihoods"], request["threads"])
    answers = answers_of(model, request["prompts"], request["threads"])
    Path(told).write_text(json.dumps({"nats": nats, "answers": answers}), encoding="utf-8")


def nats_of(model: Any, likelihoods: Sequence[tuple[Sequence[int], int, int]], threads: int) -> list[float]:
    """Return the summed negative log-likelihood of each's tokens from its start, 1 at least, to its stop."""
    if not likelihoods:
        return []
    found: list[float] = []
    before: Sequence[int] = []
    with _context(model, max(stop for _, _, stop in likelihoods), 1, threads) as context:
        for ids, start, stop in likelihoods:
            # The system message, for one, is in memory from the text before.
            there = context.keep(0, min(_common(before, ids), start - 1))
            found.append(_nats(context, ids[:stop], start, there))
            before = ids[: stop - 1]
    return found


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    """Return how many ids two texts begin with alike."""
    pairs = zip(some, others, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(some), len(others)))


def _nats(context: "_Context", ids: Sequence[int], start: int, there: int) -> float:
    total, last = 0.0, len(ids) - 1  # which is only predicted
    for begin in range(there, last, AT_ONCE):
        part = range(begin, min(begin + AT_ONCE, last))
        context.read([(ids[place], place, 0, place + 1 >= start) for place in part])
        for row, place in enumerate(part):
            if place + 1 >= start:
                logits = context.logits(row)
                highest = logits.max()
                rest = np.log(np.exp(logits - highest).sum(dtype=np.float64))
                total += float(highest) + float(rest) - float(logits[ids[place + 1]])
    return total


def answers_of(
    model: Any, prompts: Sequence[tuple[Sequence[int], int]], threads: int
) -> list[tuple[list[int], int | None]]:
    """Answer prompts greedily; return the ids of each answer, and the token of the GGUF's that ended it."""
    if not prompts:
        return []
    found: list[list[int]] = [[] for _ in prompts]
    ends = model.get_vocab().is_eog
    waiting = sorted(range(len(prompts)), key=lambda n: len(prompts[n][0]))  # the longest is taken first
    sequences = min(SIDE_BY_SIDE, len(prompts))
    longest = sorted((len(ids) + most for ids, most in prompts), reverse=True)
    writing: dict[int, int] = {}  # by sequence the prompt that it answers
    with _context(model, sum(longest[:sequences]), sequences, threads) as context:
        while waiting or writing:
            for sequence in sorted(set(range(sequences)) - set(writing))[: len(waiting)]:
                writing[sequence] = n = waiting.pop()
                found[n].append(context.begun(sequence, prompts[n][0]))
            for sequence, n in list(writing.items()):
                if len(found[n]) >= prompts[n][1] or ends(found[n][-1]):
                    context.forget(sequence)
                    del writing[sequence]
            context.read(
                [
                    (found[n][-1], len(prompts[n][0]) + len(found[n]) - 1, sequence, True)
                    for sequence, n in writing.items()
                ]
            )
            for row, n in enumerate(writing.values()):
                found[n].append(context.likeliest(row))
    return [(ids[:-1], ids[-1]) if ends(ids[-1]) else (ids, None) for ids in found]


class _Context:
    """llama.cpp's memory of the sequences that it reads and writes."""

    def __init__(self, context: Any) -> None:
        from cyllama.llama import llama_cpp

        self.context = context
        self.batch = llama_cpp.LlamaBatch(n_tokens=AT_ONCE, embd=0, n_seq_max=1)
        self.greedy = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
        self.greedy.add_greedy()

    def read(self, tokens: Sequence[tuple[int, int, int, bool]]) -> None:
        """Read tokens, each with its place, its sequence and whether the logits after it are asked for."""
        if not tokens:
            return
        self.batch.clear()
        for token, place, sequence, logits in tokens:
            self.batch.add(token, place, [sequence], logits)
        self.context.decode(self.batch)

    def logits(self, row: int) -> np.ndarray:
        """Return the logits (vocabulary) after the token at `row` of those read last."""
        return np.array(self.context.get_logits_ith(row), dtype=np.float32)

    def likeliest(self, row: int) -> int:
        """Return the likeliest token after that at `row` of those read last."""
        return int(self.greedy.sample(self.context, row))

    def begun(self, sequence: int, ids: Sequence[int]) -> int:
        """Read a prompt as a sequence of its own and return the first token of its answer."""
        for start in range(0, len(ids), AT_ONCE):
            part = range(start, min(start + AT_ONCE, len(ids)))
            self.read([(ids[place], place, sequence, place == len(ids) - 1) for place in part])
        return self.likeliest(len(part) - 1)

    def forget(self, sequence: int) -> None:
        """Free a sequence's memory."""
        self.context.memory_seq_rm(sequence, -1, -1)

    def keep(self, sequence: int, tokens: int) -> int:
        """Free a sequence's memory but for its first tokens; return how many are kept.

        None are where the model's memory is no list of tokens, such as a recurrent one's.
        """
        if self.context.memory_seq_rm(sequence, tokens, -1):
            return tokens
        self.forget(sequence)
        return 0


@contextmanager
def _context(model: Any, tokens: int, sequences: int, threads: int) -> Iterator[_Context]:
    from cyllama.llama import llama_cpp

    params = llama_cpp.LlamaContextParams()
    params.n_ctx, params.n_seq_max, params.kv_unified = tokens, sequences, True
    params.n_batch = params.n_ubatch = AT_ONCE
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.LlamaContext(model, params, verbose=False)
    try:
        yield _Context(context)
    finally:
        context.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
