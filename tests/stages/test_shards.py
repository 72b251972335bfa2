"""Many rows: in pieces, parts and shards standardize and mix make of them what they make of few."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sft.core import shards, workers
from sft.core.params import load
from sft.data import staging
from stages import mix, paths, standardize
from tests.imports import ROOT

FILES = ("one.jsonl", "two.jsonl", "extra.jsonl")
KEPT = [[paths.METRICS_STANDARDIZE, paths.METRICS_MIX, paths.PROVENANCE_STANDARDIZE, paths.PROVENANCE_MIX]]


def write_files(folder: Path) -> None:
    """Write rows of which some are in several files, some twice in one, and some nearly what others are."""
    drawn = random.Random(0)
    words = ["".join(drawn.choices("abcdefgh", k=drawn.randint(2, 8))) for _ in range(3_000)]
    texts = [" ".join(drawn.choices(words, k=drawn.randint(3, 40))) for _ in range(1_200)]
    texts += [f"{text} {drawn.choice(words)}" for text in texts[:200]]
    folder.mkdir(parents=True)
    for name in FILES:
        rows = [
            {
                "conversations": [
                    {"from": "human", "value": f"{text}?"},
                    {"from": "gpt", "value": f"{text[::-1]} {name if n % 3 else ''}"},
                ],
                "score": n / 7,
                **({"origin": name} if name == "two.jsonl" else {}),
            }
            for n, text in enumerate(drawn.sample(texts, 900) + drawn.sample(texts, 50))
        ]
        rows[5]["conversations"] = [{"from": "nobody", "value": "x"}]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def made(folder: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run both stages in a folder; return what they have written, shards behind one another."""
    write_files(folder / "data/raw")
    monkeypatch.chdir(folder)
    for name in (paths.BASE, paths.EXTRA, paths.MIX):  # of an earlier run, which had more of them
        shards.write(shards.path_of(name, 63), pa.table({"id": ["f" * 32]}))
    standardize.main(values)
    mix.main(values)
    tables = {name: shards.read(name) for name in (paths.BASE, paths.EXTRA, paths.MIX)}
    tables |= {
        name: pa.parquet.read_table(name) for name in (paths.EVALUATION, paths.VALIDATION, paths.REMOVED)
    }
    texts = {name: Path(name).read_text() for name in (*KEPT[0], paths.REJECTS)}
    return tables | texts


@pytest.mark.parametrize("filters", [{}, {"decontaminate": 8, "near_duplicates": 0.7, "min_words": 5}])
def test_whatever_the_parts_and_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: dict[str, Any]
) -> None:
    values = load(ROOT / "params.yaml")
    base, extra = [f"data/raw/{name}" for name in FILES[:2]], ["data/raw/extra.jsonl"]
    values["data"] |= {"base": base, "extra": extra, "size": 1_100 if not filters else "all"}
    values["data"]["holdout"] |= {"validation": 0.05}
    values["data"]["filters"] |= filters
    values["tasks"] = {"mine": values["tasks"]["question"] | {"source": base[0], "holdout": 0.05}}
    whole = made(tmp_path / "whole", values, monkeypatch)
    assert whole[paths.MIX].num_rows > 900 and json.loads(whole[paths.METRICS_MIX])["removed_overlap"]

    monkeypatch.setattr(workers, "cores", lambda: 2)
    monkeypatch.setattr(shards, "BYTES", 1 << 15)
    monkeypatch.setattr(staging, "TEXT", 1 << 14)
    cut = made(tmp_path / "cut", values, monkeypatch)
    assert len(shards.paths(paths.BASE)) == len(shards.paths(paths.EXTRA)) == 32
    assert len(shards.paths(paths.MIX)) > 4
    for name, content in whole.items():
        assert cut[name] == content, name
    assert not list(Path().rglob("*.arrow"))
