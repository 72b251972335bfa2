"""The filters' control: as many rows as they remove, drawn at random."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from sft.core.seeded_order import ranks
from sft.mixing.near_duplicates import Map, Shard
from sft.mixing.removal import Removal


def drawn(shards: Sequence[Shard], removed: list[pa.Table], seed: int, map: Map) -> list[pa.Table]:
    """Draw of each part and source as many rows as `removed` has of it, by a hash of their ids."""
    counts: Counter[tuple[str, str]] = Counter()
    for table in removed:
        for entry in table.group_by(["part", "source"]).aggregate([([], "count_all")]).to_pylist():
            counts[entry["part"], entry["source"]] += entry["count_all"]
    ranks = list(map(partial(_ranks, seed=seed, keys=set(counts)), shards))
    last = {}
    for key, count in counts.items():
        of_key = np.concatenate([found[key] for found in ranks if key in found])
        last[key] = np.partition(of_key, count - 1)[count - 1]
    return list(map(partial(_first, seed=seed, last=last), shards))


def _of_each(rows: pa.Table) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Yield each part and source that rows have, and the numbers of these rows."""
    encoded = [rows[name].combine_chunks().dictionary_encode() for name in ("part", "source")]
    part, source = (of.indices.to_numpy() for of in encoded)
    for p, s in sorted(set(zip(part.tolist(), source.tolist(), strict=True))):
        key = encoded[0].dictionary[p].as_py(), encoded[1].dictionary[s].as_py()
        yield key, np.flatnonzero((part == p) & (source == s))


def _ranks(shard: Shard, seed: int, keys: set[tuple[str, str]]) -> dict[tuple[str, str], np.ndarray]:
    rows = shard.read().select(["id", "part", "source"])
    found = ranks(f"{seed}:random", rows["id"])
    return {key: found[at] for key, at in _of_each(rows) if key in keys}


def _first(shard: Shard, seed: int, last: dict[tuple[str, str], np.uint64]) -> pa.Table:
    """Remove of each part and source the rows up to a rank (two of one rank, of 2^64, would go together)."""
    rows = shard.read().select(["id", "part", "source"])
    found = ranks(f"{seed}:random", rows["id"])
    gone = np.zeros(len(rows), bool)
    for key, at in _of_each(rows):
        if key in last:
            gone[at] = found[at] <= last[key]
    reason = "drawn in place of a row that the filters would remove"
    return Removal(gone, [reason] * int(gone.sum())).table("random", rows)
