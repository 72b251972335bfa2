"""Training rows that nearly repeat a held-out one: found exactly, and not by their template."""

import itertools
import json
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from sft.mixing import near_held_out as module
from sft.mixing import word_ngrams
from tests.tiny import dialogue, table

rng = np.random.default_rng(0)


def text(words: int) -> list[str]:
    return [f"w{word}" for word in rng.integers(0, 5_000, words)]


def messages(conversations):
    return table(conversations)["messages"]


def near_held_out(rows: pa.ChunkedArray, held: pa.ChunkedArray) -> np.ndarray:
    return module.near_held_out(rows, held).nearest


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
    found = module.near_held_out(messages([*rows, copy]), messages(held))
    assert found.nearest.tolist() == [-1] * 270 + [4]
    assert found.covered.tolist() == [True] * 270 + [False]


@pytest.mark.parametrize("copies", [10, 11, 28])
def test_many_copies_of_one_row_are_found(copies: int) -> None:
    """Augmented data: one word differs. Among 300 rows a text in more than a tenth passes for a template."""
    words = text(60)
    rows = [dialogue(changed(words, n * 2), "forty two") for n in range(copies)]
    others = [dialogue(" ".join(text(30)), f"ok {n}") for n in range(290 - copies)]
    held = messages([dialogue(" ".join(words), "forty two")])
    assert near_held_out(messages([*rows, *others]), held).tolist() == [0] * copies + [-1] * len(others)
    few = module.near_held_out(messages(rows + others[: copies * 5]), held)
    # Of those that stay it is said.
    assert (few.covered ^ (few.nearest == 0))[:copies].all() and not few.covered[copies:].any()


def sets_of(rows: pa.ChunkedArray) -> list[set[int]]:
    found = []
    for batch in word_ngrams.of(rows):
        grams = batch.grams(3)
        sets: list[set[int]] = [set() for _ in range(len(batch))]
        for row, triple in zip(grams.row.tolist(), grams.hashes.tolist(), strict=True):
            sets[row].add(triple)
        found += sets
    return found


def by_all_pairs(rows: pa.ChunkedArray, held: pa.ChunkedArray) -> list[int]:
    ours, theirs = sets_of(rows), sets_of(held)
    times = Counter(triple for of in ours for triple in of), Counter(triple for of in theirs for triple in of)
    common = {triple for of in times for triple, count in of.items() if count > module.limit(len(ours))}
    nearest = []
    for one in ours:
        best = (0.0, -1)
        for n, other in enumerate(theirs):
            whole, own = ((a & b, a | b) for a, b in ((one, other), (one - common, other - common)))
            if all(either and len(both) >= 0.8 * len(either) for both, either in (whole, own)):
                best = max(best, (len(whole[0]) / len(whole[1]), n), key=lambda of: of[0])
        nearest.append(best[1])
    return nearest


