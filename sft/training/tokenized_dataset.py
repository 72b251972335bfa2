"""Reading rows in seeded order as far as the budget goes, tokenizing what is read.

Every trainer looked at tokenizes the whole set first; 60 steps need not tokenize 300,000 rows. Nor need they
be in memory: the rows that come next are fetched in blocks.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from sft.core.errors import UserError
from sft.training.budget import Budget, Reading
from sft.training.kind_rows import KindRows
from sft.training.mixture import Turns
from sft.training.refusals import Refusals
from sft.training.stored_rows import Blocks, StoredRows
from sft.training.tokenizing import RowShape, Tokenized, Tokenizing, cores

CHUNK = 256  # rows turned into Python objects at a time
# From this many rows on it pays to start processes: one core tokenizes some 1,000 short rows a second.
SHARED_OUT = 2000

ALL = ""  # in place of a kind's name, where rows are read as the mix has them


def read(
    mix: StoredRows,
    budget: Budget,
    tokenizer: Any,
    shape: RowShape,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> Reading:
    """Tokenize rows of `mix` by hash(seed, epoch, id) until the usable ones meet the budget.

    With `weights` each kind's rows are read in that order, and kinds take turns by their weights (Turns):
    shares are of usable rows. Rows of kinds without a weight are not read. When the rows, or those of a
    kind, are used up, their next epoch begins, in another order.
    Many rows are shared out to all cores, with the same result: to forked processes, so call it before a
    model is loaded, whose threads and whose GPU are not for them. Raises UserError where no row, or none of
    a kind, is usable in a whole epoch.
    """
    return _Reader(mix, "mix rows", budget, tokenizer, shape, seed, weights, endless=True).read()


def read_validation(
    held_out: StoredRows,
    rows: int,
    tokenizer: Any,
    shape: RowShape,
    seed: int,
    weights: Mapping[str, float] | None = None,
) -> Reading:
    """Tokenize rows of `held_out`, in the order of training's first epoch, until `rows` are usable.

    No row is read twice: where a kind is used up the others go on, and there may be fewer rows. Raises
    UserError where none is usable.
    """
    budget = Budget(rows, "rows")
    reader = _Reader(held_out, "validation rows", budget, tokenizer, shape, seed, weights, endless=False)
    return reader.read()


class _Reader:
    """One reading of rows: once, or epoch after epoch if it is `endless`."""

    def __init__(
        self,
        stored: StoredRows,
        name: str,
        budget: Budget,
        tokenizer: Any,
        shape: RowShape,
        seed: int,
        weights: Mapping[str, float] | None,
        endless: bool,
    ) -> None:
        self.name, self.size, self.endless = name, len(stored), endless
        self.budget, self.shape = budget, shape
        self.reading = Reading()
        self.tokenizing = Tokenizing(tokenizer, shape)
        self.blocks = Blocks(stored)
        ids, kinds = stored.index["id"], stored.index["kind"]
        places = {kind: _places(kinds, kind) for kind in weights or ()} or {ALL: np.arange(self.size)}
        self.of_kind = {
            kind: KindRows(found, ids, seed, itertools.count() if endless else range(1))
            for kind, found in places.items()
            if len(found)
        }
        self.turns = Turns({kind: weights[kind] if weights else 1.0 for kind in self.of_kind})
        self.patience = max(10_000, 20 * self._rows_left())  # rows of a kind without a usable one
        self.coming: Iterator[tuple[str, list[Tokenized]]] = iter(())

    def read(self) -> Reading:
        """Read until the budget is met, or no row is left."""
        total = None if self.budget.unit == "tokens" else self._rows_left()
        progress = tqdm(total=total, desc=f"tokenizing {self.name}", unit="row", mininterval=1)
        with self.tokenizing, progress:
            while not self._met() and (kind := self.turns.take()) is not None:
                progress.update(self._read_one(kind))
        if not self.reading.rows:
            reading = self.reading
            raise self._unusable(self.name, self.size, reading.dropped, reading.refusals)
        return self.reading

    def _met(self) -> bool:
        return self.budget.met(self.reading, self.size)

    def _rows_left(self) -> int:
        return self.budget.rows_left(self.reading, self.size, self.shape.max_length)

    def _read_one(self, kind: str) -> bool:
        """Read on to the kind's next usable row; tell whether there is one before the budget is met."""
        rows, reading = self.of_kind[kind], self.reading
        while (tokenized := self._next(kind)) is not None:
            reading.passed += 1
            if not isinstance(tokenized.row, str):
                reading.rows.append(tokenized.row)
                reading.ids.append(tokenized.id)
                reading.kinds.append(tokenized.kind)
                reading.tokens += len(tokenized.row["input_ids"])
                reading.truncated += tokenized.truncated
                reading.thoughtless_turns += tokenized.thoughtless_turns
                rows.usable = True
                return True
            reading.dropped[tokenized.row] += 1
            if tokenized.refusal:
                reading.refusals.add(tokenized.id, tokenized.refusal)
                rows.refusals.add(tokenized.id, tokenized.refusal)
            rows.left_out[tokenized.row] += 1
            passed = rows.left_out.total()
            if self.endless and not rows.usable and passed >= min(rows.size, self.patience):
                name = f"{self.name} of kind {kind}" if kind else self.name
                left_out = {**dict.fromkeys(reading.dropped, 0), **rows.left_out}
                raise self._unusable(name, rows.size, left_out, rows.refusals)
            if self._met():
                return False
        self.turns.leave_out(kind)
        return False

    def _next(self, kind: str) -> Tokenized | None:
        """Return the kind's next row, tokenized now if it has not been; None where no epoch is left."""
        rows = self.of_kind[kind]
        if not rows.block and not rows.tokenized and not self._received(kind):
            self._go_on(kind)
        if rows.block:
            return self.tokenizing.tokenize(rows.block.popleft())
        return rows.tokenized.popleft() if rows.tokenized else None

    def _go_on(self, kind: str) -> None:
        """Take more rows of this kind; have other processes tokenize them and what follows if it is much."""
        rows, left = self.of_kind[kind], self._rows_left()
        ready = Counter({name: len(of.block) + len(of.tokenized) for name, of in self.of_kind.items()})
        many = cores() > 1 and left - ready.total() >= SHARED_OUT
        coming = sum(len(of.coming) for of in self.of_kind.values())
        if not len(rows.coming) or (many and 2 * coming < min(left, self.blocks.most)):
            self._fetch(kind, left)
        if not many:
            rows.block.extend(self.blocks.rows(rows.take(CHUNK)).to_pylist())
            return
        parts = list(self._parts([kind, *self.turns.ahead(min(left, self.blocks.most) - 1)], ready))
        tables = (self.blocks.rows(places) for _, places in parts)
        self.coming = zip((of for of, _ in parts), self.tokenizing.shared_out(tables), strict=True)
        self._received(kind)

    def _fetch(self, kind: str, left: int) -> None:
        """Fetch the rows whose turns come next, this kind's first."""
        turns = Counter([kind, *self.turns.ahead(self.blocks.next_size(left) - 1)])
        for name, rows in turns.items():
            self.of_kind[name].look_ahead(rows)
        self.blocks.fetch(np.concatenate([of.coming for of in self.of_kind.values()]))

    def _parts(self, turns: list[str], ready: Counter[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Cut what is fetched of these turns' rows, less those that are ready, into parts of a kind each."""
        gathered: Counter[str] = Counter()
        for kind in turns:
            rows = self.of_kind[kind]
            if ready[kind] > 0:
                ready[kind] -= 1
            elif gathered[kind] < len(rows.coming):
                gathered[kind] += 1
                if gathered[kind] == CHUNK:
                    yield kind, rows.take(gathered.pop(kind))
        for kind, count in gathered.items():
            yield kind, self.of_kind[kind].take(count)

    def _received(self, kind: str) -> bool:
        """Take what other processes have tokenized until it is of this kind; tell whether any is."""
        for other, tokenized in self.coming:
            self.of_kind[other].tokenized.extend(tokenized)
            if self.of_kind[kind].tokenized:
                return True
        return False

    def _unusable(self, name: str, rows: int, left_out: Mapping[str, int], refusals: Refusals) -> UserError:
        """Say of what none is usable, and what to do about the most frequent reason."""
        length = f"train.max_length (now {self.shape.max_length})"
        advice = {
            "too_long": f"Raise {length}, or set train.too_long to truncate.",
            "no_loss_tokens": f"Raise {length} if their answers begin after it; else look at the rows: "
            "their answers are empty, or marked as not to be trained on.",
            "refused_by_template": refusals.advised() if refusals.total() else "",
        }
        lines = "".join(f"\n  {line}" for line in refusals.lines())
        most = max(left_out, key=lambda reason: left_out[reason])
        return UserError(
            f"none of the {rows:,} {name} can be trained on: {dict(left_out)}.{lines}\n{advice[most]}"
        )


def _places(kinds: pa.ChunkedArray, kind: str) -> np.ndarray:
    # Arrow's are unsigned, and NumPy makes floats of both kinds together.
    return pc.indices_nonzero(pc.equal(kinds, kind)).to_numpy().astype(np.int64)
