"""What a generator is: a module that continues prompts, each with the sampling keys of the texts wanted.

`generate.GENERATORS` lists those there are. A new one is a module with these functions and a row there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

BatchSize = int | Literal["auto"]


@dataclass
class Request:
    """A prompt (its place in a list, and its token ids) and one sampling key for each text wanted of it."""

    prompt: int
    ids: list[int]
    keys: list[int]


@dataclass
class Completion:
    """The token ids of one text, with the stop token that ended it if one did: which prompt, which run."""

    prompt: int
    run: int
    ids: list[int]


class Generator(Protocol):
    """A module that generates texts."""

    def usable(self, model: Any) -> bool:
        """Tell whether it can generate with this model, where and as it is loaded."""
        ...

    def groups(
        self, model: Any, requests: list[Request], batch_size: BatchSize, ranks: int
    ) -> list[list[Request]]:
        """Divide the requests into groups, each of which `generate` is called with on its own, in some rank.

        A group is what comes out the same to the bit whether other groups are generated or not: so what of
        them is finished can be kept. Of a part of a group that is not so: in 16 bits the last bits of a
        product depend on how many rows it has, and a text can turn on them.
        """
        ...

    def generate(
        self,
        model: Any,
        tokenizer: Any,
        stop_ids: list[int],
        requests: list[Request],
        *,
        temperature: float,
        max_new_tokens: int,
        batch_size: BatchSize,
    ) -> Iterator[list[Completion]]:
        """Yield the completions of a group's requests as they come, `batch_size` prompts at a time.

        Requests come longest first, and all of them have equally many keys. A text depends on its prompt and
        key only, but for rounding not on what it is generated beside.
        """
        ...