@pytest.mark.parametrize("seed", range(6))
def test_what_is_found_is_what_all_pairs_give(seed: int) -> None:
    of = random.Random(seed)
    vocabulary = [f"w{n}" for n in range((8, 60, 2_000)[seed % 3])]
    originals = [of.choices(vocabulary, k=of.choice([0, 1, 3, 8, 15, 40])) for _ in range(25)]
    rows = []
    for _ in range(300):
        words = list(of.choice(originals))
        for _ in range(of.choice([0, 0, 1, 2, 3]) if words else 0):
            words[of.randrange(len(words))] = of.choice([*vocabulary, f"new{of.random()}"])
        rows.append(dialogue(" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])))
    ours, theirs = messages(rows[60:]), messages(rows[:60])
    found = near_held_out(ours, theirs).tolist()
    assert found == by_all_pairs(ours, theirs) and max(found) > 0


def test_the_ids_of_calls_make_no_row_another() -> None:
    def calling(identity: str, told: str) -> list[dict[str, str]]:
        function = {"name": "note", "arguments": {"id": told, "said": 'He: "{"id": "x"}" and \\'}}
        calls = json.dumps([{"id": identity, "type": "function", "function": function}] * 2)
        asked = {"role": "user", "content": "Write this down"}
        return [asked, {"role": "assistant", "content": "", "tool_calls": calls}]

    held = messages([calling("call one", "a b c")])
    rows = messages([calling('call "two', "a b c"), calling("call one", "d e f")])
    assert near_held_out(rows, held).tolist() == [0, -1]


def test_little_or_nothing() -> None:
    one = messages([dialogue("Who are you?", "A model.")])
    assert near_held_out(one, one).tolist() == [0]
    assert near_held_out(messages([dialogue("Who?", "you are a model")]), one).tolist() == [-1]
    nothing = messages([dialogue("?", "!")])
    assert near_held_out(nothing, one).tolist() == [-1] == near_held_out(one, nothing).tolist()
    assert near_held_out(one.slice(0, 0), one).tolist() == []
    assert near_held_out(one, one.slice(0, 0)).tolist() == [-1]


def test_many_templates_are_no_repetition() -> None:
    """The pairs of rows that share a template are hundreds of times as many as the rows."""
    templates = [" ".join(f"t{k}x{n}" for n in range(25)) for k in range(30)]
    rows = messages([dialogue(f"{templates[n % 30]} u{n} v{n} y{n}", f"done {n}") for n in range(4_000)])
    assert (near_held_out(rows.slice(800), rows.slice(0, 800)) < 0).all()


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_rows_that_come_in_parts_are_found_alike(parts: int) -> None:
    of = random.Random(parts)
    vocabulary = [*(f"w{n}" for n in range(40)), "été", "İx", "你好", "a½b", "=\u0338"]
    originals = [of.choices(vocabulary, k=of.choice([2, 15, 60])) for _ in range(20)]
    rows = []
    for _ in range(600):
        words = list(of.choice(originals))
        words[of.randrange(len(words))] = of.choice(vocabulary)
        rows.append(dialogue(" ".join(words), "ok"))
    ours, held = messages(rows[60:]), messages(rows[:60])
    bounds = np.linspace(0, len(ours), parts + 1).astype(int)
    cut = [ours.slice(a, b - a) for a, b in itertools.pairwise(bounds.tolist())]
    known = module.Held.of(held)
    counts = np.sum([known.count(part) for part in cut], axis=0)
    found = [known.near(part, counts, len(ours)) for part in cut]
    nearest = np.concatenate([near.nearest for near in found])
    assert nearest.tolist() == by_all_pairs(ours, held)
    whole = module.near_held_out(ours, held)
    assert nearest.tolist() == whole.nearest.tolist() and whole.covered.any()
    assert np.concatenate([near.covered for near in found]).tolist() == whole.covered.tolist()


def test_the_beginning_decides_for_most_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are split whole only where enough of their beginning is known; some of it may be new."""
    split = []
    of = module._Sets.of
    monkeypatch.setattr(module._Sets, "of", lambda words, known: split.append(len(words)) or of(words, known))
    held = text(200)
    rows = [dialogue("Now:", changed(held, *range(15))), dialogue(" ".join(text(200)), "ok")]
    known = module.Held.of(messages([dialogue("Now:", " ".join(held))]))
    split.clear()
    counts = known.count(messages(rows))
    assert known.near(messages(rows), counts, 2).nearest.tolist() == [0, -1] and split == [1]


@pytest.mark.parametrize("other", ["", "\u2014"])
def test_no_row_is_ruled_out_that_is_near(other: str) -> None:
    """Copies of which every fifth triple may be new, all of these at the beginning; with any texts behind."""
    held = [text(size) for size in (3, 4, 10, 50, 90, 400)]
    rows, nearest = [], []
    for number, words in enumerate(held):
        for new in range(len(words) // 5 + 1):
            said = changed(words, *range(new)).split(" ")
            half = len(said) // 2
            rows.append(dialogue(" ".join(said[:half]), " ".join(said[half:]) + other))
            common = len(words) - 2 - min(new, len(words) - 2)
            both = 2 * (len(words) - 2) - common
            nearest.append(number if common >= 0.8 * both else -1)
    kept = messages([dialogue(" ".join(words), "") for words in held])
    known = module.Held.of(kept)
    found = known.near(messages(rows), np.zeros(len(known.known), np.int64), len(rows))
    assert found.nearest.tolist() == nearest and 0 < nearest.count(-1) < len(rows) / 2
