"""The filters of the pool, through the stage on real Parquet: what goes is what was planted, and no more."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scripts import preset
from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet, write_parquet
from sft.core.params import load, section
from sft.core.row_schema import standard_table
from sft.data.evaluation_pool import EXAMPLES
from sft.mixing.decontamination import contaminated
from sft.mixing.filters import FilterParams, filtered
from sft.mixing.minhash import PERMUTATIONS, banding
from stages import mix
from tests.imports import ROOT
from tests.tiny import dialogue, table

OFF = load(ROOT / "params.yaml")["data"]["filters"]
EVERY = {
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
        self.base, self.extra = clean(rng, 1_500), clean(rng, 1_500)
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

    def write(self, rng: np.random.Generator | None = None) -> None:
        """Write the tables of the stage before, in an order of `rng`."""
        planted = [chat for chats in self.planted.values() for chat in chats]
        base = pa.concat_tables(
            [table(self.base, "first"), table(planted[::2], "second"), table(self.base[:3], "first")]
        )
        extra = pa.concat_tables(
            [table(self.extra, "third"), table(planted[1::2], "second"), table(self.base[:7], "fourth")]
        )
        for name, rows in (("base", base), ("extra", extra)):
            if rng is not None:
                rows = rows.take(pa.array(rng.permutation(len(rows))))
            write_parquet(f"data/standardized/{name}.parquet", rows)
        write_parquet("data/holdout/evaluation.parquet", pa.Table.from_pylist(self.examples, EXAMPLES))

    @property
    def clean_ids(self) -> set[str]:
        return ids(self.base) | ids(self.extra)


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet("data/holdout/evaluation.parquet", EXAMPLES.empty_table())


def mixed(size: int = 500, seed: int = 42, **filters: Any) -> list[str]:
    """Run the stage; return the ids of the mix in their order."""
    mix.main({"data": {"size": size, "seed": seed, "filters": {**OFF, **filters}}})
    return read_parquet("data/mix.parquet")["id"].to_pylist()


def metrics() -> Any:
    """Return what the stage counted, in the metrics and beside them."""
    found = read_json("metrics/mix.json")
    available = {part: found[f"available_{part}"] for part in ("base", "extra")}
    return {**found, **read_json("provenance/mix.json"), "available": available}


def removed(name: str) -> list[dict[str, str]]:
    return [row for row in read_parquet("data/removed.parquet").to_pylist() if row["filter"] == name]


def whole(**filters: Any) -> list[str]:
    """Return the ids of the largest mix that there can be."""
    mixed(1, **filters)
    return mixed(sum(metrics()["available"].values()), **filters)


def test_off_is_off(pools: Pools) -> None:
    pools.write()
    before = whole()
    assert len(before) == len(pools.clean_ids) + sum(map(len, pools.planted.values()))
    assert metrics()["removed"] == {"base_duplicates": 3, "extra_duplicates": 0, "extra_in_base": 7}
    table = read_parquet("data/removed.parquet").to_pylist()
    assert len(table) == 10 and {row["match"] for row in table} <= set(before)


@pytest.mark.parametrize("name", list(EVERY))
def test_what_was_planted_goes_and_nothing_else(pools: Pools, name: str) -> None:
    pools.write()
    left = whole(**{name: EVERY[name]})
    gone = {row["id"] for row in removed(name)}
    expected = ids(pools.planted[name])
    if name == "near_duplicates":
        # Base stays before extra, and then the lower rank, be it the original or its copy.
        originals = [*pools.base[:20], *pools.extra[:20]]
        pairs = [ids([a]) | ids([b]) for a, b in zip(originals, pools.planted[name], strict=True)]
        assert [len(pair & gone) for pair in pairs] == [1] * 40
        assert gone <= set().union(*pairs) | ids(pools.planted["languages"])
    else:
        assert gone == expected and pools.clean_ids <= set(left)
    assert not gone & set(left) and metrics()["removed"][name] == len(gone)


def test_near_duplicates_name_the_row_that_stays(pools: Pools) -> None:
    pools.write()
    left = set(whole(near_duplicates=0.8))
    for row in removed("near_duplicates"):
        assert row["match"] in left and row["reason"].startswith("Jaccard similarity 0.")
    base = set(read_parquet("data/standardized/base.parquet")["id"].to_pylist())
    assert all(row["match"] in base for row in removed("near_duplicates") if row["part"] == "base")


def test_near_duplicates_do_not_chain() -> None:
    """Of a, b, c, each like the next only, at most what is like a row that stays goes."""
    words = [f"word{n}" for n in range(40)]
    chats = [dialogue("", " ".join(words[n : n + 34])) for n in (0, 3, 6)]
    write_parquet("data/standardized/base.parquet", table(chats))
    write_parquet("data/standardized/extra.parquet", table([]))
    for seed in range(6):
        mixed(1, seed=seed, near_duplicates=0.8)
        gone = {row["id"] for row in removed("near_duplicates")}
        middle = ids([chats[1]])
        assert gone in (middle, ids([chats[0], chats[2]]))


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_what_is_as_like_as_the_threshold(threshold: float) -> None:
    bands, width = banding(threshold)
    assert bands * width <= PERMUTATIONS and (1 - threshold**width) ** bands <= 0.001


def test_decontamination_names_the_example(pools: Pools) -> None:
    pools.write()
    mixed(decontaminate=8)
    known = {row["id"]: row for row in read_parquet("data/standardized/base.parquet").to_pylist()}
    known |= {row["id"]: row for row in read_parquet("data/standardized/extra.parquet").to_pylist()}
    references = {example["id"]: example["references"][0] for example in pools.examples}
    for row in removed("decontaminate"):
        assert references[row["match"]] in known[row["id"]]["messages"][1]["content"]


@pytest.mark.parametrize("n", [4, 5, 8, 13])
def test_templates_do_not_contaminate(n: int) -> None:
    """Sentences that most rows share leave one word of an example's own: by plain n-grams all rows go."""
    rows = [
        dialogue(
            f'How would a dictionary define the word "xa{k}"?', f"It is the plural form of the noun xb{k}."
        )
        for k in range(2_000)
    ]
    write_parquet("data/standardized/base.parquet", table(rows))
    write_parquet("data/standardized/extra.parquet", table([]))
    examples = [
        {
            "task": "definition",
            "id": f"{k}",
            "item": f"{k}",
            "prompt": [{"role": "user", "content": f'How would a dictionary define the word "xc{k}"?'}],
            "references": [f"It is the plural form of the noun xd{k}."],
        }
        for k in range(20)
    ]
    write_parquet("data/holdout/evaluation.parquet", pa.Table.from_pylist(examples, EXAMPLES))
    assert len(mixed(2_000, decontaminate=n)) == 2_000 and not removed("decontaminate")


