"""By which columns a layout is known, and what its columns are read as; None where a file is not of it."""

import pyarrow as pa

from sft.data.arrays import is_list, is_text
from sft.data.columns import BELOW, CHOICES, LABELS, LISTS, PAIRS, QUERIES, Columns, Used
from sft.data.message_columns import CONTENT_KEYS, ROLE_KEYS


def _below(columns: Columns, question: str) -> dict[str, str]:
    """Return what goes below a question: texts, and whatever Alpaca's input is."""
    if pa.types.is_nested(columns.kind(question)):
        return {}
    names = [
        name
        for name in BELOW
        if name in columns
        and name != question
        and (is_text(columns.kind(name)) or (question, name) == ("instruction", "input"))
    ]
    return columns.present(tuple(names), "input")


def alpaca(columns: Columns) -> Used | None:
    """Instructions with an input."""
    if not columns.has("instruction", "output"):
        return None
    return columns.used(question="instruction", answer="output", **_below(columns, "instruction"))


def dolly(columns: Columns) -> Used | None:
    """Instructions with a context."""
    if not columns.has("instruction", "response"):
        return None
    return columns.used(question="instruction", answer="response", **_below(columns, "instruction"))


def pair(columns: Columns) -> Used | None:
    """Questions and answers."""
    for question, answer in PAIRS:
        if columns.has(question, answer):
            return columns.used(question=question, answer=answer, **_below(columns, question))
    return None


def xlam(columns: Columns) -> Used | None:
    """Questions whose answers are tool calls."""
    if columns.has("query", "answers", "tools"):
        return columns.used(question="query", calls="answers", **_below(columns, "query"))
    return None


def query(columns: Columns) -> Used | None:
    """Queries and responses."""
    if columns.has("query", "response"):
        return columns.used(question="query", answer="response", **_below(columns, "query"))
    return None


def plain(columns: Columns) -> Used | None:
    """Inputs and outputs."""
    for question in ("input", "text_input"):
        if columns.has(question, "output") and not is_list(columns.kind(question)):
            return columns.used(question=question, answer="output", **_below(columns, question))
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
    pair = next((names for names in CHOICES if columns.has(*names)), None)
    if pair is None:
        return None
    used = columns.used(chosen=pair[0], rejected=pair[1])
    if asked := _lists(columns, LISTS):
        return {**used, **asked}
    if name := columns.first(QUERIES):
        used |= columns.used(question=name)
        used |= columns.used(**_below(columns, name))
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


def openai_preferences(columns: Columns) -> Used | None:
    """OpenAI's preferred outputs."""
    return {} if columns.has("preferred_output", "non_preferred_output") else None


def battles(columns: Columns) -> Used | None:
    """Two answers of which a judge liked one better."""
    both = columns.has("conversation_a", "conversation_b") or columns.has("response_a", "response_b")
    return {} if both else None


def written_lists(columns: Columns) -> Used | None:
    """Messages that are the text of JSON."""
    name = columns.first(LISTS)
    return columns.used(text=name) if name and is_text(columns.kind(name)) else None


def glaive(columns: Columns) -> Used | None:
    """Chats written out below one another."""
    return {} if columns.has("system", "chat") and is_text(columns.kind("chat")) else None


def squad(columns: Columns) -> Used | None:
    """Questions whose answers are places in a text."""
    if columns.has("paragraphs"):
        return {}
    answers = columns.has("context", "question", "answers") and not is_text(columns.kind("answers"))
    return {} if answers else None


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
    """Columns within columns."""
    found = [name for name in columns.fields if _has_rows(columns.kind(name))]
    return columns.used(**columns.present(tuple(found), "nested")) if found else None


def _has_rows(kind: pa.DataType) -> bool:
    kind = kind.value_type if is_list(kind) else kind
    if not pa.types.is_struct(kind):
        return False
    names = {inner.name for inner in kind}
    if names & {*ROLE_KEYS} and names & {*CONTENT_KEYS}:
        return True
    inside = Columns(pa.schema(list(kind)))
    return any(find(inside) is not None for find in (*FIRST, *UNDERSTOOD, *OTHERS))


def plain_text(columns: Columns) -> Used | None:
    """Text that asks nothing."""
    name = columns.first(("text", "raw_content", "content"))
    if name and is_text(columns.kind(name)) and not columns.has("role") and not columns.first(QUERIES):
        return {}
    return None


UNDERSTOOD = (openai, sharegpt, pair, alpaca, dolly, query, xlam, plain)
PREFERENCES = (dpo, ranked, kto)
# Looked for before all others, whose columns they may have too.
FIRST = (*PREFERENCES, openai_preferences, battles)
OTHERS = (written_lists, glaive, squad, oasst_trees, oasst_messages, gemini, plain_text)
