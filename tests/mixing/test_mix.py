"""Mixes that nest, and ranks that never change."""

import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from sft.core import shards
from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES, take_rows
from sft.core.seeded_order import order, order_of_copies, ranks, units
from sft.core.workers import LocalWorkers
from sft.mixing.mix import choose_members, write
from sft.mixing.pool import Files, Rows, Shard, rank_shard

GOLDEN = [
    6295828144842269385,
    12837310630989727079,
    17929656042218721857,
    745174009638979812,
    2048608854855451672,
    2334391039302092376,
]


def random_ids(rng: np.random.Generator, rows: int, kinds: int = 10_000) -> list[str]:
    """Draw ids, some of them several times, evenly over all that there can be."""
    return [xxhash.xxh3_128_hexdigest(str(n).encode()) for n in rng.integers(kinds, size=rows)]


def files(folder: Path, base: list[str], extra: list[str], bits: int = 0) -> list[Files]:
    """Write rows with these ids in shards; `source` tells an id's copies apart."""
    for name, ids in (("base", base), ("extra", extra)):
        ids_of = pa.array(ids, pa.string())
        table = pa.table(
            {"id": ids_of, "source": [f"{n}" for n in range(len(ids))], "kind": ["k"] * len(ids)}
        )
        table = table.take(pa.array(shards.by_id(ids_of)))
        number = shards.number_of(shards.keys(table["id"])[0], bits)
        (folder / name).mkdir(exist_ok=True, parents=True)
        for shard in range(1 << bits):
            shards.write(shards.path_of(folder / name, shard), table.filter(pa.array(number == shard)))
    paths = [shards.paths(folder / name) for name in ("base", "extra")]
    return [Files(one, other) for one, other in zip(*paths, strict=True)]


def ranked(of: list[Files], seed: int, keep_overlap: bool = False) -> list[Shard]:
    return [rank_shard(one, seed, keep_overlap) for one in of]


def chosen(of: list[Files], seed: int, size: int | Literal["all"]) -> tuple[list[str], int]:
    """Write a mix; return the ids of its members by rank, base's before extra's, and how many are base's."""
    pool = ranked(of, seed)
    members = choose_members(pool, size)
    folder = of[0].base.parent.parent / "mix"
    shutil.rmtree(folder, ignore_errors=True)
    mix = write(pool, members, folder, len, LocalWorkers())
    rows = shards.read(folder)
    ids = rows["id"].to_pylist()
    assert ids == sorted(ids) and sum(mix.compared) == len(ids)
    assert mix.members == xxhash.xxh3_128_hexdigest("".join(ids).encode())
    rows = rows.sort_by("rank")
    assert rows["rank"].to_pylist() == list(range(len(rows)))
    return rows["id"].to_pylist(), sum(len(base.number) for base, _ in members)


def test_ranks_are_pinned():
    """A changed hash would change every mix and every hold-out: never do that unawares."""
    ids = pa.array(["a", "b", "c", "d", "e", "ä"])
    assert ranks(42, ids).tolist() == GOLDEN
    assert order(42, ids).tolist() == [int(n) for n in np.argsort(np.array(GOLDEN, np.uint64))]
    assert order(42, ids).tolist() != order(7, ids).tolist()
    assert np.all(units(42, ids) * 2.0**64 == np.array(GOLDEN, np.float64))
    assert ranks(42, pa.array([], pa.string())).shape == (0,)