def test_the_question_is_the_user_s_though_a_tool_spoke_last() -> None:
    rng = np.random.default_rng(0)
    question = sentence(rng)
    tool = [{"role": "assistant", "content": "look"}, {"role": "tool", "content": sentence(rng)}]
    example = {"id": "0", "prompt": [{"role": "user", "content": question}, *tool], "references": ["Yes."]}
    examples = pa.Table.from_pylist([example], EXAMPLES)
    rows = table([dialogue(question, "Something else."), dialogue(sentence(rng), "No.")])
    assert contaminated(rows["messages"], examples, 8).removed.tolist() == [True, False]


@pytest.mark.parametrize("filters", [{name: value} for name, value in EVERY.items()] + [EVERY])
def test_mixes_nest_and_row_order_changes_nothing(pools: Pools, filters: dict[str, Any]) -> None:
    pools.write()
    everything = whole(**filters)
    reasons = read_parquet("data/removed.parquet")
    boundary = metrics()["from_base"]
    for size in (700, boundary + 1):
        assert mixed(size, **filters) == everything[:size]
    pools.write(np.random.default_rng(1))
    assert whole(**filters) == everything
    assert read_parquet("data/removed.parquet") == reasons


def test_contamination_of_the_members_is_counted_whether_filtered_or_not(pools: Pools) -> None:
    pools.write()
    whole()
    planted = len(pools.planted["decontaminate"])
    assert metrics()["contamination"]["over_half"] == planted
    whole(decontaminate=8)
    found = metrics()["contamination"]
    assert (found["exact"], found["question_only"], found["over_half"]) == (0, 0, 0)
    assert found["largest_share"] <= 0.5

    prompt, (answer,) = (pools.examples[3][name] for name in ("prompt", "references"))
    same, other = (dialogue(prompt[0]["content"].upper(), text) for text in (f"- {answer}", "Another thing."))
    write_parquet("data/standardized/extra.parquet", table([same, other]))
    whole(decontaminate="none")
    found = metrics()["contamination"]
    assert (found["exact"], found["question_only"], found["largest_share"]) == (1, 1, 1.0)


