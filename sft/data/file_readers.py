"""Data files to raw Arrow tables: Parquet, JSON and JSON Lines, the latter two also as .gz and .zst."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sft.core.errors import MissingFile, UserError
from sft.data import json_files, parquet_files
from sft.data.raw_rows import Raw
from sft.fetch.data_files import KINDS, kind_of

_PAGE = "an HTML page: perhaps an error or a login page was saved. Fetch the file itself"
# What a file is instead where it begins with this, and what to do about it.
_DISGUISED = {
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer. Fetch the file: git lfs pull",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
}
_TABLES = {".csv": ",", ".tsv": "\\t"}
_UNDERSTOOD = " and ".join(f"{kind} ({', '.join(ends)})" for kind, ends in KINDS.items())


def read(path: Path, label: str | None = None) -> Raw:
    """Read one data file; lines that are not JSON objects become rejects.

    Rejects and errors name the file by `label` (its path if None). Raises MissingFile where it is not
    there, and UserError where the file itself is at fault: empty, truncated, not UTF-8, of an unknown kind.
    """
    label = label or str(path)
    check_is_file(path, label)
    kind = kind_of(path.name)
    if kind is None:
        raise _unknown_kind(path, label)
    if path.stat().st_size == 0:
        raise UserError(f"{label}: the file is empty. Fetch or write it again.")
    try:
        _refuse_disguised(path, label)
        return _READERS[kind](path, label)
    except OSError as error:
        raise UserError(f"{label}: cannot be read: {error}. Check the disk and the permissions.") from error


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
            raise UserError(f"{label}: this is {what}.")


_READERS: dict[str, Callable[[Path, str], Raw]] = {  # by the kind of file
    "Parquet": parquet_files.read_parquet,
    "JSON": json_files.read_json,
}


@dataclass(frozen=True)
class Part:
    path: Path
    label: str


def parts(path: Path, label: str) -> list[Part]:
    return [Part(path, label)]


def read_part(part: Part) -> Iterator[Raw]:
    yield read(part.path, part.label)
