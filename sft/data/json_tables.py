"""Parsed JSON objects to Arrow tables, where Arrow's own JSON reader cannot: arrays, mixed types, tools."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from sft.core.errors import UserError
from sft.data.columns import LABELS, TOOLS, short
from sft.data.flags import Verdicts
from sft.data.json_blocks import Block, many_objects
from sft.data.json_columns import Column
from sft.data.layouts import label_columns
from sft.data.limits import COLUMNS
from sft.data.raw_rows import Raw

# Their values are kept as JSON, for Arrow would give every object the keys of all others.
_AS_JSON = frozenset(TOOLS)
Values = dict[str, tuple[pa.Array, dict[int, str]] | None]


@dataclass
class Shape:
    """What the objects of a file have in common: their columns, and the label column that holds verdicts."""

    columns: dict[str, Column] = field(default_factory=dict)
    label: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return pa.schema([(name, column.kind) for name, column in self.columns.items()])

    def table(self, block: Block) -> Raw:
        """Return a block's rows, and by column and position the text of values that do not fit its type."""
        with many_objects():
            values: Values = {
                name: column.array([row.get(name) for row in block.rows])
                for name, column in self.columns.items()
            }
        return _raw(block, values)


def learn(blocks: Callable[[], Iterator[Block]], keep: int, label: str) -> tuple[Shape, list[Raw] | None]:
    """Pass over a file, mostly once, until it is known what its objects have in common.

    Returns its rows too where they have no more than `keep` bytes, so that they need not be parsed again.
    Raises UserError where its rows have too many keys.
    """
    shape = Shape()
    while True:
        raws: list[Raw] | None = []
        size, is_told = 0, True
        verdicts: dict[str, Verdicts] = {}
        for block in blocks():
            _meet(shape, block, label)
            with many_objects():
                values = {
                    name: column.look([row.get(name) for row in block.rows])
                    for name, column in shape.columns.items()
                }
            for name in (name for name in values if name.lower() in LABELS):
                if (found := values[name]) is None:
                    is_told = False
                else:
                    verdicts.setdefault(name, Verdicts()).look(found[0])
            if raws is not None:
                raws = None if None in values.values() else [*raws, _raw(block, values)]
            size += block.size
            if raws is not None and sum(raw.table.nbytes for raw in raws) > keep:
                raws = None
        # Each column's pass is ended, whatever the others say.
        ended = [column.end() for column in shape.columns.values()]
        if all(ended) and is_told:
            shape.label = next((name for name in label_columns(shape.schema) if verdicts.get(name)), None)
            return shape, conformed_all(raws, shape.schema)


def _meet(shape: Shape, block: Block, label: str) -> None:
    """Add the columns that are new in a block."""
    names = dict.fromkeys(key for row in block.rows for key in row)
    new = [name for name in names if name not in shape.columns]
    if not new:
        return
    names = dict.fromkeys([*shape.columns, *new])
    if len(names) > COLUMNS:
        shown = ", ".join(short(name) for name in list(names)[:3])
        raise UserError(
            f"{label}: its rows have {len(names):,} keys in sum ({shown}, ...), and {COLUMNS:,} at most are "
            "read. All rows should have the same keys: what is keyed by an id goes into a value."
        )
    shape.columns |= {name: Column(name, as_json=name.lower() in _AS_JSON) for name in new}
    if any(name.lower() == "query" for name in names):
        for column in shape.columns.values():
            if column.name.lower() == "answers" and not column.as_json:
                column.as_json = True
                if column.seen:
                    column.forget()


def _raw(block: Block, values: Values) -> Raw:
    told = {name: found for name, found in values.items() if found is not None}
    table = pa.table({name: array for name, (array, _) in told.items()})
    return Raw(table, block.numbers, block.rejects, {name: odd for name, (_, odd) in told.items() if odd})


def conformed_all(raws: list[Raw] | None, schema: pa.Schema) -> list[Raw] | None:
    """Give the rows the columns and types of the file; None where that cannot be done without its text."""
    for raw in raws or []:
        try:
            raw.table = _conformed(raw.table, schema)
        except pa.ArrowException:
            return None
    return raws


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, null where it has them not; raises ArrowException."""
    columns = [
        table[column.name].cast(column.type)
        if column.name in table.column_names
        else pa.nulls(len(table), column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
