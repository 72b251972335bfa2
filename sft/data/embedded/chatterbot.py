"""Questions with short answers, from the English YAML files of the chatterbot-corpus wheel."""

from pathlib import Path, PurePosixPath
from typing import Any

from sft.core.errors import UserError
from sft.core.row_schema import standard_table
from sft.data.embedded.wordings import chats, normalized, one_line, refuse_parts
from sft.data.source_rows import Reason, Reject, SourceRows
from sft.fetch.wheel_files import member_bytes, member_names

SOURCE = "chatterbot"
FOLDER = "chatterbot_corpus/data/english"

# An entry longer than a pair is a conversation, but in these files it is a question with several answers.
ALTERNATIVES = {"computers", "emotion"}


class ChatterbotReason(Reason):
    """Why an entry is no row."""

    NO_QUESTION = "not a question and its answer"


def read(wheel: Path, fragment: str = "") -> SourceRows:
    """Read every topic; a question with several answers gives one row an answer, all of one item.

    Each of these answers is right, in whichever topic the question is asked.
    """
    refuse_parts("chatterbot-corpus", fragment)
    kept: list[list[str]] = []
    rejects: list[Reject] = []
    row = 0
    for name in member_names(wheel):
        path = PurePosixPath(name)
        if str(path.parent) != FOLDER or path.suffix not in (".yml", ".yaml"):
            continue
        for entry in _entries(wheel, name):
            if _is_conversation(entry):
                kept += _conversations([_tidy(text) for text in entry], path.stem)
            else:
                rejects.append(Reject(SOURCE, row, ChatterbotReason.NO_QUESTION, str(entry), path.name))
            row += 1
    if not kept:
        raise UserError(f"{wheel.name}: no questions under {FOLDER}. Check the package's version.")
    items = ["question:" + normalized(chat[0]) for chat in kept]
    tasks = ["question" if len(chat) == 2 else None for chat in kept]
    questions = [item if task else None for item, task in zip(items, tasks, strict=True)]
    return SourceRows(standard_table(chats(kept), SOURCE, items, tasks, "questions", questions), rejects)


def _entries(wheel: Path, name: str) -> list[Any]:
    import yaml

    try:
        from yaml import CSafeLoader as SafeLoader  # libyaml's takes a tenth of the time
    except ImportError:
        from yaml import SafeLoader  # type: ignore[assignment]

    try:
        content = yaml.load(member_bytes(wheel, name), SafeLoader)
        return list(content["conversations"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{wheel.name}: {name}: not a chatterbot corpus file: {error}") from error


def _is_conversation(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) >= 2
        and all(isinstance(text, str) and normalized(text) for text in entry)
    )


def _conversations(entry: list[str], topic: str) -> list[list[str]]:
    if topic in ALTERNATIVES:
        return [[entry[0], answer] for answer in entry[1:]]
    return [entry[: len(entry) // 2 * 2]]


def _tidy(text: str) -> str:
    """Collapse white space, but keep the lines of an answer that holds a block of code."""
    if "```" in text:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())
    return one_line(text)
