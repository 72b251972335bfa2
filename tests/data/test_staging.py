"""Rows on their way to the shards: how much of them waits in memory, and parts without any."""

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES, standard_table
from sft.core.workers import LocalWorkers
from sft.data import final_shards, staging
from sft.data.holdout import HoldoutParams
from sft.data.plan import plan
from sft.data.staged_sources import stage
from sft.data.staging import PieceWriter, text_of
from sft.mixing import near_held_out
from tests.tiny import task


def conversation(number: int, thoughts: int = 0) -> list[dict[str, str]]:
    told = {"reasoning": "x" * thoughts} if thoughts else {}
    return [{"role": "user", "content": f"{number}"}, {"role": "assistant", "content": "yes", **told}]


def rows(thoughts: int, kept: int) -> pa.Table:
    table = standard_table(pa.array([conversation(n, thoughts) for n in range(10)], MESSAGES), "my")
    return table.append_column("kept", pa.array([{"a": ["y" * kept]}] * 10))


def test_all_that_makes_rows_large_is_counted_however_they_are_cut() -> None:
    table = rows(1_000, 2_000)
    assert text_of(table) == 10 * (1 + 3 + 1_000 + 2_000)
    assert text_of(pa.concat_tables([table.slice(0, 3), table.slice(3)])) == text_of(table)
    encoded = pa.array(["y" * 50] * 10).dictionary_encode()
    assert text_of(table.set_column(table.column_names.index("kept"), "kept", encoded)) >= 10 * 1_054


@pytest.mark.parametrize(("thoughts", "kept"), [(1_000, 0), (0, 1_000)])
def test_pieces_of_long_thoughts_or_of_long_kept_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thoughts: int, kept: int
) -> None:
    monkeypatch.setattr(staging, "TEXT", 9_000)
    writer = PieceWriter(tmp_path, 0, 0, 0)
    for _ in range(3):
        writer.add(rows(thoughts, kept))
    writer.flush()
    assert len(writer.pieces) == 3


def test_files_without_rows(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["Who?", "Where?"], "completion": ["I.", "Here."]})
    pq.write_table(table, tmp_path / "some.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "nothing.parquet")
    (tmp_path / "scratch").mkdir()
    staged = stage([str(tmp_path)], tmp_path / "scratch", LocalWorkers())
    assert len(staged[str(tmp_path)].light) == 2
    with pytest.raises(UserError, match=r"none\.parquet: holds no rows\. Check that it is the right file"):
        stage([str(tmp_path / "none.parquet")], tmp_path / "scratch", LocalWorkers())


def test_of_every_row_few_bytes_stay_in_memory_and_once_only(tmp_path: Path) -> None:
    rows, path = 2_000, tmp_path / "some.parquet"
    questions = [f"Question {n}" for n in range(rows)]
    pq.write_table(pa.table({"prompt": questions, "completion": ["I."] * rows}), path, row_group_size=300)
    (tmp_path / "scratch").mkdir()
    staged = stage([str(path)], tmp_path / "scratch", LocalWorkers())
    source = staged[str(path)]
    all_rows = weakref.ref(source.light)
    assert source.light.get_total_buffer_size() <= 64 * rows
    params = HoldoutParams(seed=1, validation=0.01, validation_per_task=10)
    folders = {"base": [str(path)], "extra": []}
    planned = plan(staged, [task("mine", source=str(path), holdout=200)], folders, params, LocalWorkers())
    assert all_rows() is None
    left = source.light
    assert len(left) == rows - planned.held_out[str(path)] and planned.held_out[str(path)] == 200
    assert left.get_total_buffer_size() <= 64 * len(left)
    assert len(planned.parts[0].out) == 200 + len(planned.validation)
    source.forget()
    assert source.light.get_total_buffer_size() < 100


def test_copies_of_a_row_beyond_what_a_file_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final_shards, "MOST", 100_000)
    writer, table = PieceWriter(tmp_path, 0, 0, 0), rows(1_000, 0)
    writer.add(table)
    copies = [writer.add(table.slice(3, 1)) for _ in range(100)]
    writer.flush()
    wanted = final_shards.Wanted(tmp_path / "base", tuple(writer.pieces), table.schema, np.zeros(0, np.int64))
    with pytest.raises(UserError, match=rf"^my: 101 copies of one row, of the id {table['id'][3]}: "):
        final_shards.write([wanted], [0], near_held_out.Held.of(table["messages"]), 0, LocalWorkers())
    assert not list(tmp_path.glob("*base*"))
    with pytest.raises(UserError, match=r"^my: 101 copies of one row"):  # before the rows are put together
        final_shards._count(0, wanted, 0, near_held_out.Held.of(table["messages"]))
    without = replace(wanted, out=np.concatenate(copies))
    (written,) = final_shards.write(
        [without], [10], near_held_out.Held.of(table["messages"].slice(0, 0)), 0, LocalWorkers()
    )
    assert written.rows == 10
