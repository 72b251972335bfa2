"""Tables too large for the memory, as folders of shards: Parquet files of the rows whose ids begin alike.

A folder holds 000.parquet, 001.parquet and so on: 2^n of them, the rows of shard k being those whose ids
begin with the n bits of k, in the order of ids. So all shards behind one another are in the order of ids too,
no pass sorts more than a shard, and two folders can be joined by id shard by shard.
"""

import binascii
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sft.core import files
from sft.core.errors import MissingFile, UserError

# What a shard may have in memory: some copies of it are made at once, by each core.
BYTES = 1 << 27
_ROW_GROUP = 32_768
_DISTINCT = {"content", "reasoning", "tool_calls", "tool_call_id", "id"}


def bits_for(size: int, rows: int) -> int:
    """Return n, where 2^n shards are to hold so many bytes of text in so many rows."""
    return max(0, -(-(size + 64 * rows) // BYTES) - 1).bit_length()


def keys(ids: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second half of ids of 32 hex digits, as uint64."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    halves = np.zeros((2, len(ids)), np.uint64)
    start = 0
    for chunk in chunks:
        if not len(chunk):
            continue
        first, last = np.frombuffer(chunk.buffers()[1], np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
        digits = memoryview(chunk.buffers()[2])[first:last]
        halves[:, start : start + len(chunk)] = (
            np.frombuffer(binascii.unhexlify(digits), ">u8").reshape(-1, 2).T
        )
        start += len(chunk)
    return halves[0], halves[1]


def number_of(first_half: np.ndarray, bits: int) -> np.ndarray:
    """Return the shard of 2^bits that ids belong to, given by the first half of `keys`."""
    if not bits:
        return np.zeros(len(first_half), np.int64)
    return (first_half >> np.uint64(64 - bits)).astype(np.int64)


def by_id(ids: pa.Array | pa.ChunkedArray, then: np.ndarray | None = None) -> np.ndarray:
    """Return the row numbers in the order of ids, equal ones in that of `then`, or as they come."""
    first, second = keys(ids)
    return np.lexsort((second, first) if then is None else (then, second, first))


def path_of(folder: Path | str, number: int) -> Path:
    """Return the file of a shard."""
    return Path(folder) / f"{number:03}.parquet"


@contextmanager
def replacing(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder to write all shards into, which then takes the place of `folder`.

    So neither what a stopped process has written passes for whole, nor do shards of an earlier run stay. What
    a killed process left is removed first. Raises UserError where the disk is full or cannot be written.
    """
    folder = Path(folder)
    temporary = folder.with_name(f".{folder.name}.partial")  # one name: other processes write into it
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        for left in temporary.glob(".*.partial"):  # by a process that was killed, whose call was made again
            left.unlink(missing_ok=True)
        if folder.is_dir():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except OSError as error:
        if isinstance(error, FileNotFoundError):  # of something else that is read or written meanwhile
            raise
        raise UserError(
            f"{folder}: cannot be written: {error.strerror or error}. "
            "Free disk space or check permissions, then run again."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(path: Path, table: pa.Table) -> None:
    """Write a shard; the same rows give the same bytes.

    By zstd's first level, and without a dictionary for texts, which are hardly ever the same.
    """
    leaves = (leaf for leaf in _leaves(table.schema) if leaf.rpartition(".")[2] not in _DISTINCT)
    with files.replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP,
            use_dictionary=list(leaves),
        )


def paths(folder: Path | str) -> list[Path]:
    """Return the files of a folder's shards, in order.

    Raises MissingFile where the folder is not there, UserError where shards of it are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFile(folder)
    found = sorted(folder.glob("*.parquet"), key=lambda path: (len(path.name), path.name))
    if [path.name for path in found] != [path_of(folder, n).name for n in range(len(found))] or (
        len(found).bit_count() != 1
    ):
        names = ", ".join(path.name for path in found[:3]) or "no file"
        raise UserError(
            f"{folder}: is not whole: of 1, 2, 4, 8, ... shards named 000.parquet and so on it has {names}"
            f"{' and others' if len(found) > 3 else ''}. Delete it and make it again."
        )
    return found


def tables(folder: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield a folder's shards, one at a time; raises as `paths` and `sft.core.files.read_parquet` do."""
    for path in paths(folder):
        yield files.read_parquet(path, list(columns) if columns is not None else None)


def read(folder: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read all of a folder's rows, or some columns of them; raises as `tables` does."""
    return pa.concat_tables(tables(folder, columns))


def count(folder: Path | str) -> int:
    """Count a folder's rows, by what the files say of themselves."""
    return sum(footer(path).num_rows for path in paths(folder))


def footer(path: Path) -> pq.FileMetaData:
    """Read what a Parquet file says of itself; raises UserError where it is none."""
    try:
        return pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: not a readable Parquet file ({error}). Delete it and fetch or make it again."
        ) from error


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the paths of a schema's leaves, as Parquet names them."""

    def below(path: str, kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield from below(f"{path}.list.element", kind.value_type)
        elif pa.types.is_struct(kind):
            for field in kind:
                yield from below(f"{path}.{field.name}", field.type)
        else:
            yield path

    return [leaf for field in schema for leaf in below(field.name, field.type)]
