"""Sources read into pieces on the disk, a part of a file at a time; of each row little stays in memory."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from sft.core import shards
from sft.core.errors import UserError
from sft.core.free_memory import give_back
from sft.core.row_schema import SCHEMA
from sft.core.workers import Workers
from sft.data import arrays, file_readers, sources
from sft.data.batch_sizes import batches
from sft.data.part_reading import Job, ReadPart, as_reject, hash_or_read, in_arrows_memory
from sft.data.raw_rows import FileReason, Part, UnreadableFile
from sft.data.source_account import SourceAccount
from sft.data.source_rows import Reject
from sft.data.sources import Source
from sft.data.staging import MOST_SOURCES, SEQ, TEXT, Piece, PieceWriter

# What is kept in memory of every row, besides its number; of a file's rows only ids are different.
LIGHT = ("id", "item", "task", "question", "related", "kind")
_KIND = pa.dictionary(pa.int16(), pa.string())
# Files unpack to some times what they take, where they do not say.
_UNPACKED = 4
_ROWS = 16_384


@dataclass
class Staged:
    """A source whose rows are in `pieces`: what is kept of them in memory, and an account of the others.

    `light` has the columns LIGHT and SEQ, in the order of the source. `size` is the bytes of the rows' texts,
    `kinds` are the rows' kinds.
    """

    light: pa.Table
    resolved: str
    pieces: list[Piece]
    schema: pa.Schema
    size: int
    account: SourceAccount
    rows: int = 0
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = len(self.light)
        self.kinds = pc.unique(self.light["kind"]).to_pylist()

    def forget(self) -> None:
        """Let go of what is in memory of every row."""
        self.light = self.light.schema.empty_table()
        give_back()

    @property
    def kept(self) -> list[str]:
        """Name the columns that stay beside the rows of files."""
        return sources.kept_columns(self.schema) if self.account.layouts else []


def stage(uris: Sequence[str], folder: Path, workers: Workers) -> dict[str, Staged]:
    """Fetch and read sources into pieces in `folder`; prints a line with the rows of each.

    Of several files of a source an unreadable one is a reject of its rows. Raises UserError for every other
    fault of a URI, a source or its files.
    """
    if len(uris) > MOST_SOURCES:
        raise UserError(f"data.base, data.extra: {len(uris):,} sources, and {MOST_SOURCES} at most are read.")
    found = {uri: sources.find(uri) for uri in uris}
    parts, unreadable = _parts(found, workers)
    bits = shards.bits_for(sum(_unpacked(path) for one in found.values() for path, _ in one.files), 0)
    jobs = [
        Job(part, number, source, found[uri].name, found[uri].chosen, len(found[uri].files) == 1)
        for source, uri in enumerate(uris)
        for number, part in enumerate(parts[uri])
    ]
    progress = tqdm(total=len(jobs), desc="reading", unit="part", delay=2, leave=False, disable=not jobs)
    hashed = [path for source in found.values() if not source.resolved for path, _ in source.files]
    results = workers.map(partial(hash_or_read, folder=folder, bits=bits), [*hashed, *jobs])
    staged = {}
    with progress:
        for source in found.values():
            if not source.resolved:
                source.resolved = sources.pinned(source, [next(results) for _ in source.files])
        for number, (uri, source) in enumerate(found.items()):
            started = time.monotonic()
            if source.rows is not None:
                one = _stage_rows(source, number, folder, bits)
                source.rows = None
            else:
                read = [in_arrows_memory(next(results)) for _ in progress_over(progress, parts[uri])]
                one = _joined(source, read)
                one.account.rejects += unreadable[uri]
                _estimate(one, source)
            rows, lost = one.rows, one.account.lost
            sources.check_rows(uri, rows, lost)
            progress.clear()
            print(sources.said(uri, rows, lost, one.account.skipped, started), flush=True)
            staged[uri] = one
    return staged


def progress_over(progress: tqdm, parts: list[Part]) -> Iterator[Part]:
    """Yield the parts, and count each in the bar once what is done for it is done."""
    for part in parts:
        yield part
        progress.update()


def _parts(
    found: dict[str, Source], workers: Workers
) -> tuple[dict[str, list[Part]], dict[str, list[Reject]]]:
    """Return the parts of each source's files, and rejects for files that are not even cut into parts."""
    parts: dict[str, list[Part]] = {uri: [] for uri in found}
    unreadable: dict[str, list[Reject]] = {uri: [] for uri in found}
    files = [(uri, file) for uri, source in found.items() for file in source.files]
    cut = workers.map(_cut, [file for _, file in files])
    for (uri, (_, label)), of_file in zip(files, cut, strict=True):
        if not isinstance(of_file, UnreadableFile):
            parts[uri] += of_file
        elif len(found[uri].files) == 1:
            raise of_file
        else:
            unreadable[uri].append(as_reject(label, of_file))
    return parts, unreadable


def _cut(file: tuple[Path, str]) -> list[Part] | UnreadableFile:
    try:
        return file_readers.parts(*file)
    except UnreadableFile as error:
        return error


def _estimate(staged: Staged, source: Source) -> None:
    """Have a file that does not say how many rows it has count as many as others of its size."""
    sizes = {label: path.stat().st_size for path, label in source.files}
    lost: dict[str, Reject] = {}
    for one in list(staged.account.rejects):
        if one.reason == FileReason.UNREADABLE and lost.setdefault(one.source, one) is not one:
            staged.account.rejects.remove(one)  # another part of the same file
    read = sum(size for label, size in sizes.items() if label not in lost)
    for label, reject in lost.items():
        if reject.rows == 1 and read:
            reject.rows = max(1, round(len(staged.light) * sizes[label] / read))


def _joined(source: Source, read: list[ReadPart]) -> Staged:
    empty = pa.table({"id": pa.array([], pa.string()), SEQ: pa.array([], pa.int64())})
    light = pa.concat_tables([empty, *(part.light for part in read)])
    rows = len(light)
    kind = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int16)), pa.array([sources.kind_of(source.name)])
    )
    columns = {
        "id": light["id"],
        "item": light["id"],
        **{name: arrays.nulls(rows, SCHEMA.field(name).type) for name in ("task", "question", "related")},
        "kind": kind,
        SEQ: light[SEQ],
    }
    read = read or [ReadPart(empty)]  # where no file can be read
    account = SourceAccount()
    for part in read:
        account.add(part.account)
    return Staged(
        pa.table(columns),
        source.resolved,
        [piece for part in read for piece in part.pieces],
        sources.concatenated([part.schema.empty_table() for part in read], source.name).schema,
        sum(part.size for part in read),
        account,
    )


def _stage_rows(source: Source, number: int, folder: Path, bits: int) -> Staged:
    """Stage the rows of data in a package, which are in memory."""
    assert source.rows is not None
    table = source.rows.table
    writer = PieceWriter(folder, number, 0, bits)
    seq = [writer.add(pa.Table.from_batches([batch])) for batch in batches(table, _ROWS, TEXT)]
    writer.flush()
    light = table.select(LIGHT).append_column(SEQ, pa.array(np.concatenate([np.zeros(0, np.int64), *seq])))
    light = light.set_column(LIGHT.index("kind"), "kind", light["kind"].cast(_KIND))
    account = SourceAccount.of(source.rows)
    return Staged(light, source.resolved, writer.pieces, table.schema, writer.size, account)


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