@pytest.mark.parametrize("seed", range(3))
def test_a_smaller_mix_is_the_beginning_of_a_larger(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, extra = random_ids(rng, 400, 500), random_ids(rng, 600, 900)
    of = files(tmp_path, base, extra, bits=seed)
    boundary = len(set(base))
    whole, _ = chosen(of, seed, "all")
    assert len(whole) == len(set(whole)) and set(whole) == {*base, *extra}
    for size in [1, 7, boundary - 1, boundary, boundary + 1, len(whole) - 1, *rng.integers(1, len(whole), 3)]:
        assert chosen(of, seed, int(size)) == (whole[:size], min(size, boundary))


def test_row_order_and_sharding_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they change a byte, where there are as many shards of the mix."""
    rng = np.random.default_rng(0)
    base, extra = random_ids(rng, 3_000, 4_000), random_ids(rng, 3_000, 4_000)
    before = chosen(files(tmp_path / "0", base, extra), 42, 3_000)
    written = (tmp_path / "0/mix/000.parquet").read_bytes()
    for bits in (1, 3):
        shuffled = [base[n] for n in rng.permutation(len(base))]
        assert chosen(files(tmp_path / f"{bits}", shuffled, extra[::-1], bits), 42, 3_000) == before
        rows = pq.read_table(tmp_path / f"{bits}/mix/000.parquet").drop_columns(["source"])
        assert rows.equals(pq.read_table(pa.BufferReader(written)).drop_columns(["source"]))
    monkeypatch.setattr(shards, "BYTES", 1 << 16)
    assert chosen(files(tmp_path / "3", base, extra, 3), 42, 3_000) == before
    assert len(shards.paths(tmp_path / "3/mix")) == 4
    firsts = [table["id"][0].as_py()[0] for table in shards.tables(tmp_path / "3/mix")]
    assert [int(digit, 16) >> 2 for digit in firsts] == [0, 1, 2, 3]


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    of = files(tmp_path, random_ids(rng, 500), random_ids(rng, 500))
    one, two = (chosen(of, seed, 600)[0] for seed in (42, 43))
    assert one != two and set(one) != set(two)


A, B, C, D, E = (character * 32 for character in "abcde")


def sources_of(parts: list[Rows]) -> list[str]:
    tables = [pq.read_table(part.path)["source"].take(pa.array(part.number)) for part in parts]
    return [source for column in tables for source in column.to_pylist()]


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("keep", [False, True])
def test_duplicates_and_overlap_are_removed_and_counted(tmp_path: Path, bits: int, keep: bool) -> None:
    of = files(tmp_path, [A, B, A, C, A], [C, D, D, E, C, B], bits)
    pool = ranked(of, 42, keep)
    counts = sum((shard.counts for shard in pool), Counter())
    assert counts == Counter(base_duplicates=2, extra_duplicates=2, extra_in_base=0 if keep else 2)
    left = {
        name: [
            row
            for shard in pool
            for row in pq.read_table(getattr(shard, name).path)
            .take(pa.array(getattr(shard, name).number))
            .to_pylist()
        ]
        for name in ("base", "extra")
    }
    # The first of each in the order of the sources.
    assert [row["source"] for row in left["base"]] == ["0", "1", "3"]
    assert [row["source"] for row in left["extra"]] == (["5", "0", "1", "3"] if keep else ["1", "3"])
    removed = pa.concat_tables([shard.removed for shard in pool]).to_pylist()
    names = Counter((row["part"], row["filter"], row["id"]) for row in removed)
    assert all(row["match"] == row["id"] for row in removed)
    assert names == {
        ("base", "base_duplicates", A): 2,
        ("extra", "extra_duplicates", C): 1,
        ("extra", "extra_duplicates", D): 1,
        **({} if keep else {("extra", "extra_in_base", B): 1, ("extra", "extra_in_base", C): 1}),
    }


def test_copies_lie_apart_where_training_reads():
    rng = np.random.default_rng(0)
    ids = [f"{n:032x}" for n in range(1_000)]
    copies = pa.array([*ids, *ids[:300], *ids[:50]])
    places = order_of_copies(42, copies)
    assert sorted(places.tolist()) == list(range(1_350))
    read = copies.take(pa.array(places)).to_pylist()
    assert sum(one == two for one, two in pairwise(read)) < 5
    assert order_of_copies(42, pa.array(ids)).tolist() == order(42, pa.array(ids)).tolist()
    shuffled = copies.take(pa.array(rng.permutation(1_350)))
    assert shuffled.take(pa.array(order_of_copies(42, shuffled))).to_pylist() == read


def test_no_extra(tmp_path: Path) -> None:
    assert sorted(chosen(files(tmp_path, [A, B], []), 1, 2)[0]) == [A, B]


def test_more_rows_than_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pool = ranked(files(tmp_path, random_ids(rng, 2_000, 10**9), random_ids(rng, 1_500, 10**9)), 42)
    choose_members(pool, 3_500)
    with pytest.raises(UserError) as caught:
        choose_members(pool, 4_000)
    message = str(caught.value)
    assert message.startswith("data.size: 4,000 rows")
    assert all(number in message for number in ("3,500", "2,000 of base", "1,500 of extra"))


def test_more_than_two_gibibytes_of_text_can_be_taken() -> None:
    """Arrow's own take overflows 32-bit offsets there. The chunks share one buffer."""
    chats = [[{"role": "user", "content": "x" * (1 << 20)}]] * 256
    text = pa.chunked_array([pa.array(chats, MESSAGES)] * 9)
    rows = take_rows(pa.table({"messages": text}), np.array([3, 2200]))
    assert [len(chat[0]["content"]) for chat in rows["messages"].to_pylist()] == [1 << 20] * 2