def test_the_mix_keeps_the_rows_kinds_and_names_those_without_rows(pools: Pools) -> None:
    pools.write()
    write_parquet("data/standardized/extra.parquet", table([dialogue("one", "row")], "third"))
    mixed(2)
    mix = read_parquet("data/mix.parquet")
    kinds = json.loads(mix.schema.metadata[b"kinds"])
    assert list(kinds) == ["first", "second", "third"] and (kinds["first"], kinds["third"]) == (1_500, 1)
    assert metrics()["kinds"] == dict(Counter(mix["kind"].to_pylist())) and "third" not in metrics()["kinds"]


def test_counts_add_up(pools: Pools) -> None:
    pools.write()
    mixed(**EVERY)
    counted = metrics()
    rows = read_parquet("data/removed.parquet")
    read = sum(len(read_parquet(f"data/standardized/{part}.parquet")) for part in ("base", "extra"))
    assert sum(counted["removed"].values()) == len(rows) == read - sum(counted["available"].values())
    by_filter: dict[str, int] = {}
    for counts in counted["removed_by_source"].values():
        for name, count in counts.items():
            by_filter[name] = by_filter.get(name, 0) + count
    assert by_filter == {name: count for name, count in counted["removed"].items() if count}


def test_overlap_left_in_is_kept_and_not_counted(pools: Pools) -> None:
    pools.write(np.random.default_rng(1))
    without = whole()
    overlap = metrics()["removed"]["extra_in_base"]
    kept = whole(overlap="keep")
    assert overlap > 0 and len(kept) == len(without) + overlap and set(kept) == set(without)
    assert metrics()["removed"]["extra_in_base"] == 0
    assert "extra_in_base" not in read_parquet("data/removed.parquet")["filter"].to_pylist()
    assert mixed(700, overlap="keep") == kept[:700]


def test_a_random_selection_of_the_same_size(pools: Pools) -> None:
    pools.write()
    chosen = set(whole(**EVERY))
    selected = metrics()
    drawn = whole(**EVERY, random=True)
    assert metrics()["available"] == selected["available"] and set(drawn) != chosen
    assert mixed(700, **EVERY, random=True) == drawn[:700]
    for source, counts in metrics()["removed_by_source"].items():
        before = selected["removed_by_source"][source]
        assert counts.get("random", 0) == sum(n for name, n in before.items() if name in EVERY)
    assert whole(random=True) == whole()


def scored(scores: list[float | None]) -> pa.Table:
    rows = table([dialogue(f"question {n}", "answer") for n in range(len(scores))])
    return rows.append_column("score", pa.array(scores, pa.float64()))


def test_a_least_score() -> None:
    base = pa.concat_tables([scored([0.1, 0.5, None, 0.9]), scored([0.7])])  # row 0 twice, the second better
    write_parquet("data/standardized/base.parquet", base)
    write_parquet("data/standardized/extra.parquet", table([dialogue("without", "a score")]))
    left = mixed(1, min_score=0.6)
    assert len(left) == 1 and metrics()["available"] == {"base": 3, "extra": 1}
    assert [row["reason"] for row in removed("min_score")] == ["score 0.5"]


