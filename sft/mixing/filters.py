"""Filters of the pool: which rows are no good for training, each with its reason.

Every filter sees the whole pool, in the order of rank with base before extra, so what it removes depends on
neither data.size nor the order of the sources' rows, and mixes stay nested. A filter is a function here, its
row in `_FILTERS` and its param.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from sft.core.errors import ParamError
from sft.core.params import Count, Number, Params, Share, Text
from sft.core.seeded_order import order
from sft.mixing import word_ngrams

# The evaluation's, for the filters that compare with them.
Examples: TypeAlias = pa.Table | None

NEAREST = 0.5
# Only punctuation. Not "n/a" and "tbd" too: as answers these can be right, in a dictionary for one.
_PLACEHOLDER = r"^[\p{P}\s]*$"

REMOVED = pa.schema(
    [
        ("id", pa.string()),
        ("part", pa.string()),
        ("source", pa.string()),
        ("filter", pa.string()),
        ("reason", pa.string()),
        # The row that stays, or the evaluation example, that the row is like.
        ("match", pa.string()),
    ]
)


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
        return [name for name in _FILTERS if getattr(self, name) not in ("none", "any", "keep")]


@dataclass
class Removal:
    """The rows that a filter removes: a mask over all rows, and of those that go the reasons, for people.

    `matches` has the ids of what they are like, where the filter compares.
    """

    mask: np.ndarray
    reasons: list[str]
    matches: list[str] | None = None


def filtered(
    rows: pa.Table, params: FilterParams, seed: int, examples: Examples = None
) -> tuple[np.ndarray, pa.Table]:
    """Return the numbers of the rows that stay, and those that go as a table of REMOVED.

    `rows` has the columns messages, id, source and part, and score where min_score needs it, in the
    order in which rows are preferred. `examples` are those of the evaluation (columns prompt, references,
    id), which decontaminate needs. A row goes by the first filter that it fails: near-duplicates come last,
    so that the one that stays is one that no other filter removes.
    With `random`, the rows that go are drawn instead: of each part and source as many as the filters would
    remove.
    """
    kept = np.arange(len(rows))
    removed = [REMOVED.empty_table()]
    for name in params.active:
        kept, gone = _applied(name, rows, kept, params, examples)
        removed.append(gone)
    table = pa.concat_tables(removed)
    if params.random and len(table):
        return _drawn(rows, table, seed)
    return kept, table


def _applied(
    name: str, rows: pa.Table, kept: np.ndarray, params: FilterParams, examples: Examples
) -> tuple[np.ndarray, pa.Table]:
    """Apply one filter to the rows that are left."""
    left = rows if len(kept) == len(rows) else rows.take(pa.array(kept))
    removal = _FILTERS[name](left, params, examples)
    gone = left.filter(pa.array(removal.mask))
    matches = [None] * len(gone) if removal.matches is None else removal.matches
    columns = {
        "id": gone["id"],
        "part": gone["part"],
        "source": gone["source"],
        "filter": pa.array([name] * len(gone), pa.string()),
        "reason": pa.array(removal.reasons, pa.string()),
        "match": pa.array(matches, pa.string()),
    }
    return kept[~removal.mask], pa.table(columns, schema=REMOVED)


def _word_counts(rows: pa.Table) -> np.ndarray:
    return np.concatenate([[], *(batch.counts for batch in word_ngrams.of(rows["messages"]))]).astype(
        np.int64
    )


def _too_short(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
    counts = _word_counts(rows)
    gone = counts < int(params.min_words)
    return Removal(gone, [f"{count} words" for count in counts[gone]])


def _too_long(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
    counts = _word_counts(rows)
    gone = counts > int(params.max_words)
    return Removal(gone, [f"{count} words" for count in counts[gone]])


def _low_score(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
    scores = rows["score"].to_numpy()
    gone = scores < float(params.min_score)  # false for a row without a score
    return Removal(gone, [f"score {score:g}" for score in scores[gone]])


def _placeholders(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
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


def _languages(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
    from sft.mixing.language_id import other_languages

    others = other_languages(rows["messages"], params.languages)
    gone = others != ""
    return Removal(gone, [f"language {code}" for code in others[gone]])


def _contaminated(rows: pa.Table, params: FilterParams, examples: Examples) -> Removal:
    from sft.mixing.decontamination import contaminated

    assert examples is not None, "decontaminate is on, but no evaluation examples were handed in"
    held = contaminated(rows["messages"], examples, int(params.decontaminate))
    reasons = [f"holds {share:.2f} of an evaluation example" for share in held.share[held.removed]]
    return Removal(held.removed, reasons, held.example[held.removed].tolist())


def _near_duplicates(rows: pa.Table, params: FilterParams, _: Examples) -> Removal:
    from sft.mixing.near_duplicates import near_duplicates

    match, similarity = near_duplicates(rows["messages"], float(params.near_duplicates))
    gone = match >= 0
    matches = rows["id"].take(pa.array(match[gone])).to_pylist()
    return Removal(gone, [f"Jaccard similarity {value:.3f}" for value in similarity[gone]], matches)


_FILTERS: dict[str, Callable[[pa.Table, FilterParams, Examples], Removal]] = {
    "min_words": _too_short,
    "max_words": _too_long,
    "min_score": _low_score,
    "placeholders": _placeholders,
    "languages": _languages,
    "decontaminate": _contaminated,
    "near_duplicates": _near_duplicates,
}


def _drawn(rows: pa.Table, removed: pa.Table, seed: int) -> tuple[np.ndarray, pa.Table]:
    """Draw of each part and source as many rows as `removed` has of it, by a hash of their ids."""
    counts = removed.group_by(["part", "source"]).aggregate([([], "count_all")]).to_pylist()
    left = {(entry["part"], entry["source"]): entry["count_all"] for entry in counts}
    keys = list(zip(rows["part"].to_pylist(), rows["source"].to_pylist(), strict=True))
    gone = np.zeros(len(rows), bool)
    for row in order(f"{seed}:random", rows["id"]).tolist():
        if left.get(keys[row], 0):
            left[keys[row]] -= 1
            gone[row] = True
    table = rows.filter(pa.array(gone)).select(["id", "part", "source"])
    table = table.append_column("filter", pa.array(["random"] * len(table), pa.string()))
    reason = "drawn in place of a row that the filters would remove"
    table = table.append_column("reason", pa.array([reason] * len(table), pa.string()))
    return np.flatnonzero(~gone), table.append_column("match", pa.nulls(len(table), pa.string())).cast(
        REMOVED
    )
