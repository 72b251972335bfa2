"""The filters of the pool: what goes is what was planted and no more, in whatever shards rows come."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sft.core.errors import ParamError
from sft.core.params import section
from sft.core.seeded_order import order
from sft.mixing.decontamination import contaminated
from sft.mixing.filters import FilterParams, filtered
from sft.mixing.mix import MixParams
from tests.filter_pools import EVERY, OFF, Chats, Pools, ids, pool, sentence, shards
from tests.tiny import dialogue, table


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools()


def params(**filters: Any) -> FilterParams:
    return section(
        {"data": {"size": 1, "seed": 42, "filters": {**OFF, **filters}}}, "data", MixParams
    ).filters


def elsewhere(function: Callable, items: Sequence) -> Iterator:
    """Call as other processes do: all that goes and comes is pickled."""
    for item in items:
        there, of = pickle.loads(pickle.dumps((function, item)))  # noqa: S301
        yield pickle.loads(pickle.dumps(there(of)))  # noqa: S301


def removed(
    rows: pa.Table, examples: pa.Table | None = None, count: int = 1, seed: int = 42, **filters: Any
) -> list[dict[str, str]]:
    found = filtered(shards(rows, count), params(**filters), seed, examples, elsewhere)
    return pa.concat_tables(found).sort_by([(name, "ascending") for name in ("part", "id")]).to_pylist()


@pytest.mark.parametrize("name", list(EVERY))
def test_what_was_planted_goes_and_nothing_else(pools: Pools, name: str) -> None:
    rows = pool(*pools.parts())
    gone = removed(rows, pools.evaluation, **{name: EVERY[name]})
    found = {row["id"] for row in gone}
    if name == "near_duplicates":
        # Base stays before extra, and then the lower rank, be it the original or its copy.
        originals = [*pools.base[:20], *pools.extra[:20]]
        pairs = [ids([a]) | ids([b]) for a, b in zip(originals, pools.planted[name], strict=True)]
        assert [len(pair & found) for pair in pairs] == [1] * 40
        assert found <= set().union(*pairs) | ids(pools.planted["languages"])
    else:
        assert found == ids(pools.planted[name])
    assert {row["filter"] for row in gone} == {name} and len(found) == len(gone)


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("filters", [EVERY, {**EVERY, "random": True}], ids=["all", "random"])
def test_shards_change_nothing(pools: Pools, filters: dict[str, Any], count: int) -> None:
    rows = pool(*pools.parts())
    whole = removed(rows, pools.evaluation, **filters)
    assert removed(rows, pools.evaluation, count, **filters) == whole
    assert len({row["filter"] for row in whole}) == (1 if "random" in filters else len(EVERY))


def test_near_duplicates_name_the_row_that_stays(pools: Pools) -> None:
    rows = pool(*pools.parts())
    gone = removed(rows, count=4, near_duplicates=0.8)
    left = {(row["part"], row["id"]) for row in rows.select(["part", "id"]).to_pylist()}
    left -= {(row["part"], row["id"]) for row in gone}
    for row in gone:
        assert row["reason"].startswith("Jaccard similarity 0.")
        assert ("base", row["match"]) in left or (row["part"], row["match"]) in left


def test_near_duplicates_do_not_chain() -> None:
    """Of a, b, c, each like the next only, at most what is like a row that stays goes."""
    words = [f"word{n}" for n in range(40)]
    chats = [dialogue("", " ".join(words[n : n + 34])) for n in (0, 3, 6)]
    outcomes = set()
    for seed in range(6):
        rows = pool(table(chats), table([]), seed)
        gone = {row["id"] for row in removed(rows, count=2, near_duplicates=0.8)}
        assert gone in (ids([chats[1]]), ids([chats[0], chats[2]]))
        outcomes.add(len(gone))
    assert outcomes == {1, 2}


def test_of_one_rank_the_lower_id_stays() -> None:
    chats = [dialogue("Say it.", " ".join(f"word{n}" for n in range(40)) + f" end{k}") for k in range(6)]
    rows = pool(table(chats[:3]), table(chats[3:]))
    rows = rows.set_column(rows.column_names.index("rank"), "rank", pa.array([7] * 6, pa.uint64()))
    first = min(ids(chats[:3]))
    for count in (1, 8):
        gone = removed(rows, count=count, near_duplicates=0.8)
        assert len(gone) == 5 and {row["match"] for row in gone} == {first}


def test_decontamination_names_the_example(pools: Pools) -> None:
    rows = pool(*pools.parts())
    known = {row["id"]: row for row in rows.to_pylist()}
    references = {example["id"]: example["references"][0] for example in pools.examples}
    gone = removed(rows, pools.evaluation, decontaminate=8)
    assert len(gone) == 15
    for row in gone:
        assert references[row["match"]] in known[row["id"]]["messages"][1]["content"]


@pytest.mark.parametrize("n", [4, 5, 8, 13])
def test_templates_do_not_contaminate(n: int) -> None:
    """Sentences that most rows share leave one word of an example's own: by plain n-grams all rows go."""

    def chats(word: str, gloss: str, count: int) -> Chats:
        return [
            dialogue(
                f'How would a dictionary define the word "{word}{k}"?',
                f"It is the plural form of the noun {gloss}{k}.",
            )
            for k in range(count)
        ]

    examples = [
        {"id": f"{k}", "prompt": chat[:1], "references": [chat[1]["content"]]}
        for k, chat in enumerate(chats("xc", "xd", 20))
    ]
    rows = pool(table(chats("xa", "xb", 1_000)), table([]))
    assert not removed(rows, pa.Table.from_pylist(examples), count=4, decontaminate=n)


