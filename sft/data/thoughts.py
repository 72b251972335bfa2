"""Reasoning that an answer begins with, taken out of it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.data import arrays
from sft.data.message_columns import MessageColumns
from sft.data.row_reasons import NUMBERS, RowReason

_BEGIN, _END, _OPENTHOUGHTS = "<think>", "</think>", "<|begin_of_thought|>"
_WHOLE = r"(?s)^\s*<think>(?P<reasoning>.*?)</think>\s*(?P<content>.*)$"
# Templates that write the begin themselves leave it out of the answers.
_REST = r"(?s)^(?P<reasoning>.*?)</think>\s*(?P<content>.*)$"
_SOLUTION = (
    r"(?s)^\s*<\|begin_of_thought\|>(?P<reasoning>.*?)<\|end_of_thought\|>\s*"
    r"(?:<\|begin_of_solution\|>\s*)?(?P<content>.*?)\s*(?:<\|end_of_solution\|>\s*)?$"
)


def take_thoughts(messages: MessageColumns, answers: np.ndarray) -> None:
    """Move what an answer begins with to its reasoning, if it has none yet.

    That is what stands between <think> and </think>, or before the only </think>, or between OpenThoughts'
    tokens for a thought, with those for its solution. A thought without an end is a fault of its message.
    """
    if not arrays.anywhere(messages.content, _BEGIN, _END, _OPENTHOUGHTS):
        return
    if arrays.anywhere(messages.content, _END):
        _take(messages, answers, _WHOLE)
    if arrays.anywhere(messages.content, _END):
        only = pc.and_(
            pc.equal(pc.count_substring(messages.content, _END), 1),
            pc.invert(pc.match_substring(messages.content, _BEGIN)),
        )
        _take(messages, answers & np.asarray(pc.fill_null(only, False)), _REST)
    if arrays.anywhere(messages.content, _OPENTHOUGHTS):
        _take(messages, answers, _SOLUTION)
    if arrays.anywhere(messages.content, _BEGIN):
        endless = pc.and_(
            pc.match_substring_regex(messages.content, rf"^\s*{_BEGIN}"),
            pc.invert(pc.match_substring(messages.content, _END)),
        )
        endless = answers & np.asarray(pc.fill_null(endless, False)) & (messages.fault == 0)
        messages.fault[endless] = NUMBERS[RowReason.ENDLESS_REASONING]


def _take(messages: MessageColumns, answers: np.ndarray, form: str) -> None:
    reasoning = messages.of("reasoning")
    asked = np.flatnonzero(answers & np.asarray(pc.is_null(reasoning)))
    thought = pc.extract_regex(messages.content.take(pa.array(asked)), form)
    has = pc.is_valid(thought)
    taken = np.zeros(len(answers), bool)
    taken[asked[np.asarray(has)]] = True
    where, thought = pa.array(taken), thought.filter(has)
    said = pc.utf8_trim(pc.struct_field(thought, "reasoning"), "\n")
    messages.further["reasoning"] = pc.replace_with_mask(reasoning, where, arrays.said(said))
    content = pc.struct_field(thought, "content")
    messages.content = pc.replace_with_mask(messages.content, where, content)
