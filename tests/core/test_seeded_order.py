"""Orders by seeded rank, against the plainest way to make them; tests/mixing/test_mix.py pins the hash."""

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from sft.core import seeded_order
from sft.core.seeded_order import order, order_of_copies, ranks
from tests.fuzzing import cases

TEXTS = st.lists(st.text(max_size=3) | st.sampled_from(["a", "b", "ab"]), max_size=30)


def plain(seed, texts, copies):
    """Sort the row numbers by the hash of the seed and the id, in Python."""
    met = {}
    keys = []
    for row, text in enumerate(texts):
        number = met.setdefault(text, 0)
        met[text] += 1
        name = f"{seed}:{text}:{number}" if number and copies else f"{seed}:{text}"
        keys.append((xxhash.xxh3_64_intdigest(name.encode()), text, row))
    return [row for _, _, row in sorted(keys)]


@cases(0.3)
@given(TEXTS, st.integers(0, 3), st.integers(1, 9))
def test_orders_are_the_plain_ones(texts, seed, chunk):
    """Whatever the chunks in which the ids come, and those in which they are hashed."""
    ids = pa.chunked_array([pa.array(texts[:chunk], pa.string()), pa.array(texts[chunk:], pa.string())])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeded_order, "CHUNK", chunk)
        assert order(seed, ids).tolist() == plain(seed, texts, copies=False)
        assert order_of_copies(seed, ids).tolist() == plain(seed, texts, copies=True)
        assert ranks(seed, ids).tolist() == ranks(seed, ids.cast(pa.large_string())).tolist()


@cases(0.3)
@given(TEXTS, st.integers(0, 3))
def test_equal_ranks_go_by_id_then_by_row(texts, seed):
    """Of 64 bits no two ids' are equal in a lifetime: here of two bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeded_order.xxhash, "xxh3_64_intdigest", lambda text: len(text) % 4)
        assert order(seed, pa.array(texts, pa.string())).tolist() == plain(seed, texts, copies=False)
