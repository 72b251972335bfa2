"""Data files to raw Arrow tables: Parquet, JSON and JSON Lines, the latter two also as .gz and .zst."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sft.core.errors import MissingFile, UserError
from sft.data import json_files, parquet_files
from sft.data.raw_rows import Part, Raw, UnreadableFile, joined
from sft.fetch.data_files import KINDS, kind_of

_PAGE = "an HTML page: perhaps an error or a login page was saved. Fetch the file itself"
# What a file is instead where it begins with this, and what to do about it.
_DISGUISED = {
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer. Fetch the file: git lfs pull",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}
# Bytes of a part: enough that opening the file again for each costs nothing.
_PART = 64 << 20
_TABLES = {".csv": ",", ".tsv": "\\t"}
_UNDERSTOOD = " and ".join(f"{kind} ({', '.join(ends)})" for kind, ends in KINDS.items())


def parts(path: Path, label: str | None = None, size: int = _PART) -> list[Part]:
    """Cut a data file into parts of some `size` bytes, each of which `read_part` reads by itself.

    All parts together give what the file gives as a whole: what follows from all of its rows, such as the
    types of JSON's columns, each part has. Rejects and errors name the file by `label` (its path if None).

    Raises MissingFile where it is not there, UserError for an unknown kind of file or a form that is not
    read, and UnreadableFile where the file itself is at fault: empty, truncated, not UTF-8, a page of HTML.
    """
    label = label or str(path)
    check_is_file(path, label)
    kind = kind_of(path.name)
    if kind is None:
        raise _unknown_kind(path, label)
    with _readable(label):
        if path.stat().st_size == 0:
            raise UnreadableFile(f"{label}: the file is empty. Fetch or write it again.")
        _refuse_disguised(path, label)
        return _KINDS[kind].parts(Part(path, label, path.stat().st_size), size)


def read_part(part: Part) -> Iterator[Raw]:
    """Yield a part's rows in order, in at least one batch, each of at most 16,384 rows and some 64 MiB.

    Lines that are not JSON objects, and rows that are too long, become rejects. Raises what `parts` raises:
    damage within a file is found only here.
    """
    kind = kind_of(part.path.name)
    assert kind is not None  # `parts` has looked
    with _readable(part.label):
        yield from _KINDS[kind].read(part)


def read(path: Path, label: str | None = None) -> Raw:
    """Read all of a data file into memory; raises what `parts` raises."""
    return joined([raw for part in parts(path, label) for raw in read_part(part)])


@contextmanager
def _readable(label: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # With a number it is the system's, and may be gone the next time; without one a library's, of damage.
        raise (UserError if error.errno else UnreadableFile)(
            f"{label}: cannot be read: {error}. Check the disk and the permissions."
        ) from error


def check_is_file(path: Path, label: str) -> None:
    """Raise UserError for what is there and no file, which might never end; MissingFile where nothing is."""
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a device or a pipe"
        raise UserError(f"{label}: is {what}, not a file. Name a file of one of these kinds: {_UNDERSTOOD}.")
    if not path.is_file():
        raise MissingFile(label)


def _unknown_kind(path: Path, label: str) -> UserError:
    if separator := _TABLES.get(path.suffix.lower()):
        name = path.with_suffix(".parquet").name
        return UserError(
            f"{label}: {path.suffix[1:].upper()} is not read, for it says nothing of types. Convert it, and "
            f"look at what comes out: python -c \"import pandas; pandas.read_csv('{path.name}', "
            f"sep='{separator}').to_parquet('{name}')\". Understood: {_UNDERSTOOD}."
        )
    return UserError(f"{label}: not a kind of file that is understood. Those are {_UNDERSTOOD}.")


def _refuse_disguised(path: Path, label: str) -> None:
    """Raise UserError where the file begins as something else than its name says."""
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    for start, what in _DISGUISED.items():
        if head.startswith(start):
            raise UnreadableFile(f"{label}: this is {what}.")


class _Kind(Protocol):
    """What reads files of one kind."""

    def parts(self, whole: Part, size: int) -> list[Part]: ...

    def read(self, part: Part) -> Iterator[Raw]: ...


_KINDS: dict[str, _Kind] = {"Parquet": parquet_files, "JSON": json_files}
