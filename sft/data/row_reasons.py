"""Why a row, or one of its messages, cannot be trained on; in arrays a reason is its number."""

from sft.data.limits import MESSAGES
from sft.data.source_rows import Reason


class RowReason(Reason):
    """What can be wrong with a message or a row."""

    UNKNOWN_ROLE = "unknown role"
    MISSING_ROLE = "missing role"
    MULTIMODAL = "multimodal row: only text is trained on"
    CONTENT_IS_NOT_TEXT = "content is not text"
    MISSING_CONTENT = "missing content"
    BLANK_CONTENT = "blank content"
    UNREADABLE_CALLS = "tool calls that cannot be read"
    UNREADABLE_TOOLS = "tools that cannot be read"
    UNREADABLE_HISTORY = "history that is no list of pairs of texts, nor of messages"
    ENDLESS_REASONING = "reasoning without an end (<think> but no </think>)"
    TOO_MANY_MESSAGES = f"more than {MESSAGES:,} messages"
    EMPTY_CONVERSATION = "no messages"
    NO_ASSISTANT_TURN = "no assistant turn"
    NOTHING_TRAINED = "no assistant message is trained (weight 0, or train false)"
    MIXED_TYPES = "mixed types"


REASONS = [None, *RowReason]  # by number; 0 is none
NUMBERS = {reason: number for number, reason in enumerate(REASONS)}
