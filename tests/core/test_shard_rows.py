"""Rows of a folder of shards by their numbers, as from a table in memory."""

import numpy as np
import pytest

from sft.core import shard_rows, shards
from sft.core.errors import MissingFile, UserError
from tests.tiny import dialogue, save_shards, table

COLUMNS = ["kind", "messages", "tools"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Save 300 rows in eight shards of some row groups each."""
    monkeypatch.setattr(shards, "_ROW_GROUP", 16)
    rows = table(
        [dialogue(f"Question {n}?", "ä" * n) for n in range(300)], kinds=["ab"[n % 2] for n in range(300)]
    )
    save_shards(tmp_path / "rows", rows, bits=3)
    return tmp_path / "rows"


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_those_of_the_whole(folder, seed):
    numbers = np.flatnonzero(np.random.default_rng(seed).random(300) < (0.01, 0.1, 0.9, 1.0)[seed])
    found = shard_rows.take(folder, numbers, COLUMNS)
    assert found.column_names == COLUMNS and len(numbers)
    assert found.to_pylist() == shards.read(folder, COLUMNS).take(numbers).to_pylist()


def test_no_rows(folder):
    found = shard_rows.take(folder, np.empty(0, np.int64), COLUMNS)
    assert len(found) == 0 and found.column_names == COLUMNS


def test_only_row_groups_with_such_rows_are_read(folder):
    """The text of the first shard is damaged: rows of the others can be had."""
    first = shards.path_of(folder, 0)
    rows, content = shards.footer(first).num_rows, bytearray(first.read_bytes())
    content[4:400] = bytes(396)
    first.write_bytes(content)
    assert len(shard_rows.take(folder, np.arange(rows, 300), COLUMNS)) == 300 - rows
    with pytest.raises(UserError, match=r"rows/000\.parquet: not a readable Parquet file"):
        shard_rows.take(folder, np.arange(2), COLUMNS)


def test_folders_that_are_not_what_they_were(folder, tmp_path):
    with pytest.raises(UserError, match="rows: was changed while it was read"):
        shard_rows.take(folder, np.array([0, 300]), COLUMNS)
    with pytest.raises(MissingFile):
        shard_rows.take(tmp_path / "none", np.array([0]), COLUMNS)