@pytest.mark.parametrize("kind", [None, pa.string()])
def test_no_score(kind: pa.DataType | None) -> None:
    rows = standard_table(table([dialogue("a", "b")])["messages"], "made")
    if kind is not None:
        rows = rows.append_column("score", pa.array(["high"], kind))
    for part in ("base", "extra"):
        write_parquet(f"data/standardized/{part}.parquet", rows)
    with pytest.raises(UserError, match=r"data\.filters\.min_score: .*column"):
        mixed(1, min_score=0.6)


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
def test_bad_values(pools: Pools, name: str, value: Any, says: str) -> None:
    pools.write()
    with pytest.raises(UserError) as caught:
        mixed(**{name: value})
    assert str(caught.value).startswith(f"data.filters.{name}") and says in str(caught.value)


def test_no_row_can_be_long_and_short(pools: Pools) -> None:
    with pytest.raises(UserError, match=r"data\.filters\.min_words: 9 is more than data\.filters\.max_words"):
        mixed(min_words=9, max_words=8)


def test_filters_that_leave_too_few_rows(pools: Pools) -> None:
    pools.write()
    with pytest.raises(UserError, match=r"data\.size: 3,060 rows .* data\.filters\)\. .* or loosen a filter"):
        mixed(3_060, min_words=50)


def test_nothing_is_left() -> None:
    write_parquet("data/standardized/base.parquet", table([dialogue("a", "b")]))
    write_parquet("data/standardized/extra.parquet", table([]))
    write_parquet("data/holdout/evaluation.parquet", EXAMPLES.empty_table())
    with pytest.raises(UserError, match=r"there are 0"):
        mixed(1, **{**EVERY, "min_words": 80})


def test_row_text_that_has_no_words() -> None:
    """Symbols and other scripts: no words are no near-duplicates, and letters without spaces are words."""
    chats = [dialogue("🙂", "🙃"), dialogue("+", "="), dialogue("你好吗我很好谢谢你", "你好吗我很好谢谢您呢")]
    write_parquet("data/standardized/base.parquet", table(chats))
    write_parquet("data/standardized/extra.parquet", table([]))
    assert len(mixed(3, near_duplicates=0.5)) == 3
    assert len(mixed(1, min_words=15)) == 1 and metrics()["available"]["base"] == 1


def test_filters_survive_set_param_and_presets(tmp_path: Path) -> None:
    """DVC parses the values anew, and dumps the file: none and any must stay the words that they are."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["data.filters.languages=[en,fr]", "data.filters.near_duplicates=0.8"])
    params = section(load(path), "data", mix.MixParams).filters
    assert params.languages == ["en", "fr"] and params.near_duplicates == 0.8
    assert params.active == ["languages", "near_duplicates"] and params.decontaminate == "none"
    apply_overrides(path, ["data.filters.languages=any", "data.filters.near_duplicates=none"])
    assert load(path)["data"]["filters"] == OFF

    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/english.yaml").write_text("data:\n  filters:\n    languages:\n    - en\n")
    assert preset.apply("english", path, tmp_path / "presets") == ["data.filters.languages: any -> [en]"]
    assert load(path)["data"]["filters"] == {**OFF, "languages": ["en"]}


def test_what_an_answer_calls_and_thinks_is_said_too() -> None:
    def asked(**fields: str) -> list[dict]:
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", **fields}]

    calls = '[{"type": "function", "function": {"name": "add"}}]'
    rows = table([asked(tool_calls=calls), asked(), asked(reasoning="two words"), asked(content="a")])
    rows = rows.append_column("part", pa.array(["base"] * len(rows)))
    params = FilterParams(**{**OFF, "placeholders": "remove", "min_words": 3})
    kept, removed = filtered(rows, params, 42)
    assert kept.tolist() == [0]
    assert removed["filter"].to_pylist() == ["min_words", "min_words", "placeholders"]
