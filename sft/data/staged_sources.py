"""Sources read into pieces on the disk, a part of a file at a time; of each row little stays in memory."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from sft.core import shards
from sft.core.row_schema import SCHEMA
from sft.core.workers import Workers
from sft.data import file_readers, rejects, sources
from sft.data.batch_sizes import batches
from sft.data.contamination import Examples, Matches
from sft.data.raw_rows import FileReason, Part, UnreadableFile
from sft.data.source_rows import Reason, Reject
from sft.data.sources import Source
from sft.data.staging import SEQ, SOURCE_SHIFT, TEXT, Piece, PieceWriter, fetch

# What is kept in memory of every row, besides its number; of a file's rows only ids are different.
LIGHT = ("id", "item", "task", "question", "related", "kind")
_KIND = pa.dictionary(pa.int16(), pa.string())
# Files unpack to some times what they take, where they do not say.
_UNPACKED = 4
_ROWS = 16_384


@dataclass
class Staged:
    """A source whose rows are in `pieces`: what is kept of them in memory, and an account of the others.

    `light` has the columns LIGHT and SEQ, in the order of the source. `size` is the bytes of the rows' texts;
    the other fields are as in `sft.data.sources.Loaded`.
    """

    light: pa.Table
    resolved: str
    pieces: list[Piece] = field(default_factory=list)
    schema: pa.Schema = SCHEMA
    size: int = 0
    rejects: list[Reject] = field(default_factory=list)
    skipped: dict[Reason, int] = field(default_factory=dict)
    layouts: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    ends_on_user: int = 0
    no_user: int = 0

    @property
    def kept(self) -> list[str]:
        """Name the columns that stay beside the rows of files."""
        return sources.kept_columns(self.schema) if self.layouts else []


@dataclass
class _Read:
    """What reading one part gave: `ids` and `seq` of its rows, and the rest as in `Staged`."""

    ids: pa.ChunkedArray
    seq: np.ndarray
    pieces: list[Piece]
    schema: pa.Schema
    size: int
    rejects: list[Reject]
    skipped: Counter[Reason]
    layouts: list[str]
    used: list[str]
    dropped: Counter[str]
    ends_on_user: int
    no_user: int


@dataclass(frozen=True)
class _Job:
    """A part of a file, of the source of this number and name, which may have one file only."""

    part: Part
    number: int
    source: int
    name: str
    chosen: bool
    alone: bool


def stage(uris: Sequence[str], folder: Path, workers: Workers) -> dict[str, Staged]:
    """Fetch and read sources into pieces in `folder`; prints a line with the rows of each.

    Raises UserError for every fault of a URI, a source or its files.
    """
    found = {uri: sources.find(uri) for uri in uris}
    unreadable: dict[str, list[Reject]] = {uri: [] for uri in uris}
    parts: dict[str, list[Part]] = {uri: [] for uri in uris}
    for uri, source in found.items():
        for path, label in source.files:
            try:
                parts[uri] += file_readers.parts(path, label)
            except UnreadableFile as error:
                if len(source.files) == 1:
                    raise
                unreadable[uri].append(_unreadable(label, error))
    bits = shards.bits_for(sum(_unpacked(path) for one in found.values() for path, _ in one.files), 0)
    jobs = [
        _Job(part, number, source, found[uri].name, found[uri].chosen, len(found[uri].files) == 1)
        for source, uri in enumerate(uris)
        for number, part in enumerate(parts[uri])
    ]
    progress = tqdm(total=len(jobs), desc="reading", unit="part", delay=2, leave=False, disable=not jobs)
    results = workers.map(partial(_read, folder=folder, bits=bits), jobs)
    staged = {}
    with progress:
        for number, uri in enumerate(uris):
            started, source = time.monotonic(), found[uri]
            if source.rows is not None:
                staged[uri] = _stage_rows(source, number, folder, bits)
                source.rows = None
            else:
                read = []
                for _ in parts[uri]:
                    read.append(next(results))
                    progress.update()
                staged[uri] = _joined(source, read)
            one = staged[uri]
            one.rejects += unreadable[uri]
            rows, lost = len(one.light), rejects.count(one.rejects)
            sources.check_rows(uri, rows, lost)
            progress.clear()
            print(
                sources.said(uri, len(one.light), rejects.count(one.rejects), one.skipped, started),
                flush=True,
            )
    return staged


def rows_of(staged: Staged, seqs: pa.ChunkedArray, columns: Sequence[str], workers: Workers) -> pa.Table:
    """Return rows of a source by their `seq`, in this order: the columns that they have of `columns`."""
    wanted = np.unique(seqs.to_numpy())
    schema = pa.schema([staged.schema.field(name) for name in columns if name in staged.schema.names])
    if not len(wanted):
        return schema.empty_table()
    ids = staged.light["id"].filter(pc.is_in(staged.light[SEQ], value_set=pa.array(wanted)))
    bits = staged.pieces[0].bits
    only = np.unique(shards.number_of(shards.keys(ids)[0], bits)).tolist()
    found = workers.map(partial(fetch, seqs=wanted, only=only, columns=columns), staged.pieces)
    table = pa.concat_tables([one for one in found if one is not None], promote_options="permissive")
    order = pc.index_in(seqs.combine_chunks(), value_set=table[SEQ].combine_chunks())
    return table.drop_columns([SEQ]).take(order)


def whole(rows: pa.Table, staged: dict[str, Staged], columns: Sequence[str], workers: Workers) -> pa.Table:
    """Return rows of any sources with the messages and all else that is on the disk, in their order.

    The columns that they have already stay as they are.
    """
    numbers = rows[SEQ].to_numpy() >> SOURCE_SHIFT
    tables, places = (
        [pa.schema([SCHEMA.field(name) for name in columns]).empty_table()],
        [np.zeros(0, np.int64)],
    )
    for number, source in enumerate(staged.values()):
        place = np.flatnonzero(numbers == number)
        if len(place):
            tables.append(rows_of(source, rows[SEQ].take(pa.array(place)), columns, workers))
            places.append(place)
    table = pa.concat_tables(tables, promote_options="permissive")
    table = table.take(pa.array(np.argsort(np.concatenate(places), kind="stable")))
    for name in set(columns) & set(rows.column_names):
        table = table.set_column(
            columns.index(name), SCHEMA.field(name), rows[name].cast(SCHEMA.field(name).type)
        )
    return table


def matches(staged: Staged, examples: Examples, workers: Workers) -> Matches:
    """Compare all rows of a source with the evaluation examples."""
    found = list(workers.map(partial(_matches, examples=examples), staged.pieces))
    seqs = staged.light[SEQ].to_numpy()
    masks = []
    for reason in range(3):
        masks.append(np.isin(seqs, np.concatenate([np.zeros(0, np.int64), *(one[reason] for one in found)])))
    return Matches(*masks)


def _matches(piece: Piece, examples: Examples) -> list[np.ndarray]:
    """Return the `seq` of the rows that have an example's id, its question and answer, its question only."""
    found: list[list[np.ndarray]] = [[], [], []]
    for batch in piece.all_batches():
        one = examples.matches(pa.Table.from_batches([batch]))
        seq = batch[SEQ].to_numpy()
        for seqs, mask in zip(found, (one.same_id, one.question_and_answer, one.question_only), strict=True):
            seqs.append(seq[mask])
    return [np.concatenate([np.zeros(0, np.int64), *seqs]) for seqs in found]


