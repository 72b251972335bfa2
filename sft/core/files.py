"""Files: writing that leaves nothing half-written, reading that says what is wrong, digests.

What is written goes to a temporary name beside the target, which is then renamed.
"""

import csv
import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from sft.core.errors import MissingFile, UserError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises UserError where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    # Of this process of this machine: several may write in one folder.
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            raise
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}. "
            "Free disk space or check permissions, then run again."
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            # Not unlink(missing_ok=True): it raises where the folder is a file or cannot be written.
            temporary.unlink()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, in the order given.

    Raises UserError for a number that is not finite, which JSON has not.
    """
    if found := _not_finite(value):
        raise UserError(
            f"{path}: {found[0].lstrip('.')} would be {found[1]}, which is no number in JSON. See what made "
            "it so: weights that are not finite, or a training that diverged."
        )
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def json_lines(rows: Iterable[Any]) -> str:
    """Return one line of JSON a row; raises ValueError for a number that is not finite."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _not_finite(value: Any, where: str = "") -> tuple[str, float] | None:
    """Return where a number stands that is not finite, and the number."""
    if isinstance(value, float) and not math.isfinite(value):
        return where, value
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list | tuple)
        else ()
    )
    found = (_not_finite(inner, f"{where}.{key}") for key, inner in items)
    return next((one for one in found if one), None)


def read_json(path: Path | str) -> Any:
    """Read a JSON file; raises MissingFile where it is not there, UserError where it is broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFile(path) from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). Delete it and make it again.") from error


def write_csv(path: Path | str, rows: list[dict[str, Any]]) -> None:
    """Write `rows`, whose keys are all the same, with a header line."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path | str) -> str:
    """Read UTF-8 text; raises MissingFile where it is not there, UserError where it is no text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingFile(path) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}). Delete it and make it again.") from error


def write_parquet(path: Path | str, table: pa.Table) -> None:
    """Write `table` as zstd Parquet; the same rows give the same bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=50_000)


def read_parquet(path: Path | str, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises MissingFile where it is not there, UserError where it is truncated or lacks a column.
    """
    with reading_parquet(path):
        return pq.read_table(path, columns=columns, memory_map=True)


@contextmanager
def reading_parquet(path: Path | str) -> Iterator[None]:
    """Say what is wrong with a Parquet file that is read inside; raises as `read_parquet` does."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFile(path) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path}: not a readable Parquet file ({error}). Delete it and fetch or make it again."
        ) from error


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file's content in hex digits.

    Raises MissingFile where it is not there, UserError where it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingFile(path) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Check its permissions.") from error


def xxh3_of(path: Path | str) -> str | None:
    """Return the XXH3-128 of a file's content in hex digits: to find damage, six times as fast as SHA-256.

    None where the file is not there.
    """
    digest = xxhash.xxh3_128()
    try:
        with Path(path).open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


_hashed: dict[Path, tuple[tuple[int, int, int], str]] = {}


def sha256_once(path: Path | str) -> str:
    """Return what `sha256_of` returns, computed once a process as long as the file stays as it is.

    That is told by its inode, size and time of change.
    """
    path = Path(path)
    try:
        status = path.stat()
    except OSError:
        return sha256_of(path)  # which says what is wrong
    state = (status.st_ino, status.st_size, status.st_mtime_ns)
    before, digest = _hashed.get(path, (None, ""))
    if before != state:
        digest = sha256_of(path)
        _hashed[path] = state, digest
    return digest
