"""One part of a file read, standardized and written to pieces: the work of a process of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sft.core.files import sha256_of
from sft.core.row_schema import SCHEMA
from sft.data import file_readers, sources
from sft.data.raw_rows import FileReason, Part, UnreadableFile
from sft.data.source_account import SourceAccount
from sft.data.source_rows import Reject
from sft.data.staging import SEQ, Piece, PieceWriter


@dataclass
class ReadPart:
    """What reading one part gave: its rows' ids and SEQ (`light`), and the rest as in `Staged`."""

    light: pa.Table
    pieces: list[Piece] = field(default_factory=list)
    schema: pa.Schema = SCHEMA
    size: int = 0
    account: SourceAccount = field(default_factory=SourceAccount)


@dataclass(frozen=True)
class Job:
    """A part of a file, of the source of this number and name, which may have one file only."""

    part: Part
    number: int
    source: int
    name: str
    chosen: bool
    alone: bool


def as_reject(label: str, error: UnreadableFile) -> Reject:
    """Return the reject that stands for the rows of a file that cannot be read."""
    return Reject(label, 0, FileReason.UNREADABLE, "", str(error), error.rows)


def hash_or_read(task: Path | Job, folder: Path, bits: int) -> Any:
    """Return the SHA-256 of a file, or what `_read` returns: one core hashes while others read."""
    return sha256_of(task) if isinstance(task, Path) else _read(task, folder, bits)


def _read(job: Job, folder: Path, bits: int) -> ReadPart:
    """Read a part of a file, standardize it and write its rows to pieces.

    Of a damaged one nothing is kept, and where the source has other files that is a reject.
    """
    nothing = pa.table({"id": pa.array([], pa.string()), SEQ: pa.array([], pa.int64())})
    writer = PieceWriter(folder, job.source, job.number, bits)
    read, lights, empty = ReadPart(nothing), [nothing], []
    try:
        for raw in file_readers.read_part(job.part):
            rows = sources.standardized(raw, job.name, job.part.label, job.chosen)
            read.account.rejects += raw.rejects
            read.account.add(SourceAccount.of(rows))
            seq = writer.add(rows.table)
            lights.append(pa.table({"id": rows.table["id"], SEQ: seq}))
            empty.append(rows.table.schema.empty_table())
        writer.flush()
    except UnreadableFile as error:
        if job.alone:
            raise
        lost = SourceAccount([as_reject(job.part.label, error)])
        return ReadPart(nothing, account=lost)
    read.light, read.pieces, read.size = pa.concat_tables(lights), writer.pieces, writer.size
    if empty:
        read.schema = sources.concatenated(empty, job.name).schema
    return read


def in_arrows_memory(read: ReadPart) -> ReadPart:
    """Copy what a process has sent: as Python's objects, it would not leave the memory with the rows."""
    read.light = read.light.combine_chunks()
    return read
