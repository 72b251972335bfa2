"""Training rows that nearly repeat a held-out one: found exactly, and not by their template."""

import time

import numpy as np
import pytest

from sft.mixing.near_held_out import near_held_out
from tests.tiny import dialogue, table

rng = np.random.default_rng(0)


def text(words: int) -> list[str]:
    return [f"w{word}" for word in rng.integers(0, 5_000, words)]


def messages(conversations):
    return table(conversations)["messages"]


def changed(words: list[str], *places: int) -> str:
    return " ".join(f"new{n}" if n in places else word for n, word in enumerate(words))


def test_a_near_copy_is_found_with_the_one_that_it_copies() -> None:
    held = [text(100) for _ in range(20)]
    others = [dialogue(" ".join(text(50)), " ".join(text(50))) for _ in range(50)]
    rows = [dialogue("Say it:", changed(held[7], 3, 60)), *others, dialogue("Say!", changed(held[2]).upper())]
    # 100 words of which 12 are others: less than 0.8 of the triples of both.
    far = dialogue("Say it:", changed(held[7], *range(4, 100, 8)))
    kept = messages([dialogue("Say it:", " ".join(words)) for words in held])
    found = near_held_out(messages([*rows, far]), kept)
    assert found.tolist() == [7, *[-1] * 50, 2, -1]


@pytest.mark.parametrize("words", [40, 400])
def test_rows_of_one_template_are_not_near_each_other(words: int) -> None:
    """Nine tenths of each is the same instruction: by all triples every row would be near every other."""
    template = " ".join(text(words))
    rows = [dialogue(f"{template} {' '.join(text(8))}", "yes") for _ in range(300)]
    held, rows = rows[:30], rows[30:]
    copy = dialogue(held[4][0]["content"].replace(template[:9], "Changed"), "yes")
    found = near_held_out(messages([*rows, copy]), messages(held))
    assert found.tolist() == [-1] * 270 + [4]


def test_little_or_nothing() -> None:
    one = messages([dialogue("Who are you?", "A model.")])
    assert near_held_out(one, one).tolist() == [0]
    assert near_held_out(messages([dialogue("Who?", "you are a model")]), one).tolist() == [-1]
    nothing = messages([dialogue("?", "!")])
    assert near_held_out(nothing, one).tolist() == [-1] == near_held_out(one, nothing).tolist()
    assert near_held_out(one.slice(0, 0), one).tolist() == []
    assert near_held_out(one, one.slice(0, 0)).tolist() == [-1]


def test_many_rows_take_seconds() -> None:
    words = np.array([f"w{n}" for n in range(20_000)])[rng.zipf(1.3, (10_000, 80)) % 20_000]
    rows = messages([dialogue(" ".join(row[:30]), " ".join(row[30:])) for row in words])
    started = time.process_time()
    assert (near_held_out(rows.slice(500), rows.slice(0, 500)) < 0).mean() > 0.99
    assert time.process_time() - started < 5