def _unreadable(label: str, error: UnreadableFile) -> Reject:
    return Reject(label, 0, FileReason.UNREADABLE, "", str(error), error.rows)


def _read(job: _Job, folder: Path, bits: int) -> _Read:
    """Read a part of a file, standardize it and write its rows to pieces.

    Of a damaged one nothing is kept, and where the source has other files that is a reject.
    """
    try:
        return _read_whole(job, folder, bits)
    except UnreadableFile as error:
        if job.alone:
            raise
        nothing = pa.chunked_array([], pa.string())
        lost = [_unreadable(job.part.label, error)]
        return _Read(nothing, np.zeros(0, np.int64), [], SCHEMA, 0, lost, Counter(), [], [], Counter(), 0, 0)


def _read_whole(job: _Job, folder: Path, bits: int) -> _Read:
    writer = PieceWriter(folder, job.source, job.number, bits)
    ids: list[pa.ChunkedArray] = []
    seq: list[np.ndarray] = [np.zeros(0, np.int64)]
    schemas: list[pa.Schema] = []
    read = _Read(
        pa.chunked_array([], pa.string()),
        seq[0],
        writer.pieces,
        SCHEMA,
        0,
        [],
        Counter(),
        [],
        [],
        Counter(),
        0,
        0,
    )
    for raw in file_readers.read_part(job.part):
        rows = sources.standardized(raw, job.name, job.part.label, job.chosen)
        read.rejects += raw.rejects + rows.rejects
        read.skipped.update(rows.skipped)
        read.dropped.update(rows.dropped)
        read.layouts = list(dict.fromkeys([*read.layouts, *rows.layouts]))
        read.used = list(dict.fromkeys([*read.used, *rows.used]))
        read.ends_on_user += sources.ends_on_user(rows.table["messages"])
        read.no_user += sources.no_user(rows.table["messages"])
        seq.append(writer.add(rows.table))
        ids.append(rows.table["id"])
        schemas.append(rows.table.schema)
    writer.flush()
    read.ids = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
    read.seq, read.size = np.concatenate(seq), writer.size
    if schemas:
        read.schema = sources.concatenated([schema.empty_table() for schema in schemas], job.name).schema
    return read


