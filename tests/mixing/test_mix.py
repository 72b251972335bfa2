"""Mixes that nest, and ranks that never change."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from sft.core.errors import UserError
from sft.core.row_schema import MESSAGES, take_rows
from sft.core.seeded_order import order, order_of_copies, ranks, units
from sft.mixing.mix import choose_members, rank_pool
from tests.imports import ROOT

GOLDEN = [
    6295828144842269385,
    12837310630989727079,
    17929656042218721857,
    745174009638979812,
    2048608854855451672,
    2334391039302092376,
]


def random_ids(rng, rows, kinds=10_000):
    """Draw ids, some of them several times."""
    return pa.chunked_array([pa.array([f"{n:032x}" for n in rng.integers(kinds, size=rows)])])


def chosen(base, extra, seed, size):
    """Return the ids of the members, base's before extra's, and how many are base's."""
    from_base, from_extra = choose_members(rank_pool(base, extra, seed), size)
    ids = base.take(pa.array(from_base)).to_pylist() + extra.take(pa.array(from_extra)).to_pylist()
    return ids, len(from_base)


def test_ranks_are_pinned():
    """A changed hash would change every mix and every hold-out: never do that unawares."""
    ids = pa.array(["a", "b", "c", "d", "e", "ä"])
    assert ranks(42, ids).tolist() == GOLDEN
    assert order(42, ids).tolist() == [int(n) for n in np.argsort(np.array(GOLDEN, np.uint64))]
    assert order(42, ids).tolist() != order(7, ids).tolist()
    assert np.all(units(42, ids) * 2.0**64 == np.array(GOLDEN, np.float64))
    assert ranks(42, pa.array([], pa.string())).shape == (0,)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_ranks_do_not_depend_on_the_process(hash_seed):
    program = """if True:
        import pyarrow as pa
        from sft.mixing.mix import choose_members, rank_pool
        ids = pa.chunked_array([[f"{n:032x}" for n in range(500)]])
        print(choose_members(rank_pool(ids.slice(0, 300), ids.slice(200), 42), 450)[1].tolist())
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ids = pa.chunked_array([[f"{n:032x}" for n in range(500)]])
    assert result.stdout.strip() == str(
        choose_members(rank_pool(ids.slice(0, 300), ids.slice(200), 42), 450)[1].tolist()
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_mix_is_the_beginning_of_a_larger(seed):
    rng = np.random.default_rng(seed)
    base, extra = random_ids(rng, 400, 500), random_ids(rng, 600, 900)
    ranked = rank_pool(base, extra, seed)
    available = len(ranked.base) + len(ranked.extra)
    whole, _ = chosen(base, extra, seed, available)
    assert len(whole) == len(set(whole)) == available
    assert set(whole) == set(base.to_pylist()) | set(extra.to_pylist())
    boundary = len(ranked.base)
    for size in [1, 7, boundary - 1, boundary, boundary + 1, available - 1, *rng.integers(1, available, 10)]:
        assert chosen(base, extra, seed, int(size)) == (whole[:size], min(size, boundary))


def test_row_order_and_sharding_change_nothing():
    rng = np.random.default_rng(0)
    base, extra = random_ids(rng, 3_000, 4_000), random_ids(rng, 3_000, 4_000)
    before = chosen(base, extra, 42, 3_000)
    for _ in range(3):
        shuffled = base.take(pa.array(rng.permutation(len(base))))
        cuts = [0, *sorted(rng.integers(0, len(base), 5)), len(base)]
        sharded = pa.chunked_array([shuffled.slice(a, b - a).combine_chunks() for a, b in pairwise(cuts)])
        assert chosen(sharded, extra.take(pa.array(rng.permutation(len(extra)))), 42, 3_000) == before


def test_another_seed_gives_another_order():
    rng = np.random.default_rng(0)
    base, extra = random_ids(rng, 500), random_ids(rng, 500)
    one, two = (chosen(base, extra, seed, 600)[0] for seed in (42, 43))
    assert one != two and set(one) != set(two)


def test_duplicates_and_overlap_are_removed_and_counted():
    base = pa.chunked_array([["a", "b", "a"], ["c", "a"]])
    extra = pa.chunked_array([["c", "d", "d"], ["e", "c", "b"]])
    ranked = rank_pool(base, extra, 42)
    assert ranked.removed == {"base_duplicates": 2, "extra_duplicates": 2, "extra_in_base": 2}
    assert sorted(ranked.base.tolist()) == [0, 1, 3]  # the first occurrence of each
    assert sorted(ranked.extra.tolist()) == [1, 3]


def test_overlap_can_be_left_in():
    base = pa.chunked_array([["a", "b", "a"], ["c", "a"]])
    extra = pa.chunked_array([["c", "d", "d"], ["e", "c", "b"]])
    ranked = rank_pool(base, extra, 42, keep_overlap=True)
    assert ranked.removed == {"base_duplicates": 2, "extra_duplicates": 2, "extra_in_base": 0}
    assert sorted(ranked.base.tolist()) == [0, 1, 3]
    assert sorted(ranked.extra.tolist()) == [0, 1, 3, 5]


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


def test_no_extra():
    base = pa.chunked_array([["a", "b"]])
    empty = pa.chunked_array([[]], pa.string())
    assert sorted(choose_members(rank_pool(base, empty, 1), 2)[0].tolist()) == [0, 1]


def test_more_rows_than_there_are():
    rng = np.random.default_rng(0)
    base, extra = random_ids(rng, 2_000, 10**9), random_ids(rng, 1_500, 10**9)
    ranked = rank_pool(base, extra, 42)
    choose_members(ranked, 3_500)
    with pytest.raises(UserError) as caught:
        choose_members(ranked, 4_000)
    message = str(caught.value)
    assert message.startswith("data.size: 4,000 rows")
    assert all(number in message for number in ("3,500", "2,000 of base", "1,500 of extra"))


def test_more_than_two_gibibytes_of_text_can_be_taken() -> None:
    """Arrow's own take overflows 32-bit offsets there. The chunks share one buffer."""
    chats = [[{"role": "user", "content": "x" * (1 << 20)}]] * 256
    text = pa.chunked_array([pa.array(chats, MESSAGES)] * 9)
    rows = take_rows(pa.table({"messages": text}), np.array([3, 2200]))
    assert [len(chat[0]["content"]) for chat in rows["messages"].to_pylist()] == [1 << 20] * 2
