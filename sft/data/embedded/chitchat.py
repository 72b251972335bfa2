"""Multi-turn chats between two people, from the wheel of chitchat-dataset."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from sft.core.row_schema import standard_table
from sft.data.embedded.wordings import chats, normalized, one_line, refuse_parts
from sft.data.source_rows import Reason, Reject, SourceRows
from sft.fetch.wheel_files import member_bytes

SOURCE = "chitchat"


class ChitchatReason(Reason):
    """Why an entry is no row: the first is a fault, the others are skipped."""

    NO_TURNS = "not a list of turns with text and sender"
    NOBODY_ANSWERED = "nobody answered"
    MORE_THAN_TWO_SPEAKERS = "more than two speakers"


def read(wheel: Path, fragment: str = "") -> SourceRows:
    """Read the conversations in which two people take turns; who speaks first is the user.

    Conversations of one speaker, or of more than two, are skipped and counted.
    """
    refuse_parts("chitchat-dataset", fragment)
    kept: list[list[str]] = []
    items: list[str] = []
    rejects: list[Reject] = []
    skipped: dict[Reason, int] = {
        ChitchatReason.NOBODY_ANSWERED: 0,
        ChitchatReason.MORE_THAN_TWO_SPEAKERS: 0,
    }
    first_key: dict[str, str] = {}
    entries = json.loads(member_bytes(wheel, "chitchat_dataset/dataset.json"))
    for row, (key, entry) in enumerate(entries.items()):
        try:
            speakers, turns = _turns(entry)
        except (KeyError, TypeError, AttributeError):
            rejects.append(Reject(SOURCE, row, ChitchatReason.NO_TURNS, str(entry)))
            continue
        if len(turns) < 2:
            skipped[ChitchatReason.NOBODY_ANSWERED] += 1
        elif speakers > 2:
            skipped[ChitchatReason.MORE_THAN_TWO_SPEAKERS] += 1
        else:
            turns = turns[: len(turns) // 2 * 2]
            kept.append(turns)
            # The same words under two keys are one dialogue, for hold-out.
            items.append("dialogue:" + first_key.setdefault(normalized(" / ".join(turns)), key))
    table = standard_table(chats(kept), SOURCE, items, ["dialogue"] * len(kept), "dialogues")
    return SourceRows(table, rejects, skipped)


def _turns(entry: dict[str, Any]) -> tuple[int, list[str]]:
    """Return the number of speakers and the turns, each one speaker's utterances joined by blanks."""
    utterances = [
        (utterance["sender"], text)
        for turn in entry["messages"]
        for utterance in turn
        if (text := one_line(utterance["text"]))
    ]
    turns = [
        " ".join(text for _, text in group) for _, group in groupby(utterances, key=lambda pair: pair[0])
    ]
    return len({sender for sender, _ in utterances}), turns
