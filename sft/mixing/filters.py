"""Filters of the pool: which rows are no good for training, each with its reason.

Every filter sees the whole pool, in the order of rank with base before extra, so what it removes depends on
neither data.size nor the order of the sources' rows, and mixes stay nested. Rows come in shards, of which a
process has one in memory at a time. A filter is a function here, its row in `_FILTERS` and its param; those
that compare rows with others are in their own modules.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from sft.core.errors import ParamError
from sft.core.params import Count, Number, Params, Share, Text
from sft.mixing import word_ngrams
from sft.mixing.decontamination import Texts
from sft.mixing.near_duplicates import Map, Shard, find
from sft.mixing.random_removal import drawn
from sft.mixing.removal import REMOVED, Removal, removed

# The evaluation's, for the filters that compare with them.
Examples: TypeAlias = pa.Table | None

NEAREST = 0.5
# Only punctuation. Not "n/a" and "tbd" too: as answers these can be right, in a dictionary for one.
_PLACEHOLDER = r"^[\p{P}\s]*$"


class FilterParams(Params):
    """`data.filters`: what rows must have to stay.

    `overlap` is not for `filtered`: mixing removes it with the exact duplicates, before.
    """

    overlap: Literal["remove", "keep"]
    min_words: Literal["none"] | Count
    max_words: Literal["none"] | Count
    min_score: Literal["none"] | Number
    placeholders: Literal["keep", "remove"]
    languages: Literal["any"] | list[Text]
    decontaminate: Literal["none"] | Count
    near_duplicates: Literal["none"] | Share
    random: bool

    @model_validator(mode="after")
    def _check(self) -> Self:
        numbers = isinstance(self.min_words, int) and isinstance(self.max_words, int)
        if numbers and self.min_words > self.max_words:  # type: ignore[operator]
            raise ParamError(
                f"data.filters.min_words: {self.min_words} is more than "
                f"data.filters.max_words, {self.max_words}. No row can be both."
            )
        if self.near_duplicates != "none" and self.near_duplicates < NEAREST:
            raise ParamError(
                f"data.filters.near_duplicates: {self.near_duplicates} is below {NEAREST}: rows "
                f"so unlike are no near-duplicates. Give a number from {NEAREST} to 1, such as 0.8, or none."
            )
        if self.languages != "any" and not self.languages:
            raise ParamError("data.filters.languages: the list is empty. Name one code, such as en, or any.")
        return self

    @property
    def active(self) -> list[str]:
        """The filters that are on, in the order in which they apply."""
        return [name for name in _ORDER if getattr(self, name) not in ("none", "any", "keep")]


@dataclass
class _Left:
    """What filters leave of a shard: the numbers of its rows that stay, and those that go, of REMOVED.

    `counts`: in how many of those that stay evaluation texts' runs are.
    """

    rows: np.ndarray
    removed: pa.Table
    counts: np.ndarray | None = None


def filtered(
    shards: Sequence[Shard],
    params: FilterParams,
    seed: int,
    examples: Examples = None,
    map: Map = map,
    scratch: Path | None = None,
) -> list[pa.Table]:
    """Return of each shard the rows that go, as a table of REMOVED.

    A shard's rows have the columns messages, id, source, part and rank, and score where min_score needs it;
    they are distinct by part and id, and preferred in the order of part (base first), rank and id. `examples`
    are those of the evaluation (columns prompt, references, id), which decontaminate needs. A row goes by the
    first filter that it fails: near-duplicates come last, so that the one that stays is one that no other
    filter removes. With `random`, the rows that go are drawn instead: of each part and source as many as the
    filters would remove.

    `map` calls a function on each shard, in several processes or here. They share the folder `scratch`, where
    near_duplicates has its files for the time; without one, the system's for temporary files.
    """
    kept: list[np.ndarray | None] = [None] * len(shards)
    gone = [REMOVED.empty_table()] * len(shards)
    if set(params.active) - {"near_duplicates"}:
        left = _without_near(shards, params, examples, map)
        kept, gone = [of.rows for of in left], [of.removed for of in left]
    if params.near_duplicates != "none":
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            found = find(shards, kept, params.near_duplicates, map, Path(folder))
        gone = [pa.concat_tables([of, _repeating(near)]) for of, near in zip(gone, found, strict=True)]
    if params.random:
        return drawn(shards, gone, seed, map)
    return gone


def _without_near(shards: Sequence[Shard], params: FilterParams, examples: Examples, map: Map) -> list[_Left]:
    """Apply all filters but near_duplicates."""
    texts = None
    if params.decontaminate != "none":
        assert examples is not None, "decontaminate is on, but no evaluation examples were handed in"
        texts = Texts.of(examples, params.decontaminate)
    if params.languages != "any":
        from sft.mixing.language_id import check

        check(params.languages)
    left = list(map(partial(_by_itself, params=params, texts=texts), shards))
    if texts is None:
        return left
    counts = np.sum([of.counts for of in left], axis=0)
    rows = sum(len(of.rows) for of in left)
    items = list(zip(shards, left, strict=True))
    return list(map(partial(_decontaminated, texts=texts, counts=counts, of=rows), items))


def _by_itself(shard: Shard, params: FilterParams, texts: Texts | None) -> _Left:
    """Apply the filters that look at one row at a time; count what the rows that stay have of `texts`."""
    rows = shard.read()
    kept, gone = np.arange(len(rows), dtype=np.int32), [REMOVED.empty_table()]
    for name in params.active:
        if name in _FILTERS:
            removal = _FILTERS[name](rows, params)
            gone.append(removal.table(name, rows))
            if removal.mask.any():
                kept, rows = kept[~removal.mask], rows.filter(pa.array(~removal.mask))
    counts = None if texts is None else texts.count(rows["messages"])
    return _Left(kept, pa.concat_tables(gone), counts)


def _decontaminated(item: tuple[Shard, _Left], texts: Texts, counts: np.ndarray, of: int) -> _Left:
    """Remove the rows that hold an example's text, by how many of all rows have what."""
    shard, left = item
    rows = shard.read()
    if len(left.rows) < len(rows):
        rows = rows.take(pa.array(left.rows))
    held = texts.contaminated(rows["messages"], counts, of)
    reasons = [f"holds {share:.2f} of an evaluation example" for share in held.share[held.removed]]
    removal = Removal(held.removed, reasons, held.example[held.removed].tolist())
    gone = pa.concat_tables([left.removed, removal.table("decontaminate", rows)])
    return _Left(left.rows[~held.removed], gone)


