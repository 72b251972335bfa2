"""Which rows are members of a mix, nested by seeded rank, and writing them."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from tqdm import tqdm

from sft.core import shards
from sft.core.errors import ParamError
from sft.core.files import read_parquet
from sft.core.params import Count, Integer, Params
from sft.core.workers import Workers
from sft.mixing.filters import FilterParams
from sft.mixing.pool import Rows, Shard

RANK = "rank"  # the column of a row's place in the mix

Compared = TypeVar("Compared")


class MixParams(Params):
    """`data`: how many rows the mix has or all, the seed that ranks them, and the filters before."""

    size: Literal["all"] | Count
    seed: Integer
    filters: FilterParams


@dataclass(frozen=True)
class Members:
    """Members of a mix in one file: the numbers of their rows, ascending, and their places in the mix."""

    path: Path
    number: np.ndarray
    rank: np.ndarray


def choose_members(pool: Sequence[Shard], size: int | Literal["all"]) -> list[list[Members]]:
    """Take the first `size` rows, or all: of base, then of extra. A smaller size is a part of a larger one.

    Returns the members of each shard, of base and of extra. Raises ParamError where there are not that many.
    """
    base = sum(len(shard.base) for shard in pool)
    extra = sum(len(shard.extra) for shard in pool)
    if size != "all" and size > base + extra:
        raise ParamError(
            f"data.size: {size:,} rows are asked for, but there are {base + extra:,} "
            f"({base:,} of base and {extra:,} of extra, after duplicates, overlap "
            f"and data.filters). Ask for {base + extra:,} at most or for all, add a source to data.extra, or "
            "loosen a filter."
        )
    most = base + extra if size == "all" else size
    of_base = _first([shard.base for shard in pool], min(most, base), 0)
    of_extra = _first([shard.extra for shard in pool], max(0, most - base), base)
    return [[one, other] for one, other in zip(of_base, of_extra, strict=True)]


def _first(parts: Sequence[Rows], size: int, before: int) -> list[Members]:
    """Return the first `size` rows by rank, with their places; `before` rows come before them.

    Parts are in the order of ids, and so are equal ranks.
    """
    order = np.argsort(np.concatenate([part.rank for part in parts]), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    members, start = [], 0
    for part in parts:
        of_part = place[start : start + len(part)]
        start += len(part)
        chosen = of_part < size
        members.append(Members(part.path, part.number[chosen], of_part[chosen] + before))
    return members


@dataclass
class Mix(Generic[Compared]):
    """A mix that was written: a hash of its members' ids, rows by source and by kind.

    `compared` is what was found by comparing the rows of each shard, in their order.
    """

    members: str
    sources: dict[str, int]
    kinds: dict[str, int]
    compared: list[Compared]


def write(
    pool: Sequence[Shard],
    members: Sequence[Sequence[Members]],
    folder: Path,
    compare: Callable[[pa.Table], Compared],
    workers: Workers,
) -> Mix[Compared]:
    """Write the mix: its members in shards by id, each with its place in the column RANK.

    The schema names all kinds that there are, with the rows that the largest mix has of each. `compare` gets
    the rows of a shard, while they are in memory.
    """
    bits = bits_of(pool, members)
    schema = _schema(pool)
    each = len(pool) >> bits  # shards of the pool in one of the mix
    jobs = [(number, members[number * each : (number + 1) * each]) for number in range(1 << bits)]
    ids, sources, kinds = xxhash.xxh3_128(), Counter[str](), Counter[str]()
    compared = []
    with shards.replacing(folder) as temporary:
        shard = partial(_write_shard, folder=temporary, schema=schema, compare=compare)
        results = workers.map(shard, jobs)
        for written in tqdm(results, total=len(jobs), desc="writing", unit="shard", delay=2, leave=False):
            ids.update("".join(written.ids.to_pylist()).encode())
            sources.update(written.sources)
            kinds.update(written.kinds)
            compared.append(written.compared)
    return Mix(ids.hexdigest(), dict(sorted(sources.items())), dict(sorted(kinds.items())), compared)


def _schema(pool: Sequence[Shard]) -> pa.Schema:
    """Return the columns of a mix, with the rows of the pool by kind."""
    parts = [pq.read_schema(path).empty_table() for path in (pool[0].base.path, pool[0].extra.path)]
    kinds = Counter[str]()
    for shard in pool:
        kinds.update(shard.base.by_kind())
        kinds.update(shard.extra.by_kind())
    schema = pa.concat_tables(parts, promote_options="permissive").schema.append(pa.field(RANK, pa.int64()))
    return schema.with_metadata({"kinds": json.dumps(kinds, sort_keys=True)})


@dataclass
class _Written(Generic[Compared]):
    """A shard of the mix that was written."""

    ids: pa.Array
    sources: Counter[str]
    kinds: Counter[str]
    compared: Compared


def bits_of(pool: Sequence[Shard], members: Sequence[Sequence[Members]]) -> int:
    """Return n, where the mix is to have 2^n shards, no more than the pool."""
    size = rows = 0
    for shard in pool:
        for part in (shard.base, shard.extra):
            footer = shards.footer(part.path)
            size += sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
            rows += footer.num_rows
    chosen = sum(len(part.number) for of_shard in members for part in of_shard)
    of_pool = len(pool).bit_length() - 1
    return min(of_pool, shards.bits_for(size * chosen // rows, 0)) if rows else 0


def _write_shard(
    job: tuple[int, Sequence[Sequence[Members]]],
    folder: Path,
    schema: pa.Schema,
    compare: Callable[[pa.Table], Compared],
) -> _Written[Compared]:
    """Write the members of shard `job[0]` of the mix, which those of several shards of the pool may be."""
    number, of_shards = job
    plain = schema.remove_metadata()
    tables = [plain.empty_table()]
    for of_shard in of_shards:
        found = [plain.empty_table(), *(_read(one) for one in of_shard if len(one.number))]
        rows = pa.concat_tables(found, promote_options="permissive").select(plain.names)
        if all(len(one.number) for one in of_shard):  # else it is in order already
            rows = rows.take(pa.array(shards.by_id(rows["id"])))
        tables.append(rows)
    table = pa.concat_tables(tables)
    shards.write(shards.path_of(folder, number), table.replace_schema_metadata(schema.metadata))
    ids = table["id"].combine_chunks()
    return _Written(ids, _counts(table["source"]), _counts(table["kind"]), compare(table))


def _read(members: Members) -> pa.Table:
    table = read_parquet(members.path)
    if len(members.number) < len(table):
        mask = np.zeros(len(table), bool)
        mask[members.number] = True
        table = table.filter(pa.array(mask))
    return table.append_column(RANK, pa.array(members.rank))


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()})
