"""What the embedded readers share: wordings chosen by hash, and chats as Arrow arrays."""

import re
from collections.abc import Sequence
from itertools import accumulate, chain

import pyarrow as pa
import xxhash

from sft.core.errors import UserError

_NOT_WORD = re.compile(r"[\W_]+")


def choose(wordings: Sequence[str], form: str, item: str) -> str:
    """Return the wording that an item has in a form: the same one in every process and every source."""
    return wordings[xxhash.xxh3_64_intdigest(f"{form}\n{item}".encode()) % len(wordings)]


def normalized(text: str) -> str:
    """Return a text's words, lower-cased and without punctuation: what items are compared by."""
    return _NOT_WORD.sub(" ", text).strip().casefold()


def one_line(text: str) -> str:
    """Return the text with every run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def chats(conversations: Sequence[Sequence[str]]) -> pa.ListArray:
    """Build messages from contents that alternate user, assistant, user, ...; one conversation each."""
    contents = pa.array(list(chain.from_iterable(conversations)), pa.string())
    longest = max(map(len, conversations), default=0)
    turns = ["user", "assistant"] * (longest // 2 + 1)
    roles = pa.array(list(chain.from_iterable(turns[: len(chat)] for chat in conversations)), pa.string())
    offsets = pa.array([0, *accumulate(map(len, conversations))], pa.int32())
    messages = pa.StructArray.from_arrays([roles, contents], names=["role", "content"])
    return pa.ListArray.from_arrays(offsets, messages)


def refuse_parts(package: str, fragment: str) -> None:
    """Raise UserError where a source names a part of a package that has none."""
    if fragment:
        raise UserError(
            f"pypi://{package}: has no part {fragment!r}. Leave out #{fragment}: it is read whole."
        )
