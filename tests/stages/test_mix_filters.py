"""The filters through the stage: counts, nesting and messages."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from scripts import preset
from sft.core import shards
from sft.core.errors import UserError
from sft.core.files import read_json, read_parquet, write_parquet
from sft.core.params import load, section
from sft.core.row_schema import standard_table
from sft.data.evaluation_pool import EXAMPLES
from stages import mix
from tests.filter_pools import EVERY, OFF, Pools
from tests.imports import ROOT
from tests.tiny import dialogue, save_shards, table


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_parquet("data/holdout/evaluation.parquet", EXAMPLES.empty_table())


def standardized(part: str, rows: pa.Table) -> None:
    save_shards(f"data/standardized/{part}", rows)


def write(pools: Pools, rng: np.random.Generator | None = None) -> None:
    """Write the tables of the stage before, with duplicates and overlap, in an order of `rng`."""
    base, extra = pools.parts()
    base = pa.concat_tables([base, table(pools.base[:3], "first")])
    extra = pa.concat_tables([extra, table(pools.base[:7], "fourth")])
    for part, rows in (("base", base), ("extra", extra)):
        standardized(part, rows if rng is None else rows.take(pa.array(rng.permutation(len(rows)))))
    write_parquet("data/holdout/evaluation.parquet", pools.evaluation)


def mixed(size: int | Literal["all"] = 500, seed: int = 42, **filters: Any) -> list[str]:
    """Run the stage; return the ids of the mix in their order."""
    mix.main({"data": {"size": size, "seed": seed, "filters": {**OFF, **filters}}})
    return shards.read("data/mix").sort_by("rank")["id"].to_pylist()


def metrics() -> Any:
    """Return what the stage counted, in the metrics and beside them."""
    found = read_json("metrics/mix.json")
    available = {part: found[f"available_{part}"] for part in ("base", "extra")}
    return {**found, **read_json("provenance/mix.json"), "available": available}


def removed(name: str) -> list[dict[str, str]]:
    return [row for row in read_parquet("data/removed.parquet").to_pylist() if row["filter"] == name]


def whole(**filters: Any) -> list[str]:
    """Return the ids of the largest mix that there can be."""
    return mixed("all", **filters)


def test_off_is_off(pools: Pools) -> None:
    write(pools)
    before = whole()
    assert len(before) == len(pools.clean_ids) + sum(map(len, pools.planted.values()))
    assert metrics()["removed"] == {"base_duplicates": 3, "extra_duplicates": 0, "extra_in_base": 7}
    table = read_parquet("data/removed.parquet").to_pylist()
    assert len(table) == 10 and {row["match"] for row in table} <= set(before)


def test_mixes_nest_and_row_order_changes_nothing(pools: Pools) -> None:
    write(pools)
    everything = whole(**EVERY)
    reasons = read_parquet("data/removed.parquet")
    for size in (300, metrics()["from_base"] + 1):
        assert mixed(size, **EVERY) == everything[:size]
    write(pools, np.random.default_rng(1))
    assert whole(**EVERY) == everything
    assert read_parquet("data/removed.parquet") == reasons


def test_contamination_of_the_members_is_counted_whether_filtered_or_not(pools: Pools) -> None:
    write(pools)
    whole()
    planted = len(pools.planted["decontaminate"])
    assert metrics()["contamination"]["over_half"] == planted
    whole(decontaminate=8)
    found = metrics()["contamination"]
    assert (found["exact"], found["question_only"], found["over_half"]) == (0, 0, 0)
    assert found["largest_share"] <= 0.5

    prompt, (answer,) = (pools.examples[3][name] for name in ("prompt", "references"))
    same, other = (dialogue(prompt[0]["content"].upper(), text) for text in (f"- {answer}", "Another thing."))
    standardized("extra", table([same, other]))
    whole(decontaminate="none")
    found = metrics()["contamination"]
    assert (found["exact"], found["question_only"], found["largest_share"]) == (1, 1, 1.0)


def test_the_mix_keeps_the_rows_kinds_and_names_those_without_rows(pools: Pools) -> None:
    write(pools)
    standardized("extra", table([dialogue("one", "row")], "third"))
    mixed(2)
    mix = shards.read("data/mix")
    kinds = json.loads(mix.schema.metadata[b"kinds"])
    assert list(kinds) == ["first", "second", "third"] and (kinds["first"], kinds["third"]) == (600, 1)
    assert metrics()["kinds"] == dict(Counter(mix["kind"].to_pylist())) and "third" not in metrics()["kinds"]


def test_counts_add_up(pools: Pools) -> None:
    write(pools)
    mixed(**EVERY)
    counted = metrics()
    rows = read_parquet("data/removed.parquet")
    read = sum(shards.count(f"data/standardized/{part}") for part in ("base", "extra"))
    assert sum(counted["removed"].values()) == len(rows) == read - sum(counted["available"].values())
    by_filter: dict[str, int] = {}
    for counts in counted["removed_by_source"].values():
        for name, count in counts.items():
            by_filter[name] = by_filter.get(name, 0) + count
    assert by_filter == {name: count for name, count in counted["removed"].items() if count}


def test_overlap_left_in_is_kept_and_not_counted(pools: Pools) -> None:
    write(pools, np.random.default_rng(1))
    without = whole()
    overlap = metrics()["removed"]["extra_in_base"]
    kept = whole(overlap="keep")
    assert overlap > 0 and len(kept) == len(without) + overlap and set(kept) == set(without)
    assert metrics()["removed"]["extra_in_base"] == 0
    assert "extra_in_base" not in read_parquet("data/removed.parquet")["filter"].to_pylist()
    assert mixed(700, overlap="keep") == kept[:700]


def test_a_random_selection_of_the_same_size(pools: Pools) -> None:
    write(pools)
    chosen = set(whole(**EVERY))
    selected = metrics()
    drawn = whole(**EVERY, random=True)
    assert metrics()["available"] == selected["available"] and set(drawn) != chosen
    assert mixed(300, **EVERY, random=True) == drawn[:300]
    for source, counts in metrics()["removed_by_source"].items():
        before = selected["removed_by_source"][source]
        assert counts.get("random", 0) == sum(n for name, n in before.items() if name in EVERY)


def scored(scores: list[float | None]) -> pa.Table:
    rows = table([dialogue(f"question {n}", "answer") for n in range(len(scores))])
    return rows.append_column("score", pa.array(scores, pa.float64()))


def test_a_least_score() -> None:
    base = pa.concat_tables([scored([0.1, 0.5, None, 0.9]), scored([0.7])])  # row 0 twice, the second better
    standardized("base", base)
    standardized("extra", table([dialogue("without", "a score")]))
    left = mixed(1, min_score=0.6)
    assert len(left) == 1 and metrics()["available"] == {"base": 3, "extra": 1}
    assert [row["reason"] for row in removed("min_score")] == ["score 0.5"]


@pytest.mark.parametrize("kind", [None, pa.string()])
def test_no_score(kind: pa.DataType | None) -> None:
    rows = standard_table(table([dialogue("a", "b")])["messages"], "made")
    if kind is not None:
        rows = rows.append_column("score", pa.array(["high"], kind))
    for part in ("base", "extra"):
        standardized(part, rows)
    with pytest.raises(UserError, match=r"data\.filters\.min_score: .*column"):
        mixed(1, min_score=0.6)


def test_filters_that_leave_too_few_rows(pools: Pools) -> None:
    write(pools)
    with pytest.raises(UserError, match=r"data\.size: 3,060 rows .* data\.filters\)\. .* or loosen a filter"):
        mixed(3_060, min_words=50)


def test_nothing_is_left() -> None:
    standardized("base", table([dialogue("a", "b")]))
    standardized("extra", table([]))
    write_parquet("data/holdout/evaluation.parquet", EXAMPLES.empty_table())
    with pytest.raises(UserError, match=r"there are 0"):
        mixed(1, **{**EVERY, "min_words": 80})


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
