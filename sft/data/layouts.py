"""Which layout a data file has, and which of its columns are read.

The table in docs/data.md is made from LAYOUTS, and the tests read each one's examples.
"""

from dataclasses import dataclass, field

import pyarrow as pa

from sft.core.errors import UserError
from sft.data import layout_finders as finders
from sft.data.arrays import is_text
from sft.data.columns import LABELS, REASONINGS, SYSTEMS, TOOLS, Columns, Used, columns_for, jq_path
from sft.data.flags import as_booleans, may_tell
from sft.data.layout import Layout
from sft.data.refused_layouts import REFUSED
from sft.data.understood_layouts import UNDERSTOOD

LAYOUTS = (*UNDERSTOOD, *REFUSED)


@dataclass(frozen=True)
class Found:
    """The layout that a file has, and its columns by what they are read as."""

    layout: Layout
    used: Used = field(default_factory=dict)


def known(schema: pa.Schema) -> Found | None:
    """Return the layout that columns have, or None. Preference data is that first of all."""
    columns = Columns(schema)
    for layout in sorted(LAYOUTS, key=lambda layout: layout.find not in finders.FIRST):
        used = layout.find(columns)
        if used is not None:
            return Found(layout, used)
    return None


def found(schema: pa.Schema, label: str, chosen: bool = False) -> Found:
    """Return the layout that a file's columns have, with all columns that are read.

    With `chosen` preference data is read as its chosen answers. Raises UserError, naming the file by `label`,
    for a layout that is refused or unknown, and for chosen answers where there are none.
    """
    columns = Columns(schema)
    layout = known(schema)
    if len({field.name for field in schema}) < len(schema):
        raise UserError(f"{label}: several columns have one name. Found: {columns}. Rename them.")
    if layout is None:
        raise UserError(
            f"{label}: the columns have no layout that is understood. Found: {columns}. "
            f"Understood: {_UNDERSTOOD_COLUMNS}. Rename the columns, or write the rows as messages."
        )
    advice = _advice(layout.layout, layout.used)
    if chosen and not layout.layout.is_preference:
        taken = ", ".join(one.name for one in LAYOUTS if one.is_preference)
        raise UserError(
            f"{label}: #chosen takes the chosen answers of preference data ({taken}), but this is "
            f"{layout.layout.name}. Found: {columns}. {advice or 'Leave it out.'}"
        )
    if layout.layout.refused and not chosen:
        raise UserError(f"{label}: {layout.layout.name}. {advice} Found: {columns}.")
    return Found(layout.layout, {**layout.used, **_common(columns, layout.used)})


def label_columns(schema: pa.Schema) -> list[str]:
    """Name the columns that are labels of preference data if all of their values say true or false.

    They say so by 0 and 1, or by words: `with_flags` makes booleans of them.
    """
    labels = []
    for at, name in enumerate(schema.names):
        # Of several columns of one name none is chosen: `found` refuses the file.
        if name.lower() in LABELS and may_tell(schema.types[at]) and schema.names.count(name) == 1:
            layout = known(schema.set(at, pa.field(name, pa.bool_())))
            if layout is not None and layout.layout.find is finders.kto and layout.used["label"] == name:
                labels.append(name)
    return labels


def with_flags(raw: pa.Table, name: str | None) -> pa.Table:
    """Return the rows with the labels of this column as booleans (None: the rows as they are)."""
    if name is None:
        return raw
    return raw.set_column(raw.column_names.index(name), name, as_booleans(raw[name]))


def _common(columns: Columns, used: Used) -> Used:
    """Return what any layout may have beside the conversation."""
    common = columns.present(SYSTEMS, "system") | columns.present(TOOLS, "tools")
    if "list" not in used and "history" in columns:
        common["history"] = "history"
    answer = used.get("answer", "").lower()
    if answer and is_text(columns.kind(answer)):
        common |= columns.present(REASONINGS, "reasoning")
    return columns.used(**common)


def _advice(layout: Layout, used: Used) -> str:
    """Say what to do with a file of a layout that is refused."""
    names = columns_for(used, "nested")
    if len(names) > 1:
        every = " If each of them is one row: jq -c '.[]'." if all(name.isdigit() for name in names) else ""
        return (
            f"Rows lie within several columns: {', '.join(names)}. Choose what is to be trained on, and "
            f"write it as the rows, or as messages.{every}"
        )
    for what in ("nested", "text"):
        for name in columns_for(used, what):
            return layout.refused.replace("{column}", name).replace("{path}", jq_path(name)).replace("`", "")
    return layout.refused.replace("`", "")


_UNDERSTOOD_COLUMNS = "; ".join(
    f"{layout.known_by.replace('`', '')} ({layout.name})" for layout in LAYOUTS if not layout.refused
)