def test_the_question_is_the_user_s_though_a_tool_spoke_last() -> None:
    rng = np.random.default_rng(0)
    question = sentence(rng)
    tool = [{"role": "assistant", "content": "look"}, {"role": "tool", "content": sentence(rng)}]
    user = {"role": "user", "content": question}
    example = {"id": "0", "prompt": [user, *tool], "references": ["Yes."]}
    rows = table([dialogue(question, "Something else."), dialogue(sentence(rng), "No.")])
    found = contaminated(rows["messages"], pa.Table.from_pylist([example]), 8)
    assert found.removed.tolist() == [True, False]


def test_row_order_and_other_rows_change_nothing(pools: Pools) -> None:
    """What a filter that looks at one row removes does not depend on the others, nor any on their order."""
    rows = pool(*pools.parts())
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(len(rows))))
    assert removed(shuffled, pools.evaluation, **EVERY) == removed(rows, pools.evaluation, **EVERY)
    alone = {name: EVERY[name] for name in ("min_words", "max_words", "placeholders", "languages")}
    half = rows.slice(0, len(rows) // 2)
    known = set(half["id"].to_pylist())
    assert removed(half, **alone) == [row for row in removed(rows, **alone) if row["id"] in known]


def test_a_random_selection_is_of_the_lowest_ranks(pools: Pools) -> None:
    rows = pool(*pools.parts())
    counts = Counter((row["part"], row["source"]) for row in removed(rows, pools.evaluation, **EVERY))
    drawn = removed(rows, pools.evaluation, 4, **EVERY, random=True)
    names = rows.select(["part", "source", "id"]).to_pylist()
    expected: list[tuple[str, str]] = []
    for row in order("42:random", rows["id"]).tolist():
        key = names[row]["part"], names[row]["source"]
        if counts[key]:
            counts[key] -= 1
            expected.append((names[row]["part"], names[row]["id"]))
    assert [(row["part"], row["id"]) for row in drawn] == sorted(expected)
    assert removed(rows, random=True) == []


def test_a_least_score() -> None:
    rows = pool(table([dialogue(f"question {n}", "answer") for n in range(4)]), table([]))
    rows = rows.append_column("score", pa.array([0.1, 0.5, None, 0.9], pa.float64()))
    gone = removed(rows, count=2, min_score=0.5)
    assert [(row["reason"], row["id"]) for row in gone] == [("score 0.1", rows["id"][0].as_py())]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("near_duplicates", 1.5, "a number from 0 to 1, nor none"),
        ("near_duplicates", -1, "a number from 0 to 1, nor none"),
        ("near_duplicates", 0.1, "0.1 is below 0.5"),
        ("near_duplicates", "off", "'off' is not a number, nor none"),
        ("near_duplicates", None, "None is not a number, nor none"),
        ("decontaminate", 0, "0 is not a positive whole number"),
        ("decontaminate", True, "True is not a positive whole number"),
        ("languages", ["en", "klingon"], "'klingon' is no language"),
        ("languages", "en", "'en' is not a list, nor any"),
        ("languages", [], "the list is empty"),
        ("min_words", -3, "-3 is not a positive whole number"),
        ("placeholders", "yes", "'yes' is not one of keep, remove"),
        ("random", "yes", "'yes' is not true or false"),
    ],
)
def test_bad_values(name: str, value: Any, says: str) -> None:
    rows = pool(table([dialogue("a", "b")]), table([]))
    with pytest.raises(ParamError) as caught:
        removed(rows, **{name: value})
    assert str(caught.value).startswith(f"data.filters.{name}") and says in str(caught.value)


def test_no_row_can_be_long_and_short() -> None:
    with pytest.raises(
        ParamError, match=r"data\.filters\.min_words: 9 is more than data\.filters\.max_words"
    ):
        params(min_words=9, max_words=8)


def test_row_text_that_has_no_words() -> None:
    """Symbols and other scripts: no words are no near-duplicates, and letters without spaces are words."""
    chats = [dialogue("🙂", "🙃"), dialogue("+", "="), dialogue("你好吗我很好谢谢你", "你好吗我很好谢谢您呢")]
    rows = pool(table(chats), table([]))
    assert removed(rows, near_duplicates=0.5) == []
    assert {row["id"] for row in removed(rows, min_words=15)} == ids(chats[:2])


def test_what_an_answer_calls_and_thinks_is_said_too() -> None:
    def asked(**fields: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", **fields}]

    calls = '[{"type": "function", "function": {"name": "add"}}]'
    chats = [asked(tool_calls=calls), asked(), asked(reasoning="two words"), asked(content="a")]
    rows = table(chats)["id"].to_pylist()
    gone = {row["id"]: row["filter"] for row in removed(pool(table(chats), table([])), min_words=3)}
    assert gone == dict.fromkeys([rows[1], rows[3]], "min_words")
    gone = {row["id"]: row["filter"] for row in removed(pool(table(chats), table([])), placeholders="remove")}
    assert gone == dict.fromkeys([rows[1], rows[2]], "placeholders")


def test_scratch_files_lie_where_they_should_and_go(pools: Pools, tmp_path: Path) -> None:
    seen = []

    def looking(function: Callable, items: Sequence) -> Iterator:
        yield from map(function, items)
        seen.append([path.name for path in tmp_path.iterdir()])

    rows = shards(pool(*pools.parts()), 2)
    filtered(rows, params(near_duplicates=0.8), 42, None, looking, tmp_path)
    assert any(seen) and not list(tmp_path.iterdir())


def test_no_rows() -> None:
    empty = pool(table([]), table([]))
    examples = pa.table({"prompt": [[{"role": "user", "content": "a"}]], "references": [["b"]], "id": ["0"]})
    for random in (False, True):
        assert removed(empty, examples, 2, **EVERY, random=random) == []
