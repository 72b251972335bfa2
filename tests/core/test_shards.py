"""Tables in folders of shards: which rows are where, and folders that are not whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from sft.core import shards
from sft.core.errors import MissingFile, UserError

IDS = [xxhash.xxh3_128_hexdigest(str(n).encode()) for n in range(1_000)]


def test_ids_are_read_as_numbers_whatever_their_chunks() -> None:
    column = pa.chunked_array([pa.array(IDS[:7])[3:], pa.array([], pa.string()), pa.array(IDS)[10:500]])
    first, second = shards.keys(column)
    both = zip(first.tolist(), second.tolist(), strict=True)
    assert [f"{one:016x}{other:016x}" for one, other in both] == column.to_pylist()
    assert shards.number_of(first, 3).tolist() == [int(i[0], 16) >> 1 for i in column.to_pylist()]
    assert not shards.number_of(first, 0).any()


def test_rows_in_the_order_of_ids_and_then_of_another_column() -> None:
    ids = pa.array([IDS[n % 10] for n in range(100)])
    then = np.random.default_rng(0).permutation(100)
    order = shards.by_id(ids, then).tolist()
    assert order == sorted(range(100), key=lambda row: (ids[row].as_py(), then[row]))
    assert shards.by_id(ids).tolist() == sorted(range(100), key=lambda row: (ids[row].as_py(), row))


def test_how_many_shards_there_are() -> None:
    assert [shards.bits_for(size, 0) for size in (0, shards.BYTES, shards.BYTES + 1)] == [0, 0, 1]
    assert shards.bits_for(33 * shards.BYTES, 0) == 6
    assert shards.bits_for(0, shards.BYTES // 32) == 1  # rows without texts take memory too


def test_written_and_read_again(tmp_path: Path) -> None:
    table = pa.table({"id": sorted(IDS), "text": ["x" * 100] * 1_000})
    for number, start in enumerate(range(0, 1_000, 250)):
        shards.write(shards.path_of(tmp_path / "mix", number), table.slice(start, 250))
    assert shards.read(tmp_path / "mix").equals(table) and shards.count(tmp_path / "mix") == 1_000
    assert shards.read(tmp_path / "mix", ["text"]).column_names == ["text"]
    again = shards.path_of(tmp_path / "again", 0)
    shards.write(again, pa.concat_tables([table.slice(0, 100), table.slice(100, 150)]))
    assert again.read_bytes() == shards.path_of(tmp_path / "mix", 0).read_bytes()


def test_shards_take_the_place_of_others_once_they_are_all_there(tmp_path: Path) -> None:
    folder, rows = tmp_path / "mix", pa.table({"id": [IDS[0]]})
    with shards.replacing(folder) as new:
        for number in range(4):
            shards.write(shards.path_of(new, number), rows)
    with pytest.raises(ZeroDivisionError), shards.replacing(folder) as new:
        shards.write(shards.path_of(new, 0), rows)
        raise ZeroDivisionError
    assert len(shards.paths(folder)) == 4 and [path.name for path in tmp_path.iterdir()] == ["mix"]
    shards.write(shards.path_of(tmp_path / ".mix.partial", 1), rows)  # of a process that was killed
    with shards.replacing(folder) as new:
        (new / ".000.parquet.node.1.partial").write_text("of one that was killed, whose call was made again")
        shards.write(shards.path_of(new, 0), rows)
    assert [path.name for path in folder.iterdir()] == ["000.parquet"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    expected = pytest.raises(UserError, match=r"mix: cannot be written: Not a directory")
    with expected, shards.replacing(tmp_path / "data" / "mix"):
        pass


@pytest.mark.parametrize("gone", ["000", "001", "002", "003"])
def test_a_folder_that_is_not_whole(tmp_path: Path, gone: str) -> None:
    for number in range(4):
        shards.write(shards.path_of(tmp_path / "mix", number), pa.table({"id": [IDS[0]]}))
    (tmp_path / "mix" / f"{gone}.parquet").unlink()
    with pytest.raises(UserError, match=r"mix: is not whole: of 1, 2, 4, 8, \.\.\. shards .*make it again"):
        shards.paths(tmp_path / "mix")


def test_a_folder_that_is_not_there_and_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        shards.read(tmp_path / "mix")
    (tmp_path / "000.parquet").write_text("no")
    with pytest.raises(UserError, match=r"000\.parquet: not a readable Parquet file"):
        shards.count(tmp_path)
