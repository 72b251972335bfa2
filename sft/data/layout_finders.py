"""By which columns a layout is known, and what its columns are read as; None where a file is not of it."""

import pyarrow as pa

from sft.data.arrays import is_list, is_text
from sft.data.columns import LABELS, LISTS, PAIRS, QUERIES, Columns, Used
from sft.data.message_columns import CONTENT_KEYS, ROLE_KEYS


def _context(columns: Columns, question: str) -> dict[str, str]:
    """Return what goes below a question: both are texts."""
    texts = columns.has("context") and is_text(columns.kind("context")) and is_text(columns.kind(question))
    return {"input": "context"} if texts else {}


def _input(columns: Columns) -> dict[str, str]:
    """Return what goes below Alpaca's instruction, where that is one value a row."""
    if "input" not in columns:
        return _context(columns, "instruction")
    return {} if pa.types.is_nested(columns.kind("instruction")) else {"input": "input"}


def alpaca(columns: Columns) -> Used | None:
    """Instructions with an input."""
    if not columns.has("instruction", "output"):
        return None
    return columns.used(question="instruction", answer="output", **_input(columns))


def dolly(columns: Columns) -> Used | None:
    """Instructions with a context."""
    if not columns.has("instruction", "response"):
        return None
    return columns.used(question="instruction", answer="response", **_context(columns, "instruction"))


def pair(columns: Columns) -> Used | None:
    """Questions and answers."""
    for question, answer in PAIRS:
        if columns.has(question, answer):
            return columns.used(question=question, answer=answer, **_context(columns, question))
    return None


def xlam(columns: Columns) -> Used | None:
    """Questions whose answers are tool calls."""
    if columns.has("query", "answers", "tools"):
        return columns.used(question="query", calls="answers")
    return None


def query(columns: Columns) -> Used | None:
    """Queries and responses."""
    if columns.has("query", "response"):
        return columns.used(question="query", answer="response", **_context(columns, "query"))
    return None


def openai(columns: Columns) -> Used | None:
    """Lists of messages, by OpenAI's name."""
    return _lists(columns, LISTS[:1])


def sharegpt(columns: Columns) -> Used | None:
    """Lists of messages, by ShareGPT's names."""
    return _lists(columns, LISTS[1:])


def _lists(columns: Columns, names: tuple[str, ...]) -> Used | None:
    for name in names:
        if name in columns and is_list(columns.kind(name)):
            return columns.used(list=name)
    return None


def answered(columns: Columns) -> Used | None:
    """Questions and answers: what the first of the understood layouts reads."""
    return next((used for find in UNDERSTOOD if (used := find(columns))), None)


def dpo(columns: Columns) -> Used | None:
    """Chosen and rejected answers."""
    if not columns.has("chosen", "rejected"):
        return None
    used = columns.used(chosen="chosen", rejected="rejected")
    if asked := _lists(columns, LISTS):
        return {**used, **asked}
    if name := columns.first(QUERIES):
        used |= columns.used(question=name)
        if name == "instruction":
            used |= columns.used(**_input(columns))
    return used


def ranked(columns: Columns) -> Used | None:
    """Lists of answers, the best first."""
    used = alpaca(columns) or pair(columns)
    if used and (kind := columns.kind(used["answer"].lower())) and is_list(kind) and is_text(kind.value_type):
        return {**used, "ranked": used["answer"]}
    return None


def kto(columns: Columns) -> Used | None:
    """Answers with a label that says whether they are good."""
    for name in LABELS:
        if name in columns and pa.types.is_boolean(columns.kind(name)) and (used := answered(columns)):
            return {**used, **columns.used(label=name)}
    return None


def oasst_trees(columns: Columns) -> Used | None:
    """Trees of messages."""
    return {} if columns.has("message_tree_id", "prompt") and not is_text(columns.kind("prompt")) else None


def oasst_messages(columns: Columns) -> Used | None:
    """Messages of trees."""
    return {} if columns.has("message_id", "parent_id", "text", "role") else None


def gemini(columns: Columns) -> Used | None:
    """Contents in parts."""
    return {} if "contents" in columns and not is_text(columns.kind("contents")) else None


def nested(columns: Columns) -> Used | None:
    """Columns within a column."""
    for column in columns.fields.values():
        kind = column.type.value_type if is_list(column.type) else column.type
        if not pa.types.is_struct(kind):
            continue
        names = {inner.name for inner in kind}
        is_message = names & {*ROLE_KEYS} and names & {*CONTENT_KEYS}
        inside = Columns(pa.schema(list(kind)))
        if is_message or any(find(inside) is not None for find in (*PREFERENCES, *UNDERSTOOD, *OTHERS)):
            return {"nested": column.name}
    return None


def plain_text(columns: Columns) -> Used | None:
    """Text that asks nothing."""
    name = columns.first(("text", "raw_content", "content"))
    if name and is_text(columns.kind(name)) and not columns.has("role"):
        return {}
    return None


UNDERSTOOD = (openai, sharegpt, pair, alpaca, dolly, query, xlam)
PREFERENCES = (dpo, ranked, kto)
OTHERS = (oasst_trees, oasst_messages, gemini, plain_text)