def _repeating(found: pa.Table) -> pa.Table:
    reasons = [f"Jaccard similarity {value:.3f}" for value in found["similarity"].to_pylist()]
    return removed("near_duplicates", found, reasons, found["match"])


def _too_short(rows: pa.Table, params: FilterParams) -> Removal:
    counts = word_ngrams.counts(rows["messages"])
    gone = counts < int(params.min_words)
    return Removal(gone, [f"{count} words" for count in counts[gone]])


def _too_long(rows: pa.Table, params: FilterParams) -> Removal:
    counts = word_ngrams.counts(rows["messages"])
    gone = counts > int(params.max_words)
    return Removal(gone, [f"{count} words" for count in counts[gone]])


def _low_score(rows: pa.Table, params: FilterParams) -> Removal:
    scores = rows["score"].to_numpy()
    gone = scores < float(params.min_score)  # false for a row without a score
    return Removal(gone, [f"score {score:g}" for score in scores[gone]])


def _placeholders(rows: pa.Table, params: FilterParams) -> Removal:
    flags = []
    for batch in rows.select(["messages"]).to_batches(max_chunksize=16_384):
        messages = batch["messages"]
        flat = messages.flatten()
        content = pc.fill_null(flat.field("content"), "")
        says = pc.invert(pc.match_substring_regex(content, _PLACEHOLDER))
        says = pc.or_(says, pc.is_valid(flat.field("tool_calls")))
        answers = pc.and_(pc.equal(flat.field("role"), "assistant"), says)
        of_row = np.repeat(np.arange(len(batch)), pc.list_value_length(messages).to_numpy())
        flags.append(np.bincount(of_row, answers.to_numpy(zero_copy_only=False), len(batch)) == 0)
    gone = np.concatenate([np.zeros(0, bool), *flags])
    return Removal(gone, ["no answer says anything"] * int(gone.sum()))


def _languages(rows: pa.Table, params: FilterParams) -> Removal:
    from sft.mixing.language_id import other_languages

    others = other_languages(rows["messages"], params.languages)
    gone = others != ""
    return Removal(gone, [f"language {code}" for code in others[gone]])


# Those that look at one row at a time.
_FILTERS: dict[str, Callable[[pa.Table, FilterParams], Removal]] = {
    "min_words": _too_short,
    "max_words": _too_long,
    "min_score": _low_score,
    "placeholders": _placeholders,
    "languages": _languages,
}
_ORDER = (*_FILTERS, "decontaminate", "near_duplicates")
