"""Rows with bad ones planted, one kind for each filter."""

from typing import Any

import numpy as np
import pyarrow as pa

from sft.core.params import load
from sft.core.seeded_order import ranks
from sft.data.evaluation_pool import EXAMPLES
from sft.mixing.near_duplicates import Rows
from tests.imports import ROOT
from tests.tiny import dialogue, table

OFF = load(ROOT / "params.yaml")["data"]["filters"]
EVERY: dict[str, Any] = {
    "min_words": 9,
    "max_words": 90,
    "placeholders": "remove",
    "languages": ["en"],
    "decontaminate": 8,
    "near_duplicates": 0.8,
}
FRENCH = (
    "Bonjour mes amis, nous allons préparer une soupe de légumes avec des carottes et des pommes de terre"
)
ENGLISH = (
    "you will find that the house which my father built when he was young is still at the end of the road"
)

Chats = list[list[dict[str, str]]]


def sentence(rng: np.random.Generator, words: int = 20) -> str:
    """Make a sentence that no other shares much with: words of its own among English ones."""
    english = ENGLISH.split()
    return " ".join(
        english[rng.integers(len(english))] if n % 2 else f"item{rng.integers(10**9)}" for n in range(words)
    )


def clean(rng: np.random.Generator, rows: int) -> Chats:
    """Make rows with a template's words before and after their own, as dictionaries have."""
    return [
        dialogue(
            f"Please tell me now in your own words what this is: {sentence(rng, 8)}.",
            f"It is one of the things that people call by this name: {sentence(rng)}.",
        )
        for _ in range(rows)
    ]


def near(chat: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return a conversation with one word more at its end, in other case and punctuation."""
    return [chat[0], {"role": "assistant", "content": chat[1]["content"].upper() + " - indeed!"}]


def ids(chats: Chats) -> set[str]:
    return set(table(chats)["id"].to_pylist())


class Pools:
    """Base and extra of a few thousand clean rows, with bad ones planted, and an evaluation pool."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.base, self.extra = clean(rng, 600), clean(rng, 600)
        self.examples = [
            {
                "task": "question",
                "id": f"example {n}",
                "item": f"item {n}",
                "prompt": [
                    {
                        "role": "user",
                        "content": f"Please tell me now in your own words what this is: {sentence(rng, 8)}.",
                    }
                ],
                "references": [f"It is one of the things that people call by this name: {sentence(rng)}."],
            }
            for n in range(40)
        ]
        self.planted: dict[str, Chats] = {
            # Rows of base and of extra with one word more.
            "near_duplicates": [near(chat) for chat in (*self.base[:20], *self.extra[:20])],
            "decontaminate": [
                dialogue(
                    f"Well, {sentence(rng, 6)}?", f"So {example['references'][0]} And {sentence(rng, 6)}"
                )
                for example in self.examples[:15]
            ],
            "placeholders": [dialogue(f"What is {sentence(rng)}", "...")],
            "languages": [dialogue(f"{FRENCH} numéro {n}", FRENCH.upper()) for n in range(2)],
            "min_words": [dialogue("What now, then?", f"Nothing at all {n}.") for n in range(5)],
            "max_words": [dialogue("Tell me all", sentence(rng, 95)) for _ in range(5)],
        }

    @property
    def clean_ids(self) -> set[str]:
        return ids(self.base) | ids(self.extra)

    @property
    def evaluation(self) -> pa.Table:
        return pa.Table.from_pylist(self.examples, EXAMPLES)

    def parts(self) -> tuple[pa.Table, pa.Table]:
        """Return base and extra."""
        planted = [chat for chats in self.planted.values() for chat in chats]
        base = pa.concat_tables([table(self.base, "first"), table(planted[::2], "second")])
        return base, pa.concat_tables([table(self.extra, "third"), table(planted[1::2], "second")])


def pool(base: pa.Table, extra: pa.Table, seed: int = 42) -> pa.Table:
    """Return the rows as the filters take them."""
    rows = pa.concat_tables([base, extra])
    rows = rows.append_column("part", pa.array(["base"] * len(base) + ["extra"] * len(extra)))
    return rows.append_column("rank", pa.array(ranks(seed, rows["id"])))


def shards(rows: pa.Table, count: int) -> list[Rows]:
    """Share rows out by the beginnings of their ids."""
    number = np.array([int(text[:2], 16) * count >> 8 for text in rows["id"].to_pylist()], np.int64)
    return [Rows(rows.filter(pa.array(number == shard)).sort_by("id")) for shard in range(count)]
