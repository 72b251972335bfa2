"""How large batches of rows are once their values are written out, and batches that are not too large."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sft.data.arrays import is_list


def batches(table: pa.Table, rows: int, most: int) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows in batches of so many, or of fewer where these have more bytes than `most`."""
    for batch in table.to_batches(max_chunksize=rows):
        yield from _halved(batch, most)


def _halved(batch: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    half = len(batch) // 2
    if not half or size_of(batch) <= most:
        yield batch
    else:
        yield from _halved(batch.slice(0, half), most)
        yield from _halved(batch.slice(half), most)


def long_rows(batch: pa.RecordBatch, most: int) -> list[int]:
    """Return the positions of the rows that have more bytes than `most`."""
    if size_of(batch) <= most:
        return []
    half = len(batch) // 2
    if not half:
        return [0]
    return long_rows(batch.slice(0, half), most) + [half + at for at in long_rows(batch.slice(half), most)]


def size_of(batch: pa.RecordBatch) -> int:
    """Return a batch's bytes, a value of a dictionary counted as often as it is there."""
    return batch.nbytes + sum(written_out(one) - one.dictionary.nbytes for one in dictionaries(batch))


def dictionaries(batch: pa.RecordBatch) -> Iterator[pa.DictionaryArray]:
    """Yield the dictionary arrays of a batch, those within lists and objects too."""
    waiting = list(batch.columns)
    while waiting:
        array = waiting.pop()
        if pa.types.is_dictionary(array.type):
            yield array
        elif is_list(array.type):
            waiting.append(array.flatten())
        elif pa.types.is_map(array.type):
            waiting += [array.keys, array.items]
        elif pa.types.is_struct(array.type):
            waiting += array.flatten()


def written_out(array: pa.DictionaryArray) -> int:
    """Return the bytes of a dictionary array's values, each as often as it is there."""
    try:
        lengths = pc.fill_null(pc.binary_length(array.dictionary), 0)
    except pa.ArrowNotImplementedError:  # no texts
        return array.indices.nbytes
    sizes = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    return int(sizes[array.indices.drop_null().to_numpy()].sum())