def _joined(source: Source, read: list[_Read]) -> Staged:
    ids = pa.chunked_array([chunk for part in read for chunk in part.ids.chunks], pa.string())
    rows = len(ids)
    number = pa.array(np.zeros(rows, np.int16))
    kind = pa.DictionaryArray.from_arrays(number, pa.array([sources.kind_of(source.name)]))
    columns = {
        "id": ids,
        "item": ids,
        **{name: pa.nulls(rows, SCHEMA.field(name).type) for name in ("task", "question", "related")},
        "kind": kind,
        SEQ: np.concatenate([np.zeros(0, np.int64), *(part.seq for part in read)]),
    }
    return Staged(
        pa.table(columns),
        source.resolved,
        [piece for part in read for piece in part.pieces],
        sources.concatenated([part.schema.empty_table() for part in read], source.name).schema,
        sum(part.size for part in read),
        [reject for part in read for reject in part.rejects],
        dict(sum((part.skipped for part in read), Counter())),
        list(dict.fromkeys(name for part in read for name in part.layouts)),
        list(dict.fromkeys(name for part in read for name in part.used)),
        dict(sum((part.dropped for part in read), Counter())),
        sum(part.ends_on_user for part in read),
        sum(part.no_user for part in read),
    )


def _stage_rows(source: Source, number: int, folder: Path, bits: int) -> Staged:
    """Stage the rows of data in a package, which are in memory."""
    assert source.rows is not None
    table = source.rows.table
    writer = PieceWriter(folder, number, 0, bits)
    seq = [writer.add(pa.Table.from_batches([batch])) for batch in batches(table, _ROWS, TEXT)]
    writer.flush()
    columns = table.select(LIGHT).append_column(SEQ, pa.array(np.concatenate([np.zeros(0, np.int64), *seq])))
    columns = columns.set_column(LIGHT.index("kind"), "kind", columns["kind"].cast(_KIND))
    return Staged(
        columns,
        source.resolved,
        writer.pieces,
        table.schema,
        writer.size,
        source.rows.rejects,
        source.rows.skipped,
        ends_on_user=sources.ends_on_user(table["messages"]),
        no_user=sources.no_user(table["messages"]),
    )


def _unpacked(path: Path) -> int:
    """Estimate the bytes of a file's texts."""
    if path.suffix.lower() == ".parquet":
        try:
            footer = pq.read_metadata(path)
        except (pa.ArrowException, OSError):
            return 0  # whoever reads it says what is wrong
        return sum(footer.row_group(n).total_byte_size for n in range(footer.num_row_groups))
    size = path.stat().st_size
    return size * _UNPACKED if path.suffix.lower() in (".gz", ".zst") else size
